"""Counters of servers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from rsecho._brief import brief

__all__ = ["TcpStats", "UdpStats"]

# The metadata of fields that say how many there are now, not how many there were: what lies
# between two moments is no difference of theirs.
LEVEL = "level"


def _level() -> int:
    made: int = field(default=0, metadata={LEVEL: True})
    return made


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UdpStats:
    """A UDP server's counters at one moment.

    `received_packets`, `duplicated_packets` and `produced_packets` together are `sent_packets`,
    `consumed_packets`, all of `dropped` and `pending_packets` together, exactly.
    """

    engine: str = ""
    """The engine in use."""
    received_packets: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    sent_bytes: int = 0
    truncated_packets: int = 0
    """Datagrams that were longer than `max_datagram_bytes`."""
    records: int = 0
    """Datagrams that were decoded as a record."""
    unfit_records: int = 0
    """Datagrams whose length is not that of a record."""
    receive_timeouts: int = 0
    """Receives that ended by `recv_timeout`."""
    error_replies: int = 0
    """Error replies; `sent_packets` includes them."""
    duplicated_packets: int = 0
    """Datagrams that an impairment added by duplication."""
    corrupted_packets: int = 0
    """Datagrams in which an impairment changed a bit."""
    delayed_packets: int = 0
    """Datagrams that an impairment delayed."""
    consumed_packets: int = 0
    """Packets of large messages that were received; not each has a reply."""
    produced_packets: int = 0
    """Packets of large messages that were sent other than as a reply."""
    received_transfers: int = 0
    """Large messages that were received completely."""
    sent_transfers: int = 0
    """Large messages that a client fetched completely."""
    failed_transfers: int = 0
    """Large messages that failed, in either direction."""
    conflicting_packets: int = 0
    """Packets of large messages whose bytes contradict earlier ones; the earlier ones are kept."""
    pending_packets: int = _level()
    """Datagrams that are delayed now, or whose answer is being made."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Datagrams that were not answered, by reason."""
    kernel_drops: int | None = None
    """Datagrams that the kernel dropped because the receive buffer was full; None if the kernel
    does not say."""
    more: dict[str, int] = field(default_factory=dict)
    """Counters of the native half that have no field here."""

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TcpStats:
    """A TCP server's counters at one moment.

    `accepted_connections` is `active_connections` plus all of `closed`, and `received_bytes` is
    `sent_bytes`, `discarded_bytes` and `pending_bytes` together, exactly; with a responder
    `received_bytes` and `produced_bytes` are those and `consumed_bytes`.
    """

    engine: str = ""
    """The engine in use."""
    accepted_connections: int = 0
    active_connections: int = _level()
    refused_connections: int = 0
    """Connections closed at once because no file descriptor was left."""
    denied_connections: int = 0
    """Connections closed at once because the guard denies their source."""
    refused_by_source: int = 0
    """Connections closed at once because their source had reached its limit."""
    refused_by_rate: int = 0
    """Connections closed at once because their source had opened too many per second."""
    accept_errors: int = 0
    """Other failures of accept(2)."""
    received_bytes: int = 0
    sent_bytes: int = 0
    discarded_bytes: int = 0
    """Bytes received but not sent back before their connection ended."""
    pending_bytes: int = _level()
    """Bytes received that are still to be sent back."""
    records: int = 0
    """Records that were decoded."""
    unfit_records: int = 0
    """Streams that ended within a record."""
    consumed_bytes: int = 0
    """Bytes of requests to a responder."""
    produced_bytes: int = 0
    """Bytes of replies from a responder."""
    requests: int = 0
    """Requests to a responder: lines, records or chunks (see `framing`)."""
    replies: int = 0
    error_replies: int = 0
    silent_requests: int = 0
    """Requests to which the responder gave no reply."""
    failed_replies: int = 0
    """Requests for which the responder raised."""
    abandoned_requests: int = 0
    """Requests whose connection ended before the answer, or that were still unanswered when the
    server stopped."""
    pending_requests: int = _level()
    """Requests whose answer is being made."""
    closed: dict[str, int] = field(default_factory=dict)
    """Connections that ended, by reason: `peer` ended its stream, `reset` it; `idle`, `stalled`,
    `expired` and `slow` ran out of time; `stopped` with the server; `finished` after the
    last reply; `impaired` by an impairment; `error` of the network or the system."""
    kernel_drops: int | None = None
    """Connections that the kernel dropped because the backlog was full; None if the kernel does not
    say."""
    more: dict[str, int] = field(default_factory=dict)
    """Counters of the native half that have no field here."""

    __repr__ = brief


_Stats = TypeVar("_Stats", UdpStats, TcpStats)


def build(
    kind: type[_Stats],
    engine: str,
    reasons: str,
    native: tuple[dict[str, int], dict[str, int], int | None],
) -> _Stats:
    """The native counters as `kind`, whose field for the reasons is `reasons`."""
    counters, by_reason, kernel_drops = native
    names = {field.name for field in fields(kind)}
    values: dict[str, Any] = {
        "engine": engine,
        reasons: by_reason,
        "kernel_drops": kernel_drops,
    }
    values |= {n: value for n, value in counters.items() if n in names}
    more = {n: value for n, value in counters.items() if n not in names}
    return kind(**values, more=more)
