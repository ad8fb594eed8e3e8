"""What a line in a log is: one line whatever is in it, and the last of a burst on time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import command
import pytest
import rsecho
from rsecho import _lines
from rsecho.cli.failure import one_line
from rsecho.logs import JsonFormatter, TextFormatter, escape_payload
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Recorder

ENGINES = ["batch", "portable"]
HOSTS = ["127.0.0.1", "::1"]

# C0 with DEL, C1, separators of lines and paragraphs, directional formatting, format
# characters, a lone surrogate.
HOSTILE = (
    "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    + "\u2028\u2029\u202a\u202e\u2066\u2069\u200f\u200b\ufeff\U000e0001\ud800"
)
FORGED = "x\n2026-01-01 00:00:00.000 ERROR   rsecho.server: forged\r\x1b[31m\x1b[2J\x9b\u2028\u0085"


def record(**parts: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "anybody", "levelname": "ERROR", **parts})


def raised(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize("character", [pytest.param(c, id=f"U+{ord(c):04X}") for c in HOSTILE])
def test_f49_no_such_character_reaches_a_line(character: str) -> None:
    for text in (_lines.printable(f"a{character}b"), one_line(f"a{character}b")):
        assert text.isprintable() and text.startswith("a") and text.endswith("b")
    made = record(msg=f"a{character}b", exc_info=raised(f"c{character}d"))
    first, *others = TextFormatter().format(made).split("\n")
    assert first.isprintable() and "a" in first
    assert all(line.startswith("    | ") and line.isprintable() for line in others)
    document = json.loads(JsonFormatter().format(made))
    assert document["message"].isprintable()
    assert all(line.isprintable() for line in document["exception"].split("\n"))
    assert escape_payload(f"a{character}b".encode("utf-8", "surrogatepass")).isprintable()


def test_f49_what_was_escaped_is_not_escaped_again() -> None:
    text = r'a \x1b \n "ü" \\ für 日本'
    assert _lines.printable(text) == text
    assert _lines.printable(_lines.printable(FORGED)) == _lines.printable(FORGED)
    marked = _lines.marked("one\ntwo\n")
    assert marked == "    | one\n    | two" == _lines.marked(marked)


def test_f49_a_text_of_an_exception_is_cut() -> None:
    error = ValueError("a\n" * 32_500)
    assert len(_lines.said(error)) < 3_000
    assert "65000 characters" in _lines.said(error)
    trace = _lines.marked(_lines.trace((ValueError, error, None)))
    assert trace.count("\n") <= 201 and "lines left out" in trace
    assert len(_lines.marked("x" * 70_000)) < 2_000


def test_f49_an_exception_without_a_text_is_told_all_the_same() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert _lines.said(BrokenError()) == "BrokenError: (its text could not be made: RuntimeError)"


def test_f49_stacks_are_marked_too_and_json_has_them() -> None:
    made = record(msg="x", stack_info="Stack:\n  File \x1b")
    assert TextFormatter("%(message)s").format(made) == "x\n    | Stack:\n    |   File \\x1b"
    assert json.loads(JsonFormatter().format(made))["stack"] == "Stack:\n  File \\x1b"


@pytest.fixture
def plain() -> Iterator[io.StringIO]:
    """What a program sees that configured logging without knowing of any of this."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("rsecho")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


@contextlib.contextmanager
def running(
    kind: type[rsecho.UdpServer | rsecho.TcpServer], host: str, **options: Any
) -> Iterator[rsecho.UdpServer | rsecho.TcpServer]:
    """A server that has started, also where that takes an event loop."""
    server = kind(host, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> None:
        server.start()

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE)
        yield server
        server.stop()
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ask(server: rsecho.UdpServer | rsecho.TcpServer, data: bytes) -> None:
    """Sends something and does not wait for an answer."""
    family = socket.AF_INET6 if ":" in server.address[0] else socket.AF_INET
    kind = socket.SOCK_DGRAM if isinstance(server, rsecho.UdpServer) else socket.SOCK_STREAM
    with socket.socket(family, kind) as client:
        client.connect(server.address)
        client.sendall(data)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [rsecho.UdpServer, rsecho.TcpServer])
@pytest.mark.parametrize("place", ["responder", "on_record", "coroutine"])
def test_f49_an_exception_with_a_payload_in_it_forges_no_line(
    host: str, engine: Any, kind: Any, place: str, plain: io.StringIO
) -> None:
    payload = FORGED.encode()

    def fails(data: bytes, _: object) -> bytes:
        raise ValueError("bad: " + data.decode())

    async def fails_later(data: bytes, _: object) -> bytes:
        raise ValueError("bad: " + data.decode())

    def fails_on_record(found: rsecho.Record) -> None:
        raise ValueError("bad: " + found.data.decode())

    places: dict[str, dict[str, Any]] = {
        "responder": {"responder": fails},
        "coroutine": {"responder": fails_later},
        "on_record": {"unpack": f"!{len(payload)}s", "on_record": fails_on_record},
    }
    with running(kind, host, engine=engine, **places[place]) as server:
        ask(server, payload)
        until(lambda: "forged" in plain.getvalue())
    assert rsecho.flush_logs()
    lines = plain.getvalue().rstrip("\n").split("\n")
    beginnings = [f"{level} rsecho." for level in ("DEBUG", "INFO", "WARNING", "ERROR")]
    for line in lines:
        assert line.isprintable() and line.startswith((*beginnings, "    | ")), line
    told = [line for line in lines if line.startswith("ERROR ")]
    assert len(told) == 1
    assert f"{host}:" in told[0] if "." in host else f"[{host}]:" in told[0]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_f49_the_command_writes_no_forged_line(format_: str, tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(
        "import logging\n"
        "def answer(data, peer):\n"
        "    logging.getLogger('theirs').error('seen: %s', data.decode())\n"
        "    raise ValueError('bad: ' + data.decode())\n"
    )
    words = ["--udp", "127.0.0.1:0", "--responder", "python=hostile:answer"]
    words += ["--error-reply", "sorry", "--log-format", format_, "--log-level", "debug"]
    with command.serving(*words, env={"PYTHONPATH": str(tmp_path)}) as server:
        with rsecho.UdpClient(*server.address("udp"), timeout=PATIENCE) as client:
            assert client.request(FORGED.encode()) == b"sorry"
        server.end()
    lines = server.errors.rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    if format_ == "json":
        documents = [json.loads(line) for line in lines]
        texts = [
            text for found in documents for text in (found["message"], found.get("exception", ""))
        ]
        assert all(line.isprintable() for text in texts for line in text.split("\n"))
        assert sum("forged" in found["message"] for found in documents) == 3
        [exception] = [found["exception"] for found in documents if "exception" in found]
        assert exception.startswith("Traceback")
    else:
        # As a record begins: with a date and a level.
        records = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d .{12} [A-Z]+ +\w", line)]
        assert all(line.startswith("    | ") for line in lines if line not in records)
        # What came, what the module said of it, what it raised.
        assert sum("forged" in line for line in records) == 3


def test_f49_send_shows_no_control_character(tmp_path: Path) -> None:
    with rsecho.UdpServer("127.0.0.1") as server:
        target = f"127.0.0.1:{server.address[1]}"
        # Unprintable both as it is shown and as it is refused.
        found = command.rsecho(
            "send", target, "--stdin", data=HOSTILE.encode("utf-8", "surrogatepass")
        )
        shown = found.stdout.decode()
        assert found.returncode == 0 and shown.rstrip("\n").isprintable(), shown
    for words in (
        ["send", "no\x1b[31m\u202ehost.invalid:9", "x"],
        ["send", target, "--hex", "\x1b[2Jzz"],
        ["serve", "--udp", "\x1b]0;title\x07:7"],
        ["serve", "--responder", "\x9b31m"],
        ["serve", "--impair", "de\x1blay"],
        ["serve", "--log-config", "no\x1b[31m\u0085file.toml"],
        ["--config", "no\x1b[31mfile.toml", "serve"],
        ["unpack", "!\x1b\u202e", "00"],
        ["\x1b[31m"],
    ):
        found = command.rsecho(*words)
        line = found.stderr.decode()
        assert found.returncode != 0 and found.stdout == b"", words
        assert line.endswith("\n") and line[:-1].isprintable(), (words, line)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\rb", "\u202egnp", "a\x85", "x\u2028", "\udcff"])
def test_f49_names_that_do_not_print_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(rsecho.FormatError, match="character that does not print") as caught:
        rsecho.RecordLayout("!BB", names=[name, "b"])
    assert str(caught.value).isprintable()
    if any(c.isspace() or c in "\x85\u2028" for c in name):
        return  # between two names, in a text
    with pytest.raises(rsecho.FormatError, match="character that does not print"):
        rsecho.RecordLayout("!BB", names=f"{name} b")
    given = {"RSECHO_NAMES": f"{name} b"}
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["unpack", "!BB", "0000", "--names", f"{name} b"], {}),
        (["serve", "--udp", "127.0.0.1:0", "--unpack", "!BB", "--names", f"{name} b"], {}),
        (["unpack", "!BB", "0000"], given),
        (["serve", "--udp", "127.0.0.1:0", "--unpack", "!BB"], given),
    ]
    if not name.startswith("\udcff"):
        file = tmp_path / "rsecho.toml"
        file.write_text(f"[unpack]\nnames = {json.dumps(name + ' b')}\n")
        ways.append((["--config", str(file), "unpack", "!BB", "0000"], {}))
    for words, environment in ways:
        found = command.rsecho(*words, env=environment)
        line = found.stderr.decode()
        assert (found.returncode, found.stdout) == (2, b""), (words, line)
        assert "character that does not print" in line and line[:-1].isprintable()


# ---- the last of a burst --------------------------------------------------------------


def told(logged: Recorder, event: str, url: str) -> list[logging.LogRecord]:
    """What was logged of a server's event, but for the lines about each datagram."""
    records = [record for record in list(logged.records) if record.name != "rsecho.access"]
    found = [record for record in records if record.__dict__.get("event") == event]
    return [record for record in found if record.__dict__.get("server") == url]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("event", "kind", "options", "data"),
    [
        ("dropped", rsecho.UdpServer, {"guard": rsecho.Guard(deny=["127.0.0.1"])}, b"x"),
        ("refused", rsecho.TcpServer, {"guard": rsecho.Guard(deny=["127.0.0.1"])}, b"x"),
        ("responder_failed", rsecho.UdpServer, {"responder": "python=json:loads"}, b"x"),
        ("responder_failed", rsecho.TcpServer, {"responder": "python=json:loads"}, b"x"),
        ("unfit", rsecho.UdpServer, {"unpack": "!H"}, b"x"),
        ("on_record", rsecho.UdpServer, {"unpack": "!B", "on_record": lambda _: 1 / 0}, b"x"),
    ],
)
def test_the_last_of_a_burst_is_told_on_time(
    event: str, kind: Any, options: dict[str, Any], data: bytes, engine: Any, logged: Recorder
) -> None:
    with kind("127.0.0.1", engine=engine, **options) as server:
        for number in range(1, 5):
            with contextlib.suppress(OSError):
                ask(server, data)
            until(lambda: told(logged, event, server.url))
            if number == 1:
                first = time.monotonic()
        # Nothing more happens, and the server goes on.
        until(lambda: len(told(logged, event, server.url)) == 2, 10)
        waited = time.monotonic() - first
        assert server.is_running
    # Seldom more than once a second, and not much later than that.
    assert 0.9 < waited < 5
    assert len(told(logged, event, server.url)) == 2, "nothing was left for the end"
    text = told(logged, event, server.url)[-1].getMessage()
    if event in ("dropped", "refused"):
        assert f"{3} " in text, text
    else:
        assert "(2 more like it)" in text


def test_what_is_held_back_is_told_before_the_server_has_stopped(logged: Recorder) -> None:
    with rsecho.UdpServer("127.0.0.1", unpack="!H", responder="python=json:loads") as server:
        for data in (b"x", b"12", b"x", b"12"):
            ask(server, data)
        until(lambda: server.stats().dropped["responder_failed"] == 4)
    assert rsecho.flush_logs()
    events = logged.events(server.url)
    assert events.count("unfit") == events.count("responder_failed") == 2
    assert events[-1] == "stopped"


# ---- who is named ---------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", HOSTS)
def test_a_line_about_drops_names_a_peer_that_it_is_about(
    engine: Any, host: str, logged: Recorder
) -> None:
    def answer(data: bytes, _: object) -> bytes | None:
        if data == b"raise":
            raise ValueError(data)
        return data * 20 if data == b"too much" else None

    guard = rsecho.Guard(rate_per_source=(1.0, 3), max_amplification=3.0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        server = rsecho.UdpServer(host, engine=engine, responder=answer, guard=guard)
        stack.callback(server.close)
        clients = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(4)]
        for client in clients:
            client.connect(server.address)
        names = [_lines.host_port(client.getsockname()[:2]) for client in clients]
        # All of it waits when the server starts: one batch, where there are batches. The last
        # is refused before anybody is asked, as all are one source with three tokens.
        for client, data in zip(clients, [b"raise", b"no reply", b"too much", b"x"], strict=True):
            client.send(data)
        server.start()
        until(lambda: sum(server.stats().dropped.values()) == 4)
        server.stop()
    assert rsecho.flush_logs()
    lines = [record.getMessage() for record in told(logged, "dropped", server.url)]
    # The refused one first, and then, at the end, the others; or one by one.
    assert lines, logged.lines("rsecho.server")
    for line in lines:
        named = line.rpartition("the last from ")[2]
        reasons = re.findall(r"(\w+)=\d", line)
        wanted = {"rate_limited": names[3], "amplification": names[2], "responder_failed": names[0]}
        assert named in [wanted[reason] for reason in reasons], (line, wanted)
        # Nobody is named of whom nothing was dropped, or nothing that is worth a line.
        assert named != names[1]
    assert names[2] in lines[-1] or names[3] in lines[-1]
