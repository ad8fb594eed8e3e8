"""What a message is sent from: bytes, a file by its path, a file object."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from rsecho._arguments import refused, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike
    from typing import BinaryIO, Protocol, TypeAlias

    from typing_extensions import Buffer

    class Readable(Protocol):
        """A file opened with mode "rb", or what else is read like one."""

        def read(self, size: int, /) -> bytes:
            """Returns at most `size` bytes; an empty result is the end."""

    Source: TypeAlias = Buffer | PathLike[str] | Readable
    Native: TypeAlias = Buffer | tuple[Literal["path"], str] | tuple[Literal["fd"], int]

# How much is read at a time from what has no descriptor of its own; a pipe holds as much.
_PUMPED_BYTES = 64 << 10


@contextlib.contextmanager
def opened(source: Source, cancel: Callable[[], object]) -> Iterator[Native]:
    """What the native client takes, for as long as it takes it.

    `cancel` ends the transfer where reading fails: half a message must not pass for a whole one.

    Raises:
        TypeError: it is none of these.
    """
    # What tempfile makes wraps a file.
    anything: Any = source.file if type(source).__module__ == "tempfile" else source  # type: ignore[union-attr]
    if isinstance(source, str):
        raise TypeError(
            f"cannot set source={shown(source)}: a str may be a path or a text; give "
            "pathlib.Path(...) for the file, or .encode() the text"
        )
    if isinstance(source, os.PathLike):
        yield "path", os.fsdecode(source)
    elif _is_buffer(source):
        yield anything
    elif isinstance(anything, io.TextIOBase):
        raise TypeError(
            "cannot send source=, a text file: a message is bytes; open it with mode 'rb'"
        )
    elif (descriptor := _descriptor(anything)) is not None:
        with _in_step(anything, descriptor):
            yield "fd", descriptor
    elif callable(getattr(anything, "read", None)):
        with _pumped(anything, cancel) as read_end:
            yield "fd", read_end
    else:
        wanted = "bytes or another buffer, a pathlib.Path, or a file opened with mode 'rb'"
        raise refused("source", source, wanted, TypeError)


def _is_buffer(source: object) -> bool:
    try:
        memoryview(source).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _descriptor(file: object) -> int | None:
    """The descriptor of what reads its very bytes; not that of a file which, say, is unpacked as
    it is read."""
    raw = file.raw if isinstance(file, io.BufferedReader | io.BufferedRandom) else file
    return raw.fileno() if isinstance(raw, io.FileIO) else None


@contextlib.contextmanager
def _in_step(file: BinaryIO, descriptor: int) -> Iterator[None]:
    """The descriptor stands where the file object says that it does, which may have read ahead.
    Behind what was sent, or where it was if that failed, both stand at the end. Of a pipe, what
    was read ahead is not sent."""
    if not file.seekable():
        yield
        return
    if file.writable():
        file.flush()
    start = file.tell()
    os.lseek(descriptor, start, os.SEEK_SET)
    try:
        yield
    except BaseException:
        # By way of the end, which lets go of what was read ahead.
        file.seek(0, os.SEEK_END)
        file.seek(start)
        raise
    file.seek(0, os.SEEK_END)


@contextlib.contextmanager
def _pumped(file: Readable, cancel: Callable[[], object]) -> Iterator[int]:
    """A pipe into which a thread copies what `file.read` gives."""
    read_end, write_end = os.pipe()
    errors: list[BaseException] = []

    def copy() -> None:
        try:
            while (data := file.read(_PUMPED_BYTES)) != b"":
                # Nothing, from a file that does not block, is not the end: an error.
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(write_end, rest) :]
        except BrokenPipeError:
            pass  # the transfer has ended
        except BaseException as error:
            errors.append(error)
            # Before the end of the pipe, which would be that of the message.
            cancel()
        finally:
            os.close(write_end)

    # A daemon: a read that never returns is not waited for.
    threading.Thread(target=copy, name="rsecho-source", daemon=True).start()
    try:
        yield read_end
    except Exception:
        if errors:
            raise errors[0] from None
        raise
    finally:
        os.close(read_end)
    if errors:
        raise errors[0]
