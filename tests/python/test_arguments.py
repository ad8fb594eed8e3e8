"""Every argument of the package meets every kind of wrong value: a TypeError or ValueError in one
line that names it as it is written in Python, and nothing stays bound."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rsecho
from rsecho import sockets, transfer

HOST = "127.0.0.1"
DESCRIPTORS = Path("/proc/self/fd")


class Nameless:
    """Nothing that anybody wants, with a repr that would span lines."""

    def __repr__(self) -> str:
        return "two\nlines " + 100 * "x"


class Unspeakable:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


NAN, INF = float("nan"), float("inf")
NUMBERS = {"nan": NAN, "inf": INF, "-inf": -INF, "-1": -1, "2**70": 1 << 70, "10**400": 10**400}
OTHERS = {"a fraction": 1.5, "a word": "nonesuch", "bytes": b"x", "True": True, "a list": [NAN]}
OBJECTS = {"None": None, "a dict": {1: 2}, "an object": Nameless(), "another": Unspeakable()}
WRONG = NUMBERS | OTHERS | OBJECTS

# What each type takes of these; what is not here is refused, whatever the keyword.
FITS = {
    "bool": {"True"},
    "int": {"-1"},
    "float": {"nan", "inf", "-inf", "-1", "2**70", "a fraction"},
    "str": {"a word"},
    "bytes": {"bytes"},
    "None": {"None"},
}
# Numbers and words that have the right type and a meaning.
MEANT = {
    "error_reply": {"bytes"},
    "linger": {"a fraction"},
    "broadcast_delay": {"a fraction"},
    "broadcast_rate": {"a fraction", "2**70"},
    "min_rate_window": {"a fraction"},
    "min_bytes_per_second": {"a fraction", "2**70"},
    "timeout": {"a fraction"},
    "progress_timeout": {"a fraction"},
    "recv_timeout": {"a fraction"},
    "send_timeout": {"a fraction"},
    "idle_timeout": {"a fraction"},
    "max_connection_seconds": {"a fraction"},
    "drain_timeout": {"a fraction"},
}

# What a keyword needs to be looked at.
WITH: dict[str, dict[str, Any]] = {
    "broadcast_delay": {"answer_broadcast": True},
    "broadcast_rate": {"answer_broadcast": True},
    "min_rate_window": {"min_bytes_per_second": 1.0},
    "error_reply": {"responder": lambda data, peer: None},
    "framing": {"responder": "upper"},
    "max_line_bytes": {"responder": "upper"},
    "on_record": {"unpack": "!I"},
    "responder_takes": {"responder": lambda fields, peer: None, "unpack": "!I"},
    "force_buffers": {"recv_buffer_bytes": 65536},
    "chunk_bytes": {"wire": "plain"},
    "keep_partial": {"wire": "plain"},
}
# True where it has no effect is refused, too: by test_rules.py.
NEED_MORE = {"overwrites", "bytes_per_second", "quota_bytes"}


def kinds(typed: type) -> dict[str, str]:
    return {name: kind.__forward_arg__ for name, kind in typed.__annotations__.items()}


CLASSES: list[tuple[Any, dict[str, str], tuple[Any, ...]]] = [
    (rsecho.UdpServer, kinds(sockets.UdpServerOptions), (HOST, 0)),
    (rsecho.TcpServer, kinds(sockets.TcpServerOptions), (HOST, 0)),
    (rsecho.UdpClient, kinds(sockets.UdpClientOptions), (HOST, 9)),
    (rsecho.TcpClient, kinds(sockets.TcpClientOptions), (HOST, 9)),
    (transfer.Client, kinds(sockets.TransferClientOptions), (HOST, 9)),
    (transfer.Policy, kinds(sockets.TransferOptions), ()),
    (transfer.Receiver, kinds(sockets.ReceiverOptions), (HOST, 0)),
]
KEYWORDS = [(one, name, first) for one, options, first in CLASSES for name in options]


@pytest.fixture(autouse=True)
def nothing_is_left_open(peer: rsecho.TcpServer) -> Iterator[None]:
    """Whatever was refused has closed what it opened."""
    rsecho.UdpServer(HOST, 0).close()  # what is opened once for all
    before = len(list(DESCRIPTORS.iterdir()))
    yield
    gc.collect()  # a traceback keeps its frames, and those what they made
    assert len(list(DESCRIPTORS.iterdir())) <= before


@pytest.fixture(scope="module")
def peer() -> Iterator[rsecho.TcpServer]:
    with rsecho.TcpServer(HOST, 0) as server:
        yield server


def refusal(make: Callable[[], Any], name: str) -> str | None:
    """The line by which it is refused; None: it was made."""
    try:
        made = make()
    except (TypeError, ValueError, OSError) as error:
        text = str(error)
        assert name in text, text
        assert "\n" not in text and "panic" not in text and len(text) < 400, text
        assert "pyo3" not in text and "argument '" not in text and "object" not in text, text
        return text
    if hasattr(made, "close"):
        made.close()
    return None


def may_fit(kind: str, what: str) -> bool:
    parts = {part.strip() for part in kind.split("|")}
    if "OnRecord" in kind or "Sequence" in kind:
        parts.discard("bytes")
    return any(what in FITS.get(part, set()) for part in parts)


@pytest.mark.parametrize(("one", "name", "first"), KEYWORDS, ids=lambda value: str(value)[:50])
def test_keywords_refuse_what_they_cannot_take(
    one: Any, name: str, first: tuple[Any, ...], peer: rsecho.TcpServer
) -> None:
    if first:
        first = (HOST, peer.address[1] if one is rsecho.TcpClient else first[1])
    kind = next(options for each, options, _ in CLASSES if each is one)[name]
    for what, value in WRONG.items():
        with_it = {} if name in first else {**WITH.get(name, {}), name: value}
        if name in NEED_MORE and may_fit(kind, what):
            continue
        text = refusal(lambda with_it=with_it: one(*first, **with_it), name)  # type: ignore[misc]
        if text is None:
            assert may_fit(kind, what), f"{name}={what} was taken"
            assert what in {"True", "None"} or what in MEANT.get(name, set()), f"{name}={what}"
        elif not may_fit(kind, what):
            assert f"cannot set {name}=" in text and ": it takes " in text, text


UNFIT = {
    "str": ("nan", "-1", "a fraction", "bytes", "True", "None", "a list", "an object", "another"),
    "int": ("nan", "2**70", "10**400", "a fraction", "a word", "bytes", "True", "None", "another"),
    "seconds": ("nan", "-1", "10**400", "a word", "bytes", "True", "a list", "another"),
    "bool": ("nan", "-1", "a fraction", "a word", "None", "a list", "an object", "another"),
    "buffer": ("nan", "-1", "a fraction", "a word", "True", "None", "a list", "an object"),
    "callable": ("nan", "-1", "a word", "bytes", "True", "a list", "an object", "another"),
    "name": ("nan", "-1", "a fraction", "bytes", "True", "None", "a list", "an object", "another"),
    "path": ("nan", "-1", "a fraction", "bytes", "True", "a list", "an object", "another"),
}


def endpoints() -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Of what has a host and a port, those; they are arguments by position."""
    for one in (rsecho.UdpServer, rsecho.TcpServer, rsecho.UdpClient, rsecho.TcpClient):
        yield "host", "str", lambda bad, one=one: one(bad, 9)  # type: ignore[misc]
        yield "port", "int", lambda bad, one=one: one(HOST, bad)  # type: ignore[misc]
    yield "sock", "callable", lambda bad: rsecho.UdpServer(sock=bad)
    yield "sock", "callable", lambda bad: rsecho.TcpServer(sock=bad)
    for other in (transfer.Receiver, transfer.Client):
        yield "host", "str", lambda bad, one=other: one(bad, 9)  # type: ignore[misc]
        yield "port", "int", lambda bad, one=other: one(HOST, bad)  # type: ignore[misc]
    for client in (rsecho.UdpClient, rsecho.TcpClient):
        yield "timeout", "seconds", lambda bad, one=client: one(HOST, 9, timeout=bad)  # type: ignore[misc]
        yield "family", "int", lambda bad, one=client: one(HOST, 9, family=bad)  # type: ignore[misc]


@pytest.mark.parametrize(("name", "kind", "call"), list(endpoints()))
def test_addresses_refuse_what_is_none(name: str, kind: str, call: Callable[[Any], Any]) -> None:
    for what in UNFIT[kind]:
        if not (name == "sock" and what == "-1"):
            assert refusal(lambda what=what: call(WRONG[what]), name), f"{name}={what}"  # type: ignore[misc]


def test_a_port_is_0_to_65535() -> None:
    for one in (rsecho.UdpServer, rsecho.TcpServer, rsecho.UdpClient, transfer.Client):
        for port in (-1, 65536, 1 << 62, 10**30, -(10**30)):
            with pytest.raises(ValueError, match=f"port.*{port}.*0 to 65535"):
                one(HOST, port)


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_methods_refuse_what_they_cannot_take() -> None:
    with (
        rsecho.UdpServer(HOST, 0) as udp,
        rsecho.TcpServer(HOST, 0) as tcp,
        rsecho.UdpClient(*udp.address) as asks,
        rsecho.TcpClient(*tcp.address) as talks,
        transfer.Client(*udp.address) as moves,
        transfer.Receiver(HOST, 0) as takes,
    ):
        calls: list[tuple[str, str, Callable[[Any], Any]]] = [
            ("spec", "str", udp.impair),
            ("record", "int", lambda bad: udp.impair("delay 1ms", record=bad)),
            ("replay", "str", lambda bad: udp.impair(replay=bad)),
            ("drain_timeout", "seconds", udp.stop),
            ("drain_timeout", "seconds", tcp.stop),
            ("timeout", "seconds", udp.wait),
            ("timeout", "seconds", lambda bad: run(udp.wait_async(bad))),
            ("data", "buffer", asks.request),
            ("data", "buffer", asks.send),
            ("data", "buffer", asks.exchange),
            ("expected", "buffer", lambda bad: asks.exchange(b"x", expected=bad)),
            ("takes_any", "bool", lambda bad: asks.exchange(b"x", takes_any=bad)),
            ("data", "buffer", lambda bad: run(asks.request_async(bad))),
            ("data", "buffer", talks.request),
            ("data", "buffer", talks.send_all),
            ("max_bytes", "int", talks.receive),
            ("count", "int", talks.receive_exactly),
            ("line", "buffer", talks.exchange_line),
            ("source", "buffer", moves.send),
            ("name", "name", lambda bad: moves.send(b"x", name=bad)),
            ("replace", "bool", lambda bad: moves.send(b"x", name="x", replace=bad)),
            ("progress", "callable", lambda bad: moves.send(b"x", progress=bad)),
            ("name", "name", moves.fetch),
            ("to", "path", lambda bad: moves.fetch("x", to=bad)),
            ("overwrite", "bool", lambda bad: moves.fetch("x", to="y", overwrite=bad)),
            ("max_message_bytes", "int", lambda bad: moves.fetch("x", max_message_bytes=bad)),
            ("progress", "callable", lambda bad: moves.fetch("x", progress=bad)),
            ("data", "buffer", moves.echo),
            ("timeout", "seconds", takes.receive),
            ("timeout", "seconds", lambda bad: run(takes.receive_async(bad))),
            ("timeout", "seconds", lambda bad: transfer.receive(HOST, 0, timeout=bad)),
            ("on_ready", "callable", lambda bad: transfer.receive(HOST, 0, on_ready=bad)),
            ("timeout", "seconds", lambda bad: transfer.send(b"x", HOST, 9, timeout=bad)),
            ("rate", "int", lambda bad: transfer.send(b"x", HOST, 9, rate=bad)),
            ("host", "str", lambda bad: transfer.echo(b"x", bad, 9)),
            ("port", "int", lambda bad: run(transfer.fetch_async("x", HOST, bad))),
        ]
        for name, kind, call in calls:
            nothing_is_asked = name in {"name", "expected", "timeout", "rate", "replay"}
            for what in UNFIT[kind]:
                if what == "None" and nothing_is_asked:
                    continue
                if name == "source" and what == "a word":
                    continue  # a text or a path: said by name
                assert refusal(lambda: call(WRONG[what]), name), (name, what)  # noqa: B023
        assert udp.is_running and tcp.is_running


def test_whole_numbers_of_others_are_whole_numbers() -> None:
    class Count:
        def __index__(self) -> int:
            return 1

    numpy = pytest.importorskip("numpy")
    ones: list[Any] = [Count(), numpy.int64(1), numpy.uint8(1)]
    for one in ones:
        rsecho.UdpServer(HOST, 0, workers=one, ttl=one).close()
    rsecho.UdpServer(HOST, numpy.uint16(0), idle_timeout=numpy.float32(1.5)).close()
    rsecho.UdpServer(HOST, 0, reuse_address=numpy.True_).close()


def test_layouts_refuse_what_is_none() -> None:
    layout = rsecho.RecordLayout("!I")
    for make in (
        lambda: rsecho.RecordLayout(5),  # type: ignore[arg-type]
        lambda: rsecho.RecordLayout("!I", names=5),  # type: ignore[arg-type]
        lambda: layout.unpack("text"),  # type: ignore[arg-type]
        lambda: layout.unpack(None),  # type: ignore[arg-type]
        lambda: layout.unpack_from(b"1234", "x"),  # type: ignore[arg-type]
        lambda: layout.unpack_many(5),  # type: ignore[arg-type]
        lambda: layout.iter_unpack("text"),  # type: ignore[arg-type]
        lambda: layout.pack_dict(5),  # type: ignore[arg-type]
        lambda: layout.pack("x"),
        lambda: layout.pack(10**400),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            make()
        text = str(raised.value)
        assert "\n" not in text and "Can't" not in text, text
    with pytest.raises(rsecho.RecordError, match="offset"):
        layout.unpack_from(b"1234", 1 << 70)
    columns = layout.unpack_many(bytes(8))
    for index in (1 << 70, -(1 << 70), 2):
        with pytest.raises(IndexError):
            columns[index]
        with pytest.raises(IndexError):
            columns[0][index]
