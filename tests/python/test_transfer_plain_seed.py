"""`--wire plain` against the program that it is for: the tutorial's own sender and receiver."""

# mypy: disable-error-code=no-untyped-call

from __future__ import annotations

import hashlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from command import rsecho as command
from command import serving
from rsecho import transfer
from support import PATIENCE, until
from tutorial import receive_large_data, send_large_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = hashlib.shake_128(b"tutorial").digest(100_000)


@pytest.fixture
def tutorial() -> Iterator[socket.socket]:
    """The tutorial's socket: bound, and as the kernel makes it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        found.settimeout(PATIENCE)
        yield found


class Receiving(threading.Thread):
    """The tutorial's receiver, in a thread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self.found: bytes | None = None
        self.start()

    def run(self) -> None:
        self.found, _ = receive_large_data(self._sock)

    def end(self) -> bytes | None:
        """What it received."""
        self.join(PATIENCE)
        return self.found


# --- to the tutorial's receiver -----------------------------------------------------------------


# Its receiver has no room for chunks of more than 1,024 bytes, which are the default.
@pytest.mark.parametrize("chunk", [None, 100])
def test_send_to_the_tutorial(tutorial: socket.socket, chunk: int | None) -> None:
    receiving = Receiving(tutorial)
    sent = transfer.send(DATA, *tutorial.getsockname(), wire="plain", chunk_bytes=chunk)
    assert receiving.end() == DATA
    assert (sent.length_bytes, sent.digest, sent.srtt_ns) == (len(DATA), None, None)


def test_push_to_the_tutorial(tutorial: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    host, port = tutorial.getsockname()
    receiving = Receiving(tutorial)
    done = command("push", str(path), f"{host}:{port}", "--wire", "plain")
    assert done.returncode == 0, done.stderr
    assert receiving.end() == DATA
    # The count goes first, so it has to be known.
    done = command("push", "-", f"{host}:{port}", "--wire", "plain", data=DATA)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and b"no known length" in done.stderr


# --- from the tutorial's sender -----------------------------------------------------------------


def test_a_receiver_of_what_the_tutorial_sends(tutorial: socket.socket) -> None:
    with transfer.Receiver("127.0.0.1", wire="plain") as receiver:
        for data in (DATA, b"short", DATA[:1024], DATA[::-1]):
            send_large_data(tutorial, data, receiver.address)
            found = receiver.receive(PATIENCE)
            assert found.data == data
            assert (found.peer, found.name, found.is_whole) == (tutorial.getsockname(), "", True)
        stats = receiver.stats()
    assert stats.received_transfers == 4
    assert not any(stats.dropped.values())


def test_a_server_of_what_the_tutorial_sends(tutorial: socket.socket, tmp_path: Path) -> None:
    options = ["--udp", "127.0.0.1:0", "--wire", "plain", "--transfer", str(tmp_path), "--jsonl"]
    with serving(*options) as server:
        send_large_data(tutorial, DATA, server.address("udp"))
        until(lambda: whole_files(tmp_path))
        server.end()
    assert server.status == 0, server.errors
    [path] = whole_files(tmp_path)
    assert path.read_bytes() == DATA
    host, port = tutorial.getsockname()
    assert path.name.startswith(f"{host}-{port}-")
    assert server.totals[0]["stats"]["received_transfers"] == 1


def test_the_tutorial_on_both_sides(tutorial: socket.socket) -> None:
    """Sent by one, echoed by a server, received by the other."""
    policy = transfer.Policy(wire="plain", echo=True)
    with rsecho.UdpServer("127.0.0.1", transfer=policy) as server:
        send_large_data(tutorial, DATA, server.address)
        found, peer = receive_large_data(tutorial)
    assert (found, peer) == (DATA, server.address)


# --- losses -------------------------------------------------------------------------------------

LOST = {0, 7, 8, 9, 97}


class Lossy:
    """The tutorial's socket, over a network that loses these chunks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sendto(self, datagram: bytes, address: tuple[str, int]) -> None:
        """As a socket's."""
        if len(datagram) == 4 or int.from_bytes(datagram[:4]) not in LOST:
            self._sock.sendto(datagram, address)


def with_zeros() -> bytes:
    """What came, with zeros for what did not."""
    came = bytearray(DATA)
    for index in LOST:
        came[1024 * index : 1024 * (index + 1)] = bytes(len(DATA[1024 * index :][:1024]))
    return bytes(came[: 1024 * 97])


RANGES = ((0, 0), (7, 9), (97, 97))


@pytest.mark.parametrize("keep_partial", [False, True])
def test_a_receiver_is_told_what_is_missing(tutorial: socket.socket, keep_partial: bool) -> None:
    options: dict[str, Any] = {"progress_timeout": 0.2, "keep_partial": keep_partial}
    with transfer.Receiver("127.0.0.1", wire="plain", **options) as receiver:
        send_large_data(Lossy(tutorial), DATA, receiver.address)
        if keep_partial:
            found = receiver.receive(PATIENCE)
            assert (found.missing, found.is_whole) == (RANGES, False)
            assert found.data == with_zeros()
        else:
            with pytest.raises(rsecho.TransferError, match=r"0, 7-9, 97 of 98") as raised:
                receiver.receive(PATIENCE)
            assert raised.value.reason == "timed_out"
        # The next one comes as if nothing had been.
        send_large_data(tutorial, DATA, receiver.address)
        assert receiver.receive(PATIENCE).data == DATA
        assert receiver.stats().failed_transfers == 1


@pytest.mark.parametrize("keeps", [False, True])
def test_a_server_tells_what_is_missing(
    tutorial: socket.socket, tmp_path: Path, keeps: bool
) -> None:
    options = ["--udp", "127.0.0.1:0", "--wire", "plain", "--transfer", str(tmp_path), "--jsonl"]
    options += ["--progress-timeout", "200ms", *(["--keep-partial"] if keeps else [])]
    with serving(*options) as server:
        send_large_data(Lossy(tutorial), DATA, server.address("udp"))
        assert server.process.stderr is not None
        lines = iter(server.process.stderr.readline, "")
        assert any("0, 7-9, 97 of 98" in line for line in lines)
        server.end()
    assert server.totals[0]["stats"]["failed_transfers"] == 1
    partial = [path for path in whole_files(tmp_path) if path.name.endswith(".partial")]
    assert [path.read_bytes() for path in partial] == ([with_zeros()] if keeps else [])


def whole_files(directory: Path) -> list[Path]:
    """Those under their final names."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith(".rsecho-"))
