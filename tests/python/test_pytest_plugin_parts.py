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
from rsecho.pytest_plugin import answering, counted, matching, ports, script, seeds
from rsecho.pytest_plugin.inbox import Inbox

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

PEER = Peer("127.0.0.1", 4000)
OTHER = Peer("127.0.0.1", 4001)
REST = script.Ask("the responder", lambda data, _: data)


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
    with pytest.raises(argparse.ArgumentTypeError, match="is not a seed"):
        seeds.read_seed(text)


# Scripts.


def take(told: script.Script, data: bytes, peer: Peer = PEER) -> tuple[bytes | None, bytes | None]:
    """What the script says to that, of which no step takes time, and what it leaves."""
    taken = told.take(data, peer)
    said = [
        step.data for part in taken.parts for step in part.steps if isinstance(step, script.Say)
    ]
    return b"".join(said) if said else None, taken.unclaimed


def test_expectations_are_asked_in_order_until_they_are_met() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1")
    told.expect(b"a").reply(b"2").times(2)
    told.expect(re.compile(rb"^b\d")).drop()
    told.expect(lambda data: len(data) == 5)
    assert [take(told, b"a") for _ in range(4)] == [
        (b"1", None),
        (b"2", None),
        (b"2", None),
        (None, b"a"),
    ]
    assert len(told.unmet()) == 2
    assert take(told, b"b7") == (None, None)
    # Without an answer of its own it is echoed.
    assert take(told, b"12345") == (b"12345", None)
    assert told.unmet() == []
    assert take(told, b"12345") == (None, b"12345")


def test_what_did_not_come_is_said_as_it_was_written() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1").times(3)
    told.expect(re.compile(b"x")).drop()
    told.expect(b"z" * 1000)
    take(told, b"a")
    first, second, third = told.unmet()
    assert first == "expect(b'a').reply(b'1').times(3) came once"
    assert second == "expect(re.compile(b'x')).drop() never came"
    assert len(third) < 100
    told.clear()
    assert told.unmet() == []


def test_a_predicate_that_raises_is_told_by_the_check() -> None:
    told = script.Script()
    told.expect(lambda data: data[3] == 1)
    assert take(told, b"") == (None, b"")
    assert "IndexError" in told.unmet()[1]


@pytest.mark.parametrize("what", ["text", re.compile("text"), 5, None])
def test_what_bytes_cannot_be_compared_with_is_refused(what: object) -> None:
    with pytest.raises(TypeError, match=r"bytes"):
        script.Script().expect(what)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from([b"PING", b"QUIT"]), max_size=5), st.data())
def test_a_stream_is_answered_the_same_however_it_was_cut(
    words: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    told = script.Script(protocol="tcp", is_stream=True)
    for word in words:
        told.expect(word).reply(word.lower())
    answered = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        scripted, unclaimed = take(told, stream[start:end])
        assert unclaimed is None
        answered += scripted or b""
    assert answered == stream.lower()
    assert told.unmet() == []


def test_of_a_stream_what_nobody_wants_comes_behind_what_was_scripted() -> None:
    told = script.Script(protocol="tcp", is_stream=True)
    told.expect(b"PING").reply(b"pong")
    told.expect(re.compile(rb"\d+;")).drop()
    assert take(told, b"PI") == (None, None)
    # Another connection is another stream.
    assert take(told, b"NG", OTHER) == (None, b"NG")
    assert take(told, b"NG12;rest") == (b"pong", b"rest")
    assert told.unmet() == []


def test_an_answer_ends_once() -> None:
    told = script.Script(protocol="tcp")
    for ended in (
        told.expect(b"a").drop(),
        told.expect(b"a").reply(b"1").close(),
        told.expect(b"a").reset(),
    ):
        more: list[Callable[[], object]] = [
            lambda: ended.reply(b"2"),  # noqa: B023
            lambda: ended.delay(1),  # noqa: B023
            ended.drop,
            ended.close,
            ended.reset,
        ]
        for again in more:
            with pytest.raises(ValueError, match=r"cannot add .*; for the next request, expect it"):
                again()
    replied = script.Script().expect(b"a").reply(b"1")
    with pytest.raises(ValueError, match=r"\.drop\(\) to expect\(b'a'\)\.reply\(b'1'\): it has"):
        replied.drop()
    assert repr(replied) == "expect(b'a').reply(b'1')"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_udp_has_no_connection_to_end(end: str) -> None:
    with pytest.raises(
        ValueError, match=r"UDP has no connection; use \.drop\(\).*refused_udp_port"
    ):
        getattr(script.Script().expect(b"a"), end)()


def two(data: bytes, peer: Peer, more: int) -> bytes:
    return data


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        (lambda e: e.reply(), TypeError, r"cannot reply with nothing: .*\.drop\(\)"),
        (lambda e: e.reply(5), TypeError, "cannot reply with 5: a reply is bytes; give bytes or"),
        (lambda e: e.reply(b"1", "2"), TypeError, "cannot reply with '2': .*encode it"),
        (lambda e: e.reply(two), TypeError, r"reply with two \(test_.*py:\d+\): it is called"),
        (lambda e: e.reply(b"x" * 65_508), ValueError, "65508 bytes: a datagram carries at most"),
        (lambda e: e.delay(-1), ValueError, "cannot delay by -1: give seconds, 0 or more"),
        (lambda e: e.delay(float("nan")), ValueError, "cannot delay by nan"),
        (lambda e: e.delay(float("inf")), ValueError, "cannot delay by inf"),
        (lambda e: e.delay("1s"), TypeError, "cannot delay by '1s': give seconds"),
        (lambda e: e.times(0), ValueError, r"0 times: give 1 or more, or \.always\(\)"),
        (lambda e: e.times(True), TypeError, "True times: give a whole number"),
        (lambda e: e.times(1.5), TypeError, "1.5 times: give a whole number"),
    ],
)
def test_what_no_answer_can_be_is_refused_in_one_line(
    wrong: Callable[[Any], object], kind: type[Exception], text: str
) -> None:
    expectation = script.Script().expect(b"a")
    with pytest.raises(kind, match=text) as caught:
        wrong(expectation)
    assert "\n" not in str(caught.value)
    # Nothing of it was taken.
    assert repr(expectation) == "expect(b'a')"


async def later(data: bytes) -> bytes:
    return data


def test_an_async_predicate_is_refused_as_it_would_always_be_true() -> None:
    with pytest.raises(
        TypeError, match=r"cannot expect later \(test_.*\): a predicate is called w"
    ):
        script.Script().expect(later)


def test_nothing_is_not_expected_of_a_stream() -> None:
    script.Script().expect(b"")
    with pytest.raises(ValueError, match="cannot expect b'' of a stream"):
        script.Script(protocol="tcp", is_stream=True).expect(b"")


def is_query(data: bytes) -> bool:
    return data[:1] == b"q"


def answer(data: bytes) -> bytes:
    return data


def test_functions_show_themselves_with_their_source() -> None:
    told = script.Script()
    told.expect(is_query).reply(answer)
    told.expect(lambda data: data[0] == 1), told.expect(lambda data: data[0] == 2)
    told.expect(re.compile(rb"^SET \d", re.IGNORECASE)).reply(lambda data: data[:2] + b"x")
    lines = [line.removesuffix(" never came") for line in told.unmet()]
    where = r"\(test_pytest_plugin_parts\.py:\d+\)"
    wanted = [
        rf"expect\(is_query {where}\)\.reply\(answer {where}\)",
        rf"expect\(lambda data: data\[0\] == 1 {where}\)",
        rf"expect\(lambda data: data\[0\] == 2 {where}\)",
        r"expect\(re\.compile\(b'\^SET \\\\d', re\.IGNORECASE\)\)"
        rf"\.reply\(lambda data: data\[:2\] \+ b'x' {where}\)",
    ]
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line)


def test_a_function_gets_the_peer_if_it_needs_two_arguments() -> None:
    numbers = [matching.with_peer(lambda data, n=n: n, "call") for n in (1, 2)]
    assert [call(b"", PEER) for call in numbers] == [1, 2]
    assert matching.with_peer(lambda data, peer: peer, "call")(b"", PEER) is PEER
    assert matching.with_peer(lambda *arguments: len(arguments), "call")(b"", PEER) == 1
    assert matching.with_peer(bytes.upper, "call")(b"a", PEER) == b"A"


def test_strictly_what_is_unexpected_fails_and_says_what_was_expected() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1")
    told.be_strict()
    assert take(told, b"b") == (None, None)
    assert take(told, b"a") == (b"1", None)
    assert take(told, b"a") == (None, None)
    assert told.unmet() == [
        "unexpected b'b' from 127.0.0.1:4000 (expected: expect(b'a').reply(b'1'))",
        "unexpected b'a' from 127.0.0.1:4000 (nothing more was expected)",
    ]
    # A failure stays one.
    told.clear()
    assert len(told.unmet()) == 2
    assert take(told, b"b") == (None, b"b")
    told.forget()
    assert told.unmet() == []


def test_in_order_an_expectation_waits_for_those_before_it() -> None:
    told = script.Script()
    told.expect(b"any").reply(b"0").always()
    told.expect(b"a").reply(b"1")
    told.expect(b"b").reply(b"2")
    told.be_in_order()
    said = [take(told, data) for data in (b"b", b"any", b"a", b"any", b"b")]
    assert said == [(None, b"b"), (b"0", None), (b"1", None), (b"0", None), (b"2", None)]
    assert told.unmet() == []


def test_what_came_too_early_is_told_as_that() -> None:
    told = script.Script()
    told.expect(b"a").reply(b"1")
    told.expect(re.compile(b"^b"))
    told.be_in_order()
    assert [take(told, data) for data in (b"b", b"a", b"c")] == [
        (None, b"b"),
        (b"1", None),
        (None, b"c"),
    ]
    assert told.unmet() == [
        "expect(re.compile(b'^b')) never came in its order (b'b' came before "
        "expect(b'a').reply(b'1') was met)"
    ]


def test_always_is_met_by_none_and_by_many() -> None:
    told = script.Script()
    expectation = told.expect(b"a").reply(b"1").always()
    assert told.unmet() == []
    assert [take(told, b"a")[0] for _ in range(100)] == [b"1"] * 100
    assert len(expectation.received) == 100 and expectation.received[0] == (b"a", PEER)
    assert repr(expectation) == "expect(b'a').reply(b'1').always()"


def test_strictly_a_stream_waits_for_the_rest_of_what_may_be_expected() -> None:
    told = script.Script(protocol="tcp", is_stream=True)
    told.expect(re.compile(rb"MAIL .*\n")).reply(b"ok")
    told.be_strict()
    assert take(told, b"MAIL m") == (None, None)
    assert take(told, b"e\n") == (b"ok", None)
    assert told.unmet() == []
    assert told.take(b"more", PEER).is_refused
    assert "nothing more was expected" in told.unmet()[0]


def test_a_delay_that_delays_nothing_is_told() -> None:
    told = script.Script()
    told.expect(b"a").delay(0.5)
    assert "ends with a delay" not in "".join(told.unmet())
    told.expect(b"b").reply(b"1").delay(0.5)
    assert "reply(b'1').delay(0.5) ends with a delay, which delays nothing" in told.unmet()[-1]


def test_of_a_stream_the_beginning_of_what_never_came_is_told() -> None:
    told = script.Script(protocol="tcp", is_stream=True)
    told.expect(b"PING")
    take(told, b"PI")
    assert told.unmet() == ["expect(b'PING') never came", "of which only b'PI' came"]


def test_the_token_of_an_inbox_is_answered_and_never_shown() -> None:
    inbox = Inbox(is_stream=False, protocol="udp")
    respond = answering.through(inbox, {})
    assert respond(inbox.token, PEER) == inbox.token
    assert inbox.received == []
    assert respond(b"data", PEER) == b"data"
    assert inbox.received == [(b"data", PEER)]
    assert inbox.told() == "1 came:\n  b'data' from 127.0.0.1:4000"


def test_long_and_many_requests_are_cut_in_messages() -> None:
    inbox = Inbox(is_stream=False, protocol="udp")
    for _ in range(30):
        inbox.take(b"x" * 10_000, PEER, REST)
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
    take(asked, "x\n\x1b[31m\u202e\x85FAILED test_other".encode())
    assert all(line.isprintable() for line in asked.unmet())
    assert r"x\n\x1b[31m\u202e\u0085FAILED" in asked.unmet()[-1]


def test_f49_what_came_is_told_on_a_line_of_its_own() -> None:
    inbox = Inbox(is_stream=False, protocol="udp")
    inbox.take("x\n\x1b[31m\u202e\x85FAILED".encode(), Peer("fe80::1%\x1bif", 4000), REST)
    _, *lines = inbox.told().split("\n")
    assert len(lines) == 1 and lines[0].isprintable()
    assert lines[0].endswith(r" from [fe80::1%\x1bif]:4000")
