"""The fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from rsecho.pytest_plugin import ports
from rsecho.pytest_plugin.echo import TcpEcho, UdpEcho
from rsecho.pytest_plugin.session import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator


class MakeUdpEcho(Protocol):
    """What the fixture `make_udp_echo` is."""

    def __call__(self, host: str | None = None, port: int = 0, **options: Any) -> UdpEcho:
        """Makes one, on 127.0.0.1 unless told."""


class MakeTcpEcho(Protocol):
    """What the fixture `make_tcp_echo` is."""

    def __call__(self, host: str | None = None, port: int = 0, **options: Any) -> TcpEcho:
        """Makes one, on 127.0.0.1 unless told."""


@pytest.fixture(scope="session")
def udp_echo(pytestconfig: pytest.Config) -> Iterator[UdpEcho]:
    """A UDP echo server on 127.0.0.1: one for the session, as new for each test."""
    session = pytestconfig.stash[KEY]
    yield session.share("udp_echo", UdpEcho("udp_echo", {}))
    session.unshare("udp_echo")


@pytest.fixture(scope="session")
def tcp_echo(pytestconfig: pytest.Config) -> Iterator[TcpEcho]:
    """A TCP echo server on 127.0.0.1: one for the session, as new for each test."""
    session = pytestconfig.stash[KEY]
    yield session.share("tcp_echo", TcpEcho("tcp_echo", {}))
    session.unshare("tcp_echo")


@pytest.fixture
def make_udp_echo(pytestconfig: pytest.Config) -> Iterator[MakeUdpEcho]:
    """Makes UDP echo servers, with `rsecho.UdpServer`'s arguments; closed after the test."""
    session = pytestconfig.stash[KEY]
    made: list[UdpEcho] = []

    def make(host: str | None = None, port: int = 0, **options: Any) -> UdpEcho:
        options |= _where(host, port)
        made.append(UdpEcho(f"make_udp_echo[{len(made)}]", options))
        return session.own(made[-1])

    yield make
    for echo in reversed(made):
        session.disown(echo)


@pytest.fixture
def make_tcp_echo(pytestconfig: pytest.Config) -> Iterator[MakeTcpEcho]:
    """Makes TCP echo servers, with `rsecho.TcpServer`'s arguments; closed after the test."""
    session = pytestconfig.stash[KEY]
    made: list[TcpEcho] = []

    def make(host: str | None = None, port: int = 0, **options: Any) -> TcpEcho:
        options |= _where(host, port)
        made.append(TcpEcho(f"make_tcp_echo[{len(made)}]", options))
        return session.own(made[-1])

    yield make
    for echo in reversed(made):
        session.disown(echo)


@pytest.fixture(scope="session")
def refused_udp_port() -> Iterator[int]:
    """A UDP port on 127.0.0.1 that nobody answers on: who sends there gets ECONNREFUSED."""
    with ports.refused_udp() as port:
        yield port


@pytest.fixture(scope="session")
def refused_tcp_port() -> Iterator[int]:
    """A TCP port on 127.0.0.1 where connecting fails with ECONNREFUSED."""
    with ports.refused_tcp() as port:
        yield port


@pytest.fixture(scope="session")
def silent_udp_port() -> Iterator[int]:
    """A UDP port on 127.0.0.1 that takes what comes and never answers."""
    with ports.silent_udp() as port:
        yield port


def _where(host: str | None, port: int) -> dict[str, Any]:
    return ({} if host is None else {"host": host}) | ({"port": port} if port else {})
