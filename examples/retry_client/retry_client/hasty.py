"""The client with the bug."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Client:
    """Asks, and asks again when no answer comes in time.

    Args:
        address: Of the service: host and port.
        timeout: Seconds until it asks again.
        attempts: How often it asks before it gives up.
    """

    def __init__(self, address: tuple[str, int], timeout: float = 0.5, attempts: int = 10) -> None:
        self._attempts = attempts
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(timeout)
        self._socket.connect(address)

    def ask(self, request: bytes) -> bytes:
        """The service's answer.

        Raises:
            TimeoutError: none came, however often it asked.
        """
        for _ in range(self._attempts):
            self._socket.send(request)
            try:
                # The bug: this may be an answer to an earlier request, which was asked twice.
                return self._socket.recv(65536)
            except TimeoutError:
                continue
        raise TimeoutError(f"no answer to {request!r} after {self._attempts} attempts")

    def close(self) -> None:
        """Frees the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()
