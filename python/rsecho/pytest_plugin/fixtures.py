"""The fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from rsecho.pytest_plugin import ports
from rsecho.pytest_plugin.echo import TcpEcho, UdpEcho
from rsecho.pytest_plugin.session import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from rsecho.server import HasFileno
    from rsecho.sockets import TcpServerOptions, UdpServerOptions

_Echo = TypeVar("_Echo", UdpEcho, TcpEcho)


class MakeUdpEcho(Protocol):
    """The type of the fixtures `make_udp_echo` and `udp_echo_factory`."""

    def __call__(
        self,
        host: str | None = None,
        port: int = 0,
        *,
        sock: HasFileno | int | None = None,
        **options: Unpack[UdpServerOptions],
    ) -> UdpEcho:
        """Makes a server, on 127.0.0.1 by default."""


class MakeTcpEcho(Protocol):
    """The type of the fixtures `make_tcp_echo` and `tcp_echo_factory`."""

    def __call__(
        self,
        host: str | None = None,
        port: int = 0,
        *,
        sock: HasFileno | int | None = None,
        **options: Unpack[TcpServerOptions],
    ) -> TcpEcho:
        """Makes a server, on 127.0.0.1 by default."""


@pytest.fixture(scope="session")
def udp_echo(pytestconfig: pytest.Config) -> Iterator[UdpEcho]:
    """A UDP echo server on 127.0.0.1: one for the session, reset for each test."""
    yield from _shared(pytestconfig, UdpEcho("udp_echo", {}))


@pytest.fixture(scope="session")
def tcp_echo(pytestconfig: pytest.Config) -> Iterator[TcpEcho]:
    """A TCP echo server on 127.0.0.1: one for the session, reset for each test."""
    yield from _shared(pytestconfig, TcpEcho("tcp_echo", {}))


@pytest.fixture
def make_udp_echo(pytestconfig: pytest.Config) -> Iterator[MakeUdpEcho]:
    """Makes UDP echo servers, with `rsecho.UdpServer`'s arguments; closed after the test."""
    yield from _for_one_test(pytestconfig, UdpEcho, "make_udp_echo")


@pytest.fixture
def make_tcp_echo(pytestconfig: pytest.Config) -> Iterator[MakeTcpEcho]:
    """Makes TCP echo servers, with `rsecho.TcpServer`'s arguments; closed after the test."""
    yield from _for_one_test(pytestconfig, TcpEcho, "make_tcp_echo")


@pytest.fixture(scope="session")
def udp_echo_factory(pytestconfig: pytest.Config) -> Iterator[MakeUdpEcho]:
    """Makes UDP echo servers that live for the session and are reset for each test."""
    yield from _for_all_tests(pytestconfig, UdpEcho, "udp_echo_factory")


@pytest.fixture(scope="session")
def tcp_echo_factory(pytestconfig: pytest.Config) -> Iterator[MakeTcpEcho]:
    """Makes TCP echo servers that live for the session and are reset for each test."""
    yield from _for_all_tests(pytestconfig, TcpEcho, "tcp_echo_factory")


@pytest.fixture(scope="session")
def refused_udp_port() -> Iterator[int]:
    """A UDP port on 127.0.0.1 that refuses datagrams: a connected socket gets ECONNREFUSED."""
    with ports.refused_udp() as port:
        yield port


@pytest.fixture(scope="session")
def refused_tcp_port() -> Iterator[int]:
    """A TCP port on 127.0.0.1 where connecting fails with ECONNREFUSED."""
    with ports.refused_tcp() as port:
        yield port


@pytest.fixture(scope="session")
def silent_udp_port() -> Iterator[int]:
    """A UDP port on 127.0.0.1 that takes datagrams and never answers."""
    with ports.silent_udp() as port:
        yield port


def _shared(config: pytest.Config, echo: _Echo) -> Iterator[_Echo]:
    session = config.stash[KEY]
    yield session.share(echo._name, echo)
    session.unshare(echo)


def _for_one_test(
    config: pytest.Config, kind: Callable[[str, dict[str, Any]], _Echo], name: str
) -> Iterator[Callable[..., _Echo]]:
    session = config.stash[KEY]
    made: list[_Echo] = []

    def make(host: str | None = None, port: int = 0, **options: Any) -> _Echo:
        made.append(kind(f"{name}[{len(made)}]", options | _where(host, port)))
        return session.own(made[-1])

    yield make
    for echo in reversed(made):
        session.disown(echo)


def _for_all_tests(
    config: pytest.Config, kind: Callable[[str, dict[str, Any]], _Echo], name: str
) -> Iterator[Callable[..., _Echo]]:
    session = config.stash[KEY]
    made: list[_Echo] = []

    def make(host: str | None = None, port: int = 0, **options: Any) -> _Echo:
        # A test that uses the fixture in which it is made uses the server, also where it only
        # knows its address.
        fixture = session.making[-1] if session.making else f"{name}[{len(made)}]"
        made.append(kind(fixture, options | _where(host, port)))
        return session.share(fixture, made[-1])

    yield make
    for echo in reversed(made):
        session.unshare(echo)


def _where(host: str | None, port: int) -> dict[str, Any]:
    return ({} if host is None else {"host": host}) | ({"port": port} if port else {})
