"""Large messages from end to end, from Python and by the command, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
import rsecho
from command import rsecho as command
from command import serving
from rsecho import transfer
from support import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = ["batch", "portable"]


def content(length: int) -> bytes:
    """Bytes that are not alike anywhere."""
    return hashlib.shake_128(b"rsecho").digest(length)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("length", [0, 1, 1199, 65_507, 3 << 20])
def test_bytes_arrive_whole(engine: str, length: int) -> None:
    data = content(length)
    with transfer.Receiver("127.0.0.1", engine=engine) as receiver:  # type: ignore[arg-type]
        sent = transfer.send(data, *receiver.address, engine=engine)  # type: ignore[arg-type]
        found = receiver.receive(PATIENCE)
        assert receiver.engine == engine
    assert found.data == data
    assert (found.name, found.path, found.missing) == ("", None, ())
    assert found.length_bytes == sent.length_bytes == length
    assert found.digest == sent.digest
    assert sent.resumed_from_bytes == 0 and not sent.was_there


def test_buffers_and_pipes_arrive_whole() -> None:
    data = content(100_000)
    with transfer.Receiver("127.0.0.1") as receiver:
        for source in (bytearray(data), memoryview(data)):
            transfer.send(source, *receiver.address)
            assert receiver.receive(PATIENCE).data == data
        read_end, write_end = os.pipe()

        def write() -> None:
            with os.fdopen(write_end, "wb") as stream:
                stream.write(data)

        writer = threading.Thread(target=write)
        writer.start()
        with os.fdopen(read_end, "rb") as stream:
            transfer.send(stream, *receiver.address, name="piped")
        writer.join()
        found = receiver.receive(PATIENCE)
    assert (found.name, found.data) == ("piped", data)


def test_files_go_both_ways(tmp_path: Path) -> None:
    data = content(3 << 20)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    photo = here / "photo.raw"
    photo.write_bytes(data)
    seen: list[tuple[int, int | None]] = []
    with transfer.Receiver("127.0.0.1", directory=there, overwrites=True) as receiver:
        address = receiver.address
        transfer.send(photo, *address, progress=lambda *so_far: seen.append(so_far))
        found = receiver.receive(PATIENCE)
        assert (found.path, found.data) == (there / "photo.raw", None)
        assert (there / "photo.raw").read_bytes() == data
        assert seen[-1] == (len(data), len(data))
        assert transfer.send(photo, *address).was_there
        photo.write_bytes(b"other")
        with pytest.raises(rsecho.TransferError) as raised:
            transfer.send(photo, *address)
        assert (raised.value.reason, raised.value.is_remote) == ("exists", True)
        transfer.send(photo, *address, replace=True)
        assert (there / "photo.raw").read_bytes() == b"other"
        assert transfer.fetch("photo.raw", *address).data == b"other"
        (there / "large.raw").write_bytes(data)
        fetched = transfer.fetch("large.raw", *address, to=here)
        assert fetched.path == here / "large.raw"
        assert (here / "large.raw").read_bytes() == data
        with pytest.raises(rsecho.TransferError) as raised:
            transfer.fetch("nonesuch", *address)
        assert raised.value.reason == "not_found"
        with pytest.raises(rsecho.TransferError) as raised:
            transfer.fetch("large.raw", *address, max_message_bytes=1000)
        assert raised.value.reason == "too_large"


def test_a_name_is_never_a_path(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (there / "out").symlink_to(tmp_path)
    with transfer.Receiver("127.0.0.1", directory=there) as receiver:
        for name in ("..", "../secret", "/etc/passwd", "a//b", ".", "a\0b", "x" * 256):
            with pytest.raises(ValueError, match="name"):
                transfer.fetch(name, *receiver.address)
        with pytest.raises(rsecho.TransferError):
            transfer.fetch("out/secret", *receiver.address)
        with pytest.raises(rsecho.TransferError):
            transfer.send(b"", *receiver.address, name="out/new")
    assert not (tmp_path / "new").exists()


def test_an_echo_is_equal() -> None:
    data = content(1 << 20)
    with rsecho.UdpServer("127.0.0.1", transfer=transfer.Policy(echo=True)) as server:
        assert transfer.echo(data, *server.address) == data
        # The echo of datagrams goes on beside it.
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            assert client.request(b"data") == b"data"


def test_limits_are_told_to_whoever_can_act() -> None:
    with transfer.Receiver("127.0.0.1", max_message_bytes=1000) as receiver:
        with pytest.raises(rsecho.TransferError) as raised:
            transfer.send(content(1001), *receiver.address)
        assert (raised.value.reason, raised.value.is_remote) == ("too_large", True)
        transfer.send(content(1000), *receiver.address)
        assert len(receiver.receive(PATIENCE).data or b"") == 1000


def test_f40_nobody_answers() -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        for limit in ({"timeout": 0.3}, {"progress_timeout": 0.3}):
            with pytest.raises(rsecho.TransferTimeoutError) as raised:
                transfer.send(b"data", *silent.getsockname(), **limit)  # type: ignore[arg-type]
            assert (raised.value.reason, raised.value.is_remote) == ("timed_out", False)


def test_what_progress_raises_is_raised() -> None:
    def stop(done: int, total: int | None) -> None:
        raise InterruptedError("enough")

    with (
        transfer.Receiver("127.0.0.1") as receiver,
        pytest.raises(InterruptedError, match="enough"),
    ):
        transfer.send(content(1 << 20), *receiver.address, progress=stop)


def test_iteration_ends_when_it_is_closed_by_another_thread() -> None:
    with transfer.Receiver("127.0.0.1") as receiver:
        threading.Timer(0.1, receiver.close).start()
        assert list(receiver) == []


@pytest.mark.asyncio
async def test_asyncio() -> None:
    data = content(1 << 20)
    async with transfer.Receiver("127.0.0.1") as receiver:
        sent, found = await asyncio.gather(
            transfer.send_async(data, *receiver.address), receiver.receive_async(PATIENCE)
        )
        assert (found.data, sent.length_bytes) == (data, len(data))


@pytest.mark.asyncio
async def test_cancelling_ends_a_transfer_at_once() -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        task = asyncio.create_task(
            transfer.send_async(b"data", *silent.getsockname(), progress_timeout=10 * PATIENCE)
        )
        await asyncio.to_thread(silent.recv, 2000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)


def test_push_and_pull_a_directory(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    (here / "albums" / "2026").mkdir(parents=True)
    for name in ("a", "2026/b"):
        (here / "albums" / name).write_bytes(content(200_000) + name.encode())
    options = "--udp", "127.0.0.1:0", "--transfer", str(there), "--jsonl"
    with serving(*options) as server:
        host, port = server.address("udp")
        to = f"{host}:{port}"
        done = command("push", str(here / "albums"), to)
        assert done.returncode == 0, done.stderr
        again = command("push", str(here / "albums"), to, "--json")
        assert [each["was_there"] for each in json.loads(again.stdout)["files"]] == [True, True]
        out = tmp_path / "out"
        done = command("pull", to, "albums/2026/b", str(out))
        assert done.returncode == 0, done.stderr
        assert command("pull", to, "albums/a", "-").stdout == (here / "albums/a").read_bytes()
        failed = command("pull", to, "nonesuch", str(tmp_path / "none"))
        assert failed.returncode == 1
        assert failed.stderr.count(b"\n") == 1 and b"nonesuch" in failed.stderr
        server.end()
        events = [json.loads(line) for line in server.output]
    for name in ("a", "2026/b"):
        assert (there / "albums" / name).read_bytes() == (here / "albums" / name).read_bytes()
    assert out.read_bytes() == (here / "albums/2026/b").read_bytes()
    assert not (tmp_path / "none").exists()
    names = [each["name"] for each in events if each["event"] == "transfer"]
    assert sorted(set(names)) == ["albums/2026/b", "albums/a"]


def test_push_with_an_echo() -> None:
    with serving("--udp", "127.0.0.1:0", "--echo-transfers") as server:
        host, port = server.address("udp")
        done = command("push", "-", f"{host}:{port}", "--echo", data=content(300_000))
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().endswith(", equal\n")
