"""Networks that lose, delay and duplicate: here the hasty client fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from retry_client.hasty import Client
    from rsecho.pytest_plugin import UdpEcho


def ask_often(client: Client) -> None:
    """Fails at the first request that gets another one's answer."""
    for number in range(20):
        request = f"request {number}".encode()
        assert client.ask(request) == request


@pytest.mark.impair("duplicate 30%")
def test_answers_that_come_twice(make_client: Callable[..., Client], udp_echo: UdpEcho) -> None:
    with make_client(udp_echo.address) as client:
        ask_often(client)


@pytest.mark.impair("delay 60ms 5ms")
def test_answers_that_come_late(make_client: Callable[..., Client], udp_echo: UdpEcho) -> None:
    # Each comes after the client has asked again.
    with make_client(udp_echo.address, timeout=0.04) as client:
        ask_often(client)


@pytest.mark.impair("in loss 20%; out duplicate 20%")
def test_requests_that_are_lost_and_answers_that_come_twice(
    make_client: Callable[..., Client], udp_echo: UdpEcho
) -> None:
    with make_client(udp_echo.address, timeout=0.05) as client:
        ask_often(client)


def test_the_first_answer_is_lost(make_client: Callable[..., Client], udp_echo: UdpEcho) -> None:
    """Asking again is right, and both clients do it."""
    udp_echo.expect(lambda data: b"hello" in data).drop()
    with make_client(udp_echo.address, timeout=0.05) as client:
        assert client.ask(b"hello") == b"hello"
    assert len(udp_echo.received) == 2
