"""Large messages over UDP: a message of any length arrives whole and once, or fails and says why.

    with Receiver("127.0.0.1", 9999, directory="in") as receiver:
        for message in receiver:
            print(message.name, message.path)

    send(Path("photo.raw"), "127.0.0.1", 9999)
    send(b"a long text, kept in memory there", "127.0.0.1", 9999)
    data = fetch("photo.raw", "127.0.0.1", 9999).data

What is said on the wire, and how it gets through loss, is in docs/transfer.md. A `UdpServer` does
the same beside its echo, with `transfer=Policy(…)`, and so does `rsecho serve --transfer DIR`.

A file goes on where it stopped when it is sent or fetched again, whichever side was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsecho import _options
from rsecho._errors import TransferError, TransferTimeoutError
from rsecho._explained import explained
from rsecho._policy import Policy
from rsecho._receiver import Message, Receiver, receive, receive_async
from rsecho._transfer_client import MAX_MESSAGE_BYTES, Client, Fetched, Sent

if TYPE_CHECKING:
    from os import PathLike
    from typing import Unpack

    from typing_extensions import Buffer

    from rsecho._options import TransferClientOptions
    from rsecho._sources import Source
    from rsecho._transfer_client import Name, Progress

__all__ = [
    "Client",
    "Fetched",
    "Message",
    "Policy",
    "Receiver",
    "Sent",
    "TransferError",
    "TransferTimeoutError",
    "echo",
    "echo_async",
    "fetch",
    "fetch_async",
    "receive",
    "receive_async",
    "send",
    "send_async",
]


@explained(_options.TransferClientOptions)
def send(
    source: Source,
    host: str,
    port: int,
    *,
    name: Name | None = None,
    replace: bool = False,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> Sent:
    """Sends one message; returns once the receiver has it whole. See `Client.send`.

    Args:
        source: bytes or another buffer, which is not copied; a file by its `pathlib.Path`; or a
            file opened with mode "rb", a pipe, or what else has `read`.
        host: The receiver's.
        port: The receiver's.
        name: What it is called there; "": nothing. None: a path by its last component, anything
            else nothing.
        replace: May take the place of what has that name there.
        progress: Called with the bytes that are done, and those that there are or None.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, ValueError: as for `Client`.
    """
    with Client(host, port, **options) as client:
        return client.send(source, name=name, replace=replace, progress=progress)


@explained(_options.TransferClientOptions)
def fetch(
    name: Name,
    host: str,
    port: int,
    *,
    to: str | PathLike[str] | None = None,
    overwrite: bool = False,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> Fetched:
    """Fetches what has this name there. See `Client.fetch`.

    Args:
        name: Its name, with "/" between its components.
        host: The server's.
        port: The server's.
        to: The file that it becomes, or a directory that is there, for its last component in it.
            None: memory.
        overwrite: May take the place of that file.
        max_message_bytes: The longest that is taken into memory.
        progress: Called with the bytes that are done, and those that there are or None.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, ValueError: as for `Client`.
    """
    with Client(host, port, **options) as client:
        return client.fetch(
            name,
            to=to,
            overwrite=overwrite,
            max_message_bytes=max_message_bytes,
            progress=progress,
        )


@explained(_options.TransferClientOptions)
def echo(
    data: Buffer,
    host: str,
    port: int,
    *,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> bytes:
    """Sends a message to a server that echoes them, and returns what comes back.

    Args:
        data: bytes or another buffer, which is not copied.
        host: The server's.
        port: The server's.
        progress: Called with the bytes that are done, and those that there are or None.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, ValueError: as for `Client`.
    """
    with Client(host, port, **options) as client:
        return client.echo(data, progress=progress)


async def _client(host: str, port: int, options: TransferClientOptions) -> Client:
    """Made on a thread: resolving a name may take long."""
    from rsecho import _aio

    made = await _aio.poll(lambda: Client(host, port, **options), lambda: True)
    assert made is not None  # poll returns what was made
    return made


@explained(_options.TransferClientOptions)
async def send_async(
    source: Source,
    host: str,
    port: int,
    *,
    name: Name | None = None,
    replace: bool = False,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> Sent:
    """`send` for asyncio; can be cancelled. `progress` is called on the event loop.

    Args:
        **options: See `rsecho.sockets.TransferClientOptions`.
    """
    async with await _client(host, port, options) as client:
        return await client.send_async(source, name=name, replace=replace, progress=progress)


@explained(_options.TransferClientOptions)
async def fetch_async(
    name: Name,
    host: str,
    port: int,
    *,
    to: str | PathLike[str] | None = None,
    overwrite: bool = False,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> Fetched:
    """`fetch` for asyncio; can be cancelled. `progress` is called on the event loop.

    Args:
        **options: See `rsecho.sockets.TransferClientOptions`.
    """
    async with await _client(host, port, options) as client:
        return await client.fetch_async(
            name,
            to=to,
            overwrite=overwrite,
            max_message_bytes=max_message_bytes,
            progress=progress,
        )


@explained(_options.TransferClientOptions)
async def echo_async(
    data: Buffer,
    host: str,
    port: int,
    *,
    progress: Progress | None = None,
    **options: Unpack[TransferClientOptions],
) -> bytes:
    """`echo` for asyncio; can be cancelled. `progress` is called on the event loop.

    Args:
        **options: See `rsecho.sockets.TransferClientOptions`.
    """
    async with await _client(host, port, options) as client:
        return await client.echo_async(data, progress=progress)
