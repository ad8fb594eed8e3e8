"""Scripted answers: what is expected, how it is answered, and what of it never came.

No I/O here: a `Script` is told what came and says which expectations take it. It is used under
the lock of the server that owns it; `playing.py` answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from rsecho.pytest_plugin import matching
from rsecho.pytest_plugin.matching import described, named, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self, TypeAlias

    from rsecho.pytest_plugin.calling import Start
    from rsecho.pytest_plugin.matching import Matcher
    from rsecho.responders import Peer

    Bytes: TypeAlias = bytes | bytearray | memoryview
    Replies: TypeAlias = Bytes | list[bytes] | tuple[Bytes, ...] | None
    MakeReply: TypeAlias = (
        Callable[[bytes], Replies]
        | Callable[[bytes, Peer], Replies]
        | Callable[[bytes], Awaitable[Replies]]
        | Callable[[bytes, Peer], Awaitable[Replies]]
    )

# RFC 768 over RFC 791: the length of an IPv4 packet is 16 bits, of which the headers take 28 bytes.
_MAX_DATAGRAM_BYTES = 65_507


class Received(NamedTuple):
    """A request that came; equal to a tuple of the same two."""

    data: bytes
    """A datagram; over TCP what one read brought, or a line, or a record."""
    peer: Peer
    """Who sent it: `(host, port)`."""


class Say(NamedTuple):
    """A step: reply with these bytes."""

    data: bytes


class Ask(NamedTuple):
    """A step: reply with what a function makes of the request."""

    name: str
    call: Callable[[bytes, Peer], Any]
    start: Start | None = None
    """Calls it, if it is an async one."""


class Wait(NamedTuple):
    """A step: let time pass."""

    seconds: float


class End(NamedTuple):
    """A step, the last: end the connection."""

    is_reset: bool


if TYPE_CHECKING:
    Step: TypeAlias = Say | Ask | Wait | End


class Expectation:
    """A request that is to come, and its answer. Made by `expect`.

    The answer is what the calls say, in their order: `.reply(a).delay(0.2).reply(b).close()`.
    Without any the request is echoed. It is expected once unless `times` or `always` says
    otherwise.
    """

    def __init__(self, what: Matcher, *, protocol: str = "udp") -> None:
        self._what = what
        self._test = matching.test_of(what)
        self._protocol = protocol
        self._wanted = 1
        self._is_always = False
        self._came: list[Received] = []
        # What came in another order, for a report.
        self.early = ""
        self._steps: list[Step] = []
        # The calls that said how it is answered, for reports; and the one that ends the answer.
        self._said: list[str] = []
        self._last = ""

    # How it is answered.

    def reply(self, *replies: Bytes | MakeReply) -> Self:
        """Replies with these, one after the other; call it again for more replies.

        Args:
            replies: Bytes; or functions, called with the request, or with the request and the
                peer if they need two arguments. A function returns bytes, several of them in a
                list or tuple, or None for no reply. A plain function runs on the server's
                thread; an async one on the event loop of asyncio or trio that runs now, or on
                a loop of its own if there is none. What a function raises fails the test.

        Over UDP each reply is a datagram; over TCP they follow each other in the stream, each
        with a line end if the server's framing is lines.

        Raises:
            TypeError: a reply is neither bytes nor such a function, or there is none.
            ValueError: the answer has ended already (`drop`, `close`, `reset`), or the bytes
                are too many for a datagram (65,507).
        """
        if not replies:
            raise TypeError("cannot reply with nothing: give bytes or a function, or use .drop()")
        steps = [self._step(each) for each in replies]
        words = [shown(s.data) if isinstance(s, Say) else s.name for s in steps]
        self._add(f".reply({', '.join(words)})", *steps)
        return self

    def delay(self, seconds: float) -> Self:
        """Waits before the next reply, `close` or `reset`; alone, before the echo.

        Other requests are answered meanwhile; over TCP those of the same connection wait, as
        answers go out in the order of requests.

        Raises:
            TypeError: it is not a number.
            ValueError: it is negative, infinite or not a number, or the answer has ended.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"cannot delay by {seconds!r}: give seconds, as in .delay(0.2)")
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"cannot delay by {seconds!r}: give seconds, 0 or more")
        self._add(f".delay({seconds!r})", Wait(seconds))
        return self

    def drop(self) -> Self:
        """Does not answer it.

        Raises:
            ValueError: it has an answer already.
        """
        if self._said:
            raise ValueError(
                f"cannot add .drop() to {self!r}: it has an answer; for the next request, expect "
                "it again"
            )
        self._add(".drop()")
        self._last = ".drop()"
        return self

    def close(self) -> Self:
        """Ends the TCP connection, after what was said before; the peer reads an end of stream.

        Raises:
            ValueError: the answer has ended already, or the server is a UDP server.
        """
        return self._end(".close()", is_reset=False)

    def reset(self) -> Self:
        """Resets the TCP connection (RST), after what was said before: the peer gets ECONNRESET.

        Raises:
            ValueError: the answer has ended already, or the server is a UDP server.
        """
        return self._end(".reset()", is_reset=True)

    # How often it comes.

    def times(self, count: int) -> Self:
        """Expects it this often, 1 or more. What comes more often is for the expectations that
        follow.

        Raises:
            TypeError: it is not a whole number.
            ValueError: it is less than 1.
        """
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"cannot expect something {count!r} times: give a whole number")
        if count < 1:
            raise ValueError(f"cannot expect something {count} times: give 1 or more, or .always()")
        self._wanted, self._is_always = count, False
        return self

    def always(self) -> Self:
        """Answers every such request from now on; none has to come."""
        self._wanted, self._is_always = 0, True
        return self

    @property
    def received(self) -> list[Received]:
        """The requests that it took, as `(data, peer)` in order."""
        return list(self._came)

    @property
    def is_met(self) -> bool:
        """Whether it came as often as expected."""
        return len(self._came) >= self._wanted

    def __repr__(self) -> str:
        times = ".always()" if self._is_always else f".times({self._wanted})"
        times = "" if self._wanted == 1 else times
        return f"expect({named(self._what)}){''.join(self._said)}{times}"

    # What the script and the player use.

    @property
    def is_open(self) -> bool:
        """Whether it takes one more request."""
        return self._is_always or not self.is_met

    @property
    def trouble(self) -> str:
        """What is wrong with how it was written; empty: nothing."""
        if len(self._steps) > 1 and isinstance(self._steps[-1], Wait):
            return f"{self!r} ends with a delay, which delays nothing: put it before a reply"
        return ""

    def told(self) -> str:
        """How often it came, for a report."""
        often = {0: "never came", 1: "came once"}
        told = f"{self!r} {often.get(len(self._came), f'came {len(self._came)} times')}"
        return f"{told} in its order ({self.early})" if self.early else told

    def take(self, data: bytes, peer: Peer) -> list[Step]:
        """It takes this request; the steps of the answer."""
        self._came.append(Received(data, peer))
        if all(isinstance(step, Wait) for step in self._steps) and self._last != ".drop()":
            return [*self._steps, Say(data)]
        return list(self._steps)

    def _step(self, reply: object) -> Say | Ask:
        if isinstance(reply, bytes | bytearray | memoryview):
            if self._protocol == "udp" and len(data := bytes(reply)) > _MAX_DATAGRAM_BYTES:
                raise ValueError(
                    f"cannot reply with {len(data)} bytes: a datagram carries at most "
                    f"{_MAX_DATAGRAM_BYTES}; give several replies"
                )
            return Say(bytes(reply))
        if callable(reply):
            call, name = matching.with_peer(reply, "reply with"), described(reply)
            if not matching.is_async(reply):
                return Ask(name, call)
            from rsecho.pytest_plugin import calling

            return Ask(name, call, calling.starter())
        way_out = "encode it" if isinstance(reply, str) else "give bytes or a function"
        raise TypeError(f"cannot reply with {reply!r}: a reply is bytes; {way_out}")

    def _end(self, said: str, *, is_reset: bool) -> Self:
        if self._protocol == "udp":
            raise ValueError(
                f"cannot add {said} to {self!r}: UDP has no connection; use .drop() for "
                "silence, or the fixture refused_udp_port for ICMP port unreachable"
            )
        self._add(said, End(is_reset))
        self._last = said
        return self

    def _add(self, said: str, *steps: Step) -> None:
        if self._last:
            raise ValueError(
                f"cannot add {said} to {self!r}: {self._last} ends the answer; for the next "
                "request, expect it again"
            )
        self._said.append(said)
        self._steps += steps


class Part(NamedTuple):
    """A request that an expectation takes, or a part of what a read brought."""

    expectation: Expectation
    data: bytes
    steps: list[Step]


class Taken(NamedTuple):
    """What a script says of something that came."""

    parts: list[Part]
    unclaimed: bytes | None
    """What no expectation takes, to be answered behind that as if there were none; None: all of
    it is taken, or kept until more comes."""
    is_refused: bool = False
    """It was unexpected where only expected requests may come."""


class Script:
    """The expectations of one server."""

    def __init__(self, *, protocol: str = "udp", is_stream: bool = False) -> None:
        self._protocol = protocol
        self._is_stream = is_stream
        self._expectations: list[Expectation] = []
        self._failures: list[str] = []
        # Of each connection, the beginning of what is expected, until the rest comes.
        self._begun: dict[Peer, bytes] = {}
        self._is_strict = False
        self._is_in_order = False

    def expect(self, what: Matcher) -> Expectation:
        """One more, looked at after those before it."""
        what = matching.checked(what, is_stream=self._is_stream)
        expectation = Expectation(what, protocol=self._protocol)
        self._expectations.append(expectation)
        return expectation

    def be_strict(self) -> None:
        """From now on, a request that no expectation takes is a failure, and is not answered."""
        self._is_strict = True

    def be_in_order(self) -> None:
        """From now on, an expectation takes requests once all before it are met."""
        self._is_in_order = True

    def fail(self, text: str) -> None:
        """Something went wrong on a thread where nobody would see it raised."""
        self._failures.append(text)

    def take(self, data: bytes, peer: Peer) -> Taken:
        """Says who takes what came."""
        if self._is_stream:
            return self._take_stream(data, peer)
        for expectation in self._open():
            if self._wants(expectation, data, peer):
                return Taken([Part(expectation, data, expectation.take(data, peer))], None)
        return self._unclaimed([], data, peer)

    def _take_stream(self, data: bytes, peer: Peer) -> Taken:
        """However the stream was cut into reads.

        Expected bytes are taken from the front once all of them have come, a pattern takes what
        it matches there (`re.match`), and a predicate takes all.
        """
        rest = self._begun.pop(peer, b"") + data
        parts: list[Part] = []
        while rest:
            taken = self._first_of(rest, peer)
            if taken is None:
                break
            expectation, length = taken
            piece, rest = rest[:length], rest[length:]
            parts.append(Part(expectation, piece, expectation.take(piece, peer)))
        if rest and self._is_begun_by(rest):
            self._begun[peer], rest = rest, b""
        if not rest:
            return Taken(parts, None)
        return self._unclaimed(parts, rest, peer)

    def _unclaimed(self, parts: list[Part], data: bytes, peer: Peer) -> Taken:
        if self._is_in_order:
            self._note_early(data)
        if not self._is_strict:
            return Taken(parts, data)
        from rsecho._lines import host_port

        wanted = [repr(each) for each in self._open()]
        expected = f"expected: {', '.join(wanted)}" if wanted else "nothing more was expected"
        self.fail(f"unexpected {shown(data)} from {host_port(peer)} ({expected})")
        return Taken(parts, None, is_refused=True)

    def _note_early(self, data: bytes) -> None:
        """If this is expected later, the report is to say that it came. Predicates are not asked,
        as it was not their turn."""
        for expectation in self._expectations:
            what = expectation._what
            if isinstance(what, bytes):
                is_it = data == what
            else:
                is_it = isinstance(what, re.Pattern) and what.search(data) is not None
            awaited = next((each for each in self._expectations if not each.is_met), expectation)
            if is_it and not expectation.is_met and awaited is not expectation:
                expectation.early = f"{shown(data)} came before {awaited!r} was met"
                return

    def unmet(self) -> list[str]:
        """What did not come, and what went wrong; a line each."""
        missing = [each.told() for each in self._expectations if not each.is_met]
        begun = [f"of which only {shown(data)} came" for data in self._begun.values()]
        if self._is_strict and not missing:
            missing = [f"unexpected {shown(data)}" for data in self._begun.values()]
            begun = []
        wrong = [text for each in self._expectations if (text := each.trouble)]
        return missing + (begun if missing else []) + wrong + self._failures

    def clear(self) -> None:
        """Expects nothing any more, in no order and not strictly; failures are kept."""
        self._expectations.clear()
        self._begun.clear()
        self._is_strict = self._is_in_order = False

    def forget(self) -> None:
        """The same, without the failures."""
        self.clear()
        self._failures.clear()

    def _open(self) -> list[Expectation]:
        """The expectations that may take a request now."""
        found = []
        for expectation in self._expectations:
            if expectation.is_open:
                found.append(expectation)
            if self._is_in_order and not expectation.is_met:
                break
        return found

    def _wants(self, expectation: Expectation, data: bytes, peer: Peer) -> bool:
        try:
            return expectation._test(data, peer)
        except Exception as error:
            from rsecho._lines import said

            # It runs on the server's thread, where nobody would see it.
            self.fail(f"{expectation!r} raised {said(error)}")
            return False

    def _first_of(self, rest: bytes, peer: Peer) -> tuple[Expectation, int] | None:
        for expectation in self._open():
            what = expectation._what
            if isinstance(what, bytes):
                if rest.startswith(what):
                    return expectation, len(what)
            elif isinstance(what, re.Pattern):
                if (found := what.match(rest)) and found.end():
                    return expectation, found.end()
            elif self._wants(expectation, rest, peer):
                return expectation, len(rest)
        return None

    def _is_begun_by(self, rest: bytes) -> bool:
        """Whether more may make this something that is expected. Strictly, a pattern and a
        predicate may take anything that goes on."""
        return any(
            each._what.startswith(rest) if isinstance(each._what, bytes) else self._is_strict
            for each in self._open()
        )
