"""What the pytest plugin decides without a server: seeds, scripts, counters, and its ports."""

from __future__ import annotations

import argparse
import errno
import re
import socket
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsecho import Peer, TcpStats, UdpStats, _rsecho
from rsecho.pytest_plugin import counted, ports, script, seeds
from rsecho.pytest_plugin.inbox import Inbox

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

PEER = Peer("127.0.0.1", 4000)
OTHER = Peer("127.0.0.1", 4001)


# Seeds.


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("", ""),
        (" ; ", ""),
        ("loss 20%", "loss 20% seed 5"),
        ("loss 20% seed 7", "loss 20% seed 7"),
        ("in loss 20%; out delay 10ms seed 7", "in loss 20% seed 5; out delay 10ms seed 7"),
        ("latency 100, slicer 64, seed=7", "latency 100, slicer 64, seed=7"),
        ("loss 20% se 7", "loss 20% se 7"),
        ("slow_close 5", "slow_close 5 seed 5"),
    ],
)
def test_a_seed_is_given_to_each_way_that_names_none(spec: str, wanted: str) -> None:
    assert seeds.with_seed(spec, 5) == wanted


@pytest.mark.parametrize(
    ("spec", "lacks"),
    [
        ("", True),
        ("loss 20%", True),
        ("loss 20% seed 7", False),
        ("in loss 20%; out delay 10ms seed 7", True),
        ("in loss 20% seed 1; out delay 10ms seed 7", False),
        ("latency 100, seed=7", False),
    ],
)
def test_whether_a_seed_would_be_given_to_any_way(spec: str, lacks: bool) -> None:
    assert seeds.lacks_seed(spec) is lacks


@given(st.integers(0, 2**64 - 1), st.text(max_size=40))
def test_a_tests_seed_is_a_function_of_the_sessions_and_its_id(seed: int, name: str) -> None:
    own = seeds.seed_of(seed, name)
    assert 0 <= own < 2**32
    assert own == seeds.seed_of(seed, name)
    assert own != seeds.seed_of(seed, name + "x")
    assert own != seeds.seed_of(seed + 1, name)


def test_a_tests_seed_is_the_same_in_every_release() -> None:
    # Else a seed from an old report would repeat nothing. As b2sum(1) has it: `-l 32`.
    assert seeds.seed_of(1, "test_a.py::test_a") == 1686679669


@pytest.mark.parametrize(
    ("marks", "name"),
    [
        ([pytest.mark.xdist_group("b")], "test_a.py::test[x@b]@b"),
        ([pytest.mark.xdist_group(name="b"), pytest.mark.xdist_group("a")], "test_a.py::test@a_b"),
        ([pytest.mark.xdist_group], "test_a.py::test@default"),
        ([], "test_a.py::test@b"),
    ],
)
def test_the_groups_of_xdist_are_no_part_of_an_id(
    marks: list[pytest.MarkDecorator], name: str
) -> None:
    class Item:
        nodeid = name

        def iter_markers(self, kind: str) -> list[pytest.Mark]:
            assert kind == "xdist_group"
            return [decorator.mark for decorator in marks]

    wanted = name.rpartition("@")[0] if marks else name
    assert seeds.test_id(cast("pytest.Item", Item())) == wanted


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "", str(2**64)])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no seed"):
        seeds.read_seed(text)


# Scripts.


def answers(scripted: bytes | None, unclaimed: bytes | None) -> script.Answer:
    return script.Answer(scripted, unclaimed)


def test_expectations_are_asked_in_order_until_they_are_met() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1")
    told.expect(b"a").reply(b"2").times(2)
    told.expect(re.compile(rb"^b\d")).drop()
    told.expect(lambda data: len(data) == 5)
    assert [told.answer(b"a") for _ in range(4)] == [
        answers(b"1", None),
        answers(b"2", None),
        answers(b"2", None),
        answers(None, b"a"),
    ]
    assert len(told.unmet()) == 2
    assert told.answer(b"b7") == answers(None, None)
    # Without an answer of its own it is echoed.
    assert told.answer(b"12345") == answers(b"12345", None)
    assert told.unmet() == []
    assert told.answer(b"12345") == answers(None, b"12345")


def test_what_did_not_come_is_said_as_it_was_written() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1").times(3)
    told.expect(re.compile(b"x")).drop()
    told.expect(b"z" * 1000)
    told.answer(b"a")
    first, second, third = told.unmet()
    assert first == "expect(b'a').reply(b'1').times(3) came once"
    assert second == "expect(re.compile(b'x')).drop() never came"
    assert len(third) < 100
    told.clear()
    assert told.unmet() == []


def test_a_predicate_that_raises_is_told_by_the_check() -> None:
    told = script.Script()
    told.expect(lambda data: data[3] == 1)
    assert told.answer(b"") == answers(None, b"")
    assert "IndexError" in told.unmet()[1]


@pytest.mark.parametrize("what", ["text", re.compile("text"), 5, None])
def test_what_bytes_cannot_be_compared_with_is_refused(what: object) -> None:
    with pytest.raises(TypeError, match=r"bytes"):
        script.Script().expect(what)  # type: ignore[arg-type]


def test_replies_are_bytes_and_come_at_least_once() -> None:
    expectation = script.Script().expect(b"")
    with pytest.raises(TypeError, match="encode it"):
        expectation.reply("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        expectation.times(0)


@given(st.lists(st.sampled_from([b"PING", b"QUIT"]), max_size=5), st.data())
def test_a_stream_is_answered_the_same_however_it_was_cut(
    words: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    told = script.Script()
    for word in words:
        told.expect(word).reply(word.lower())
    answered = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        answer = told.answer_stream(stream[start:end], PEER)
        assert answer.unclaimed is None
        answered += answer.scripted or b""
    assert answered == stream.lower()
    assert told.unmet() == []


def test_of_a_stream_what_nobody_wants_comes_behind_what_was_scripted() -> None:
    told = script.Script()
    told.expect(b"PING").reply(b"pong")
    told.expect(re.compile(rb"\d+;")).drop()
    assert told.answer_stream(b"PI", PEER) == answers(None, None)
    # Another connection is another stream.
    assert told.answer_stream(b"NG", OTHER) == answers(None, b"NG")
    assert told.answer_stream(b"NG12;rest", PEER) == answers(b"pong", b"rest")
    assert told.unmet() == []


def test_a_request_has_one_answer() -> None:
    replied, dropped = script.Script().expect(b"a").reply(b"1"), script.Script().expect(b"a").drop()
    more: list[Callable[[], object]] = [
        lambda: replied.reply(b"2"),
        lambda: dropped.reply(b"2"),
        dropped.drop,
    ]
    for again in more:
        with pytest.raises(ValueError, match=r"cannot add .* one answer; .* expect it again"):
            again()
    with pytest.raises(ValueError, match=r"\.drop\(\) to expect\(b'a'\)\.reply\(b'1'\): each"):
        replied.drop()
    assert repr(replied) == "expect(b'a').reply(b'1')"


def test_of_a_stream_the_beginning_of_what_never_came_is_told() -> None:
    told = script.Script()
    told.expect(b"PING")
    told.answer_stream(b"PI", PEER)
    assert told.unmet() == ["expect(b'PING') never came", "of which only b'PI' came"]


def test_the_token_of_an_inbox_is_answered_and_never_shown() -> None:
    inbox = Inbox(is_stream=False)
    assert inbox.take(inbox.token, PEER) == answers(inbox.token, None)
    assert inbox.received == []
    assert inbox.take(b"data", PEER) == answers(None, b"data")
    assert inbox.received == [(b"data", PEER)]
    assert inbox.told() == "1 came:\n  b'data' from 127.0.0.1:4000"


def test_long_and_many_requests_are_cut_in_messages() -> None:
    inbox = Inbox(is_stream=False)
    for _ in range(30):
        inbox.take(b"x" * 10_000, PEER)
    assert len(inbox.told()) < 2000
    assert inbox.told().endswith("and 20 more")


# Counters.


def test_counters_since_a_moment_are_differences_and_levels_are_not() -> None:
    before = UdpStats(received_packets=5, pending_packets=2, dropped={"a": 1}, kernel_drops=1)
    now = UdpStats(received_packets=9, pending_packets=3, dropped={"a": 1, "b": 2}, kernel_drops=4)
    assert counted.since(now, before) == UdpStats(
        received_packets=4, pending_packets=3, dropped={"a": 0, "b": 2}, kernel_drops=3
    )
    assert counted.since(TcpStats(active_connections=2), TcpStats()).active_connections == 2


# Ports.


@pytest.mark.parametrize(
    ("hold", "kind"),
    [
        (ports.refused_tcp, socket.SOCK_STREAM),
        (ports.refused_udp, socket.SOCK_DGRAM),
        (ports.silent_udp, socket.SOCK_DGRAM),
    ],
)
def test_nobody_else_can_take_a_port_that_is_held(
    hold: Callable[[], contextlib.AbstractContextManager[int]], kind: socket.SocketKind
) -> None:
    with hold() as port:
        for host in ("127.0.0.1", "0.0.0.0"):
            for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                with socket.socket(socket.AF_INET, kind) as other:
                    if option is not None:
                        other.setsockopt(socket.SOL_SOCKET, option, 1)
                    with pytest.raises(OSError, match="in use") as caught:
                        other.bind((host, port))
                    assert caught.value.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("protocol", "kind"), [("udp", UdpStats), ("tcp", TcpStats)])
def test_the_fields_are_those_of_the_one_table(protocol: Any, kind: Any) -> None:
    told = dict(_rsecho.figures(protocol))
    assert told.keys() == {field.name for field in fields(kind) if field.type == "int"}
    levels = {name for name, is_level in told.items() if is_level}
    assert levels
    before, now = kind(**dict.fromkeys(levels, 7)), kind(**dict.fromkeys(levels, 2))
    assert counted.since(now, before) == now
    # Everything else is counted from one moment to the other.
    others = told.keys() - levels
    before, now = kind(**dict.fromkeys(others, 7)), kind(**dict.fromkeys(others, 9))
    assert counted.since(now, before) == kind(**dict.fromkeys(others, 2))


def test_f49_what_a_predicate_raises_stays_on_its_line() -> None:
    def raises(data: bytes) -> bool:
        raise ValueError("seen: " + data.decode())

    asked = script.Script()
    asked.expect(raises)
    asked.answer("x\n\x1b[31m\u202e\x85FAILED test_other".encode())
    assert all(line.isprintable() for line in asked.unmet())
    assert r"x\n\x1b[31m\u202e\u0085FAILED" in asked.unmet()[-1]


def test_f49_what_came_is_told_on_a_line_of_its_own() -> None:
    inbox = Inbox(is_stream=False)
    inbox.take("x\n\x1b[31m\u202e\x85FAILED".encode(), Peer("fe80::1%\x1bif", 4000))
    _, *lines = inbox.told().split("\n")
    assert len(lines) == 1 and lines[0].isprintable()
    assert lines[0].endswith(r" from [fe80::1%\x1bif]:4000")
