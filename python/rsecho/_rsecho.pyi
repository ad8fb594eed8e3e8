"""The native half of the package, typed and documented. Import from `rsecho` instead."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, final, overload

from typing_extensions import Buffer

__all__ = [
    "Answers",
    "Column",
    "ColumnIterator",
    "Columns",
    "Distribution",
    "EventQueue",
    "GuardPolicy",
    "Later",
    "PingClient",
    "RecordIterator",
    "RecordLayout",
    "Responder",
    "Server",
    "SignalWatch",
    "SocketOptions",
    "TcpClient",
    "Throttle",
    "TransferClient",
    "TransferPolicy",
    "UdpClient",
    "__version__",
    "after_fork",
    "check_terms",
    "figures",
    "is_debug_build",
    "kernel_limits",
    "resolve",
    "shut_down",
    "split_host_port",
    "upper_case",
]

__version__: str

is_debug_build: bool
"""True for a build without optimisation, whose figures mean nothing."""

# `c`, `s`, `p` give bytes; `?` bool; `e`, `f`, `d` float; the other codes int. Any rather than
# a union, as in typeshed's struct: which one it is stands in the format, not in a type.
_Value: TypeAlias = Any

@final
class RecordLayout:
    """A compiled struct format: decodes and encodes records of a fixed size.

    >>> layout = RecordLayout("! H 2s", names="port tag")
    >>> layout.unpack(layout.pack(7, b"ok"))
    (7, b'ok')

    Formats, sizes, rounding and accepted values are those of Python's `struct` in its standard
    modes. `<` little-endian, `>` or `!` big-endian, `=` this machine's
    order; then codes `xcbB?hHiIlLqQefdsp`, each with an optional count directly before it.
    There is no alignment; only `x` adds padding. Native mode (`@` or no prefix) and `n`, `N`, `P`
    are refused, because their sizes differ between machines. NaNs of `e` lose their payload, as in
    CPython before 3.14.

    A format may come from an untrusted source. Its limits: 1 MiB (1,048,576 bytes) per record,
    65,536 values per record, 16,384 characters per format.

    Instances are immutable, hashable, picklable, and may be shared between threads. Two are
    equal if they describe the same record with the same names, however spelled.

    Source: https://docs.python.org/3/library/struct.html#format-strings
    """

    def __new__(cls, format: str | bytes, names: str | Iterable[str] | None = None) -> RecordLayout:
        """Compile `format`.

        `names`: one name per value, unique, of printable characters, as an iterable or as one
        string separated by spaces or commas. Default: `field_0`, `field_1`, …

        Raises `FormatError` if the format or the names cannot be used, TypeError if they are not
        text.
        """

    @property
    def format(self) -> str:
        """The format as it was passed in."""

    @property
    def size(self) -> int:
        """Size of one record in bytes."""

    @property
    def field_count(self) -> int:
        """Number of values in one record. A string is one value; padding does not count."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""

    def unpack(self, data: Buffer, /) -> tuple[_Value, ...]:
        """Decode exactly one record.

        `data`: `size` bytes in any C-contiguous buffer. Raises `RecordError` if it is shorter or
        longer, TypeError if it is not a buffer, BufferError if it is not contiguous.
        """

    def unpack_from(self, data: Buffer, offset: SupportsIndex = 0) -> tuple[_Value, ...]:
        """Decode the record at `offset`, in bytes; a negative one counts from the end of `data`.

        Raises `RecordError` if the record does not lie within `data`.
        """

    def unpack_dict(self, data: Buffer, /) -> dict[str, _Value]:
        """Decode exactly one record into a dict by field name. Raises as `unpack`."""

    def iter_unpack(self, data: Buffer, /) -> RecordIterator:
        """Decode one record after the other, as tuples, lazily.

        Until the iterator is deleted, a bytearray in it cannot be resized. Raises
        `RecordError` if `data` is not a whole number of records, or `size` is 0.
        """

    def unpack_many(self, data: Buffer, /) -> Columns:
        """Decode all records of `data` into one column per field.

        Several threads share the work above 2 MiB of `data`. The GIL is released above 64 KiB of
        `bytes`; other buffers could change meanwhile, and are copied block by block with the GIL
        held. Raises `RecordError` if `data` is not a whole number of records, or `size` is 0;
        MemoryError if there is no memory for the columns, which need as much as `data`.
        """

    def pack(self, *values: _Value) -> bytes:
        """Encode one record: `size` bytes.

        One value per field: integers or objects with `__index__` for `bBhHiIlLqQ`; floats or
        objects with `__float__` or `__index__` for `efd`; anything for `?`, by its truth; bytes
        of length 1 for `c`; bytes or bytearray for `s` and `p`, cut or filled with zeros to
        their length. Raises `RecordError` if the number of values is wrong, or one is of the
        wrong type or out of range.
        """

    def pack_dict(self, fields: Mapping[str, _Value], /) -> bytes:
        """Encode one record from exactly its fields by name. Raises as `pack`."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(
        self,
    ) -> tuple[type[RecordLayout], tuple[str, tuple[str, ...] | None]]: ...

@final
class RecordIterator:
    """Iterator of `RecordLayout.iter_unpack`: one tuple per record."""

    def __iter__(self) -> RecordIterator: ...
    def __next__(self) -> tuple[_Value, ...]: ...
    def __length_hint__(self) -> int: ...

@final
class Columns:
    """Many records as one `Column` per field; from `RecordLayout.unpack_many`.

    `len()` is the number of records. Iteration gives the columns, in the fields' order.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, key: str | SupportsIndex, /) -> Column:
        """The column of a field, by name or by position.

        Raises KeyError for an unknown name, IndexError for a position that does not exist.
        """

    def __iter__(self) -> Iterator[Column]: ...

@final
class Column:
    """One field of many records: a read-only, contiguous array.

    Supports the buffer protocol, with one dimension and this machine's byte order, without a
    copy: `numpy.asarray(column)`, `memoryview(column)`. The items of `s` and `p` columns are
    whole slots, those of `p` with their length byte; a column of `0s` or `0p` has no buffer.
    All columns of one `Columns` share their memory: one of them keeps all of it allocated.
    """

    @property
    def name(self) -> str:
        """The field's name."""

    @property
    def format(self) -> str:
        """The format of one item, as `memoryview.format`: `'I'`, `'2s'`."""

    @property
    def itemsize(self) -> int:
        """Bytes of one item."""

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""

    def tolist(self) -> list[_Value]:
        """All values, as `unpack` gives them."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> _Value: ...
    @overload
    def __getitem__(self, key: slice, /) -> list[_Value]: ...
    def __iter__(self) -> ColumnIterator: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class ColumnIterator:
    """Iterates over a column's values."""

    def __iter__(self) -> ColumnIterator: ...
    def __next__(self) -> _Value: ...
    def __length_hint__(self) -> int: ...

# Host and port; for both families, a link-local host as in `fe80::1%eth0`.
_Address: TypeAlias = tuple[str, int]

def split_host_port(text: str, default_host: str, /) -> _Address:
    """Split `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; `default_host` stands for none.

    Raises ValueError for anything else, and for a port beyond 65535.
    """

def resolve(host: str, port: int, family: int, /) -> list[_Address]:
    """All addresses of a host, as the system orders them; `family` is 0 (either), 4 or 6.

    Raises socket.gaierror.
    """

# Name, kernel's name, requested, effective, ceiling, sysctl, (severity, warning). Times are
# float seconds; see `rsecho.OptionReport`.
_ReportLine: TypeAlias = tuple[
    str,
    str,
    bool | int | float | str | None,
    bool | int | float | str | None,
    int | None,
    str | None,
    tuple[Literal["notice", "warning"], str] | None,
]

@final
class SignalWatch:
    """Waits for signals, which are to be blocked in every thread, on a native thread of its own:
    the first is told by `wait`, the second ends the process with 128 and its number, once
    `last_words` has returned, or after a second."""

    def __new__(cls, signals: Sequence[int], last_words: Callable[[], object], /) -> SignalWatch:
        """Begin to wait. Raises `OSError` when a number is not that of a signal."""

    def wait(self, timeout: float, /) -> bool:
        """True once the first has come; waits for it, `timeout` seconds at most."""

    def give_way(self) -> None:
        """If the second has come, leave the end of the process to it."""

@final
class SocketOptions:
    """What a socket is to be; None stays as the system has it. Immutable.

    Each keyword is explained at `rsecho.sockets`. Times are in seconds, sizes in bytes.

    Raises ValueError for a value that no kernel takes, by the keyword's name.
    """

    def __new__(cls, **given: Any) -> SocketOptions: ...

@final
class GuardPolicy:
    """Which protections a server has. Immutable.

    Each keyword is explained at `rsecho.Guard`. Rates are tokens per second, or a pair of
    that and how many at once (None: the default).

    Raises ValueError for a rule that can never work.
    """

    def __new__(cls, **given: Any) -> GuardPolicy: ...

@final
class TransferPolicy:
    """What a server does with large messages. Immutable.

    Each keyword is explained at `rsecho.sockets.TransferOptions`.

    Raises ValueError for a limit that can never work, OSError for a directory that cannot be used.
    """

    def __new__(cls, **given: Any) -> TransferPolicy: ...

def kernel_limits() -> list[tuple[str, str | None, list[int], str]]:
    """The kernel's ceilings as they are now: name, sysctl, values, meaning.

    The sysctl is None on a system without it; the values are empty where they cannot be read.
    Source: /proc/sys.
    """

# Each kind of event: its name, when it happened (nanoseconds since 1970), the server's URL,
# then its parts.
_NoticeEvent: TypeAlias = tuple[Literal["notice"], int, str, int, str, str, dict[str, Any]]
"""Level (as in logging), a short name, the line."""
_ReceivedEvent: TypeAlias = tuple[Literal["received"], int, str, _Address, int, bytes, str | None]
_AnsweredEvent: TypeAlias = tuple[Literal["answered"], int, str, _Address, int, str | None]
"""Peer, how many bytes came, the first of them, why it was not answered (None: it was)."""
_RecordEvent: TypeAlias = tuple[Literal["record"], int, str, _Address, bytes]
"""Peer, all bytes of the record."""
_UnfitEvent: TypeAlias = tuple[Literal["unfit"], int, str, _Address, int, bytes]
"""Peer, how many bytes came, the first of them."""
_OpenedEvent: TypeAlias = tuple[Literal["opened"], int, str, _Address]
"""Peer."""
_ClosedEvent: TypeAlias = tuple[Literal["closed"], int, str, _Address, str, int, int]
"""Peer, why, bytes that came, bytes that went back."""
_Event: TypeAlias = (
    _NoticeEvent
    | _ReceivedEvent
    | _AnsweredEvent
    | _RecordEvent
    | _UnfitEvent
    | _OpenedEvent
    | _ClosedEvent
)

@final
class EventQueue:
    """A bounded queue of what happened in servers, which never makes a worker wait.

    `capacity` bounds the frequent events (datagrams, connections); what does not fit is
    dropped and counted. Rare ones (listening, stopped) are always kept.

    Raises OSError when no descriptor is left.
    """

    def __new__(cls, capacity: int = 4096) -> EventQueue: ...
    def drain(self, limit: int, /) -> list[tuple[int, _Event]]:
        """Take up to `limit` frequent events and all rare ones, in the order of their times."""

    def take_dropped(self) -> int:
        """How many events were dropped since the last call."""

    def wait(self, timeout: float, /) -> None:
        """Sleep until there may be an event, the queue is closed, or `timeout` seconds have
        passed; without the GIL.

        Raises SystemExit on a thread that is still there when the interpreter ends.
        """

    def wake(self) -> None:
        """Wake the reader, by a notice named `wake` that says nothing."""

    def close(self) -> None:
        """Make every later `wait` return at once."""

    def reopen(self) -> None:
        """Undo `close`."""

@final
class Throttle:
    """When lines of one kind are written: the first at once, those of the next second not, the
    last of them when that second is over.

    Time is handed in, in seconds of a clock of the caller's that never goes back
    (`time.monotonic`); ValueError for a negative one.
    """

    def __new__(cls) -> Throttle: ...
    def offer(self, now: float, /) -> int | None:
        """A line could be written now: how many were left out before it, if it is to be
        written; None: it is held back."""

    def due(self) -> float | None:
        """When the last line that was held back is to be written; None: none was."""

    def take_due(self, now: float, /) -> int | None:
        """As `offer` for the last line that was held back, if that is due."""

    def finish(self) -> int | None:
        """The same whether it is due or not."""

def upper_case(data: bytes, /) -> bytes:
    """What the responder `upper` answers: by Unicode where `data` is UTF-8, else by ASCII."""

# What a responder returns, and one request of a batch.
_Answer: TypeAlias = bytes | bytearray | memoryview | None

@final
class Responder:
    """What a server answers with. Immutable; made by one of these."""

    @staticmethod
    def named(text: str, /, *, upper: bool) -> Responder:
        """A built-in one, as on the command line: `prefix=TEXT`.

        Raises ValueError for a name that there is not, and for `upper` where it means nothing.
        """

    @staticmethod
    def callable(
        function: Callable[[bytes, Any], object],
        report: Callable[[BaseException, _Address], object],
        error_reply: bytes | None,
        /,
        *,
        gives_later: bool = False,
    ) -> Responder:
        """`function(data, peer)` for each request, on the worker's thread; it may return a `Later`
        if `gives_later`."""

    @staticmethod
    def deferred(
        dispatch: Callable[[list[tuple[int, bytes, Any]], Answers], object],
        report: Callable[[BaseException, _Address], object],
        error_reply: bytes | None,
        /,
    ) -> Responder:
        """`dispatch(batch, answers)` for each batch of (ticket, data, peer), on the worker's
        thread; each ticket is to be ended by one call on `answers`."""

@final
class Later:
    """An answer that comes later, perhaps in parts: returned by a responder, and said before or
    after that, on any thread. What is said behind its end is ignored."""

    def __new__(cls) -> Later: ...
    def more(self, data: bytes, /) -> None:
        """One reply, with more to come."""

    def reply(self, data: bytes, /) -> None:
        """The last reply."""

    def drop(self) -> None:
        """No reply."""

    def close(self, data: bytes, /) -> None:
        """The last reply, unless it is empty; then the server ends the TCP connection."""

    def reset(self, data: bytes, /) -> None:
        """The last reply, unless it is empty; then the server resets the TCP connection."""

    def fail(self) -> None:
        """It failed, and is not answered."""

@final
class Answers:
    """Where a worker waits for late answers; of any thread."""

    def reply(self, ticket: int, answer: _Answer, /) -> None:
        """End a request with its answer, which may be a `Later`; None: no reply.

        Raises TypeError for anything else; the request is then still open.
        """

    def fail(self, ticket: int, error_reply: bytes | None, /) -> None:
        """End a request that failed."""

def figures(protocol: Literal["udp", "tcp"], /) -> list[tuple[str, bool]]:
    """What a server of this protocol tells, beside the reasons and what the kernel dropped: names,
    and whether each says how many there are now rather than how many there were."""

# Peer, id, name, data, path, length, digest, (first, last) of each range of chunks that is missing,
# (reason, text) where it failed. See `rsecho.transfer.Message`.
_Message: TypeAlias = tuple[
    _Address,
    int,
    list[str],
    bytes | None,
    str | None,
    int,
    bytes,
    list[tuple[int, int]] | None,
    tuple[str, str] | None,
]

@final
class Server:
    """A UDP or TCP server: bound when made, then started, stopped, waited for, asked.

    Every method may be called from any thread; those that wait do so without the GIL.
    """

    @staticmethod
    def udp(given: dict[str, Any], queue: EventQueue, /) -> Server:
        """Bind a UDP server, with the options of `rsecho.UdpServer` by name, where given.

        Beside those: `host`, `port`; `sock` is a descriptor; `record_bytes`: report datagrams of
        this length as records, others as unfit; `responder`, `guard` and `transfer` are native
        ones.

        Raises OSError by errno, socket.gaierror, ValueError; TypeError for a name it has not.
        """

    @staticmethod
    def tcp(given: dict[str, Any], queue: EventQueue, /) -> Server:
        """Bind a TCP server, which listens from now on. See `udp` and `rsecho.TcpServer`.

        `framing`: what a request to the responder is: `lines`, `chunks` or `records=N`.
        """

    @property
    def name(self) -> str:
        """As in `udp://127.0.0.1:9999`, with the real port."""

    @property
    def id(self) -> int:
        """Its number in this process, by which its events name it."""

    @property
    def address(self) -> _Address:
        """Host and port."""

    @property
    def engine(self) -> str:
        """The engine that really runs."""

    @property
    def is_running(self) -> bool:
        """True between start and the end of the last worker; False in a forked child."""

    @property
    def is_foreign(self) -> bool:
        """True in a child after fork: this handle is dead there."""

    @property
    def socket_report(self) -> list[_ReportLine]:
        """What each socket option was to be and is."""

    def start(self) -> None:
        """Start the workers and return. Raises `StateError` the second time."""

    def request_stop(self, drain_timeout: float, /) -> None:
        """Tell the workers to end and do not wait. Raises `StateError` in a forked child."""

    def stop(self, drain_timeout: float, /) -> None:
        """Answer what has come already, for `drain_timeout` seconds at most, end, and wait
        for that, and a second more for a responder. A signal handler that raises (Ctrl-C) ends
        it at once.

        Does nothing on a server that has ended. Raises `StopTimeoutError` when a responder has
        not returned by then, and `StateError` in a forked child.
        """

    def dismiss(self) -> list[str]:
        """Have the server end now, and wait a moment for that: the names of the workers that
        stay in their responder. Raises `StateError` in a forked child."""

    @property
    def asking(self) -> list[str]:
        """The names of the workers that are in their responder now."""

    def wait(self, timeout: float | None, /) -> tuple[Any, str] | None:
        """Wait for the end, `timeout` seconds at most: (name, detail), see
        `rsecho.StopReason`; None: it still runs.

        Raises `StateError` when it was never started or belongs to another process.
        """

    def finish(self) -> tuple[Any, str] | None:
        """Why it has ended, as `wait` says it; None: it has not."""

    def stats(self) -> tuple[dict[str, int], dict[str, int], int | None]:
        """Counters by name, counts by reason, and what the kernel dropped (None: it does not
        say), all of one moment.

        Raises `StateError` in a forked child.
        """

    def take_message(self, timeout: float | None, /) -> _Message | None:
        """Wait for a large message, `timeout` seconds at most (None: for ever), and take it; None:
        none came, or the server has ended. See `rsecho.transfer.Message`.

        Raises `StateError` in a forked child.
        """

    def set_access(self, payload_bytes: int | None, /) -> None:
        """Report each datagram or connection, with this many bytes of payload; None: do not,
        the default."""

    def impair(self, spec: str, record: int, replay: str | None, /) -> str:
        """Replace the current impairment; "" removes it. Record up to `record` decisions, or
        repeat those of a trace. Returns the spec in force, with its seed.

        Raises ValueError for what is not in the grammar.
        """

    @property
    def impairment(self) -> str:
        """What impairs it now, with the seed that repeats it; empty: nothing."""

    def impairment_trace(self) -> tuple[str, int]:
        """What was recorded since the last change, as JSON lines, and how many decisions there
        was no room for."""

    def abandon(self) -> None:
        """For the child of a fork: let go of the parent's sockets, whose ports would stay
        taken. Does nothing in the process that made it."""

def after_fork() -> None:
    """To be called in the child of a fork, before anything else here."""

def shut_down() -> bool:
    """To be called by the thread that ends the interpreter: ends every other thread's wait
    with SystemExit and lets none begin. False when one did not come back within a second."""

@final
class UdpClient:
    """A socket that talks to one UDP peer. See `rsecho.UdpClient`.

    Each `timeout` is in seconds, None for ever. Every method may raise OSError by errno,
    TimeoutError, and `StateError` once closed; waits do not hold the GIL.
    """

    def __new__(cls, host: str, port: int, options: SocketOptions, *, family: int) -> UdpClient: ...
    @property
    def name(self) -> str:
        """As in `udp://127.0.0.1:9999`: whom it talks to."""

    @property
    def address(self) -> _Address:
        """Its own host and port."""

    @property
    def peer(self) -> _Address:
        """The host and port it talks to."""

    @property
    def socket_report(self) -> list[_ReportLine]:
        """What each socket option was to be and is."""

    def send(self, data: Buffer, timeout: float | None, /) -> None:
        """Send one datagram."""

    def receive(self, timeout: float | None, /) -> bytes:
        """Wait for one datagram."""

    def request(
        self,
        data: Buffer,
        timeout: float | None,
        /,
        *,
        expected: Buffer | None = None,
        takes_any: bool = False,
    ) -> tuple[bytes, int, bool]:
        """Drop what has come, send one datagram, wait for one.

        Returns that, the nanoseconds it took, and whether it is right: equal to `expected`, or
        to `data` without it, or any. Raises ValueError when told both.
        """

    def close(self) -> None:
        """Close the socket and end waits in other threads."""

@final
class TcpClient:
    """One TCP connection. See `rsecho.TcpClient`.

    Connects within `timeout` seconds (None: as long as the system tries). Each later `timeout`
    is one without progress. Every method may raise OSError by errno, TimeoutError, and
    `StateError` once closed; waits do not hold the GIL.
    """

    def __new__(
        cls,
        host: str,
        port: int,
        options: SocketOptions,
        *,
        family: int,
        timeout: float | None,
    ) -> TcpClient: ...
    @property
    def name(self) -> str:
        """As in `tcp://127.0.0.1:9999`: whom it talks to."""

    @property
    def address(self) -> _Address:
        """Its own host and port."""

    @property
    def peer(self) -> _Address:
        """The host and port it talks to."""

    @property
    def socket_report(self) -> list[_ReportLine]:
        """What each socket option was to be and is."""

    def send_all(self, data: Buffer, timeout: float | None, /) -> None:
        """Send all of `data`."""

    def receive(self, max_bytes: int, timeout: float | None, /) -> bytes:
        """Wait for some bytes, `max_bytes` and 1 MiB at most; empty at the end of the stream."""

    def receive_exactly(self, count: int, timeout: float | None, /) -> bytes:
        """Wait for `count` bytes. Raises `EndOfStreamError` when the stream ends before."""

    def request(
        self,
        data: Buffer,
        timeout: float | None,
        /,
        *,
        expected: Buffer | None = None,
        takes_any: bool = False,
    ) -> tuple[bytes, int, bool]:
        """Send all; read as many bytes as the right reply has, or whatever comes first.

        Returns as `UdpClient.request`. Raises `EndOfStreamError` when the stream ends before.
        """

    def request_line(
        self,
        line: Buffer,
        timeout: float | None,
        /,
        *,
        expected: Buffer | None = None,
        takes_any: bool = False,
    ) -> tuple[bytes, int, bool]:
        """Send a line and read one, both without their newlines.

        Returns as `UdpClient.request`. Raises `EndOfStreamError` when the stream ends before,
        and OSError with EMSGSIZE for a line that does not end.
        """

    def finish(self) -> None:
        """Tell the peer that nothing more will be sent: shutdown(2) with SHUT_WR."""

    def close(self) -> None:
        """Close the socket and end waits in other threads."""

def check_terms(given: dict[str, Any], /) -> None:
    """Refuse limits of transfers that can never work, as `TransferClient` takes them in `given`.

    Raises ValueError.
    """

# How many bytes are done, and of how many (None: not known).
_Progress: TypeAlias = Callable[[int, int | None], object]

@final
class PingClient:
    """Measures round trips to one UDP echo server. See `rsecho.ping`.

    `given` has what is said there, in nanoseconds: `interval_ns`, `times_ns`, `poisson`, `seed`,
    `count`, `duration_ns`, `wait_ns`, `length_bytes`, `kernel_times`, `spin`, `forbid_fragments`,
    and `room`, the number of samples that are kept until they are taken.

    Raises OSError by errno, ValueError, TypeError, and `StateError` once closed.
    """

    def __new__(
        cls,
        host: str,
        port: int,
        options: SocketOptions,
        given: dict[str, Any],
        /,
        *,
        family: int,
    ) -> PingClient: ...
    @property
    def name(self) -> str:
        """As in `udp://127.0.0.1:9999`: whom it measures."""

    @property
    def peer(self) -> _Address:
        """The host and port that it measures."""

    @property
    def socket_report(self) -> list[_ReportLine]:
        """The requested and the effective value of each socket option."""

    @property
    def has_kernel_times(self) -> bool:
        """Whether the kernel tells when datagrams leave and arrive (SO_TIMESTAMPING)."""

    @property
    def is_over(self) -> bool:
        """Whether the run is over and all samples are taken."""

    def run(self) -> None:
        """Send all probes and wait for their replies, without the GIL. Once."""

    def stop(self) -> None:
        """Send no more probes. Replies are still waited for."""

    def take(self, limit: int, timeout: float, /) -> list[tuple[Any, ...]]:
        """Up to `limit` samples; waits for one, `timeout` seconds at most."""

    def report(self) -> dict[str, Any]:
        """What was found so far."""

    def close(self) -> None:
        """Close the socket and end a run in another thread."""

@final
class Distribution:
    """An HDR histogram of nanoseconds. See `rsecho.Distribution`."""

    @property
    def count(self) -> int: ...
    @property
    def min_ns(self) -> int | None: ...
    @property
    def max_ns(self) -> int | None: ...
    @property
    def mean_ns(self) -> float | None: ...
    @property
    def stddev_ns(self) -> float | None: ...
    def percentile_ns(self, percent: float, /) -> int | None: ...
    def merged(self, other: Distribution, /) -> Distribution: ...
    def encode(self) -> bytes: ...

@final
class TransferClient:
    """A socket that sends large messages to one peer and fetches them. See
    `rsecho.transfer.Client`.

    `given` has what is there said of each transfer: `timeout`, `progress_timeout` and so on, by
    name. `progress` is called with the GIL on the calling thread, ten times a second at most, and
    once at the end; what it raises ends the transfer.

    Every method raises `TransferError` for what the transfer failed of, OSError by errno,
    ValueError, and `StateError` once closed; waits do not hold the GIL.
    """

    def __new__(
        cls,
        host: str,
        port: int,
        options: SocketOptions,
        *,
        family: int,
        engine: str = "auto",
    ) -> TransferClient: ...
    @property
    def name(self) -> str:
        """As in `udp://127.0.0.1:9999`: whom it talks to."""

    @property
    def address(self) -> _Address:
        """Its own host and port."""

    @property
    def peer(self) -> _Address:
        """The host and port it talks to."""

    @property
    def engine(self) -> str:
        """The engine that really runs."""

    @property
    def socket_report(self) -> list[_ReportLine]:
        """What each socket option was to be and is."""

    def send(
        self,
        source: Buffer | tuple[Literal["path"], str] | tuple[Literal["fd"], int],
        given: dict[str, Any],
        progress: _Progress | None,
        /,
    ) -> dict[str, Any]:
        """Send what a buffer holds (not copied), a file, or what is read from a descriptor to its
        end; returns figures by name, see `rsecho.transfer.Sent`."""

    def fetch(
        self,
        name: list[str],
        sink: tuple[Literal["path"], str] | None,
        given: dict[str, Any],
        progress: _Progress | None,
        /,
    ) -> dict[str, Any]:
        """Fetch what has this name into a file, or (None) into memory; returns figures by name,
        with `data`."""

    def echo(self, data: Buffer, given: dict[str, Any], progress: _Progress | None, /) -> bytes:
        """Send, and fetch the same back."""

    def close(self) -> None:
        """Close the socket and end waits in other threads."""
