"""The keywords of servers and clients, each stated here once: its name, its type, what it means.

The native half takes them by the same names (src/python/socket.rs, src/python/server.rs) and has
the defaults; the flags of the command name the keyword that they set (cli/options.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

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
    """SO_REUSEADDR. TCP servers have it on, which skips TIME_WAIT. On UDP it lets another
    socket take the port and its traffic, even another user's, so it is off."""
    reuse_port: bool | None
    """SO_REUSEPORT: several sockets of one user share the port, each a part of the peers."""
    recv_buffer_bytes: int | None
    """SO_RCVBUF. The kernel clamps it to net.core.rmem_max, then doubles it."""
    send_buffer_bytes: int | None
    """SO_SNDBUF. The kernel clamps it to net.core.wmem_max, then doubles it."""
    force_buffers: bool
    """Pass those ceilings where the process may (CAP_NET_ADMIN)."""
    ttl: int | None
    """IP_TTL, IPV6_UNICAST_HOPS: 1 to 255."""
    dscp: int | None
    """Differentiated services code point, 0 to 63 (RFC 2474)."""
    ipv6_only: bool | None
    """IPV6_V6ONLY; off makes a socket on `::` answer IPv4 as well."""
    bind_to_device: str | None
    """SO_BINDTODEVICE: only this interface."""


class TcpOptions(SocketOptions, total=False):
    no_delay: bool | None
    """TCP_NODELAY; on by default."""
    keep_alive: bool | tuple[float | None, float | None, int | None] | None
    """SO_KEEPALIVE; as a tuple with seconds of silence before the first probe, seconds
    between probes, and how many may go unanswered (None: the system's)."""
    linger: float | None
    """SO_LINGER: for how many seconds close waits for unsent data; 0 resets."""
    congestion: str | None
    """TCP_CONGESTION, as in "cubic"."""


class UdpClientOptions(SocketOptions, total=False):
    """Keywords of `UdpClient` that set options of its socket."""

    broadcast: bool | None
    """SO_BROADCAST: may send to broadcast addresses."""


class TcpClientOptions(TcpOptions, total=False):
    """Keywords of `TcpClient` that set options of its socket."""


class ServerOptions(TypedDict, total=False):
    """Keywords of both servers."""

    family: Literal[0, 4, 6]
    """4 or 6 for that family of addresses only."""
    workers: int
    """Threads, each with a socket of its own (SO_REUSEPORT). By default 1."""
    cpus: Sequence[int]
    """The CPUs that the workers are bound to, in turn; none, the default: any."""
    engine: Engine
    """"auto", the default, "batch" (Linux: many datagrams a call, epoll), or "portable"."""
    wait: Wait
    """What a worker does while nothing comes. "balanced", the default, sleeps, and on UDP naps for
    50 us under load to gather more for a send: the least CPU time. "latency" asks for up to 50 us
    before it sleeps. "busy" never sleeps, for a whole core."""
    unpack: RecordLayout | str | None
    """The layout of records, or a format for one. Each datagram of that length is decoded and
    logged to `rsecho.records`; a stream is cut into records of it."""
    on_record: OnRecord | None
    """Called with each `Record`, on the thread that logs. What it raises is logged."""
    responder: str | OnRequest | OnFields | None
    """What to answer instead of what came: "upper", "prefix=TEXT", "discard", "daytime", "time",
    "command", "python=module:function", or a callable of `(data: bytes, peer: Peer)` that returns
    the reply or None for none; a coroutine function runs on the event loop in which the server is
    started. See `rsecho.responders`. Each request on a connection is answered in order, with the
    line end that it had; "daytime" and "time" answer a connection and end it."""
    upper: bool
    """With "echo" or "prefix=TEXT": in upper case."""
    error_reply: bytes | None
    """What is answered when a callable raises; None: nothing."""
    responder_takes: Literal["bytes", "fields"]
    """"fields": the callable gets the fields of `unpack` by name instead of the bytes."""
    impair: str
    """What impairs it, in netem's terms, as in "delay 50ms 10ms loss 1%", or, for TCP, in
    Toxiproxy's: see `Server.impair`."""
    log_payload_bytes: int
    """How much of a payload `rsecho.access` shows. By default 128."""
    guard: Guard | None
    """Which sources are not answered; None: all defaults. See `Guard`."""


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
    """Where files lie that are received under a name and shared. None: messages stay in
    memory."""
    receives: bool
    """Takes in what is sent. By default True."""
    shares: bool
    """Sends what is asked for by its name, of the directory. By default True."""
    overwrites: bool
    """What is sent may take the place of what has its name, where its sender asks for that
    (`replace=True`). By default False: that is refused."""
    quota_bytes: int | None
    """How much may lie in the directory, all that is received with what was there; None: as much
    as there is room for."""
    echo: bool
    """Keeps each message for its sender, who can fetch it back. By default False."""
    wire: Wire
    """"native", the default: docs/transfer.md. "plain": what programs speak that split their data
    by hand: a datagram with the count of chunks, then each chunk behind its index, 4 bytes
    big-endian; nothing is acknowledged or sent again, so a loss is reported after
    `progress_timeout`."""
    keep_partial: bool
    """"plain": keeps what came of a message of which a part was lost. By default False."""
    max_message_bytes: int
    """The longest message in memory; files have no such limit. By default 16 MiB."""
    max_total_bytes: int
    """All messages in memory, and all that came early, together. By default 64 MiB."""
    max_open_per_source: int
    """Transfers of one source (IPv4 address, IPv6 /64) at a time. By default 8."""
    progress_timeout: float
    """Seconds without progress after which a transfer has failed. By default 10."""
    bytes_per_second: int | None
    """Limits the speed at which a fetched message is sent; None: as fast as the path
    allows."""


class TransferClientOptions(UdpClientOptions, total=False):
    """Keywords of `rsecho.transfer.Client`, and so of `send`, `fetch` and `echo`."""

    timeout: float | None
    """Seconds that a transfer may take in all; None, the default: as long as it moves."""
    progress_timeout: float
    """Seconds without progress after which it has failed. By default 10."""
    rate: int | None
    """Limits the speed of sending, in bytes per second; None: as fast as the path allows."""
    wire: Wire
    """"native", the default, or "plain", as the receiver speaks: see `Policy`. "plain" only
    sends, and does not learn whether anything arrived."""
    chunk_bytes: int | None
    """"plain": how many bytes a datagram carries behind its index. None: what the path takes in
    one piece."""
    family: Literal[0, 4, 6]
    """4 or 6 for that family of addresses only."""
    engine: Engine
    """As for servers."""


class UdpServerOptions(ServerOptions, SocketOptions, total=False):
    """Keywords of `UdpServer` beside host and port; None stands for the default."""

    broadcast: bool | None
    """SO_BROADCAST: may send to broadcast addresses."""
    recv_timeout: float | None
    """SO_RCVTIMEO: how many seconds one receive of a worker waits."""
    send_timeout: float | None
    """SO_SNDTIMEO: how many seconds one reply waits for room in the send buffer."""
    idle_timeout: float | None
    """The server ends when nothing came for this many seconds."""
    max_datagram_bytes: int | None
    """Longer datagrams are answered with this many of their bytes."""
    stop_on_empty: bool
    """An empty datagram ends the server, once answered."""
    answer_broadcast: bool
    """Answers also what was sent to a broadcast or multicast address, after a random time of up to
    `broadcast_delay` seconds and at most `broadcast_rate` times a second; otherwise such datagrams
    are never answered (RFC 1122)."""
    broadcast_delay: float
    """By default 0.1."""
    broadcast_rate: float
    """By default 10."""
    transfer: Policy | None
    """What is done with large messages, which `rsecho.transfer` sends and fetches; None: they are
    datagrams like any others."""


class ReceiverOptions(UdpServerOptions, TransferOptions, total=False):
    """Keywords of `rsecho.transfer.Receiver`: those of its server and of its policy."""


class TcpServerOptions(ServerOptions, TcpOptions, total=False):
    """Keywords of `TcpServer` beside host and port; those of sockets hold for its
    listener, and so for its connections."""

    recv_timeout: float | None
    """SO_RCVTIMEO, in seconds; the server never waits in a receive: see `idle_timeout`."""
    send_timeout: float | None
    """Resets a connection whose peer reads nothing for this many seconds while replies wait, and
    counts it as `stalled` (SO_SNDTIMEO); 0: never. By default 60 if other machines can connect,
    never on loopback."""
    idle_timeout: float | None
    """A connection over which nothing came or went for this many seconds is closed; 0: never. None:
    an hour where others than this machine can connect, never on loopback."""
    backlog: int | None
    """Connections that may wait to be accepted; None: as many as the kernel allows
    (net.core.somaxconn)."""
    max_connections: int | None
    """Connections at a time; more wait in the backlog."""
    max_connection_seconds: float | None
    """A connection that has lived for this many seconds is closed, whatever came over it, and
    counted as `expired`; None or 0: never."""
    min_bytes_per_second: float | None
    """A connection over which less came, on average over each window of `min_rate_window` seconds
    since it was accepted, is closed and counted as `slow`; so a silent one is. Time in which an
    answer is made or held back here does not count. None: never."""
    min_rate_window: float
    """Seconds over which that is measured, by default 10; the first are a new connection's
    grace."""
    framing: Literal["lines", "records", "chunks"] | None
    """What a request is: "lines"; "records", of the layout's length; or "chunks", what was read.
    None: lines for a named responder, records with `unpack`, chunks for any other callable."""
    max_line_bytes: int
    """A longer line is answered with an error, and the connection ends. By default 65,536."""


def check(keywords: Mapping[str, object], known: type, owner: object) -> None:
    """Refuses a keyword that `owner` has not: it is an error, not ignored."""
    for name in keywords:
        if name not in known.__annotations__:
            raise TypeError(
                f"{type(owner).__name__}() got an unexpected keyword argument {name!r}: "
                f"its options are {', '.join(sorted(known.__annotations__))}"
            )
