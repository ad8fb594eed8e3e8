"""Which sources a server does not answer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from rsecho import _options, _rsecho
from rsecho._explained import explained

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any, Literal

__all__ = ["Guard"]

# The rules that only servers of one protocol can obey.
RULES_OF = {
    "udp": frozenset(
        {
            "answer_service_ports",
            "loop_guard",
            "rate_per_source",
            "rate_total",
            "max_amplification",
        }
    ),
    "tcp": frozenset({"connections_per_source", "connection_rate_per_source"}),
}


@explained(_options.GuardOptions)
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Guard:
    """The protections of a server: `UdpServer(guard=Guard(rate_per_source=100))`.

    `Guard()` has the defaults, as has a server without a guard. A source is an IPv4 address or
    an IPv6 /64. IPv4-mapped IPv6 addresses count as IPv4. "On loopback" means sources in
    127.0.0.0/8 and ::1, which nobody outside this machine can forge.

    A datagram that is not answered is counted in `UdpStats.dropped`, under the reason that is
    given in brackets. A connection that is refused is accepted and closed at once: its client
    sees an end of stream, or a reset if it has sent something. It is counted in the field of
    `TcpStats` that is given in brackets.

    A server refuses a rule that it cannot obey, such as `rate_per_source` on a `TcpServer`. A
    guard for both protocols is divided by `only`.

    Args:
        **options: See `rsecho.sockets.GuardOptions`.

    Raises:
        ValueError: a value that can never work, such as a rate of 0 or the network
            "10.0.0.1/24".
        TypeError: a value of the wrong type.
    """

    allow: Iterable[str | IPv4Network | IPv6Network] = ()
    deny: Iterable[str | IPv4Network | IPv6Network] = ()
    answer_service_ports: bool = False
    loop_guard: bool = True
    rate_per_source: float | tuple[float, int] | None = None
    rate_total: float | tuple[float, int] | None = None
    max_amplification: float | None = None
    connections_per_source: int | None = None
    connection_rate_per_source: float | tuple[float, int] | None = None

    def __post_init__(self) -> None:
        for name in ("allow", "deny"):
            object.__setattr__(self, name, _networks(name, getattr(self, name)))
        native(self)

    def only(self, protocol: Literal["udp", "tcp"]) -> Guard:
        """This guard without the rules of the other protocol, which get their defaults.

        So one guard serves both: `UdpServer(guard=both.only("udp"))` and
        `TcpServer(guard=both.only("tcp"))`. `allow` and `deny` hold for both protocols.

        Raises:
            ValueError: `protocol` is neither "udp" nor "tcp".
        """
        if protocol not in RULES_OF:
            raise ValueError(f"cannot take only({protocol!r}) of a guard: it is 'udp' or 'tcp'")
        others = [rules for name, rules in RULES_OF.items() if name != protocol]
        defaults: dict[str, Any] = {
            each.name: each.default for each in fields(self) if each.name in others[0]
        }
        return replace(self, **defaults)

    def __repr__(self) -> str:
        """What is not the default."""
        told = [
            f"{each.name}={value!r}"
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        ]
        return f"Guard({', '.join(told)})"


def _networks(name: str, given: object) -> tuple[str, ...]:
    # A network of `ipaddress` can be iterated over as well: by its addresses, all of them.
    if isinstance(given, str | bytes) or hasattr(given, "max_prefixlen"):
        raise TypeError(
            f"cannot set {name}={str(given)!r}: it is a list of networks; write [{str(given)!r}]"
        )
    try:
        return tuple(map(str, given))  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(
            f"cannot set {name}={given!r}: it is a list of networks, as in ['192.0.2.0/24']"
        ) from None


def native(guard: Guard | None) -> _rsecho.GuardPolicy:
    """What the native servers take; None is all defaults."""
    if guard is None:
        return _rsecho.GuardPolicy()
    if not isinstance(guard, Guard):
        raise TypeError(f"cannot use guard={guard!r}: it is a rsecho.Guard, or None")
    return _rsecho.GuardPolicy(**{each.name: getattr(guard, each.name) for each in fields(guard)})
