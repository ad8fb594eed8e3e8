"""Only type-checked, never run: what `rsecho.transfer` promises to users."""

from __future__ import annotations

import array
import gzip
import io
import mmap
from pathlib import Path
from typing import assert_type

import rsecho
from rsecho import transfer

for source in (b"", bytearray(), memoryview(b""), array.array("H"), mmap.mmap(-1, 1)):
    assert_type(transfer.send(source, "localhost", 9), transfer.Sent)
transfer.send(Path("photo.raw"), "localhost", 9, name="a/b", replace=True, rate=1 << 20)
transfer.send(io.BytesIO(), "localhost", 9, name=["a", "b"], progress=lambda done, total: None)
with open("photo.raw", "rb") as file, gzip.open("photo.gz") as packed:  # noqa: PTH123
    transfer.send(file, "localhost", 9, wire="plain", chunk_bytes=512, timeout=5, ttl=3)
    transfer.send(packed, "localhost", 9)
transfer.send("photo.raw", "localhost", 9)  # type: ignore[arg-type]
transfer.send(b"", "localhost", 9, wire="loud")  # type: ignore[arg-type]
transfer.send(b"", "localhost", 9, color=1)  # type: ignore[call-arg]
transfer.send(b"", "localhost", 9, progress=print)
transfer.send(b"", "localhost", 9, progress=lambda done: None)  # type: ignore[misc, arg-type]
transfer.send(b"", "localhost")  # type: ignore[call-arg]

fetched = rsecho.transfer.fetch("a", "localhost", 9, to="b", overwrite=True)
assert_type(fetched, transfer.Fetched)
assert_type(fetched.data, bytes | None)
assert_type(fetched.path, Path | None)
assert_type(fetched.srtt_ns, int | None)
fetched.name = ""  # type: ignore[misc]
assert_type(transfer.echo(bytearray(), "localhost", 9), bytes)

with transfer.Receiver("localhost", directory=Path("in"), quota_bytes=5, ttl=3) as receiver:
    assert_type(receiver, transfer.Receiver)
    assert_type(receiver.receive(1), transfer.Message)
    assert_type(receiver.stats(), rsecho.UdpStats)
    for message in receiver:
        assert_type(message, transfer.Message)
        assert_type(message.missing, tuple[tuple[int, int], ...])
transfer.Receiver(no_delay=True)  # type: ignore[call-arg]
assert_type(transfer.receive(timeout=1, on_ready=print, wire="plain"), transfer.Message)
rsecho.UdpServer(transfer=transfer.Policy(directory="in", shares=False))
rsecho.UdpServer(transfer=True)  # type: ignore[arg-type]
rsecho.TcpServer(transfer=transfer.Policy())  # type: ignore[call-arg]
transfer.Policy("in")  # type: ignore[call-arg]


async def asynchronously() -> None:
    assert_type(await transfer.send_async(b"", "localhost", 9), transfer.Sent)
    assert_type(await transfer.fetch_async("a", "localhost", 9), transfer.Fetched)
    assert_type(await transfer.echo_async(b"", "localhost", 9), bytes)
    assert_type(await transfer.receive_async(), transfer.Message)
    async with transfer.Client("localhost", 9) as client, transfer.Receiver() as receiver:
        assert_type(await client.send_async(b""), transfer.Sent)
        async for message in receiver:
            assert_type(message, transfer.Message)


try:
    transfer.send(b"", "localhost", 9)
except rsecho.TransferError as error:
    assert_type(error.reason, str)
    assert_type(error.is_remote, bool)
