"""What `rsecho.transfer` makes of what it is given and of what becomes of it, with a fake in place
of the native half."""

from __future__ import annotations

import array
import asyncio
import errno
import gzip
import inspect
import io
import os
import pickle
import re
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from rsecho import sockets, transfer
from support import PATIENCE, run, until
from transfer_fake import Peer, arriving, message, peer

if TYPE_CHECKING:
    from queue import Queue

    from rsecho._rsecho import _Message

__all__ = ["arriving", "peer"]

TO = "127.0.0.1", 9


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.raw"
    path.write_bytes(b"0123456789" * 10_000)
    return path


@pytest.mark.parametrize(
    "source",
    [
        b"data",
        bytearray(b"data"),
        memoryview(b"data"),
        array.array("B", b"data"),
        io.BytesIO(b"data"),
        io.BufferedReader(io.BytesIO(b"data")),
    ],
    ids=lambda source: type(source).__name__,
)
def test_whatever_has_bytes_is_sent(peer: Peer, source: Any) -> None:
    sent = transfer.send(source, *TO)
    assert peer.messages == {"": b"data"}
    assert (sent.name, sent.length_bytes, sent.url) == ("", 4, "udp://127.0.0.1:9")
    assert sent.digest == "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    assert (sent.srtt_ns, sent.min_rtt_ns, sent.bytes_per_second) == (200_000, 100_000, 4000)
    assert all(client.is_closed.is_set() for client in peer.clients)


def test_a_file_is_sent_by_its_path_under_its_own_name(peer: Peer, file: Path) -> None:
    assert transfer.send(file, *TO).name == "photo.raw"
    transfer.send(file, *TO, name="albums/2026/1.raw", replace=True)
    transfer.send(file, *TO, name=["a", "b"])
    transfer.send(file, *TO, name="")
    names = [given["name"] for given in peer.given]
    assert names == [["photo.raw"], ["albums", "2026", "1.raw"], ["a", "b"], []]
    assert [given["replaces"] for given in peer.given] == [False, True, False, False]
    assert set(peer.messages.values()) == {file.read_bytes()}


def test_a_file_object_is_sent_from_where_it_stands_to_its_end(peer: Peer, file: Path) -> None:
    for buffering in (0, -1):
        with file.open("rb", buffering=buffering) as stream:
            assert stream.read(15) == b"012345678901234"
            transfer.send(stream, *TO)
            assert stream.read(1) == b""
        assert peer.messages[""] == file.read_bytes()[15:]
    with file.open("r+b") as stream:
        stream.write(b"written, ")
        transfer.send(stream, *TO)
    assert peer.messages[""] == file.read_bytes()[9:]
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(b"data")
        temporary.seek(0)
        transfer.send(temporary, *TO)
    assert peer.messages[""] == b"data"


def test_a_file_object_stands_where_it_was_when_sending_fails(peer: Peer, file: Path) -> None:
    peer.failures[""] = rsecho.TransferError("no", "refused", True)
    with file.open("rb") as stream:
        stream.read(15)
        with pytest.raises(rsecho.TransferError):
            transfer.send(stream, *TO)
        assert stream.read() == file.read_bytes()[15:]


def test_what_is_unpacked_as_it_is_read_is_sent_unpacked(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "packed.gz"
    path.write_bytes(gzip.compress(b"data" * 100_000))
    with gzip.open(path) as stream:
        transfer.send(stream, *TO)
    assert peer.messages[""] == b"data" * 100_000


def test_a_pipe_is_sent_to_its_end(peer: Peer) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"data")
    os.close(write_end)
    seen: list[tuple[int, int | None]] = []
    with os.fdopen(read_end, "rb") as stream:
        transfer.send(stream, *TO, progress=lambda *so_far: seen.append(so_far))
    assert (peer.messages[""], seen) == (b"data", [(2, None), (4, 4)])


def test_half_of_what_could_not_be_read_is_no_message(peer: Peer) -> None:
    class Failing(io.RawIOBase):
        rest = 3

        def read(self, size: int = -1) -> bytes:
            self.rest -= 1
            if not self.rest:
                raise OSError(errno.EIO, "the disk is broken")
            return b"data"

    with pytest.raises(OSError, match="the disk is broken"):
        transfer.send(Failing(), *TO)
    assert peer.messages == {}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("photo.raw", r"pathlib\.Path"),
        (io.StringIO("text"), "'rb'"),
        (7, "cannot set source=7: it takes bytes"),
        (None, "cannot set source=None: it takes bytes"),
    ],
)
def test_what_is_no_source_is_told_what_would_be(peer: Peer, source: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        transfer.send(source, *TO)
    assert not peer.given


def test_names_that_are_none(peer: Peer) -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        transfer.send(b"", *TO, name="\udcff")
    with pytest.raises(TypeError, match="cannot set name="):
        transfer.send(b"", *TO, name=b"name")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot set name='': it is empty"):
        transfer.fetch("", *TO)


def test_what_a_transfer_is_told(peer: Peer) -> None:
    transfer.send(b"", *TO)
    defaults = {"timeout": None, "progress_timeout": 10.0, "rate": None}
    named = {"name": [], "replaces": False, "wire": "native", "chunk_bytes": None}
    assert peer.given.pop() == defaults | named
    options: Any = {"timeout": 5.0, "progress_timeout": 2.0, "rate": 1000, "chunk_bytes": 512}
    transfer.send(b"", *TO, wire="plain", family=4, engine="portable", **options)
    told = {"timeout": 5.0, "progress_timeout": 2.0, "rate": 1000}
    assert peer.given.pop() == told | named | {"wire": "plain", "chunk_bytes": 512}
    assert peer.clients[-1].made_with == {"family": 4, "engine": "portable"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        transfer.send(b"", *TO, color=1)  # type: ignore[call-arg]
    for wrong in ({"wire": "loud"}, {"chunk_bytes": 5}):
        with pytest.raises(ValueError, match="cannot"):
            transfer.Client(*TO, **wrong)
    plain = transfer.Client(*TO, wire="plain")
    for ask in (lambda: plain.fetch("name"), lambda: plain.echo(b"")):
        with pytest.raises(ValueError, match="no words to ask with"):
            ask()


def test_fetching_into_memory_a_file_or_a_directory(peer: Peer, tmp_path: Path) -> None:
    peer.messages = {"a/b": b"data"}
    found = transfer.fetch("a/b", *TO)
    assert (found.data, found.path, found.name) == (b"data", None, "a/b")
    for to, path in ((tmp_path, tmp_path / "b"), (tmp_path / "c", tmp_path / "c")):
        found = transfer.fetch("a/b", *TO, to=to, overwrite=True)
        assert (found.data, found.path) == (None, path)
        assert path.read_bytes() == b"data"
    assert [given["overwrites"] for given in peer.given] == [False, True, True]
    assert peer.given[0]["max_message_bytes"] == 16 << 20
    assert transfer.echo(b"data", *TO) == b"data"


def test_what_progress_raises_ends_the_transfer(peer: Peer) -> None:
    def stop(done: int, total: int | None) -> None:
        raise InterruptedError(f"at {done} of {total}")

    with pytest.raises(InterruptedError, match="at 2 of 4"):
        transfer.send(b"data", *TO, progress=stop)


def test_errors_say_why() -> None:
    error = rsecho.TransferError("cannot send a: it is there", "exists", True)
    assert (str(error), error.reason, error.is_remote) == (
        "cannot send a: it is there",
        "exists",
        1,
    )
    late = rsecho.TransferTimeoutError("cannot send a: no answer", missing=((1, 2),))
    assert isinstance(late, TimeoutError) and isinstance(late, rsecho.TransferError)
    assert isinstance(late, OSError) and late.errno == errno.ETIMEDOUT
    assert (str(late), late.reason) == ("cannot send a: no answer", "timed_out")
    for each in (error, late):
        copy = pickle.loads(pickle.dumps(each))
        assert (type(copy), str(copy), vars(copy)) == (type(each), str(each), vars(each))


def test_the_module_is_imported_when_it_is_asked_for() -> None:
    code = """
    import sys, rsecho
    assert "rsecho.transfer" not in sys.modules
    assert rsecho.transfer.send and "asyncio" not in sys.modules
    """
    done = run(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.asyncio
async def test_progress_is_told_on_the_loop(peer: Peer) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None) -> None:
        asyncio.get_running_loop()
        seen.append((done, total))

    sent = await transfer.send_async(b"data", *TO, progress=note)
    assert (sent.length_bytes, seen) == (4, [(2, 4), (4, 4)])
    assert await transfer.echo_async(b"data", *TO) == b"data"
    peer.messages["a"] = b"data"
    assert (await transfer.fetch_async("a", *TO, progress=note)).data == b"data"
    assert seen.pop() == (4, 4)

    def stop(done: int, total: int | None) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await transfer.send_async(b"data", *TO, progress=stop)


@pytest.mark.asyncio
async def test_cancelling_ends_the_transfer_before_it_returns(peer: Peer) -> None:
    peer.hangs.add("slow")
    data = bytearray(b"data")
    task = asyncio.create_task(transfer.send_async(data, *TO, name="slow"))
    await asyncio.to_thread(peer.is_hanging.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert peer.clients[0].is_closed.is_set()
    until(lambda: not [each for each in threading.enumerate() if "transfer" in each.name])


def messages(count: int) -> list[_Message]:
    return [message(b"%d" % number) for number in range(count)]


def test_a_receiver_is_iterated_until_it_is_closed(arriving: Queue[_Message]) -> None:
    found = []
    with transfer.Receiver("127.0.0.1") as receiver:
        for coming in messages(3):
            arriving.put(coming)
        arriving.put(message(None, error=("io", "the disk is full")))
        arriving.put(message(None, name="a/b", path="/in/a/b"))
        for each in receiver:
            found.append(each)
            if each.path is not None:
                threading.Thread(target=receiver.close).start()
    assert [each.data for each in found] == [b"0", b"1", b"2", None]
    assert (found[3].name, found[3].path) == ("a/b", Path("/in/a/b"))
    assert (found[0].peer, found[0].id, found[0].is_whole) == (("127.0.0.1", 5), 7, True)
    with pytest.raises(rsecho.StateError, match="has ended"):
        receiver.receive()
    assert list(receiver) == []


def test_waiting_for_one_message(arriving: Queue[_Message]) -> None:
    with transfer.Receiver("127.0.0.1", keep_partial=True, wire="plain") as receiver:
        with pytest.raises(TimeoutError, match=re.escape(f"{receiver.url} within 0.01 s")):
            receiver.receive(0.01)
        arriving.put(message(None, missing=[(3, 5)], error=("timed_out", "chunks are missing")))
        with pytest.raises(rsecho.TransferTimeoutError, match="chunks are missing") as raised:
            receiver.receive()
        assert raised.value.missing == ((3, 5),)
        arriving.put(message(b"part", missing=[(3, 5)], error=("timed_out", "chunks are missing")))
        kept = receiver.receive()
        assert (kept.data, kept.missing, kept.is_whole) == (b"part", ((3, 5),), False)
        assert receiver.stats().received_packets == 0


def test_receiving_one_message(arriving: Queue[_Message]) -> None:
    addresses = []

    def ready(address: tuple[str, int]) -> None:
        addresses.append(address)
        arriving.put(message(b"data"))

    found = transfer.receive("127.0.0.1", on_ready=ready, timeout=PATIENCE)
    assert found.data == b"data"
    assert addresses[0][0] == "127.0.0.1" and addresses[0][1] > 0


@pytest.mark.asyncio
async def test_receiving_from_asyncio_loses_nothing(arriving: Queue[_Message]) -> None:
    async with transfer.Receiver("127.0.0.1") as receiver:
        with pytest.raises(TimeoutError):
            await receiver.receive_async(0.01)
        task = asyncio.create_task(receiver.receive_async())
        await asyncio.sleep(0)
        task.cancel()
        for coming in messages(3):
            arriving.put(coming)
        found = []
        async for each in receiver:
            found.append(each.data or b"")
            if len(found) == 3:
                await asyncio.to_thread(receiver.close)
        assert sorted(found) == [b"0", b"1", b"2"]
    arriving.put(message(b"data"))
    one = await transfer.receive_async("127.0.0.1", timeout=PATIENCE)
    assert one.data == b"data"


def test_keywords_of_receivers(arriving: Queue[_Message]) -> None:
    policy = transfer.Policy(max_message_bytes=5)
    receivers = [
        transfer.Receiver("127.0.0.1", max_message_bytes=5, ttl=9),
        transfer.Receiver("127.0.0.1", transfer=policy),
    ]
    assert receivers[0].socket_report["ttl"].effective == 9
    for receiver in receivers:
        receiver.close()
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        transfer.Receiver(color=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cannot set echo beside transfer="):
        transfer.Receiver(transfer=policy, echo=True)


def test_receive_buffers_are_as_large_as_the_kernel_gives_without_a_warning() -> None:
    ceiling = rsecho.kernel_limits().udp_recv_buffer_max_bytes
    wanted = min(4 << 20, ceiling.value if ceiling else 4 << 20)
    assert sockets.roomy({"ttl": 9}) == {"ttl": 9, "recv_buffer_bytes": wanted}
    assert sockets.roomy({"recv_buffer_bytes": 5}) == {"recv_buffer_bytes": 5}
    assert sockets.roomy({"force_buffers": True})["recv_buffer_bytes"] == 4 << 20
    with rsecho.UdpServer("127.0.0.1", **sockets.roomy({})) as server:
        line = server.socket_report["recv_buffer_bytes"]
    assert (line.requested, line.severity) == (wanted, "notice")


FUNCTIONS = [
    getattr(transfer, name + end)
    for name in ("send", "fetch", "echo", "receive")
    for end in ("", "_async")
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__name__)
def test_functions_tell_every_keyword(function: Any) -> None:
    is_receive = function.__name__.startswith("receive")
    typed = sockets.ReceiverOptions if is_receive else sockets.TransferClientOptions
    told = inspect.signature(function).parameters
    assert set(told) >= set(typed.__annotations__) and "options" not in told
    for name in typed.__annotations__:
        assert re.search(rf"^ +{name} \([^\n]+\): \S", function.__doc__, re.MULTILINE), name
