"""`kill -9` in the midst of a transfer, of either side: it goes on, and no half file is ever seen
under its name.

`RSECHO_CRASH_BYTES=1G` makes the file longer (the rate follows, so that it takes as long).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import transfer_wire as wire
from command import RSECHO, clean_environment
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_UNITS = {"M": 1 << 20, "G": 1 << 30}
_ASKED = os.environ.get("RSECHO_CRASH_BYTES", "32M")
LENGTH = int(_ASKED[:-1]) * _UNITS[_ASKED[-1]]
# For two seconds, or as fast as disks are.
RATE = min(LENGTH // 2, 256 << 20)
LONG = PATIENCE + 4 * LENGTH / RATE


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that is alike nowhere."""
    path = tmp_path / "here" / "large"
    path.parent.mkdir()
    block = hashlib.shake_128(b"crash").digest(1 << 20)
    with path.open("wb") as stream:
        for number in range(LENGTH >> 20):
            stream.write(number.to_bytes(8) + block[8:])
    return path


class Watched:
    """A file's final name, looked at all the time: what is there is whole."""

    def __init__(self, path: Path, wanted: str) -> None:
        self.path, self._wanted = path, wanted
        self.looks = 0
        self.faults: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        seen = None
        while not self._is_over.wait(0.001):
            self.looks += 1
            try:
                status = self.path.stat()
            except FileNotFoundError:
                if seen is not None:
                    self.faults.append("it was there, and is gone")
                continue
            if seen != (seen := (status.st_ino, status.st_size)) and (
                status.st_size != LENGTH or sha256(self.path) != self._wanted
            ):
                self.faults.append(f"half a file: {status.st_size} bytes")

    def stop(self) -> None:
        """Looks no more."""
        self._is_over.set()
        self._thread.join(PATIENCE)

    def check(self) -> None:
        """It was never seen half, and is there whole."""
        assert self.faults == []
        assert self.looks > 100
        assert sha256(self.path) == self._wanted


@contextlib.contextmanager
def watched(path: Path, source: Path) -> Iterator[Watched]:
    found = Watched(path, sha256(source))
    try:
        yield found
    finally:
        found.stop()
    found.check()


class Program:
    """`rsecho`, which can be killed."""

    all: ClassVar[list[Program]] = []

    def __init__(self, *words: str) -> None:
        self._words = words
        self.process = self._begin()
        self.all.append(self)

    def _begin(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [RSECHO, *self._words], env=clean_environment(), stdout=pipe, stderr=pipe, text=True
        )

    def kill(self) -> None:
        """As nobody can prevent."""
        assert self.process.poll() is None, "it has ended before"
        self.process.kill()
        self.process.communicate()

    def document(self) -> dict[str, Any]:
        """What it printed, of the one file."""
        output, errors = self.process.communicate(timeout=LONG)
        assert self.process.returncode == 0, errors
        found: dict[str, Any] = json.loads(output)
        [document] = found.get("files", [found])
        return document  # type: ignore[no-any-return]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(autouse=True)
def programs() -> Iterator[None]:
    """None is left over, however the test ends."""
    yield
    while Program.all:
        Program.all.pop().end()


class Server(Program):
    """`rsecho serve`, which comes back at the same port."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        words = "--udp", f"127.0.0.1:{self.port}", "--transfer", str(directory), "--log-level"
        super().__init__("serve", *words, "error", *options)

    def _begin(self) -> subprocess.Popen[str]:
        process = super()._begin()
        assert process.stdout is not None
        for line in process.stdout:
            if line == "rsecho ready\n":
                return process
        raise AssertionError(f"did not start: {process.communicate()}")

    def restart(self) -> None:
        """Kills it; it is there again."""
        self.kill()
        self.process = self._begin()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def part_of(directory: Path) -> int:
    """How much of a file is there that is not whole."""
    sizes = [0]
    for path in directory.glob(".rsecho-*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def reaches(directory: Path, share: float) -> Callable[[], bool]:
    return lambda: part_of(directory) >= share * LENGTH


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An empty directory."""
    found = tmp_path / "there"
    found.mkdir()
    return found


def test_a_push_outlives_both_sides(source: Path, there: Path) -> None:
    server = Server(there)
    words = "push", str(source), f"127.0.0.1:{server.port}", "--json", "--rate", str(RATE)
    push = Program(*words)
    with watched(there / "large", source):
        until(reaches(there, 0.2), LONG)
        server.restart()
        # It was not finished by what had come before.
        before = part_of(there)
        assert 0.2 * LENGTH <= before < 0.9 * LENGTH
        until(lambda: part_of(there) > before + 0.1 * LENGTH, LONG)
        push.kill()
        kept = part_of(there)
        assert kept < LENGTH
        again = Program(*words)
        document = again.document()
        assert document["resumed_from_bytes"] >= 0.9 * kept > 0
        assert not document["was_there"]
        again = Program(*words)
        assert again.document()["was_there"]
        assert list(there.iterdir()) == [there / "large"]


def test_a_push_outlives_its_receiver_again_and_again(source: Path, there: Path) -> None:
    server = Server(there)
    words = "push", str(source), f"127.0.0.1:{server.port}", "--json", "--rate", str(RATE)
    with watched(there / "large", source):
        push = Program(*words)
        for share in (0.1, 0.3, 0.6):
            until(reaches(there, share), LONG)
            server.restart()
        document = push.document()
        assert document["resumed_from_bytes"] >= 0.5 * LENGTH
        # No more was sent than what was on its way each time.
        assert document["sent_bytes"] < 1.5 * LENGTH


def test_a_pull_outlives_its_puller(source: Path, there: Path) -> None:
    server = Server(source.parent, "--transfer-rate", str(RATE))
    words = "pull", f"127.0.0.1:{server.port}", "large", str(there), "--json"
    with watched(there / "large", source):
        pull = Program(*words)
        until(reaches(there, 0.3), LONG)
        pull.kill()
        kept = part_of(there)
        document = Program(*words).document()
        assert document["resumed_from_bytes"] >= 0.9 * kept > 0
        assert list(there.iterdir()) == [there / "large"]


def test_a_pull_outlives_its_server(source: Path, there: Path) -> None:
    server = Server(source.parent, "--transfer-rate", str(RATE))
    words = "pull", f"127.0.0.1:{server.port}", "large", str(there), "--json"
    with watched(there / "large", source):
        pull = Program(*words, "--progress-timeout", "1s")
        until(reaches(there, 0.3), LONG)
        server.restart()
        _, errors = pull.process.communicate(timeout=LONG)
        if pull.process.returncode != 0:
            # Whoever pulls is told, and goes on by pulling again.
            assert "no progress for 1 s" in errors.splitlines()[-1]
            kept = part_of(there)
            document = Program(*words).document()
            assert document["resumed_from_bytes"] >= 0.9 * kept > 0
        assert list(there.iterdir()) == [there / "large"]


# --- between the file's new name and its sender's being told ------------------------------------


class Relay(threading.Thread):
    """Between a sender and a server: whom it tells when the server says DONE, which gets lost."""

    def __init__(self, port: int, on_done: Callable[[], None]) -> None:
        super().__init__()
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind(("127.0.0.1", 0))
        self._inner.connect(("127.0.0.1", port))
        self.port: int = self._outer.getsockname()[1]
        self._on_done: Callable[[], None] | None = on_done
        self._is_over = threading.Event()
        for sock in (self._outer, self._inner):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.setblocking(False)
        self.start()

    def run(self) -> None:
        sender = None
        while not self._is_over.is_set():
            has_come = False
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                datagram, sender = self._outer.recvfrom(65_535)
                has_come = True
                self._inner.send(datagram)
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                datagram = self._inner.recv(65_535)
                has_come = True
                if wire.kind_of(datagram) == wire.DONE and self._on_done is not None:
                    self._on_done()
                    self._on_done = None
                elif sender is not None:
                    self._outer.sendto(datagram, sender)
            if not has_come:
                time.sleep(0.0002)

    def end(self) -> None:
        """No more comes through."""
        self._is_over.set()
        self.join(PATIENCE)
        self._outer.close()
        self._inner.close()


def test_a_file_whose_sender_was_not_told_is_there_already(tmp_path: Path, there: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(hashlib.shake_128(b"short").digest(3 << 20))
    server = Server(there)
    crashed_with: list[bool] = []

    def crash() -> None:
        crashed_with.append((there / "short").exists())
        server.restart()

    relay = Relay(server.port, crash)
    try:
        push = Program("push", str(path), f"127.0.0.1:{relay.port}", "--json")
        document = push.document()
    finally:
        relay.end()
    # It had its name, and keeps it; who had sent all of it is told that it is there.
    assert crashed_with == [True]
    assert document["length_bytes"] == path.stat().st_size
    assert (there / "short").read_bytes() == path.read_bytes()
    assert list(there.iterdir()) == [there / "short"]
    push = Program("push", str(path), f"127.0.0.1:{server.port}")
    output, _ = push.process.communicate(timeout=PATIENCE)
    assert "already there" in output
