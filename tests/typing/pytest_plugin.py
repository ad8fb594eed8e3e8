"""Only type-checked, never run: what the pytest plugin promises to tests with annotations."""

from __future__ import annotations

import re
from typing import assert_type

import rsecho
from rsecho.pytest_plugin import (
    Expectation,
    Impairment,
    MakeTcpEcho,
    MakeUdpEcho,
    Received,
    TcpEcho,
    UdpEcho,
)


async def udp(udp_echo: UdpEcho, make_udp_echo: MakeUdpEcho) -> None:
    assert_type(udp_echo.host, str)
    assert_type(udp_echo.address, tuple[str, int])
    assert_type(udp_echo.server, rsecho.UdpServer)
    assert_type(udp_echo.stats(), rsecho.UdpStats)
    assert_type(udp_echo.received, list[Received])
    assert_type(await udp_echo.wait_for_async(b"x", count=2), list[Received])
    assert_type(udp_echo.wait_for(timeout=1)[0].peer, rsecho.Peer)
    assert_type(udp_echo.expect(re.compile(b"x")).reply(b"y").times(2), Expectation)
    udp_echo.expect(lambda data: data.isupper()).drop()
    udp_echo.expect("x")  # type: ignore[arg-type]
    udp_echo.wait_for(byte_count=5)  # type: ignore[call-arg]
    assert_type(udp_echo.expect(b"x").received, list[Received])
    udp_echo.strict(in_order=True)
    udp_echo.clear()
    with udp_echo.impair("loss 1%", seed=1) as impairment:
        assert_type(impairment, Impairment)
    assert_type(make_udp_echo("::1", workers=2), UdpEcho)
    make_udp_echo(5)  # type: ignore[arg-type]
    make_udp_echo(no_such=5)  # type: ignore[call-arg]
    make_udp_echo(backlog=5)  # type: ignore[call-arg]
    make_udp_echo(impair="loss 5%")


async def tcp(tcp_echo: TcpEcho, make_tcp_echo: MakeTcpEcho) -> None:
    assert_type(tcp_echo.server, rsecho.TcpServer)
    assert_type(tcp_echo.stats(), rsecho.TcpStats)
    assert_type(tcp_echo.streams, dict[rsecho.Peer, bytes])
    assert_type(await tcp_echo.wait_for_async(byte_count=5), list[Received])
    assert_type(make_tcp_echo(framing="lines"), TcpEcho)


def answer(request: bytes) -> bytes:
    return request


def answer_peer(request: bytes, peer: rsecho.Peer) -> list[bytes]:
    return [request, peer.host.encode()]


async def answer_later(request: bytes) -> bytes | None:
    return None


def is_query(request: bytes, peer: rsecho.Peer) -> bool:
    return peer.port > 0


def text(request: bytes) -> str:
    return request.decode()


def of_fields(fields: dict[str, object], peer: object) -> bytes:
    return str(fields).encode()


def replies(udp_echo: UdpEcho, udp_echo_factory: MakeUdpEcho) -> None:
    expected = udp_echo.expect(is_query).reply(answer, answer_peer, b"x").delay(0.5)
    assert_type(expected.reply(answer_later).times(2).always(), Expectation)
    udp_echo.expect(b"x").reply(lambda request: request[:2] + b"x").drop()
    udp_echo.expect(b"x").reply(text)  # type: ignore[arg-type]
    udp_echo.expect(b"x").delay("1s")  # type: ignore[arg-type]
    assert_type(udp_echo_factory(responder=answer_peer_only), UdpEcho)
    udp_echo_factory(responder=of_fields, responder_takes="fields", unpack="!H")


def answer_peer_only(request: bytes, peer: rsecho.Peer) -> bytes:
    return request
