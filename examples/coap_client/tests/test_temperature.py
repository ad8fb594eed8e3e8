"""A request is sent again, with the same id, until it is acknowledged (RFC 7252 section 4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiocoap.error
import pytest
from coap_client import temperature

if TYPE_CHECKING:
    from rsecho.pytest_plugin import UdpEcho

# The first byte of a message without its token's length: version 1, and the type.
CONFIRMABLE, ACKNOWLEDGEMENT, RESET = 0x40, 0x60, 0x70

EMPTY, GET, CONTENT = 0x00, 0x01, 0x45

# Of a response that the thermometer sends by itself.
OWN_ID = b"\x47\x11"


def message(
    kind: int, code: int, message_id: bytes, token: bytes = b"", payload: bytes = b""
) -> bytes:
    """One message without options (RFC 7252 section 3)."""
    marked = b"\xff" + payload if payload else b""
    return bytes([kind | len(token), code]) + message_id + token + marked


def id_of(request: bytes) -> bytes:
    """What an acknowledgement repeats."""
    return request[2:4]


def token_of(request: bytes) -> bytes:
    """What a response repeats."""
    return request[4 : 4 + (request[0] & 0x0F)]


def is_get(request: bytes) -> bool:
    """A confirmable GET."""
    return request[0] & 0xF0 == CONFIRMABLE and request[1] == GET


def content(request: bytes) -> bytes:
    """The response in the acknowledgement (section 5.2.1)."""
    return message(ACKNOWLEDGEMENT, CONTENT, id_of(request), token_of(request), b"21.5")


def acknowledgement(request: bytes) -> bytes:
    """The response will come later (section 5.2.2)."""
    return message(ACKNOWLEDGEMENT, EMPTY, id_of(request))


def separate(request: bytes) -> bytes:
    """The response that comes later, in a message with an id of its own."""
    return message(CONFIRMABLE, CONTENT, OWN_ID, token_of(request), b"21.5")


@pytest.fixture
def thermometer(udp_echo: UdpEcho) -> UdpEcho:
    """Answers nothing but what a test expects, in that order."""
    udp_echo.strict(in_order=True)
    return udp_echo


def read(thermometer: UdpEcho, timeout: float = 0.2) -> float:
    """The temperature."""
    return asyncio.run(temperature(*thermometer.address, timeout))


def test_a_response_in_the_acknowledgement(thermometer: UdpEcho) -> None:
    thermometer.expect(is_get).reply(content)
    # Longer than any test: it is asked once.
    assert read(thermometer, timeout=5) == 21.5


def test_a_request_that_is_lost_is_sent_again_with_its_id(thermometer: UdpEcho) -> None:
    lost = thermometer.expect(is_get).drop().times(2)
    answered = thermometer.expect(is_get).reply(content)
    assert read(thermometer) == 21.5
    requests = {request for request, _ in lost.received + answered.received}
    assert len(requests) == 1


def test_an_acknowledgement_with_another_id_is_of_no_use(thermometer: UdpEcho) -> None:
    def of_another(request: bytes) -> bytes:
        other_id = (int.from_bytes(id_of(request)) ^ 1).to_bytes(2)
        return message(ACKNOWLEDGEMENT, EMPTY, other_id)

    thermometer.expect(is_get).reply(of_another)
    thermometer.expect(is_get).reply(content)
    assert read(thermometer) == 21.5


def test_a_response_that_comes_later_is_acknowledged(thermometer: UdpEcho) -> None:
    # The delay is longer than its timeout: it does not ask again after an acknowledgement.
    thermometer.expect(is_get).reply(acknowledgement).delay(0.5).reply(separate)
    thermometer.expect(message(ACKNOWLEDGEMENT, EMPTY, OWN_ID)).drop()
    assert read(thermometer) == 21.5


def test_a_response_that_comes_twice_is_acknowledged_twice(thermometer: UdpEcho) -> None:
    thermometer.expect(is_get).reply(acknowledgement, separate, separate)
    # The second may come after the client is gone; the first is acknowledged in any case.
    thermometer.expect(message(ACKNOWLEDGEMENT, EMPTY, OWN_ID)).drop()
    thermometer.expect(message(ACKNOWLEDGEMENT, EMPTY, OWN_ID)).drop().always()
    thermometer.expect(lambda request: request[0] & 0xF0 == RESET).drop().always()
    assert read(thermometer) == 21.5


def test_a_reset_ends_it(thermometer: UdpEcho) -> None:
    thermometer.expect(is_get).reply(lambda request: message(RESET, EMPTY, id_of(request)))
    with pytest.raises(aiocoap.error.Error):
        read(thermometer)


def test_it_gives_up_after_four_retransmissions(thermometer: UdpEcho) -> None:
    thermometer.expect(is_get).drop().times(5)
    with pytest.raises(aiocoap.error.Error):
        read(thermometer, timeout=0.01)
