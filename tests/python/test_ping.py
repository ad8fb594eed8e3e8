"""`rsecho.ping`: its figures against what is known to have happened."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import json
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
import rsecho
from rsecho.meter import DEFAULTS, Distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 20.0


@pytest.fixture
def server() -> Iterator[rsecho.UdpServer]:
    with rsecho.UdpServer("127.0.0.1") as server:
        yield server


class Peer:
    """A server of our own, which answers each probe with what `answer` makes of it."""

    def __init__(self, answer: Callable[[int, bytes], list[bytes]]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self._answer = answer
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while True:
            data, peer = self.socket.recvfrom(65536)
            if data == b"end":
                return
            for each in self._answer(number, data):
                self.socket.sendto(each, peer)
            number += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", self.address)
        self._thread.join()
        self.socket.close()


def test_a_good_path_loses_nothing(server: rsecho.UdpServer) -> None:
    result = rsecho.ping(*server.address, count=200, interval=0.001)
    assert (result.sent, result.received, result.loss.lost, result.in_flight) == (200, 200, 0, 0)
    assert result.duplicates == result.late == result.corrupt == result.foreign == 0
    assert result.rtt.count == 200
    assert result.rtt.min_ns and result.rtt.max_ns and result.rtt.p50_ns
    assert 0 < result.rtt.min_ns <= result.rtt.p50_ns <= result.rtt.max_ns < 1_000_000_000
    assert server.stats().received_packets == 200
    assert 0.19 < result.duration_ns / 1e9 < 2


@pytest.mark.parametrize("source", ["kernel", "user"])
def test_the_clock_is_the_one_that_was_asked_for(server: rsecho.UdpServer, source: Any) -> None:
    samples: list[rsecho.Sample] = []
    result = rsecho.ping(
        *server.address, count=50, interval=0.001, timestamps=source, on_sample=samples.append
    )
    assert {each.source for each in samples} == {source}
    assert result.kernel_rtts == (50 if source == "kernel" else 0)
    assert result.host_overhead.count == result.kernel_rtts
    assert [each.sequence for each in samples] == list(range(50))


def test_losses_are_those_of_the_impairment_to_the_packet(server: rsecho.UdpServer) -> None:
    server.impair("loss 20% seed 7", record=1000)
    samples: list[rsecho.Sample] = []
    result = rsecho.ping(
        *server.address, count=500, interval=0.0005, wait=0.3, on_sample=samples.append
    )
    decisions = [json.loads(line) for line in server.impairment_trace().splitlines()[1:]]
    lost = {each["index"] for each in decisions if each.get("lost")}
    assert {each.sequence for each in samples if each.kind == "lost"} == lost
    assert result.loss.lost == len(lost) == 500 - result.received
    runs = "".join("x" if n in lost else "." for n in range(500)).replace(".", " ").split()
    assert (result.loss.runs, result.loss.longest_run) == (len(runs), max(map(len, runs)))
    assert result.loss.run_lengths[0] == sum(len(run) == 1 for run in runs)


def test_duplicates_and_corrupt_replies_are_no_replies_more(server: rsecho.UdpServer) -> None:
    server.impair("duplicate 30% seed 3", record=1000)
    result = rsecho.ping(*server.address, count=300, interval=0.0005, wait=0.3)
    duplicated = server.stats().duplicated_packets
    assert (result.received, result.duplicates) == (300, duplicated)
    assert duplicated > 30
    server.impair("corrupt 30% seed 3")
    result = rsecho.ping(*server.address, count=300, interval=0.0005, wait=0.3)
    # A bit of the mark makes it foreign, any other one corrupt.
    assert result.corrupt + result.foreign == server.stats().corrupted_packets > 30
    assert result.received + result.loss.lost == 300


def test_delays_are_measured_to_the_timers_precision(server: rsecho.UdpServer) -> None:
    server.impair("delay 20ms")
    result = rsecho.ping(*server.address, count=50, interval=0.002)
    assert result.rtt.min_ns is not None and result.rtt.p50_ns is not None
    assert result.rtt.min_ns >= 20_000_000
    assert result.rtt.p50_ns < 40_000_000


def test_reordering_is_counted_as_rfc_4737_says() -> None:
    held: list[bytes] = []

    def swap(number: int, data: bytes) -> list[bytes]:
        """Each tenth comes after the one behind it."""
        if number % 10 == 3:
            held.append(data)
            return []
        return [data, held.pop()] if held else [data]

    with Peer(swap) as peer:
        result = rsecho.ping(*peer.address, count=100, interval=0.001)
    assert (result.received, result.reordering.reordered) == (100, 10)
    assert (result.reordering.max_extent, result.reordering.mean_extent) == (1, 1.0)
    assert result.reordering.three_reordered == 0
    assert result.loss.lost == 0


def test_forged_late_and_repeated_replies_change_no_count_that_they_must_not() -> None:
    first: list[bytes] = []

    def answer(number: int, data: bytes) -> list[bytes]:
        first.append(data)
        forged = data[:8] + bytes(8) + data[16:]
        ahead = (number + 1).to_bytes(8, "big") + data[8:]
        return [b"", b"x" * 64, forged, ahead, data, first[0], data[:-1]]

    with Peer(answer) as peer:
        result = rsecho.ping(*peer.address, count=50, interval=0.002)
    assert (result.received, result.loss.lost) == (50, 0)
    # The run ends with the last answer: what comes behind it may not be seen.
    assert result.foreign == 4 * 50
    assert result.duplicates in (49, 50)
    assert result.corrupt in (49, 50)


def test_a_reply_after_its_time_is_late_and_its_probe_lost() -> None:
    def answer(number: int, data: bytes) -> list[bytes]:
        if number == 0:
            time.sleep(0.3)
        return [data]

    with Peer(answer) as peer:
        result = rsecho.ping(*peer.address, count=20, interval=0.05, wait=0.1)
    assert result.late >= 1
    assert result.received + result.loss.lost == 20
    assert result.loss.lost >= result.late


def test_a_server_that_is_not_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    result = rsecho.ping(*address, count=5, interval=0.01, wait=0.05)
    assert (result.sent, result.received, result.loss.percent) == (5, 0, 100.0)
    assert result.network_errors > 0
    assert result.rtt.count == 0 and result.rtt.p50_ns is None


def test_schedules(server: rsecho.UdpServer) -> None:
    def sent(**given: Any) -> list[int]:
        samples: list[rsecho.Sample] = []
        rsecho.ping(*server.address, on_sample=samples.append, **given)
        return [each.sent_ns or 0 for each in samples]

    listed = sent(schedule=[0.0, 0.01, 0.01, 0.05])
    assert len(listed) == 4
    assert all(at >= due for at, due in zip(listed, [0, 10e6, 10e6, 50e6], strict=True))
    poisson = sent(schedule="poisson", seed=5, count=200, interval=0.001)
    gaps = [b - a for a, b in itertools.pairwise(poisson)]
    assert statistics.pstdev(gaps) > 0.3 * statistics.mean(gaps)
    timed = sent(duration=0.1, interval=0.01)
    assert len(timed) == 10


def test_probes_of_any_length_are_compared_whole(server: rsecho.UdpServer) -> None:
    for size in (16, 17, 1472, 65_507):
        result = rsecho.ping(*server.address, count=3, interval=0.001, size=size)
        assert (result.received, result.corrupt) == (3, 0), size


def test_spinning_measures_as_well(server: rsecho.UdpServer) -> None:
    result = rsecho.ping(*server.address, count=100, interval=0.001, spin=True)
    assert result.received == 100


def test_samples_as_a_stream(server: rsecho.UdpServer) -> None:
    async def few() -> list[rsecho.Sample]:
        found = []
        async for sample in rsecho.ping_stream(*server.address, interval=0.001):
            found.append(sample)
            if len(found) == 20:
                break
        return found

    found = asyncio.run(few())
    assert [each.sequence for each in found] == list(range(20))
    assert all(each.kind == "reply" and each.rtt_ns for each in found)
    result = asyncio.run(rsecho.ping_async(*server.address, count=5, interval=0.001))
    assert result.received == 5


def test_the_defaults_are_those_of_the_signature(server: rsecho.UdpServer) -> None:
    own = inspect.signature(rsecho.ping).parameters
    assert {name: own[name].default for name in DEFAULTS} == DEFAULTS
    # Without a number or a duration it would never end.
    given: dict[str, Any] = {"duration": None, "interval": 0.001}
    assert asyncio.run(rsecho.ping_async(*server.address, **given)).sent == 10


def test_memory_does_not_grow_with_the_run(server: rsecho.UdpServer) -> None:
    def resident() -> int:
        gc.collect()
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    rsecho.ping(*server.address, count=2_000, interval=0.0001)
    before = resident()
    result = rsecho.ping(*server.address, count=30_000, interval=0.0001)
    assert result.sent == 30_000
    assert resident() - before < 8_192


def test_a_distribution_merges_exactly(server: rsecho.UdpServer) -> None:
    one = rsecho.ping(*server.address, count=100, interval=0.0005).rtt
    other = rsecho.ping(*server.address, count=50, interval=0.0005).rtt
    both = one.merged(other)
    assert both.count == 150
    assert one.min_ns is not None and other.min_ns is not None
    assert both.min_ns == min(one.min_ns, other.min_ns)
    assert one.mean_ns is not None and other.mean_ns is not None
    assert both.mean_ns == pytest.approx((100 * one.mean_ns + 50 * other.mean_ns) / 150)
    assert isinstance(both, Distribution)


def test_a_result_is_json(server: rsecho.UdpServer) -> None:
    result = rsecho.ping(*server.address, count=3, interval=0.001)
    document = json.loads(json.dumps(result.to_dict([50, 99.9])))
    assert document["rtt"]["p99_9_ns"] == result.rtt.p99_9_ns
    assert document["rtt"]["mean_ns"] == round(result.rtt.mean_ns or 0)
    assert document["loss"] == {
        "lost": 0, "percent": 0.0, "runs": 0, "longest_run": 0, "run_lengths": [0] * 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"interval": 0.00001}, ValueError, r"interval=1e-05: it takes seconds, 0.0001 or more"),
        ({"interval": float("nan")}, ValueError, "interval=nan"),
        ({"interval": "1"}, TypeError, "interval='1'"),
        ({"wait": -1}, ValueError, "wait=-1"),
        ({"wait": 1e6}, ValueError, "1048576 probes"),
        ({"count": 0}, ValueError, "count=0: it is 1 or more"),
        ({"size": 15}, ValueError, "size=15: a probe has 16 to 65507 bytes"),
        ({"size": 65_508}, ValueError, "size=65508"),
        ({"seed": 5}, ValueError, 'seed=5: only schedule="poisson"'),
        ({"schedule": "often"}, ValueError, "schedule='often'"),
        ({"schedule": []}, ValueError, "schedule"),
        ({"schedule": [2.0, 1.0]}, ValueError, "ascending"),
        ({"timestamps": "best"}, ValueError, "timestamps='best'"),
        ({"tos": 5}, TypeError, "'tos'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rsecho.ping("127.0.0.1", 9, **{"interval": 0.01, **arguments})
