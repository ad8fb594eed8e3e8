"""Sources that must not be answered, on real sockets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import rsecho
from forge import needs_root, send_forged

if TYPE_CHECKING:
    from conftest import Recorder

ENGINES = ["batch", "portable"]


def wait_for_packets(server: rsecho.UdpServer, count: int) -> rsecho.UdpStats:
    """The statistics, once so many datagrams have come."""
    deadline = time.monotonic() + 10
    while (stats := server.stats()).received_packets < count:
        assert time.monotonic() < deadline, stats
        time.sleep(0.001)
    return stats


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
def test_f14_a_source_port_of_zero_is_dropped_counted_and_logged_once_a_second(
    engine: rsecho.Engine, logged: Recorder
) -> None:
    with rsecho.UdpServer("127.0.0.1", engine=engine) as server:
        assert server.engine == engine
        start = time.monotonic()
        for sent in range(50, 1001, 50):
            send_forged(("127.0.0.1", 0), server.address, b"who?", count=50)
            # In step with the server: its buffer holds some 250 of them.
            stats = wait_for_packets(server, sent)
        seconds = time.monotonic() - start
        assert stats.dropped["source_port_zero"] == 1000
        assert stats.sent_packets == 0
        with rsecho.UdpClient(*server.address, timeout=10) as client:
            assert client.request(b"honest") == b"honest"
    stats = server.stats()
    assert stats.received_packets == stats.sent_packets + sum(stats.dropped.values())
    rsecho.flush_logs()
    lines = [line for line in logged.lines("rsecho.server") if "source_port_zero" in line]
    told = [line for line in lines if line.startswith("not answered")]
    # One a second, and what was left at the end.
    assert 1 <= len(told) <= 2 + seconds, told


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_f16_a_forged_source_of_the_servers_own_address_is_not_answered(
    engine: rsecho.Engine, host: str
) -> None:
    with rsecho.UdpServer(host, engine=engine) as server:
        port = server.address[1]
        send_forged(("127.0.0.1", port), ("127.0.0.1", port), b"echo to yourself")
        stats = wait_for_packets(server, 1)
        assert stats.dropped["own_address"] == 1
        # Had it been answered, the answer would be here by now: it comes before this one.
        with rsecho.UdpClient("127.0.0.1", port, timeout=10) as client:
            client.request(b"honest")
        stats = server.stats()
        assert (stats.received_packets, stats.sent_packets) == (2, 1)
