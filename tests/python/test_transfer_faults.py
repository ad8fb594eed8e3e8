"""What is promised of large messages when somebody sends what they should not (faults 34 to 40)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rsecho
import transfer_wire as wire
from command import RSECHO, clean_environment, serving
from rsecho import transfer
from support import PATIENCE, resident_bytes, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINES = ["batch", "portable"]
ANY = ("127.0.0.1", 0)
MEBIBYTE = 1 << 20
READER = Path(__file__).with_name("transfer_reader.py")


def content(length: int) -> bytes:
    """Bytes that are not alike anywhere."""
    return hashlib.shake_128(b"faults").digest(length)


# --- the tutorial's format: 34 to 36, 38 --------------------------------------------------------


def count_of(count: int) -> bytes:
    return count.to_bytes(4)


def chunk(index: int, data: bytes) -> bytes:
    return index.to_bytes(4) + data


@contextlib.contextmanager
def plain(**options: object) -> Iterator[tuple[transfer.Receiver, socket.socket]]:
    """A receiver, and somebody who sends to it."""
    with (
        transfer.Receiver(*ANY, wire="plain", **options) as receiver,  # type: ignore[arg-type]
        sender_to(receiver) as sender,
    ):
        yield receiver, sender


@contextlib.contextmanager
def sender_to(receiver: transfer.Receiver) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(ANY)
        sender.connect(receiver.address)
        yield sender


def test_f34_what_is_said_wrongly_is_dropped_and_the_message_goes_on() -> None:
    chunks = [b"aaaa", b"bbbb", b"cc"]
    wrong = [
        b"", b"abc",  # too short to say anything
        count_of(0), count_of(4), count_of(2**32 - 1),  # no count, and others than before
        chunk(3, b"dddd"), chunk(2**32 - 1, b"dddd"),  # beyond the count
        chunk(1, b"bbb"), chunk(1, b"bbbbb"), chunk(2, b"ccccc"),  # of other lengths
    ]  # fmt: skip
    with plain() as (receiver, sender):
        sender.send(count_of(len(chunks)))
        sender.send(chunk(0, chunks[0]))
        for datagram in wrong:
            sender.send(datagram)
        sender.send(chunk(1, chunks[1]))
        sender.send(chunk(2, chunks[2]))
        assert receiver.receive(PATIENCE).data == b"".join(chunks)
        stats = receiver.stats()
    assert stats.dropped["transfer_malformed"] == len(wrong)
    assert stats.received_packets == 4 + len(wrong)
    assert stats.received_transfers == 1


@pytest.mark.parametrize("count", [2**32 - 1, 2**31])
def test_f34_no_memory_is_kept_for_what_a_count_says(count: int) -> None:
    with plain(max_message_bytes=2**33, max_total_bytes=2**33, progress_timeout=0.5) as (
        receiver,
        sender,
    ):
        before = resident_bytes()
        sender.send(count_of(count))
        for index in (0, count // 2, count - 1):
            sender.send(chunk(index, b"x"))
        until(lambda: receiver.stats().received_packets == 4)
        assert resident_bytes() - before < 8 * MEBIBYTE
        with pytest.raises(rsecho.TransferTimeoutError, match=f" of {count}"):
            receiver.receive(PATIENCE)
        assert resident_bytes() - before < 8 * MEBIBYTE


def test_f34_a_count_beyond_the_longest_message_opens_none() -> None:
    with plain() as (receiver, sender):
        sender.send(count_of(2**32 - 1))
        sender.send(chunk(0, b"x"))
        until(lambda: receiver.stats().received_packets == 2)
        dropped = receiver.stats().dropped
    assert (dropped["transfer_limit"], dropped["transfer_unknown"]) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_f35_any_order_with_duplicates_and_a_loss_is_one_message(seed: int) -> None:
    chance = random.Random(seed)
    chunks = [bytes([number]) * 1024 for number in range(5)] + [b"end"]
    order = [*range(6), chance.randrange(6)]
    chance.shuffle(order)
    lost = chance.randrange(6)
    with plain() as (receiver, sender):
        sender.send(count_of(6))
        for index in order:
            if index != lost:
                sender.send(chunk(index, chunks[index]))
        # By hand: nobody can ask for it.
        for _ in range(2):
            sender.send(chunk(lost, chunks[lost]))
        assert receiver.receive(PATIENCE).data == b"".join(chunks)
        with pytest.raises(rsecho.TransferTimeoutError):
            receiver.receive(0.05)
        assert receiver.stats().received_transfers == 1


def test_f36_the_first_bytes_of_an_index_win() -> None:
    with plain() as (receiver, sender):
        for datagram in (count_of(2), chunk(0, b"first"), chunk(0, b"other"), chunk(1, b"end")):
            sender.send(datagram)
        assert receiver.receive(PATIENCE).data == b"firstend"
        assert receiver.stats().dropped["transfer_malformed"] == 1


def test_f38_two_peers_are_never_mixed() -> None:
    with plain() as (receiver, one), sender_to(receiver) as other:
        for sender, letter in ((one, b"a"), (other, b"b")):
            sender.send(count_of(2))
            sender.send(chunk(0, letter * 10))
        for sender, letter in ((other, b"b"), (one, b"a")):
            sender.send(chunk(1, letter * 5))
        found = {message.peer: message.data for message in (receiver.receive(5) for _ in range(2))}
        assert found == {one.getsockname(): b"a" * 15, other.getsockname(): b"b" * 15}


# --- docs/transfer.md: 36, 38 -------------------------------------------------------------------


def test_f36_native_too() -> None:
    message = b"a" * 1000 + b"b" * 1000
    with transfer.Receiver(*ANY) as receiver, wire.Peer(receiver.address) as peer:
        id_ = wire.random_id()
        assert peer.open(id_, len(message)).kind == wire.ACK
        peer.send(wire.data(id_, 0, 1000, message[1000:]))
        peer.send(wire.data(id_, 1, 1000, b"c" * 1000))
        peer.send(wire.data(id_, 2, 0, message[:1000]))
        peer.send(wire.end(id_, 3, len(message), wire.blake3(message)))
        assert receiver.receive(PATIENCE).data == message
        assert receiver.stats().conflicting_packets == 1


def test_f38_an_id_of_two_peers_is_two_messages() -> None:
    id_ = wire.random_id()
    with (
        transfer.Receiver(*ANY) as receiver,
        wire.Peer(receiver.address) as one,
        wire.Peer(receiver.address) as other,
    ):
        messages = {one: b"a" * 3000, other: b"b" * 3000}
        for peer in messages:
            assert peer.open(id_, 3000).kind == wire.ACK
        for number in range(3):
            for peer, message in messages.items():
                at = 1000 * number
                peer.send(wire.data(id_, number, at, message[at : at + 1000]))
        for peer, message in messages.items():
            peer.send(wire.end(id_, 3, 3000, wire.blake3(message)))
        found = {message.peer: message.data for message in (receiver.receive(5) for _ in range(2))}
        assert found == {peer.getsockname(): message for peer, message in messages.items()}


def test_f38_an_id_that_is_used_again_is_nothing_new() -> None:
    id_ = wire.random_id()
    with transfer.Receiver(*ANY) as receiver, wire.Peer(receiver.address) as peer:
        assert peer.push(b"once", id_).kind == wire.DONE
        assert receiver.receive(PATIENCE).data == b"once"
        # The offer, the bytes, the end: whatever comes of it again, and other bytes by its id.
        for message in (b"once", b"other"):
            assert peer.ask(wire.offer(id_, len(message))).kind == wire.DONE
            assert peer.ask(wire.data(id_, 0, 0, message)).kind == wire.DONE
            assert peer.ask(wire.end(id_, 1, 4, wire.blake3(message))).kind == wire.DONE
        with pytest.raises(rsecho.TransferTimeoutError):
            receiver.receive(0.05)
        assert receiver.stats().received_transfers == 1
        # By another id it is another message.
        assert peer.push(b"other").kind == wire.DONE
        assert receiver.receive(PATIENCE).data == b"other"


def test_a_packet_that_is_none_is_dropped_and_counted() -> None:
    right = wire.data(1, 0, 0, b"x")
    wrong = [
        right[:-1] + b"y", right[:4] + bytes(4) + right[8:],  # another checksum
        wire.packet(wire.DATA, 1, bytes(16)), wire.packet(0, 1), wire.packet(10, 1),
        wire.packet(wire.ACK, 1, bytes(24)), wire.packet(wire.END, 1, bytes(47)),
        wire.packet(wire.OFFER, 1, bytes(40)),
        wire.packet(wire.PROBE, 1, bytes(8) + b"x"),
    ]  # fmt: skip
    with transfer.Receiver(*ANY) as receiver, wire.Peer(receiver.address) as peer:
        for datagram in wrong:
            peer.send(datagram)
        found = peer.ask(right)
        assert (found.kind, found.body[0]) == (wire.ABORT, wire.UNKNOWN)
        found = peer.ask(wire.offer(2, 2**40, cookie=peer.ask(wire.offer(2, 0)).body))
        assert (found.kind, found.body[0]) == (wire.ABORT, 2)
        stats = receiver.stats()
    assert stats.dropped["transfer_malformed"] == len(wrong)
    sent = stats.sent_packets + sum(stats.dropped.values())
    assert stats.received_packets + stats.produced_packets == sent + stats.consumed_packets


# --- 39: what is on its way fits the receive buffer ---------------------------------------------


# The kernel doubles what it is asked for: the first has 212,992 then, which is what a socket has
# that asks for nothing (net.core.rmem_default); the last is the default of rsecho's own.
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("asked", [106_496, 212_992, 4 << 20])
def test_f39_all_that_may_be_on_its_way_fits_the_receive_buffer(engine: str, asked: int) -> None:
    words = [sys.executable, str(READER), "127.0.0.1", str(asked), "16"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        port = int(reader.stdout.readline())
        with pytest.raises(rsecho.TransferError, match="enough"):
            transfer.send(bytes(512 * MEBIBYTE), "127.0.0.1", port, engine=engine)  # type: ignore[arg-type]
        found = json.loads(reader.stdout.read())
    assert found["dropped"] == [0] * 16
    # A little less than was announced (of the shortest packets, which count as 1,280 bytes, and of
    # the longest not one more), and no more.
    announced = found["buffer_bytes"] // 2
    longest = found["longest_bytes"]
    assert announced * 0.93 - longest < found["most_came_bytes"] <= announced
    assert longest > 16_000 or asked < 200_000


def test_f39_a_receiver_that_stops_loses_nothing(tmp_path: Path) -> None:
    options = ["--udp", "127.0.0.1:0", "--transfer", str(tmp_path), "--jsonl"]
    source = tmp_path / "source"
    source.write_bytes(content(64 * MEBIBYTE))
    with serving(*options) as server:
        host, port = server.address("udp")
        pushed = ["push", str(source), f"{host}:{port}", "--name", "there", "--quiet"]
        with subprocess.Popen([RSECHO, *pushed, "--rate", "128M"], env=clean_environment()) as push:
            for _ in range(5):
                with stopped(server.process.pid):
                    time.sleep(0.05)
                time.sleep(0.02)
            assert push.wait(PATIENCE) == 0
        server.end()
    assert server.totals[0]["stats"]["kernel_drops"] == 0
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """It does nothing meanwhile."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


# --- 40: nobody answers -------------------------------------------------------------------------


def what_came(silent: socket.socket) -> list[tuple[int, int]]:
    """Of which type, and how long."""
    found: list[tuple[int, int]] = []
    silent.setblocking(False)
    while True:
        try:
            datagram = silent.recv(65_535)
        except BlockingIOError:
            return found
        found.append((wire.decode(datagram).kind, len(datagram)))


def test_f40_offers_that_nobody_answers_are_few() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(ANY)
        began = time.monotonic()
        with pytest.raises(rsecho.TransferTimeoutError) as raised:
            transfer.send(content(MEBIBYTE), *silent.getsockname(), progress_timeout=1)
        took = time.monotonic() - began
        came = what_came(silent)
    assert (raised.value.reason, raised.value.is_remote) == ("timed_out", False)
    assert 0.9 < took < 10
    # At 0, 0.2 and 0.6 s, and the ABORT.
    kinds = [kind for kind, _ in came]
    assert kinds[:-1].count(wire.OFFER) == len(kinds) - 1 <= 5
    assert kinds[-1] == wire.ABORT


@pytest.mark.parametrize("engine", ENGINES)
def test_f40_a_sender_that_is_not_acknowledged_falls_silent(engine: str) -> None:
    """The peer takes the offer, with all the room that there is, and soon says nothing more."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        transfer.Client("127.0.0.1", bind(silent), progress_timeout=1.5, engine=engine) as client,  # type: ignore[arg-type]
    ):
        silent.connect(client.address)
        silent.settimeout(PATIENCE)
        failing = Failing(client)
        id_ = wire.decode(silent.recv(2000)).id
        silent.send(wire.ack(id_, wire.Ack(limit=2**40, in_flight=2**30, prefix=0)))
        # A round trip is short, so a timeout is.
        (first,) = struct.unpack_from("!Q", wire.decode(silent.recv(2000)).body)
        silent.send(wire.ack(id_, wire.Ack(2**40, 2**30, 0, ((first, first),))))
        times, lengths = [], []
        while True:
            found = silent.recv(65_535)
            times.append(time.monotonic())
            lengths.append(len(found))
            if wire.decode(found).kind == wire.ABORT:
                break
        error = failing.end()
    assert isinstance(error, rsecho.TransferTimeoutError)
    assert (error.reason, error.is_remote) == ("timed_out", False)
    assert 1.4 < times[-1] - times[0] < 15
    # What a congestion window is at first, then a packet and a probe, each time twice as late.
    # Three times a long one is tried as well, which nothing but its own answer says to be too long.
    assert sum(length for length in lengths if length <= 1200) < 60_000
    assert sum(length > 1200 for length in lengths) <= 3
    pauses = [after - before for before, after in pairwise(times[:-1])]
    long = [pause for pause in pauses if pause > 0.05]
    assert 3 <= len(long) <= 8
    assert all(after > 1.3 * before for before, after in pairwise(long))


def bind(sock: socket.socket) -> int:
    """Binds it; its port."""
    sock.bind(ANY)
    port: int = sock.getsockname()[1]
    return port


class Failing:
    """A message that is sent by a thread."""

    def __init__(self, client: transfer.Client) -> None:
        self._client = client
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._client.send(content(4 * MEBIBYTE))
        except Exception as error:
            self._error = error

    def end(self) -> Exception | None:
        """What it failed with."""
        self._thread.join(PATIENCE)
        return self._error


@pytest.mark.parametrize("engine", ENGINES)
def test_f40_a_puller_that_falls_silent_gets_little(engine: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(content(4 * MEBIBYTE))
    options = {"directory": tmp_path, "progress_timeout": 1.0, "engine": engine}
    with transfer.Receiver(*ANY, **options) as receiver:  # type: ignore[arg-type]
        with wire.Peer(receiver.address) as peer:
            id_ = wire.random_id()
            cookie = peer.ask(wire.pull(id_, name="large")).body
            assert peer.ask(wire.pull(id_, cookie=cookie, name="large")).kind == wire.OFFER
            until(lambda: receiver.stats().failed_transfers == 1)
            kinds = [kind for kind, _ in what_came(peer)]
        stats = receiver.stats()
    assert kinds[-1] == wire.ABORT
    assert kinds[:-1].count(wire.OFFER) == len(kinds) - 1 <= 6
    assert stats.sent_packets <= 8


def test_f40_whoever_has_not_asked_gets_no_more_than_came(tmp_path: Path) -> None:
    """Any packet of a transfer that is not known: an answer is no longer, none leads to more."""
    (tmp_path / "large").write_bytes(content(MEBIBYTE))
    with (
        transfer.Receiver(*ANY, directory=tmp_path) as receiver,
        wire.Peer(receiver.address) as peer,
    ):
        cookie = os.urandom(16)
        sent = 0
        for id_ in range(100):
            packets = [
                wire.offer(id_, 10, name="a"), wire.offer(id_, 10, cookie=cookie, name="a"),
                wire.pull(id_, name="large"), wire.pull(id_, cookie=cookie, name="large"),
                wire.ack(id_, wire.Ack(2**40, 2**30, 0)), wire.done(id_),
                wire.ack(id_, wire.Ack(2**40, 2**30, 0, ((0, 2**20),))),
                wire.data(id_, 0, 0, b"x"), wire.end(id_, 0, 1, bytes(32)), wire.probe(id_, 0),
                wire.packet(wire.COOKIE, id_, cookie), wire.packet(wire.ABORT, id_, b"\x01"),
                wire.packet(wire.DATA, id_, b"", version=2), b"rE\x01\x03" + bytes(12),
            ]  # fmt: skip
            for datagram in packets:
                peer.send(datagram)
                sent += len(datagram)
            # So that neither side's buffer runs over.
            until(lambda done=14 * (id_ + 1): receiver.stats().received_packets == done)  # type: ignore[misc]
        stats = receiver.stats()
        assert stats.sent_bytes < sent
        longest = max(length for _, length in what_came(peer))
        assert longest <= 32
        assert list(tmp_path.iterdir()) == [tmp_path / "large"]
