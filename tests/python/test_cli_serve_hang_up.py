"""What `rsecho serve` does when its terminal, or the reader of its output, goes away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest
from command import PATIENCE, RSECHO, clean_environment, rsecho, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDP = ("--udp", "127.0.0.1:0")

SLOW = "import time\ndef answer(data, peer):\n    time.sleep(0.5)\n    return data\n"


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options of a server that is still at its answer when a signal comes."""
    (tmp_path / "slow.py").write_text(SLOW)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return (*UDP, "--responder", "python=slow:answer")


@contextlib.contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"x", ("127.0.0.1", port))
        time.sleep(0.2)  # until it is being answered, which takes longer
        yield client


@pytest.mark.parametrize("more", [(), ("--stats", "50ms"), ("--log-level", "debug")])
def test_a_terminal_that_closes_drains_and_is_no_failure(
    slow: tuple[str, ...], more: tuple[str, ...]
) -> None:
    own, other = pty.openpty()
    with subprocess.Popen(
        [RSECHO, "serve", *slow, *more],
        stdin=other,
        stdout=other,
        stderr=other,
        env=clean_environment(None),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(other)
        shown = b""
        while b"rsecho ready" not in shown:
            assert select.select([own], [], [], PATIENCE)[0]
            shown += os.read(own, 4096)
        port = int(shown.split(b"listening udp://127.0.0.1:")[1].split()[0])
        with asking(port) as client:
            os.close(own)  # the kernel sends SIGHUP
            assert client.recv(9) == b"x"
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_a_second_hang_up_does_not_end_it_at_once(
    slow: tuple[str, ...], first: signal.Signals
) -> None:
    with serving(*slow) as server, asking(server.address("udp")[1]) as client:
        server.process.send_signal(first)
        time.sleep(0.05)  # two that wait at once count as one
        server.end(signal.SIGHUP)
        assert client.recv(9) == b"x"
    assert server.status == 0


def test_another_signal_after_a_hang_up_ends_it_at_once(slow: tuple[str, ...]) -> None:
    with serving(*slow) as server, asking(server.address("udp")[1]):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        server.end(signal.SIGTERM)
    assert server.status == 128 + signal.SIGTERM


def test_statistics_that_nobody_reads_do_not_end_the_service() -> None:
    with subprocess.Popen(
        [RSECHO, "serve", *UDP, "--stats", "50ms"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(None),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().rsplit(b":", 1)[1])
        assert process.stdout.readline() == b"rsecho ready\n"
        process.stdout.close()
        line = process.stderr.readline().decode()
        assert "cannot print statistics: Broken pipe; serving goes on without them" in line
        with asking(port) as client:
            assert client.recv(9) == b"x"
        process.send_signal(signal.SIGTERM)
        # As without --stats: the totals could not be printed.
        assert process.wait(PATIENCE) == 1


def test_a_listener_that_ends_by_itself_is_told_while_others_serve() -> None:
    with serving(*UDP, "--tcp", "127.0.0.1:0", "--idle-timeout", "200ms") as server:
        assert server.process.stderr is not None
        line = server.process.stderr.readline()
        assert "stopped udp://" in line
        assert "idle timeout: nothing was received" in line
        assert server.process.poll() is None


@pytest.mark.parametrize("interval", ["0", "1ns", "9ms"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    done = rsecho("serve", *UDP, "--stats", interval)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--stats" in done.stderr
    assert b"at least 10ms" in done.stderr
