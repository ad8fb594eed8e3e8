"""A DNS server that answers by a script, on one port of UDP and TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from rsecho.pytest_plugin import MakeTcpEcho, MakeUdpEcho, TcpEcho, UdpEcho


class DnsServer(NamedTuple):
    """Both halves of it."""

    udp: UdpEcho
    tcp: TcpEcho

    @property
    def address(self) -> tuple[str, int]:
        """The same for both."""
        return self.udp.address


@pytest.fixture(scope="session")
def both(udp_echo_factory: MakeUdpEcho, tcp_echo_factory: MakeTcpEcho) -> DnsServer:
    """One for the session; rsecho resets it for each test."""
    for _ in range(10):
        udp = udp_echo_factory()
        try:
            return DnsServer(udp, tcp_echo_factory(port=udp.port))
        except OSError:
            # Some other program has that port of TCP.
            continue
    pytest.fail("there is no port that is free for UDP and TCP")


@pytest.fixture
def dns_server(both: DnsServer) -> DnsServer:
    """The same, which answers nothing but what a test expects."""
    both.udp.strict()
    both.tcp.strict()
    return both
