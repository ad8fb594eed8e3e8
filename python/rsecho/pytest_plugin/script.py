"""Scripted answers: what is expected, how it is answered, and what of it never came.

No I/O here: a `Script` is asked with what came and says what to answer. It is used under the
lock of the server that owns it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from typing import Self

    from rsecho.responders import Peer

Matcher: TypeAlias = bytes | re.Pattern[bytes] | Callable[[bytes], object]
"""Exactly these bytes; a pattern, as `re.search` finds it; or a predicate."""

# Of a payload, what a message shows.
_SHOWN_BYTES = 60


class Answer(NamedTuple):
    """What to answer to something that came."""

    scripted: bytes | None
    """What the script says; None: nothing, or it says nothing."""
    unclaimed: bytes | None
    """What no expectation wanted, to be answered behind that as if there were none."""


def shown(data: bytes) -> str:
    """A payload in a message, cut where it is long."""
    if len(data) <= _SHOWN_BYTES:
        return repr(data)
    return f"{data[:_SHOWN_BYTES]!r}… ({len(data)} bytes)"


def named(what: Matcher) -> str:
    """What is expected, in a message."""
    if isinstance(what, bytes):
        return shown(what)
    return getattr(what, "__name__", repr(what))


def matches(what: Matcher, data: bytes) -> bool:
    """Whether a whole request is what was meant."""
    if isinstance(what, bytes):
        return data == what
    if isinstance(what, re.Pattern):
        return what.search(data) is not None
    return bool(what(data))


def checked(what: object) -> Matcher:
    """The same, if something can be compared with it.

    Raises:
        TypeError: it is neither bytes, nor a pattern of bytes, nor callable.
    """
    if isinstance(what, bytearray | memoryview):
        return bytes(what)
    if isinstance(what, re.Pattern) and isinstance(what.pattern, str):
        raise TypeError(f"cannot find {what!r} in bytes: compile a pattern of bytes, as in rb'…'")
    if isinstance(what, bytes | re.Pattern) or callable(what):
        return what
    way_out = ": encode it" if isinstance(what, str) else ""
    raise TypeError(
        f"cannot expect {what!r}: give bytes, a compiled pattern of bytes, or a predicate{way_out}"
    )


class Expectation:
    """One request that is to come, and its answer: made by `expect`.

    Echoed unless `reply` or `drop` says otherwise, and expected once unless `times` does.
    """

    def __init__(self, what: Matcher) -> None:
        self._what = what
        self._wanted = 1
        self._came = 0
        self._reply: bytes | None = None
        # What answers it, in a message; empty: nobody said, so it is echoed.
        self._said = ""

    def reply(self, data: bytes) -> Self:
        """Answers it with these bytes.

        Raises:
            TypeError: they are not bytes.
            ValueError: it has an answer already.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            way_out = ": encode it" if isinstance(data, str) else ""
            raise TypeError(f"cannot reply with {data!r}: a reply is bytes{way_out}")
        self._say(f".reply({shown(bytes(data))})")
        self._reply = bytes(data)
        return self

    def drop(self) -> Self:
        """Does not answer it.

        Raises:
            ValueError: it has an answer already.
        """
        self._say(".drop()")
        return self

    def _say(self, said: str) -> None:
        if self._said:
            raise ValueError(
                f"cannot add {said} to {self!r}: each request has one answer; for the next "
                "request, expect it again"
            )
        self._said = said

    def times(self, count: int) -> Self:
        """Expects it so many times, and answers it so as often; what comes more often is for
        the expectations that follow, or echoed.

        Raises:
            ValueError: less than 1.
        """
        if count < 1:
            raise ValueError(f"cannot expect something {count} times: at least 1")
        self._wanted = count
        return self

    @property
    def is_met(self) -> bool:
        """Whether it came as often as expected."""
        return self._came >= self._wanted

    def __repr__(self) -> str:
        times = "" if self._wanted == 1 else f".times({self._wanted})"
        return f"expect({named(self._what)}){self._said}{times}"

    def told(self) -> str:
        """What of it came, for who reads why a test failed."""
        came = {0: "never came", 1: "came once"}.get(self._came, f"came {self._came} times")
        return f"{self!r} {came}"

    def _take(self, data: bytes) -> bytes | None:
        self._came += 1
        return self._reply if self._said else data


class Script:
    """The expectations of one server."""

    def __init__(self) -> None:
        self._expectations: list[Expectation] = []
        self._failures: list[str] = []
        # Of each connection, the beginning of what is expected, until the rest comes.
        self._begun: dict[Peer, bytes] = {}

    def expect(self, what: Matcher) -> Expectation:
        """One more, looked at after those before it."""
        expectation = Expectation(checked(what))
        self._expectations.append(expectation)
        return expectation

    def answer(self, data: bytes) -> Answer:
        """To a whole request, as the first expectation that is not met yet and wants it says."""
        for expectation in self._expectations:
            if not expectation.is_met and self._wants(expectation, data):
                return Answer(expectation._take(data), None)
        return Answer(None, data)

    def answer_stream(self, data: bytes, peer: Peer) -> Answer:
        """To what a read brought, however the stream was cut into reads.

        Expected bytes are taken from the front once all of them have come, a pattern takes what
        it matches there (`re.match`), and a predicate takes all.
        """
        rest = self._begun.pop(peer, b"") + data
        answers: list[bytes] = []
        while rest:
            taken = self._first_of(rest)
            if taken is None:
                break
            expectation, length = taken
            answers.append(expectation._take(rest[:length]) or b"")
            rest = rest[length:]
        if rest and self._is_begun_by(rest):
            self._begun[peer], rest = rest, b""
        return Answer(b"".join(answers) or None, rest or None)

    def unmet(self) -> list[str]:
        """What did not come, and what predicates raised; a line each."""
        missing = [each.told() for each in self._expectations if not each.is_met]
        begun = [f"of which only {shown(data)} came" for data in self._begun.values()]
        return missing + (begun if missing else []) + self._failures

    def clear(self) -> None:
        """Expects nothing any more."""
        self._expectations.clear()
        self._failures.clear()
        self._begun.clear()

    def _wants(self, expectation: Expectation, data: bytes) -> bool:
        try:
            return matches(expectation._what, data)
        except Exception as error:
            from rsecho._lines import said

            # It runs on the server's thread, where nobody would see it.
            self._failures.append(f"{expectation!r} raised {said(error)}")
            return False

    def _first_of(self, rest: bytes) -> tuple[Expectation, int] | None:
        for expectation in self._expectations:
            what = expectation._what
            if expectation.is_met:
                continue
            if isinstance(what, bytes):
                if what and rest.startswith(what):
                    return expectation, len(what)
            elif isinstance(what, re.Pattern):
                if (found := what.match(rest)) and found.end():
                    return expectation, found.end()
            elif self._wants(expectation, rest):
                return expectation, len(rest)
        return None

    def _is_begun_by(self, rest: bytes) -> bool:
        return any(
            isinstance(each._what, bytes) and each._what.startswith(rest)
            for each in self._expectations
            if not each.is_met
        )
