"""A network on which nothing happens, as loopback is: here no client has a bug."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from retry_client.hasty import Client
    from rsecho.pytest_plugin import UdpEcho


def test_each_request_gets_its_answer(
    make_client: Callable[..., Client], udp_echo: UdpEcho
) -> None:
    with make_client(udp_echo.address) as client:
        for number in range(20):
            request = f"request {number}".encode()
            assert client.ask(request) == request


def test_nobody_is_asked_twice_without_need(
    make_client: Callable[..., Client], udp_echo: UdpEcho
) -> None:
    with make_client(udp_echo.address, timeout=5.0) as client:
        client.ask(b"once")
    assert len(udp_echo.received) == 1


def test_it_gives_up_when_nobody_answers(
    make_client: Callable[..., Client], silent_udp_port: int
) -> None:
    client = make_client(("127.0.0.1", silent_udp_port), timeout=0.01, attempts=3)
    with client, pytest.raises(TimeoutError, match="after 3 attempts"):
        client.ask(b"anybody?")


def test_a_refusal_is_told(make_client: Callable[..., Client], refused_udp_port: int) -> None:
    client = make_client(("127.0.0.1", refused_udp_port))
    with client, pytest.raises(ConnectionRefusedError):
        client.ask(b"anybody?")
