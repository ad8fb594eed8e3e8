"""What servers count."""

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
    """The engine that really ran."""
    received_packets: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    sent_bytes: int = 0
    truncated_packets: int = 0
    """Datagrams longer than `max_datagram_bytes`."""
    records: int = 0
    """Datagrams that were a record of the layout."""
    unfit_records: int = 0
    """Datagrams of another length than the layout's."""
    receive_timeouts: int = 0
    """Receives that ended by `recv_timeout`."""
    error_replies: int = 0
    """Replies that are an error; they are among `sent_packets`."""
    duplicated_packets: int = 0
    """Datagrams that an impairment made more of."""
    corrupted_packets: int = 0
    """Datagrams in which an impairment changed a bit."""
    delayed_packets: int = 0
    """Datagrams that an impairment held back."""
    consumed_packets: int = 0
    """Datagrams that a protocol took in without answering each: packets of large messages."""
    produced_packets: int = 0
    """Datagrams that a protocol sent by itself: packets of large messages."""
    received_transfers: int = 0
    """Large messages that came whole."""
    sent_transfers: int = 0
    """Large messages that were pulled, and arrived."""
    failed_transfers: int = 0
    """Large messages that did not arrive, either way."""
    conflicting_packets: int = 0
    """Packets of large messages with other bytes than those that were there: the first win."""
    pending_packets: int = _level()
    """Datagrams that are held back, or whose answer is being made."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Datagrams that were not answered, by reason."""
    kernel_drops: int | None = None
    """Datagrams the kernel dropped before the server saw them (a full receive buffer); None
    where it does not say."""
    more: dict[str, int] = field(default_factory=dict)
    """Counters that have no field here."""

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TcpStats:
    """A TCP server's counters at one moment.

    `accepted_connections` is `active_connections` plus all of `closed`, and `received_bytes` is
    `sent_bytes`, `discarded_bytes` and `pending_bytes` together, exactly; with a responder
    `received_bytes` and `produced_bytes` are those and `consumed_bytes`.
    """

    engine: str = ""
    """The engine that really ran."""
    accepted_connections: int = 0
    active_connections: int = _level()
    refused_connections: int = 0
    """Connections that were closed at once, since no descriptor was left."""
    denied_connections: int = 0
    """Connections that were closed at once, since their source may not connect."""
    refused_by_source: int = 0
    """Connections that were closed at once, since their source had as many as it may."""
    refused_by_rate: int = 0
    """Connections that were closed at once, since their source had opened too many per second."""
    accept_errors: int = 0
    """Failures of accept(2) other than that."""
    received_bytes: int = 0
    sent_bytes: int = 0
    discarded_bytes: int = 0
    """Bytes that came and could not be sent back before their connection ended."""
    pending_bytes: int = _level()
    """Bytes that have come and are still to be sent back."""
    records: int = 0
    """Records of the layout that came."""
    unfit_records: int = 0
    """Streams that ended within a record."""
    consumed_bytes: int = 0
    """Bytes that were requests to a responder."""
    produced_bytes: int = 0
    """Bytes of its replies."""
    requests: int = 0
    """Requests to a responder: lines, records, or what was read."""
    replies: int = 0
    error_replies: int = 0
    silent_requests: int = 0
    """Requests that were not to be answered."""
    failed_replies: int = 0
    """Requests on which the responder failed."""
    abandoned_requests: int = 0
    """Requests whose connection ended before their answer came, or that were not asked any more
    when the server stopped."""
    pending_requests: int = _level()
    """Requests whose answer is being made."""
    closed: dict[str, int] = field(default_factory=dict)
    """Connections that ended, by reason: `peer` ended its stream, `reset` it; `idle`, `stalled`,
    `expired` and `slow` ran out of time; `stopped` with the server; `finished` had all been
    said; `impaired` on purpose; `error`, the network's or the system's."""
    kernel_drops: int | None = None
    """Connections the kernel dropped before the server saw them (a full backlog); None where
    it does not say."""
    more: dict[str, int] = field(default_factory=dict)
    """Counters that have no field here."""

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
