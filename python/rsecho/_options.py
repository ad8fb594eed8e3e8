"""The keywords of servers and clients, each stated here once: its name, its type, its meaning.

The native half takes them by the same names and has the defaults. The flags of the command name the
keyword that they set.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Literal, TypedDict

from rsecho import _arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network
    from os import PathLike
    from typing import TypeAlias

    from rsecho._policy import Policy
    from rsecho.guard import Guard
    from rsecho.layout import RecordLayout
    from rsecho.records import Record
    from rsecho.responders import OnFields, OnRequest

    OnRecord: TypeAlias = Callable[[Record], object]

# The values of `engine=` and `wait=`.
Engine = Literal["auto", "batch", "portable"]
Wait = Literal["balanced", "latency", "busy"]
# Those of `wire=`.
Wire = Literal["native", "plain"]


class SocketOptions(TypedDict, total=False):
    reuse_address: bool | None
    """SO_REUSEADDR. On by default for TCP servers, which can then restart at once in spite of
    TIME_WAIT. Off by default for UDP, where it lets another socket, even of another user, take the
    port and its traffic."""
    reuse_port: bool | None
    """SO_REUSEPORT: several sockets of one user share the port, and the kernel spreads the peers
    over them."""
    recv_buffer_bytes: int | None
    """SO_RCVBUF, in bytes. The kernel limits it to net.core.rmem_max, then doubles it. None: the
    system's default."""
    send_buffer_bytes: int | None
    """SO_SNDBUF, in bytes. The kernel limits it to net.core.wmem_max, then doubles it. None: the
    system's default."""
    force_buffers: bool
    """Exceeds those limits if the process may (CAP_NET_ADMIN). Needs one of the two. By default
    False."""
    ttl: int | None
    """IP_TTL or IPV6_UNICAST_HOPS: 1 to 255. None: the system's default."""
    dscp: int | None
    """Differentiated services code point: 0 to 63 (RFC 2474). None: the system's default."""
    ipv6_only: bool | None
    """IPV6_V6ONLY, for IPv6 addresses. False: a socket on `::` answers IPv4 as well. None: the
    system's default."""
    bind_to_device: str | None
    """SO_BINDTODEVICE: uses only this network interface, as in "eth0"."""


class TcpOptions(SocketOptions, total=False):
    no_delay: bool | None
    """TCP_NODELAY: sends small segments at once. By default True."""
    keep_alive: bool | tuple[float | None, float | None, int | None] | None
    """SO_KEEPALIVE. True: with the system's times. A tuple: seconds of silence before the first
    probe, seconds between probes, and the number of unanswered probes that end the connection; None
    in it takes the system's value."""
    linger: float | None
    """SO_LINGER: seconds that closing waits for unsent data. 0: closing resets the connection. A
    server takes only 0, because waiting would block its other connections."""
    congestion: str | None
    """TCP_CONGESTION, as in "cubic". None: the system's default."""


class UdpClientOptions(SocketOptions, total=False):
    """Keywords of `UdpClient` that set options of its socket."""

    broadcast: bool | None
    """SO_BROADCAST: allows sending to broadcast addresses, which IPv6 does not have. By default
    False."""


class TcpClientOptions(TcpOptions, total=False):
    """Keywords of `TcpClient` that set options of its socket."""


class ServerOptions(TypedDict, total=False):
    """Keywords of both servers."""

    family: Literal[0, 4, 6]
    """4 or 6: uses only addresses of that IP version. 0, the default: either."""
    workers: int
    """Number of threads, each with its own socket on the port (SO_REUSEPORT). By default 1."""
    cpus: Sequence[int]
    """CPUs that the workers are bound to, in turn; at most as many as `workers`. Empty, the
    default: any."""
    engine: Engine
    """How the kernel is asked. "batch": many datagrams per call, or epoll (Linux). "portable": one
    at a time, on every Unix. "auto", the default: "batch" where it exists."""
    wait: Wait
    """What an idle worker does. "balanced", the default: sleeps, and under load naps for 50 µs to
    gather datagrams (least CPU time). "latency": polls for 50 µs, then sleeps. "busy": always polls
    (one core per worker)."""
    unpack: RecordLayout | str | None
    """Record layout, or a format for one, as in "!I 2s". Each datagram of that length is decoded
    and logged to `rsecho.records`. A TCP stream is cut into records of that length."""
    on_record: OnRecord | None
    """Called with each `Record`, on the thread that logs. An exception from it is logged. Needs
    `unpack`."""
    responder: str | OnRequest | OnFields | None
    """What to answer. None or "echo": what came. Or one of "upper", "prefix=TEXT", "discard",
    "daytime", "time", "command", "python=module:function". Or a callable of `(data: bytes, peer:
    Peer)`, which returns the reply, or None for no reply; a coroutine function runs on the event
    loop in which the server is started. On a connection, requests are answered in order, each with
    the line end that it had; "daytime" and "time" answer once and close it. See
    `rsecho.responders`."""
    upper: bool
    """Answers in upper case. Only with the responders "echo" and "prefix=TEXT". By default
    False."""
    error_reply: bytes | None
    """Reply to a request for which a callable responder raised. None: no reply."""
    responder_takes: Literal["bytes", "fields"]
    """"bytes", the default: a callable responder is called with the bytes of the request. "fields":
    with a dict of the fields of `unpack`, by name."""
    impair: str
    """Impairs the traffic on purpose: in netem's terms for UDP, as in "delay 50ms 10ms loss 1%", in
    Toxiproxy's for TCP. Empty, the default: no impairment. See `Server.impair`."""
    log_payload_bytes: int
    """Number of payload bytes that `rsecho.access` shows: 0 to 65,535. By default 128."""
    guard: Guard | None
    """Which sources are not answered. None: the default protections. See `Guard`."""


class GuardOptions(TypedDict, total=False):
    """Keywords of `rsecho.Guard`."""

    allow: Iterable[str | IPv4Network | IPv6Network]
    """Both protocols: the only networks that are served, in CIDR notation ("192.0.2.0/24",
    "2001:db8::/32") or as single addresses. Default: all. [`denied`; `denied_connections`]"""
    deny: Iterable[str | IPv4Network | IPv6Network]
    """Both protocols: networks that are not served, even where `allow` names them. Default: none.
    [`denied`; `denied_connections`]"""
    answer_service_ports: bool
    """UDP: also answer source ports below 1024, 2049 and 11211 from beyond loopback. These are
    ports of services that answer whatever they get (CVE-2024-2169). Default: False.
    [`service_port`]"""
    loop_guard: bool
    """UDP: end echo loops with other servers. Each reply has a smaller hop limit than its request,
    at most 120, so a datagram makes at most 64 rounds between two rsecho servers. An echo that
    does not lower hop limits is bounded beyond loopback: of datagrams that repeat a reply, one in
    65,536 is dropped, and one in 64 of those beyond 10,000 per second. docs/guards.md has the
    bounds. Default: True. [`echo_loop`, `repeated`]"""
    rate_per_source: float | tuple[float, int] | None
    """UDP: datagrams per second that one source is answered, or a pair of that and the burst: how
    many at once. The burst is by default a tenth of the rate, at least 5. Default: no limit.
    [`rate_limited`]"""
    rate_total: float | tuple[float, int] | None
    """UDP: datagrams per second that all sources together are answered, or a pair of that and the
    burst. Where that is not enough, known sources come first (they have come back for 4 to 9
    seconds while it was enough), then those that have come back. Each pace at which sources
    return has a sixteenth of the limit for itself, and a flood of forged sources has one pace or
    a few. Default: no limit. [`rate_limited_total`]"""
    max_amplification: float | None
    """UDP: the longest reply, as a multiple of its request, both with their headers. At least 1,
    which is an echo's. Default: 3 (RFC 9000 §8.1), no limit on loopback. [`amplification`]"""
    connections_per_source: int | None
    """TCP: open connections per source; 0: no limit. Default: 4096, no limit on loopback.
    [`refused_by_source`]"""
    connection_rate_per_source: float | tuple[float, int] | None
    """TCP: new connections per second from one source, or a pair of that and the burst, as for
    `rate_per_source`. Default: no limit. [`refused_by_rate`]"""


class TransferOptions(TypedDict, total=False):
    """Keywords of `rsecho.transfer.Policy`, and so of `rsecho.transfer.Receiver`."""

    directory: str | PathLike[str] | None
    """Directory that named messages (files) are stored in and shared from. None: messages stay in
    memory."""
    receives: bool
    """Accepts messages. By default True."""
    shares: bool
    """Sends files of the directory to clients that ask for them by name. By default True."""
    overwrites: bool
    """Allows a sender to replace a file (`replace=True`). Needs `directory`. By default False: such
    a request is refused."""
    quota_bytes: int | None
    """Limit for all bytes in the directory, existing files included. Needs `directory`. None:
    limited by the free space only."""
    echo: bool
    """Keeps each message for its sender, who can fetch it back. By default False."""
    wire: Wire
    """"native", the default: the protocol of docs/transfer.md. "plain": the format of programs that
    split their data by hand: one datagram with the number of chunks, then each chunk after its
    index (4 bytes, big-endian). Nothing is acknowledged or sent again, so a loss is reported after
    `progress_timeout`."""
    keep_partial: bool
    """Keeps the received part of an incomplete message. Only with `wire="plain"`. By default
    False."""
    max_message_bytes: int
    """Longest message in memory, in bytes. Files are not limited by it, so a server with
    `directory` alone refuses it. By default 16 MiB."""
    max_total_bytes: int
    """Memory for all messages together, data that arrived out of order included, in bytes. By
    default 64 MiB."""
    max_open_per_source: int
    """Number of simultaneous transfers of one source (an IPv4 address or an IPv6 /64). By default
    8."""
    progress_timeout: float
    """Seconds without progress after which a transfer fails. By default 10."""
    bytes_per_second: int | None
    """Limit for the speed at which one message is sent to a client, in bytes per second. None: as
    fast as the path allows, or 8 MiB per second with `wire="plain"`. Needs `directory` or
    `echo`."""


class TransferClientOptions(UdpClientOptions, total=False):
    """Keywords of `rsecho.transfer.Client`, and so of `send`, `fetch` and `echo`."""

    timeout: float | None
    """Seconds that one transfer may take. None, the default: no limit while it makes progress."""
    progress_timeout: float
    """Seconds without progress after which a transfer fails. By default 10."""
    rate: int | None
    """Limit for the speed of sending, in bytes per second. None: as fast as the path allows, or 8
    MiB per second with `wire="plain"`."""
    wire: Wire
    """"native", the default, or "plain"; it has to be that of the receiver (see `Policy`). With
    "plain" a client can only send, and is not told whether the message arrived."""
    chunk_bytes: int | None
    """Number of bytes in each datagram after its index: 1 to 65,503. Only with `wire="plain"`.
    None: 1024."""
    family: Literal[0, 4, 6]
    """4 or 6: uses only addresses of that IP version. 0, the default: either."""
    engine: Engine
    """As for servers: "auto", "batch" or "portable"."""


class UdpServerOptions(ServerOptions, SocketOptions, total=False):
    """Keywords of `UdpServer`, in addition to host and port."""

    broadcast: bool | None
    """SO_BROADCAST: allows sending to broadcast addresses, which IPv6 does not have. By default
    False. See also `answer_broadcast`."""
    recv_timeout: float | None
    """SO_RCVTIMEO: seconds that one receive of a worker waits. When they are over it waits again.
    None: no limit."""
    send_timeout: float | None
    """SO_SNDTIMEO: seconds that one reply waits for room in the send buffer; then it is dropped. By
    default 1."""
    idle_timeout: float | None
    """Seconds without a datagram after which the server ends. None, the default: never."""
    max_datagram_bytes: int | None
    """A longer datagram is answered with its first bytes only, this many: 1 to 65,527. None: no
    limit. Excludes `transfer`."""
    stop_on_empty: bool
    """An empty datagram is answered, and ends the server. By default False."""
    answer_broadcast: bool
    """Answers datagrams to broadcast and multicast addresses, each after a random delay. By default
    False: they are never answered (RFC 1122)."""
    broadcast_delay: float
    """Longest such delay, in seconds. Needs `answer_broadcast`. By default 0.1."""
    broadcast_rate: float
    """Limit for such answers, per second. Needs `answer_broadcast`. By default 10."""
    transfer: Policy | None
    """How large messages, sent and fetched with `rsecho.transfer`, are handled. None: they are
    datagrams like any others."""


class ReceiverOptions(UdpServerOptions, TransferOptions, total=False):
    """Keywords of `rsecho.transfer.Receiver`: those of its server and of its policy."""


class TcpServerOptions(ServerOptions, TcpOptions, total=False):
    """Keywords of `TcpServer`, in addition to host and port. Socket options are set on the
    listener; its connections inherit them."""

    recv_timeout: float | None
    """SO_RCVTIMEO, in seconds. It is set on the sockets, but has no effect on the server, which
    never blocks in a receive: use `idle_timeout`."""
    send_timeout: float | None
    """SO_SNDTIMEO: seconds for which a peer may accept none of the data that is ready for it; then
    its connection is reset and counted as `stalled`. 0: never. None: 60, or never on loopback."""
    idle_timeout: float | None
    """Seconds without data in either direction after which a connection is closed. 0: never. None:
    one hour, or never on loopback."""
    backlog: int | None
    """Number of connections that may wait to be accepted. None: the kernel's limit
    (net.core.somaxconn)."""
    max_connections: int | None
    """Number of simultaneous connections; further ones wait in the backlog. None: no limit."""
    max_connection_seconds: float | None
    """Age in seconds at which a connection is closed, busy or not, and counted as `expired`. 0 or
    None: never."""
    min_bytes_per_second: float | None
    """Least receiving rate, as an average over each `min_rate_window`. A slower connection, also a
    silent one, is closed and counted as `slow`. Time during which the server itself prepares or
    delays an answer does not count. None: no limit."""
    min_rate_window: float
    """Length of that window, in seconds. A new connection is measured for the first time after it.
    Needs `min_bytes_per_second`. By default 10."""
    framing: Literal["lines", "records", "chunks"] | None
    """What one request is: "lines", a line; "records", a record of `unpack`; "chunks", the data of
    one read. None: lines for a named responder; for a callable, records with `unpack`, else chunks.
    Needs a responder that reads requests (not plain echo, "discard", "daytime" or "time")."""
    max_line_bytes: int
    """Longest line; a longer one is answered with an error, and the connection is closed. Needs a
    server that reads lines (see `framing`). By default 65,536."""


# What the annotations above call by a name: `check` has to know their words.
_CHOICES = {"Engine": Engine, "Wait": Wait, "Wire": Wire}


def check(keywords: Mapping[str, object], known: type, owner: object) -> None:
    """Refuses a keyword that `owner` does not have, and a value of another type than its own.

    Raises:
        TypeError: there is no such keyword, or its value is of another type.
        ValueError: its value is none of the few that it takes.
    """
    for name, value in keywords.items():
        if name not in known.__annotations__:
            of = getattr(owner, "__name__", type(owner).__name__)
            raise TypeError(
                f"{of}() got an unexpected keyword argument {name!r}; "
                f"{_way_out(name, known, owner)}"
            )
        # A ForwardRef, as annotations here are texts.
        check_type(name, value, known.__annotations__[name].__forward_arg__)


def _way_out(name: str, known: type, owner: object) -> str:
    """Whose keyword it is, which ones are like it, or all that there are."""
    from difflib import get_close_matches

    others: dict[str, type] = {
        "Guard": GuardOptions,
        "transfer.Policy": TransferOptions,
        "TcpServer": TcpServerOptions,
        "UdpServer": UdpServerOptions,
    }
    if type(owner).__name__.endswith("Client"):
        others = {"TcpClient": TcpClientOptions, "UdpClient": UdpClientOptions}
    for other, options in others.items():
        if name in options.__annotations__:
            return f"it is an option of rsecho.{other}"
    if found := get_close_matches(name, known.__annotations__):
        return f"did you mean {' or '.join(found)}?"
    return f"its options are {', '.join(sorted(known.__annotations__))}"


def check_type(name: str, value: object, kind: str) -> None:
    """Refuses a value that is not of this type, as `_arguments.check` does."""
    _arguments.check(name, value, kind, _CHOICES)


def deadline(timeout: float | None) -> float | None:
    """When that many seconds are over, by `time.monotonic`; None: never.

    Raises:
        TypeError, ValueError: it is not a time, as the native half says it.
    """
    check_type("timeout", timeout, "float | None")
    if timeout is None:
        return None
    if not 0 <= timeout < math.inf:
        raise ValueError(
            f"cannot set timeout={timeout:g}: a time is a number of seconds, 0 or more; None waits "
            "for ever"
        )
    return time.monotonic() + timeout
