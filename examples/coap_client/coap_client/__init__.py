"""A thermometer that is read by CoAP (RFC 7252)."""

from __future__ import annotations

import aiocoap


async def temperature(host: str, port: int, timeout: float = 0.2) -> float:
    """Reads a thermometer, in degrees Celsius.

    Args:
        host: Of the thermometer.
        port: Its UDP port.
        timeout: Seconds until it asks again (ACK_TIMEOUT); it doubles each time, for four times.

    Raises:
        aiocoap.error.Error: it does not answer, or with something else.
    """
    context = await aiocoap.Context.create_client_context(transports=["simple6"])
    try:
        tuning = aiocoap.TransportTuning()
        tuning.ACK_TIMEOUT, tuning.ACK_RANDOM_FACTOR = timeout, 1.0
        uri = f"coap://{host}:{port}/temperature"
        request = aiocoap.Message(code=aiocoap.GET, uri=uri, transport_tuning=tuning)
        response = await context.request(request).response_raising
        return float(response.payload)
    finally:
        await context.shutdown()
