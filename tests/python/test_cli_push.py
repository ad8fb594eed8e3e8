"""`rsecho push` and `pull`: what is said, printed and returned, with a fake in place of the native
half."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from rsecho.cli import main
from support import PATIENCE, until
from transfer_fake import Peer, arriving, message, peer

if TYPE_CHECKING:
    from queue import Queue

    from rsecho._rsecho import _Message

__all__ = ["arriving", "peer"]

TO = "127.0.0.1:9"


class Run:
    """The command in this process."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self._captured = capfdbinary
        self.output = self.errors = ""

    def __call__(self, *words: str) -> int:
        self._captured.readouterr()
        with pytest.raises(SystemExit) as raised:
            main(words)
        output, errors = self._captured.readouterr()
        self.output, self.errors = output.decode(), errors.decode()
        assert "Traceback" not in self.errors
        status = raised.value.code
        assert isinstance(status, int)
        return status


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    return Run(capfdbinary)


@pytest.fixture
def albums(tmp_path: Path) -> Path:
    """A directory with files, one of them in another directory, and a link."""
    top = tmp_path / "albums"
    (top / "2026").mkdir(parents=True)
    for name in ("b.raw", "a.raw", "2026/1.raw"):
        (top / name).write_bytes(name.encode())
    (top / "link").symlink_to(top / "a.raw")
    os.mkfifo(top / "pipe")
    return top


def test_a_file(peer: Peer, command: Run, albums: Path) -> None:
    assert command("push", str(albums / "a.raw"), TO) == 0, command.errors
    assert peer.messages == {"a.raw": b"a.raw"}
    digest = hashlib.sha256(b"a.raw").hexdigest()  # the fake's
    assert command.output == (
        "a.raw: 5 bytes to udp://127.0.0.1:9 in 0.001 s, 4.9 KiB/s, "
        f"blake3 {digest[:16]}…, 1 of 10 packets sent again\n"
    )
    assert command.errors == ""
    peer.figures = {"resumed_from": 2, "retransmitted_packets": 0}
    assert command("push", str(albums / "a.raw"), TO, "--name", "x/y") == 0
    assert command.output.startswith("x/y: 5 bytes to ") and ", resumed at 2" in command.output
    assert "sent again" not in command.output
    peer.figures = {"was_there": True}
    assert command("push", str(albums / "a.raw"), TO) == 0
    assert command.output.startswith("a.raw: already there, 5 bytes, blake3 ")
    assert command("push", str(albums / "a.raw"), TO, "--quiet") == 0
    assert (command.output, command.errors) == ("", "")


def test_options_reach_the_transfer(peer: Peer, command: Run, albums: Path) -> None:
    words = "--rate", "10M", "--timeout", "5s", "--progress-timeout", "2s", "--replace", "-4"
    assert command("push", str(albums / "a.raw"), TO, *words, "--engine", "portable") == 0
    assert peer.given[-1] == {
        "name": ["a.raw"],
        "replaces": True,
        "wire": "native",
        "chunk_bytes": None,
        "timeout": 5.0,
        "progress_timeout": 2.0,
        "rate": 10 << 20,
    }
    assert peer.clients[-1].made_with == {"family": 4, "engine": "portable"}
    assert command("push", str(albums / "a.raw"), TO, "--wire", "plain", "--chunk", "1K") == 0
    assert (peer.given[-1]["wire"], peer.given[-1]["chunk_bytes"]) == ("plain", 1024)
    assert command("push", str(albums / "a.raw"), TO, "--chunk", "1K") == 2
    assert "--chunk needs --wire plain" in command.errors


def test_the_environment_tells_as_well(
    peer: Peer, command: Run, albums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSECHO_RATE", "1K")
    monkeypatch.setenv("RSECHO_NAME", "from/outside")
    assert command("push", str(albums / "a.raw"), TO) == 0
    assert peer.given[-1]["rate"] == 1024
    assert peer.given[-1]["name"] == ["from", "outside"]


def test_standard_input_and_pipes(
    peer: Peer, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, name in (((), ""), (("--name", "etc.tar"), "etc.tar")):
        stdin = io.TextIOWrapper(io.BytesIO(b"piped"))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert command("push", "-", TO, *words) == 0, command.errors
        assert peer.messages[name] == b"piped"
    read_end, write_end = os.pipe()
    os.write(write_end, b"substituted")
    os.close(write_end)
    assert command("push", f"/dev/fd/{read_end}", TO) == 0, command.errors
    os.close(read_end)
    assert peer.messages[""] == b"substituted"


def test_a_directory(peer: Peer, command: Run, albums: Path) -> None:
    assert command("push", str(albums), TO) == 0, command.errors
    names = ["albums/2026/1.raw", "albums/a.raw", "albums/b.raw"]
    assert [given["name"] for given in peer.given] == [name.split("/") for name in names]
    lines = command.output.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == names
    assert lines[3].startswith("3 files, 20 bytes to udp://127.0.0.1:9 in ")
    left_out = command.errors.splitlines()
    assert left_out == [
        f"rsecho: left out {albums}/link: it is a symbolic link",
        f"rsecho: left out {albums}/pipe: it is a pipe",
    ]
    assert command("push", str(albums), TO, "--name", "backup/today") == 0
    assert peer.given[-1]["name"] == ["backup", "today", "b.raw"]


def test_what_one_file_fails_of_does_not_keep_the_others(
    peer: Peer, command: Run, albums: Path
) -> None:
    text = "cannot send albums/a.raw: it is there already, with other contents; --replace"
    peer.failures["albums/a.raw"] = rsecho.TransferError(text, "exists", True)
    (albums / os.fsdecode(b"c\xff.raw")).write_bytes(b"")
    assert command("push", str(albums), TO, "--json") == 1
    assert list(peer.messages) == ["albums/2026/1.raw", "albums/b.raw"]
    assert f"rsecho: {text}\n" in command.errors
    assert "it is not UTF-8" in command.errors
    found = json.loads(command.output)
    assert (found["schema"], found["target"]) == ("rsecho.push/1", "udp://127.0.0.1:9")
    assert (found["length_bytes"], found["failed"]) == (15, 2)
    assert [entry.get("reason") for entry in found["files"]] == [None, "exists", None, "bad_name"]
    assert found["files"][1]["error"] == text
    first = found["files"][0]
    assert (first["name"], first["source"]) == ("albums/2026/1.raw", f"{albums}/2026/1.raw")
    assert (first["duration_ns"], first["srtt_ns"]) == (1_000_000, 200_000)


@pytest.mark.parametrize(
    "error",
    [
        rsecho.TransferTimeoutError("cannot send albums/a.raw: no answer for 10 s"),
        rsecho.TransferError("cannot send albums/a.raw: it only sends", "refused", True),
        ConnectionRefusedError(111, "cannot send to udp://127.0.0.1:9: connection refused"),
    ],
)
def test_what_the_server_fails_of_ends_it(
    peer: Peer, command: Run, albums: Path, error: Exception
) -> None:
    peer.failures["albums/a.raw"] = error
    assert command("push", str(albums), TO, "--jsonl") == 1
    assert list(peer.messages) == ["albums/2026/1.raw"]
    assert command.errors.endswith("rsecho: 1 more files were not tried\n")
    entries = [json.loads(line) for line in command.output.splitlines()]
    assert [entry["schema"] for entry in entries] == ["rsecho.push.file/1"] * 2
    assert "error" in entries[1]


def test_what_cannot_be_read_is_said_and_left_out(
    peer: Peer, command: Run, albums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(call: Any, name: str) -> Any:
        def refuse(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).endswith(name):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *rest, **more)

        return refuse

    # Root, who may run this, reads whatever the mode is.
    monkeypatch.setattr("pathlib.Path.open", refusing(Path.open, "a.raw"))
    monkeypatch.setattr("os.scandir", refusing(os.scandir, "2026"))
    assert command("push", str(albums), TO) == 1
    assert list(peer.messages) == ["albums/b.raw"]
    assert f"rsecho: cannot read {albums}/a.raw: Permission denied\n" in command.errors
    assert f"rsecho: cannot read {albums}/2026: Permission denied\n" in command.errors
    assert command.output.endswith(", 2 failed\n")


def test_one_that_fails(peer: Peer, command: Run, albums: Path) -> None:
    text = "cannot send a.raw: no answer for 10 s"
    peer.failures["a.raw"] = rsecho.TransferTimeoutError(text)
    assert command("push", str(albums / "a.raw"), TO) == 1
    assert (command.output, command.errors) == ("", f"rsecho: {text}\n")
    assert command("push", str(albums / "nonesuch"), TO) == 2
    assert command("push", str(albums / "a.raw"), "127.0.0.1:65536") == 2
    peer.failures["a.raw"] = ValueError("cannot use '..' as a name")
    assert command("push", str(albums / "a.raw"), TO) == 2
    assert command.errors == "rsecho: cannot use '..' as a name\n"


def test_an_echo_is_compared(peer: Peer, command: Run, albums: Path) -> None:
    assert command("push", str(albums / "a.raw"), TO, "--echo") == 0
    assert command.output.startswith("a.raw: 5 bytes to udp://127.0.0.1:9 and back in ")
    assert command.output.endswith(", equal\n")
    peer.echoes = bytes.upper
    assert command("push", str(albums / "a.raw"), TO, "--echo", "--json") == 1
    assert json.loads(command.output)["files"][0]["is_equal"] is False
    assert command("push", str(albums / "a.raw"), TO, "--echo", "--name", "x") == 2


def test_pull(peer: Peer, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peer.messages = {"a/b.raw": b"data\xff"}
    assert command("pull", TO, "a/b.raw") == 0, command.errors
    assert (tmp_path / "b.raw").read_bytes() == b"data\xff"
    assert command.output.startswith("a/b.raw: 5 bytes from udp://127.0.0.1:9 in 0.001 s, ")
    assert command("pull", TO, "a/b.raw", "c.raw", "--force", "--json") == 0
    assert (tmp_path / "c.raw").read_bytes() == b"data\xff"
    found = json.loads(command.output)
    assert (found["schema"], found["path"], found["length_bytes"]) == ("rsecho.pull/1", "c.raw", 5)
    assert "data" not in found
    assert [given["overwrites"] for given in peer.given] == [False, True]


def test_pull_to_standard_output(
    peer: Peer, command: Run, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    peer.messages = {"a": b"data\n"}
    assert command("pull", TO, "a", "-", "--max-message", "1K") == 0
    assert command.output == "data\n"
    assert command.errors.startswith("a: 5 bytes from ")
    assert peer.given[-1]["max_message_bytes"] == 1024
    assert command("pull", TO, "a", "-", "--json") == 2


def test_pull_that_fails(peer: Peer, command: Run) -> None:
    peer.failures = {
        "a": rsecho.TransferError("cannot fetch a: there is none", "not_found", True),
        "b": ConnectionRefusedError(111, "cannot fetch b: connection refused"),
        "..": ValueError("cannot use '..' as a name"),
    }
    for name, status in (("a", 1), ("b", 1), ("..", 2)):
        assert command("pull", TO, name, "/nonesuch") == status
        assert command.errors == f"rsecho: {peer.failures[name].args[-1]}\n"


def policy_of(monkeypatch: pytest.MonkeyPatch, command: Run, *words: str) -> Any:
    """What `rsecho serve` tells UDP servers of large messages."""
    from rsecho import _policy
    from rsecho.cli import listen, log_setup
    from rsecho.cli.failure import CommandError

    found: list[Any] = []

    class Listeners:
        def __init__(self, family: int, udp: dict[str, Any], tcp: dict[str, Any]) -> None:
            assert "transfer" not in tcp
            found.append(udp["transfer"])
            raise CommandError("that is all")

    monkeypatch.setattr(listen, "Listeners", Listeners)
    # In this process it would last.
    monkeypatch.setattr(log_setup, "configure_logging", lambda *given: None)
    monkeypatch.setattr(_policy, "native", lambda policy: None)
    assert command("serve", *words) == 1, command.errors
    return found[0]


def test_serve_is_told_what_to_do_with_large_messages(
    command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rsecho.transfer import Policy

    assert policy_of(monkeypatch, command) is None
    directory = "--transfer", str(tmp_path)
    assert policy_of(monkeypatch, command, *directory) == Policy(directory=tmp_path)
    assert policy_of(monkeypatch, command, "--echo-transfers") == Policy(echo=True)
    for access, receives, shares in (("push", True, False), ("pull", False, True)):
        found = policy_of(monkeypatch, command, *directory, "--transfer-access", access)
        assert (found.receives, found.shares) == (receives, shares)
    every = "--transfer-quota 1G --transfer-rate 1M --wire plain --keep-partial --echo-transfers"
    every += " --max-message 1M --max-total 2M --max-open-per-source 3 --progress-timeout 4s"
    assert policy_of(monkeypatch, command, *directory, *every.split()) == Policy(
        directory=tmp_path,
        echo=True,
        quota_bytes=1 << 30,
        bytes_per_second=1 << 20,
        wire="plain",
        keep_partial=True,
        max_message_bytes=1 << 20,
        max_total_bytes=2 << 20,
        max_open_per_source=3,
        progress_timeout=4.0,
    )
    found = policy_of(monkeypatch, command, *directory, "--overwrite")
    assert found == Policy(directory=tmp_path, overwrites=True)
    monkeypatch.setenv("RSECHO_WIRE", "plain")
    assert policy_of(monkeypatch, command) is None
    assert command("serve", "--overwrite") == 2
    assert "--overwrite needs --transfer DIR" in command.errors
    assert command("serve", "--transfer", "/nonesuch") == 2


def test_serve_tells_what_came_as_json_lines(
    arriving: Queue[_Message], capsys: pytest.CaptureFixture[str]
) -> None:
    from rsecho.cli.foreground import Foreground
    from rsecho.cli.printer import Printer

    arriving.put(message(None, name="a/b", path="/in/a/b"))
    arriving.put(message(None, missing=[(3, 5)], error=("timed_out", "chunks are missing")))
    with rsecho.UdpServer("127.0.0.1") as server:
        foreground = Foreground([server], Printer(False, True), True)
        taker = threading.Thread(target=foreground._take_messages, args=(server,))
        taker.start()
        until(arriving.empty)
    taker.join(PATIENCE)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["schema"], first["event"]) == ("rsecho.serve.event/1", "transfer")
    assert (first["name"], first["path"], first["peer"]) == ("a/b", "/in/a/b", "127.0.0.1:5")
    assert (second["reason"], second["missing"]) == ("timed_out", [[3, 5]])
