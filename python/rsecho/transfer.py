"""Large messages over UDP: a message of any length arrives complete and once, or fails and says
why.

    with Receiver("127.0.0.1", 9999, directory="in") as receiver:
        for message in receiver:
            print(message.name, message.path)

    send(Path("photo.raw"), "127.0.0.1", 9999)
    send(b"a long text, kept in memory there", "127.0.0.1", 9999)
    data = fetch("photo.raw", "127.0.0.1", 9999).data

docs/transfer.md describes the protocol, and how it recovers from loss. A `UdpServer` receives
messages as well, in addition to its echo, with `transfer=Policy(…)`.

If a transfer of a file is interrupted on either side, sending or fetching it again continues where
it stopped.
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
    """Sends one message; returns when the receiver has all of it. See `Client.send`.

    Args:
        source: bytes or another buffer, which is not copied and must not change meanwhile; a
            file as `pathlib.Path`; or an object with `read`, such as a file opened with mode "rb"
            or a pipe, which is read to its end.
        host: Name or numeric address of the server.
        port: Port of the server.
        name: Name of the message at the receiver; "": no name. None: the last component of a path;
            otherwise no name.
        replace: Asks the receiver to replace a file of that name. By default False.
        progress: Called with the number of bytes done and the total (None: not known), at most ten
            times per second and once at the end. An exception from it ends the transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
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
    """Fetches a file from a server by its name. See `Client.fetch`.

    Args:
        name: Name of the file on the server, with "/" between its components.
        host: Name or numeric address of the server.
        port: Port of the server.
        to: File to write, or an existing directory, in which the file gets the last component of
            `name`. None: the data is returned in memory.
        overwrite: Allows replacing that file. By default False. Needs `to`.
        max_message_bytes: Longest message accepted in memory, in bytes. By default 16 MiB.
        progress: Called with the number of bytes done and the total (None: not known), at most ten
            times per second and once at the end. An exception from it ends the transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
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
    """Sends a message to a server that echoes messages, and returns what comes back.

    Args:
        data: bytes or another buffer, which is not copied and must not change meanwhile.
        host: Name or numeric address of the server.
        port: Port of the server.
        progress: Called with the number of bytes done and the total (None: not known), at most ten
            times per second and once at the end. An exception from it ends the transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
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
    """`send` for asyncio. Cancelling ends the transfer.

    Args:
        source: bytes or another buffer, which is not copied and must not change meanwhile; a
            file as `pathlib.Path`; or an object with `read`, such as a file opened with mode "rb"
            or a pipe, which is read to its end.
        host: Name or numeric address of the server.
        port: Port of the server.
        name: Name of the message at the receiver; "": no name. None: the last component of a path;
            otherwise no name.
        replace: Asks the receiver to replace a file of that name. By default False.
        progress: Called on the event loop with the number of bytes done and the total (None: not
            known), at most ten times per second and once at the end. An exception from it ends the
            transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
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
    """`fetch` for asyncio. Cancelling ends the transfer.

    Args:
        name: Name of the file on the server, with "/" between its components.
        host: Name or numeric address of the server.
        port: Port of the server.
        to: File to write, or an existing directory, in which the file gets the last component of
            `name`. None: the data is returned in memory.
        overwrite: Allows replacing that file. By default False. Needs `to`.
        max_message_bytes: Longest message accepted in memory, in bytes. By default 16 MiB.
        progress: Called on the event loop with the number of bytes done and the total (None: not
            known), at most ten times per second and once at the end. An exception from it ends the
            transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
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
    """`echo` for asyncio. Cancelling ends the transfer.

    Args:
        data: bytes or another buffer, which is not copied and must not change meanwhile.
        host: Name or numeric address of the server.
        port: Port of the server.
        progress: Called on the event loop with the number of bytes done and the total (None: not
            known), at most ten times per second and once at the end. An exception from it ends the
            transfer.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError, OSError, TypeError, ValueError: as for `Client`.
    """
    async with await _client(host, port, options) as client:
        return await client.echo_async(data, progress=progress)
