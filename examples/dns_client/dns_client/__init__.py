"""IPv4 addresses of names, asked of one DNS server."""

from __future__ import annotations

import dns.resolver


def addresses(name: str, server: tuple[str, int], timeout: float = 0.2) -> list[str]:
    """The IPv4 addresses of a name, sorted as text.

    Args:
        name: Of a host.
        server: Host and port of the DNS server.
        timeout: Seconds until it asks again; it gives up after ten times as many.

    Raises:
        dns.exception.DNSException: there are none, or nobody says.
    """
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [server[0]], server[1]
    resolver.timeout, resolver.lifetime = timeout, 10 * timeout
    return sorted(record.address for record in resolver.resolve(name, "A", search=False))
