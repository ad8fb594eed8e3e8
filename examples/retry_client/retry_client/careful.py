"""The client without the bug."""

from __future__ import annotations

import itertools
import time

from retry_client import hasty

# The service sends back what it was sent, so a number before the request comes back with it.
_NUMBER_BYTES = 4


class Client(hasty.Client):
    """Numbers its requests, and waits for the answer with the right number."""

    _numbers = itertools.count()

    def ask(self, request: bytes) -> bytes:
        """The service's answer.

        Raises:
            TimeoutError: none came, however often it asked.
        """
        number = (next(self._numbers) % 2 ** (8 * _NUMBER_BYTES)).to_bytes(_NUMBER_BYTES)
        for _ in range(self._attempts):
            self._socket.send(number + request)
            answer = self._answer_to(number)
            if answer is not None:
                return answer
        raise TimeoutError(f"no answer to {request!r} after {self._attempts} attempts")

    def _answer_to(self, number: bytes) -> bytes | None:
        timeout = self._socket.gettimeout()
        assert timeout is not None
        deadline = time.monotonic() + timeout
        try:
            # Answers to other requests do not make it wait longer.
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                data = self._socket.recv(65536)
                if data.startswith(number):
                    return data[_NUMBER_BYTES:]
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(timeout)
        return None
