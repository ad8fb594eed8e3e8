"""Answers a request as a script says: at once, later, in several parts, or by ending the
connection."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from rsecho.pytest_plugin.script import Ask, End, Say, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rsecho._rsecho import Later
    from rsecho.pytest_plugin.calling import Start
    from rsecho.pytest_plugin.script import Step
    from rsecho.pytest_plugin.timers import Timers
    from rsecho.responders import Peer


class Playing:
    """One answer on its way.

    It begins on the server's thread. From the first delay or async function on, it goes on where
    that ends.
    """

    def __init__(
        self,
        steps: Iterable[tuple[Step, bytes]],
        peer: Peer,
        timers: Timers,
        fail: Callable[[str], object],
        *,
        joins: bool,
        is_tcp: bool,
    ) -> None:
        # Each with the request that it answers.
        self._steps = deque(steps)
        self._peer = peer
        self._timers = timers
        self._fail = fail
        # Several replies are one of a stream that is not cut into requests.
        self._joins = joins
        self._is_tcp = is_tcp
        self._replies: list[bytes] = []
        self._later: Later | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._cancel: Callable[[], object] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is said, or given up."""
        return self._is_over

    def begin(self) -> bytes | Later | None:
        """The answer, or what it will be said by. Called on the server's thread."""
        self._go_on()
        if self._later is None:
            self._replies = self._taken()
            if len(self._replies) < 2:
                self._is_over = True
                return self._replies[0] if self._replies else None
            self._end_with(_reply)
        if self._is_over and self._later is not None:
            # Given up meanwhile, perhaps, before it could be told; what has ended stays as it is.
            self._later.drop()
        return self._later

    def give_up(self) -> bool:
        """Says no more; returns whether there was more to say."""
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            if self._cancel is not None:
                self._cancel()
            if self._later is not None:
                self._later.drop()
        return not is_over

    def _go_on(self) -> None:
        while self._steps and not self._is_over:
            step, data = self._steps.popleft()
            if isinstance(step, Say):
                self._replies.append(step.data)
            elif isinstance(step, Wait):
                self._say()
                return self._timers.after(step.seconds, self._go_on)
            elif isinstance(step, End):
                self._steps.clear()
                return self._end_with(_reset if step.is_reset else _close)
            elif step.start is not None:
                return self._ask_async(step, step.start, data)
            elif not self._ask(step, data):
                return None
        if self._later is not None:
            self._end_with(_reply)
        return None

    def _ask(self, step: Ask, data: bytes) -> bool:
        try:
            self._take(step.call(data, self._peer))
        except Exception as error:
            self._failed(step, error)
            return False
        return True

    def _ask_async(self, step: Ask, start: Start, data: bytes) -> None:
        self._say()
        try:
            self._cancel = start(
                step.call,
                (data, self._peer),
                lambda result, error: self._asked(step, result, error),
            )
        except Exception as error:
            self._failed(step, error)

    def _asked(self, step: Ask, result: object, error: BaseException | None) -> None:
        from rsecho.pytest_plugin import calling

        try:
            if error is not None:
                if calling.was_cancelled(error):
                    self.give_up()
                    return None
                raise error
            self._take(result)
        except Exception as raised:
            return self._failed(step, raised)
        return self._go_on()

    def _take(self, result: Any) -> None:
        """What a function returned."""
        if result is None:
            return
        if isinstance(result, bytes | bytearray | memoryview):
            self._replies.append(bytes(result))
            return
        if isinstance(result, list | tuple) and all(
            isinstance(each, bytes | bytearray | memoryview) for each in result
        ):
            self._replies += [bytes(each) for each in result]
            return
        kind = type(result).__name__
        way_out = ": encode it" if isinstance(result, str) else ""
        if hasattr(result, "__await__"):
            way_out = ": make the function an `async def`"
            if hasattr(result, "close"):
                result.close()
        raise TypeError(f"a reply is bytes, a list of bytes, or None for none, not {kind}{way_out}")

    def _failed(self, step: Ask, error: BaseException) -> None:
        from rsecho._lines import said

        self._fail(f"{step.name} raised {said(error)}")
        self._steps.clear()
        # Over TCP a peer would wait for as long as it can.
        self._end_with(_close if self._is_tcp else _fail)

    def _say(self) -> None:
        """Sends what there is to say by now; more follows."""
        later = self._need_later()
        for reply in self._taken():
            if not self._is_over:
                later.more(reply)

    def _end_with(self, end: Callable[[Later, bytes | None], object]) -> None:
        """Sends the rest, and ends."""
        later = self._need_later()
        replies = self._taken()
        last = replies.pop() if replies else None
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            for reply in replies:
                later.more(reply)
            end(later, last)

    def _taken(self) -> list[bytes]:
        replies, self._replies = self._replies, []
        return [b"".join(replies)] if self._joins and replies else replies

    def _need_later(self) -> Later:
        if self._later is None:
            from rsecho import _rsecho

            self._later = _rsecho.Later()
        return self._later


def _reply(later: Later, last: bytes | None) -> None:
    if last is None:
        later.drop()
    else:
        later.reply(last)


def _fail(later: Later, last: bytes | None) -> None:
    if last is None:
        later.fail()
    else:
        later.reply(last)


def _close(later: Later, last: bytes | None) -> None:
    later.close(last or b"")


def _reset(later: Later, last: bytes | None) -> None:
    later.reset(last or b"")
