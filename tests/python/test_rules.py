"""A keyword that would have no effect is refused: in one line that names it, says what it needs,
and shows the way out; with what it needs, it is taken."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import rsecho
from rsecho import _rules, cli, sockets, transfer
from rsecho.cli import relevance
from rsecho.cli.options import Option

HOST = "127.0.0.1"


def answer(data: bytes, peer: rsecho.Peer) -> bytes:
    return data


def answer_fields(fields: dict[str, object], peer: rsecho.Peer) -> bytes:
    return b""


def udp(**options: Any) -> Any:
    return rsecho.UdpServer(HOST, 0, **options)


def tcp(**options: Any) -> Any:
    return rsecho.TcpServer(HOST, 0, **options)


def client(**options: Any) -> Any:
    return rsecho.UdpClient(HOST, 9, **options)


def mover(**options: Any) -> Any:
    return transfer.Client(HOST, 9, **options)


def policy(**options: Any) -> Any:
    return transfer.Policy(**options)


def served(**options: Any) -> Any:
    return udp(transfer=policy(**options))


CPU = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
HERE = str(Path(__file__).parent)
ECHOES = transfer.Policy(echo=True)

# What is made, the keyword that has no effect, what its refusal says, what it needs.
CASES: list[tuple[Callable[..., Any], dict[str, Any], str, dict[str, Any]]] = [
    (udp, {"force_buffers": True}, "neither is set", {"recv_buffer_bytes": 65536}),
    (udp, {"force_buffers": True}, "neither is set", {"transfer": ECHOES}),
    (tcp, {"force_buffers": True}, "neither is set", {"send_buffer_bytes": 65536}),
    (client, {"force_buffers": True}, "neither is set", {"recv_buffer_bytes": 65536}),
    (udp, {"on_record": print}, "give their layout as unpack=", {"unpack": "!I"}),
    (tcp, {"error_reply": b"no"}, "only a callable responder raises", {"responder": answer}),
    (
        udp,
        {"responder_takes": "fields", "unpack": "!I"},
        "only a callable responder takes fields",
        {"responder": answer_fields},
    ),
    (
        udp,
        {"responder_takes": "fields", "responder": answer_fields},
        "give it as unpack=",
        {"unpack": "!I"},
    ),
    (udp, {"upper": True, "responder": answer}, "callable", {"responder": "echo"}),
    (udp, {"cpus": [CPU, CPU]}, "raise workers=", {"workers": 2}),
    (tcp, {"cpus": [CPU, CPU, CPU], "workers": 2}, "fewer workers", {"workers": 3}),
    (tcp, {"workers": 2, "reuse_port": False}, "reuse_port", {"reuse_port": True}),
    (udp, {"broadcast_delay": 0.1}, "answer_broadcast=True", {"answer_broadcast": True}),
    (udp, {"broadcast_rate": 10.0}, "answer_broadcast=True", {"answer_broadcast": True}),
    (
        udp,
        {"max_datagram_bytes": 100, "transfer": ECHOES},
        "leave one of them out",
        {"transfer": None},
    ),
    (tcp, {"min_rate_window": 5.0}, "min_bytes_per_second", {"min_bytes_per_second": 1.0}),
    (tcp, {"framing": "lines"}, "plain echo has no requests", {"responder": "upper"}),
    (tcp, {"framing": "chunks", "responder": "daytime"}, "'daytime'", {"responder": answer}),
    (tcp, {"framing": "lines", "responder": "echo"}, "plain echo", {"upper": True}),
    (tcp, {"framing": "records", "responder": answer}, "give it as unpack=", {"unpack": "!I"}),
    (tcp, {"max_line_bytes": 100}, "does not read lines", {"responder": "upper"}),
    (
        tcp,
        {"max_line_bytes": 100, "responder": answer},
        "framing='lines'",
        {"framing": "lines"},
    ),
    (policy, {"quota_bytes": 1 << 20}, "set directory= as well", {"directory": HERE}),
    (policy, {"overwrites": True}, "set directory= as well", {"directory": HERE}),
    (
        policy,
        {"overwrites": True, "directory": HERE, "receives": False},
        "receives=False",
        {"receives": True},
    ),
    (policy, {"echo": True, "receives": False}, "receives=False", {"receives": True}),
    (policy, {"keep_partial": True}, "set wire='plain'", {"wire": "plain"}),
    (policy, {"bytes_per_second": 1000}, "nothing is", {"directory": HERE}),
    (policy, {"bytes_per_second": 1000, "wire": "plain"}, "nothing is", {"echo": True}),
    (served, {"max_message_bytes": 5, "directory": HERE}, "quota_bytes=", {"echo": True}),
    (
        served,
        {"max_message_bytes": 5, "directory": HERE, "wire": "native"},
        "each message is a file",
        {"wire": "plain"},
    ),
    (mover, {"chunk_bytes": 100}, "set wire='plain'", {"wire": "plain"}),
]


@pytest.mark.parametrize(("make", "asked", "told", "needed"), CASES)
def test_what_has_no_effect_is_refused(
    make: Callable[..., Any], asked: dict[str, Any], told: str, needed: dict[str, Any]
) -> None:
    keyword = next(iter(asked))
    with pytest.raises(ValueError, match=f"^cannot set {keyword}=") as raised:
        make(**asked)
    text = str(raised.value)
    assert told in text and "; " in text and "\n" not in text, text
    made = make(**asked | needed)
    if hasattr(made, "close"):
        made.close()


def test_what_asks_for_nothing_is_not_refused() -> None:
    off: dict[str, Any] = {"force_buffers": False, "upper": False, "impair": "", "unpack": None}
    tcp(**off, framing=None, error_reply=None, min_bytes_per_second=None).close()
    udp(**off, answer_broadcast=False, transfer=None, responder_takes="bytes", workers=1).close()
    policy(overwrites=False, keep_partial=False, quota_bytes=None)


def test_every_rule_is_of_a_keyword_and_has_a_case() -> None:
    typed: dict[str, type] = {
        _rules.UDP: sockets.UdpServerOptions,
        _rules.TCP: sockets.TcpServerOptions,
        _rules.CLIENT: sockets.UdpClientOptions,
        _rules.POLICY: sockets.TransferOptions,
        _rules.SERVED: sockets.TransferOptions,
        _rules.TRANSFER: sockets.TransferClientOptions,
    }
    here = {next(iter(asked)) for _, asked, _, _ in CASES} | {"family"}
    for rule in _rules.RULES:
        if rule.owner in typed:
            assert rule.keyword in typed[rule.owner].__annotations__, rule
        if rule.owner not in (_rules.SEND, _rules.FETCH):
            assert rule.keyword in here, rule


def test_what_a_socket_that_is_passed_in_has_already() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.bind((HOST, 0))
        with pytest.raises(ValueError, match=r"^cannot set family=6: .* leave family out"):
            rsecho.UdpServer(sock=mine, family=6)
        with pytest.raises(ValueError, match=r"^cannot set host='127\.0\.0\.1' and port=0 with"):
            rsecho.UdpServer(HOST, sock=mine)


@pytest.mark.parametrize("asked", [True, False])
def test_ipv6_only_is_of_ipv6_sockets(asked: bool) -> None:
    made: list[Callable[[], Any]] = [
        lambda: udp(ipv6_only=asked),
        lambda: tcp(ipv6_only=asked),
        lambda: client(ipv6_only=asked),
        lambda: rsecho.TcpClient(HOST, 9, ipv6_only=asked),
    ]
    for make in made:
        with pytest.raises(ValueError, match=r"cannot set ipv6_only: .*IPv4; leave it out"):
            make()
    rsecho.UdpServer("::1", 0, ipv6_only=asked).close()


def test_one_transfer_has_its_rules_as_well(tmp_path: Path) -> None:
    with mover(wire="plain") as plain, mover() as native:
        for asked in ({"replace": True}, {"name": "x"}):
            with pytest.raises(ValueError, match="wire='plain' carries no names"):
                plain.send(b"x", **asked)
        with pytest.raises(ValueError, match="cannot set replace=True: a message without a name"):
            native.send(b"x", replace=True)
        with pytest.raises(ValueError, match=r"cannot set overwrite=True: .* give .* by to="):
            native.fetch("x", overwrite=True)
        with pytest.raises(ValueError, match="cannot set max_message_bytes=5: it limits messages"):
            native.fetch("x", to=tmp_path, max_message_bytes=5)
    with pytest.raises(ValueError, match="cannot set receives=False: a Receiver receives"):
        transfer.Receiver(HOST, 0, directory=tmp_path, receives=False)


def test_a_replay_records_nothing() -> None:
    with udp() as server, pytest.raises(ValueError, match="cannot set record=5 with replay="):
        server.impair("", record=5, replay='{"schema": "rsecho.trace/1"}')


def test_the_command_leaves_out_what_it_was_not_asked_for() -> None:
    given = {"min_rate_window": 10.0, "max_line_bytes": 65536, "backlog": 5, "framing": "lines"}
    assert _rules.obeyed(given, _rules.SERVER, _rules.TCP) == {"backlog": 5}
    kept = _rules.obeyed(given, _rules.SERVER, _rules.TCP, kept={"framing"})
    # What a flag asked for stays, and what that needs to be looked at with it.
    assert set(kept) == {"framing", "max_line_bytes", "backlog"}


def test_who_receives_messages_limits_those_in_memory(tmp_path: Path) -> None:
    # Those without a name, where the server of a policy would refuse them.
    transfer.Receiver(HOST, 0, directory=tmp_path, max_message_bytes=5).close()


def test_what_ipv6_does_not_have() -> None:
    refused = r"^cannot set broadcast=True: ::1? is an IPv6 address.*; leave it out, or take an"
    made: list[Callable[[], Any]] = [
        lambda: rsecho.UdpServer("::1", 0, broadcast=True),
        lambda: rsecho.UdpServer("::", 0, broadcast=True, ipv6_only=True),
        lambda: rsecho.UdpClient("::1", 9, broadcast=True),
        lambda: transfer.Client("::1", 9, broadcast=True),
    ]
    for make in made:
        with pytest.raises(ValueError, match=refused):
            make()
    rsecho.UdpServer("::1", 0, broadcast=False).close()
    # It sends to IPv4 as well.
    rsecho.UdpServer("::", 0, broadcast=True, ipv6_only=False).close()


def test_the_command_has_a_rule_for_each_flag_whose_keyword_has_one() -> None:
    """Two tables, as they speak of keywords and of flags: they may not drift apart."""
    told = {name for rule in relevance.RULES["serve"] for name in rule.names}
    of = {_rules.SERVER, _rules.UDP, _rules.TCP, _rules.POLICY, _rules.SERVED}
    ruled = {rule.keyword for rule in _rules.RULES if rule.owner in of}
    serve = cli.command.get_command(click.Context(cli.command), "serve")
    assert serve is not None
    flags = {
        each.keyword: each.name for each in serve.params if isinstance(each, Option) and each.owners
    }
    assert len(flags) > 40
    # --reuse-port turns on only, so nothing contradicts several workers.
    missing = {name for each, name in flags.items() if each in ruled and name not in told}
    assert missing <= {"workers"}, missing
