"""What reaches `logging`, and what a broken handler does to it."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import rsecho
from rsecho import _lifecycle
from rsecho.logs import JsonFormatter, escape_payload
from support import PATIENCE, run, until

if TYPE_CHECKING:
    from conftest import Recorder

ACCESS = logging.getLogger("rsecho.access")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ping", '"ping"'),
        (b"", '""'),
        (b"\x1b[2J\r\n\t\0\x7f", r'"\x1b[2J\r\n\t\x00\x7f"'),
        (b'say "\\n"', r'"say \"\\n\""'),
        (b"\xff\xfe\x80", r'"\xff\xfe\x80"'),
        ("für €".encode(), '"für €"'),
        # Cut within a character.
        ("€".encode()[:2], r'"\xe2\x82"'),
        # Characters that reorder or break a line are as bad as control codes.
        ("a\u202eb\u2028c\u0085".encode(), r'"a\u202eb\u2028c\u0085"'),
        ("\U000e0001".encode(), r'"\U000e0001"'),
        # What was a backslash cannot be taken for an escape.
        (b"\\xff", r'"\\xff"'),
    ],
)
def test_f49_any_payload_is_one_printable_line(data: bytes, text: str) -> None:
    assert escape_payload(data) == text
    assert escape_payload(data).isprintable()


def test_f49_all_single_bytes_are_told_apart() -> None:
    lines = {escape_payload(bytes([byte])) for byte in range(256)}
    assert len(lines) == 256
    assert all(line.isprintable() for line in lines)


def test_f49_payloads_in_the_log_are_cut_at_a_stated_length(logged: Recorder) -> None:
    with (
        rsecho.UdpServer("127.0.0.1", log_payload_bytes=4) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        client.request(b"\x1b\r\n\xffmore")
        peer = f"127.0.0.1:{client.address[1]}"
        until(lambda: "sent" in logged.events(server.url))
    received, sent = logged.of("rsecho.access")
    line = rf'{server.url} received 8 bytes from {peer}: "\x1b\r\n\xff" (4 of 8 bytes)'
    assert received.getMessage() == line
    assert sent.getMessage() == f"{server.url} sent 8 bytes to {peer}"
    parts = received.__dict__
    assert (parts["event"], parts["server"], parts["peer"]) == ("received", server.url, peer)
    assert (parts["length_bytes"], parts["payload"]) == (8, r'"\x1b\r\n\xff" (4 of 8 bytes)')


def test_a_life_is_logged_in_order_and_at_its_time(logged: Recorder) -> None:
    before = time.time()
    with (
        rsecho.UdpServer("127.0.0.1", recv_buffer_bytes=4096) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        client.request(b"100 %s")
    after = time.time()
    until(lambda: "stopped" in logged.events(server.url))
    events = logged.events(server.url)
    assert events[0] == "listening"
    assert events[-3:] == ["received", "sent", "stopped"]
    records = [r for r in logged.records if r.__dict__["server"] == server.url]
    for record in records:
        assert before <= record.created <= after
        assert record.created == pytest.approx(record.__dict__["time_ns"] / 1e9)
        assert int(record.msecs) == record.__dict__["time_ns"] // 1_000_000 % 1000
    stopped = records[-1].getMessage()
    assert stopped.startswith(f"stopped {server.url}: stop requested; received_packets=1 ")


def test_nothing_is_reported_for_each_datagram_unless_wanted(logged: Recorder) -> None:
    ACCESS.setLevel(logging.INFO)
    try:
        with (
            rsecho.UdpServer("127.0.0.1") as server,
            rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
        ):
            # More than the queue holds: were they reported, some would be lost.
            for _ in range(6000):
                client.request(b"x")
        until(lambda: "stopped" in logged.events(server.url))
    finally:
        ACCESS.setLevel(logging.NOTSET)
    assert not any("were not logged" in line for line in logged.lines("rsecho.server"))
    assert logged.of("rsecho.access") == []


def test_a_level_that_changes_is_followed_within_a_second_or_so(logged: Recorder) -> None:
    ACCESS.setLevel(logging.INFO)
    try:
        with (
            rsecho.UdpServer("127.0.0.1") as server,
            rsecho.UdpClient(*server.address) as client,
        ):
            client.request(b"quiet")
            ACCESS.setLevel(logging.DEBUG)

            def is_heard() -> bool:
                client.request(b"heard")
                return bool(logged.of("rsecho.access"))

            until(is_heard)
            assert not any("quiet" in line for line in logged.lines("rsecho.access"))
    finally:
        ACCESS.setLevel(logging.NOTSET)


def test_a_slow_handler_costs_lines_not_replies(logged: Recorder) -> None:
    go_on = threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            go_on.wait(PATIENCE)

    slow = Slow()
    ACCESS.addHandler(slow)
    try:
        with (
            rsecho.UdpServer("127.0.0.1") as server,
            rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
        ):
            # More than the queue holds, all answered while the log stands still.
            for _ in range(6000):
                assert client.request(b"x") == b"x"
            go_on.set()
            until(lambda: any("were not logged" in x for x in logged.lines("rsecho.server")))
    finally:
        go_on.set()
        ACCESS.removeHandler(slow)
    (lost,) = (r for r in logged.of("rsecho.server") if r.__dict__["event"] == "lost")
    assert lost.levelname == "WARNING"
    assert lost.__dict__["count"] >= 1000


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["emit", "filter"])
def test_f43_a_handler_that_raises_does_not_end_the_pump(
    kind: type[BaseException],
    place: str,
    logged: Recorder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[str] = []
    start = time.monotonic()

    def fail(record: logging.LogRecord) -> bool:
        calls.append(record.getMessage())
        raise kind("on purpose")

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            return fail(record)

    broken = Broken()
    if place == "emit":
        ACCESS.addHandler(broken)
    else:
        ACCESS.addFilter(fail)
    try:
        with (
            rsecho.UdpServer("127.0.0.1") as server,
            rsecho.UdpClient(*server.address) as client,
        ):
            for _ in range(10):
                assert client.request(b"x") == b"x"
            # Two lines each: the second is tried though the first one failed. An earlier test's
            # server may still have some to say.
            until(lambda: sum(server.url in call for call in calls) == 20)
            assert server.is_running
    finally:
        ACCESS.removeHandler(broken)
        ACCESS.removeFilter(fail)
    until(lambda: "stopped" in logged.events(server.url))
    text = ""

    def is_told() -> bool:
        nonlocal text
        text += capsys.readouterr().err
        return "rsecho: logging raised" in text and f"{kind.__name__}: on purpose" in text

    # A second later where another test has just had its line.
    until(is_told)
    # One traceback per second, not twenty.
    assert text.count("rsecho: logging raised") <= 2 + (time.monotonic() - start)


def record(**parts: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "rsecho.access", "levelname": "DEBUG", **parts})


def test_json_is_one_object_a_line_with_integer_time() -> None:
    made = record(
        msg="two\nlines",
        time_ns=1_700_000_000_123_456_789,
        event="received",
        peer="127.0.0.1:7",
        length_bytes=3,
        fields={"a": b"\xff", "b": float("nan"), "c": [1, True]},
    )
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert json.loads(line) == {
        "time_ns": 1_700_000_000_123_456_789,
        "level": "DEBUG",
        "logger": "rsecho.access",
        "message": r"two\nlines",
        "event": "received",
        "peer": "127.0.0.1:7",
        "length_bytes": 3,
        "fields": {"a": "ff", "b": "nan", "c": [1, True]},
    }


def test_json_of_foreign_records_and_exceptions() -> None:
    try:
        raise ValueError("on purpose")
    except ValueError:
        made = record(msg="%s", args=("x",), created=12.5, exc_info=sys.exc_info(), odd={1})
    document = json.loads(JsonFormatter().format(made))
    assert (document["time_ns"], document["message"]) == (12_500_000_000, "x")
    assert document["odd"] == "{1}"
    assert document["exception"].endswith("ValueError: on purpose")


def test_the_library_is_silent_until_logging_is_configured() -> None:
    result = run("""
        import logging
        import rsecho
        with rsecho.UdpServer("0.0.0.0") as server:
            with rsecho.UdpClient("127.0.0.1", server.address[1]) as client:
                client.request(b"x")
        root = logging.getLogger()
        print(root.handlers, logging.getLogger("rsecho").level)
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[] 0\n", "")


def test_flush_logs_waits_for_all_that_happened(logged: Recorder) -> None:
    assert rsecho.flush_logs()
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        for round_ in range(1, 20):
            for _ in range(100):
                client.request(b"x")
            # The reply leaves before its event: one more round trip, and it is there.
            client.request(b"last")
            assert rsecho.flush_logs(PATIENCE)
            lines = [line for line in logged.lines("rsecho.access") if "received" in line]
            assert len(lines) >= 101 * round_ - 1


def test_flush_logs_by_the_pump_itself_does_not_wait() -> None:
    told: list[bool] = []
    with (
        rsecho.UdpServer(
            "127.0.0.1", unpack="<c", on_record=lambda _: told.append(rsecho.flush_logs())
        ) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        client.request(b"x")
        until(lambda: told == [False])


def test_a_server_that_has_ended_leaves_nothing_with_the_pump() -> None:
    server = rsecho.UdpServer("127.0.0.1", unpack="!I")
    server.start()
    pump = _lifecycle.pump()
    assert server._native.id in pump._sinks
    server.close()
    assert rsecho.flush_logs(PATIENCE)
    assert server._native.id not in pump._sinks


def test_a_line_that_waited_has_the_time_at_which_it_happened(logged: Recorder) -> None:
    blocked, release = threading.Event(), threading.Event()

    def wait(_: logging.LogRecord) -> bool:
        blocked.set()
        return release.wait(PATIENCE)

    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        ACCESS.addFilter(wait)
        try:
            client.request(b"holds the log up")
            assert blocked.wait(PATIENCE)
            client.request(b"waits behind it")
            happened = time.time()
        finally:
            release.set()
            ACCESS.removeFilter(wait)
        assert rsecho.flush_logs(PATIENCE)
    records = logged.of("rsecho.access")
    assert [record.__dict__["event"] for record in records] == 2 * ["received", "sent"]
    assert all(record.created <= happened for record in records)


def test_servers_that_share_an_address_keep_their_records_apart() -> None:
    first: list[rsecho.Record] = []
    second: list[rsecho.Record] = []
    with (
        rsecho.UdpServer("127.0.0.1", reuse_port=True, unpack="!I", on_record=first.append) as one,
        rsecho.UdpServer(
            *one.address, reuse_port=True, unpack="!I", on_record=second.append
        ) as other,
    ):
        # The kernel gives each client to one of the two, by its port.
        for number in range(40):
            with rsecho.UdpClient(*one.address, timeout=10) as client:
                client.request(number.to_bytes(4, "big"))
        rsecho.flush_logs()
        assert len(first) == one.stats().records
        assert len(second) == other.stats().records
    assert len(first) + len(second) == 40
