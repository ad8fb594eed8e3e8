"""The echo servers that the fixtures give: a test tells them what to do, and asks what came."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from rsecho.pytest_plugin import marker, matching, seeds, waiting
from rsecho.pytest_plugin.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeAlias

    from rsecho.pytest_plugin.matching import Matcher
    from rsecho.pytest_plugin.script import Expectation, Received
    from rsecho.responders import Peer
    from rsecho.server import Server, TcpServer, UdpServer
    from rsecho.stats import TcpStats, UdpStats

    Wanted: TypeAlias = Callable[[list[Received]], list[Received] | None]

__all__ = ["Echo", "Impairment", "TcpEcho", "UdpEcho"]

_SAMPLE = {"udp": "loss 20%", "tcp": "latency 100"}

# The default timeout of waits, in seconds: over loopback, what comes comes within milliseconds.
_PATIENCE = 5.0

# How long a server that is closed may finish what it does: the test is over.
_DRAIN = 0.1

# How long a server may take to count what was given up, which takes it microseconds.
_SETTLE = 0.5

# A thread that waits cannot be cancelled; it looks this often whether it should be.
_STEP = 0.1


class Impairment:
    """An impairment that is in force. As a context manager it ends with its block, otherwise with
    the test."""

    def __init__(self, spec: str, undo: Callable[[], object]) -> None:
        self._undo = undo
        self.spec = spec
        """The impairment as text, with the seed that repeats it."""

    def undo(self) -> None:
        """Puts the previous impairment back in force."""
        self._undo()

    def __enter__(self) -> Self:
        """Does nothing: it is in force already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Undoes it."""
        self.undo()

    def __repr__(self) -> str:
        return f"<Impairment {self.spec!r}>"


class Echo(ABC):
    """What `UdpEcho` and `TcpEcho` have in common. Made by fixtures."""

    _inbox: Inbox
    # The server that runs, the options it is made with, and its counters when the test began.
    _server: Server
    _options: dict[str, Any]
    _counted: UdpStats | TcpStats

    # "udp" or "tcp".
    _protocol: str

    def __init__(self, name: str, options: dict[str, Any], *, is_stream: bool) -> None:
        from rsecho.pytest_plugin import answering

        self._name = name
        self._inbox = Inbox(is_stream=is_stream, protocol=self._protocol)
        self._sees = not answering.is_built_in(options)
        self._options = dict(options)
        # In force once the test is known, whose seed it gets.
        self._impair_first = self._options.pop("impair", "")
        if not isinstance(self._impair_first, str):
            raise TypeError(
                f"cannot impair {name} by {self._impair_first!r}: give a text, as in "
                f"impair={_SAMPLE[self._protocol]!r}"
            )
        if self._sees:
            answering.check(options)
            for option in answering.OPTIONS:
                self._options.pop(option, None)
            self._options["responder"] = answering.through(self._inbox, options)
        self._seed = 0
        self._mark_to_obey: pytest.Mark | None = None
        self._is_used = False
        self._spec = ""
        self._met: list[str] = []
        self._open()

    # What tests use.

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as `socket.connect` takes them."""
        self._use()
        return self._server.address

    @property
    def host(self) -> str:
        """The host as a numeric address."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The port, also where any free one was asked for."""
        return self.address[1]

    @property
    def received(self) -> list[Received]:
        """The requests that came in this test, as `(data, peer)` in order; a copy.

        Every request that a client has an answer to is in it. Requests that an impairment lost on
        the way in are not, nor are those from sources that the server never answers.

        Raises:
            RuntimeError: the server was made with a built-in responder, which runs without
                Python.
        """
        self._need_inbox()
        return self._inbox.received

    def impair(self, spec: str = "", *, seed: int | None = None) -> Impairment:
        """Replaces the current impairment; an empty string removes it. Undone after the test.

        Args:
            spec: As `rsecho.UdpServer.impair` takes it: netem's terms for UDP, Toxiproxy's for
                TCP.
            seed: Decides what is lost, duplicated and so on; 0 to 2**64 - 1. None, the default:
                the test's own seed, which `--rsecho-seed` repeats.

        Returns:
            The impairment in force, usable as a context manager for a part of a test.

        Raises:
            TypeError: `spec` is not a str, or `seed` not a whole number.
            ValueError: a text that is not in the grammar, or that this protocol cannot do; or
                `seed` would change nothing, as `spec` names a seed or is empty.
        """
        self._use()
        before = self._spec
        seeds.check(spec, seed)
        self._set_impairment(seeds.with_seed(spec, self._seed if seed is None else seed))
        return Impairment(self._spec, lambda: self._set_impairment(before))

    def expect(self, what: Matcher) -> Expectation:
        """Expects a request. What follows says how it is answered: `.reply(…)`, `.delay(seconds)`,
        `.drop()`, `.close()`, `.reset()`; and how often it comes: `.times(n)`, `.always()`.

        A request is taken by the first expectation that matches it and is not met yet. Requests
        that none takes are answered as if there were no expectations (see `strict`). The test
        fails unless all expected requests came.

        Args:
            what: The bytes; or a compiled pattern of bytes, as `re.search` finds it; or a
                predicate, called with the request, or with the request and the peer if it needs
                two arguments, on the server's thread.

        Raises:
            TypeError: it is something else, or an async function.
            RuntimeError: as for `received`.
        """
        self._need_inbox()
        return self._inbox.expect(what)

    def strict(self, *, in_order: bool = False) -> None:
        """From now on in this test, a request that no expectation takes fails the test, which
        says what was expected. It is not answered; over TCP its connection is closed.

        Args:
            in_order: Expectations take requests in the order in which they were made: see
                `in_order`.

        Raises:
            RuntimeError: as for `received`.
        """
        self._need_inbox()
        self._inbox.demand(strict=True, in_order=in_order)

    def in_order(self) -> None:
        """From now on in this test, an expectation takes requests once those before it are met.

        Raises:
            RuntimeError: as for `received`.
        """
        self._need_inbox()
        self._inbox.demand(in_order=True)

    def clear(self) -> None:
        """Forgets what came and what was expected, and gives up delayed replies; `strict` and
        `in_order` end. What has failed the test already still does; impairments stay.

        Raises:
            RuntimeError: as for `received`.
        """
        self._need_inbox()
        self._inbox.clear()

    def check(self) -> None:
        """Asserts that all expected requests came and nothing went wrong. The plugin does it when
        a test has passed.

        Raises:
            AssertionError: not all came, a reply function or predicate raised, or `strict` and a
                request was unexpected; it says what came instead.
        """
        __tracebackhide__ = True
        if text := self._complaint():
            raise AssertionError(text)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} at {self._server.url}>"

    # Where protocols differ.

    @abstractmethod
    def _make(self, host: str, port: int, options: dict[str, Any]) -> Server: ...

    @abstractmethod
    def _pass_barrier(self) -> None:
        """Returns once the server has looked at all that was sent to it."""

    @abstractmethod
    def _pending(self) -> int:
        """How many requests are not answered yet."""

    def _wait_for_given_up(self) -> None:
        """Returns once the server knows of the answers that were given up, or after a while."""
        deadline = time.monotonic() + _SETTLE
        while self._pending() and time.monotonic() < deadline:
            time.sleep(0.0005)

    # Waiting.

    def _wait(self, wanted: Wanted, what: str, timeout: float) -> list[Received]:
        __tracebackhide__ = True
        self._need_inbox()
        deadline = time.monotonic() + timeout
        found = self._inbox.look(wanted, timeout)
        while found is None and (left := deadline - time.monotonic()) > 0:
            found = self._inbox.look(wanted, left)
        return self._on_time(found, what, timeout)

    async def _wait_async(self, wanted: Wanted, what: str, timeout: float) -> list[Received]:
        __tracebackhide__ = True
        self._need_inbox()
        deadline = time.monotonic() + timeout
        found = await waiting.poll(
            lambda: self._inbox.look(wanted, min(_STEP, deadline - time.monotonic())),
            lambda: time.monotonic() >= deadline,
        )
        return self._on_time(found, what, timeout)

    def _on_time(self, found: list[Received] | None, what: str, timeout: float) -> list[Received]:
        __tracebackhide__ = True
        if found is None:
            raise AssertionError(
                f"{self._name} waited {timeout:g} s for {what}, but {self._inbox.told()}"
            )
        return found

    # What the plugin does from test to test.

    def _begin(self, seed: int) -> None:
        """A test begins; its impairments have this seed."""
        self._seed = seed
        self._met = []
        self._mark_to_obey = None
        self._is_used = False
        if self._impair_first:
            self._set_impairment(seeds.with_seed(self._impair_first, seed))
        if not self._server.is_running:
            # The last test ended it. The same port, if it can be had: others may know it.
            host, port = self._server.address
            self._server.close()
            try:
                self._open(host, port)
            except OSError:
                self._open()

    def _mark(self, mark: pytest.Mark) -> None:
        """The test's marker, obeyed when the server is first used."""
        self._mark_to_obey = mark

    def _use(self) -> None:
        """The test uses it."""
        __tracebackhide__ = True
        self._is_used = True
        mark, self._mark_to_obey = self._mark_to_obey, None
        # The impairment that it was made with is closer than the marker.
        if mark is None or self._impair_first:
            return
        trouble = ""
        try:
            self._set_impairment(marker.spec_of(mark, self._seed))
        except ValueError as error:
            trouble = f"{self._name}: {marker.shown(mark)}: {error}"
        if trouble:
            # Not where it was caught: pytest would tell of that as well.
            pytest.fail(trouble, pytrace=False)

    def _end(self) -> None:
        """Forgets all that belongs to a test, including what is still on its way."""
        if self._server.is_running:
            if self._spec:
                self._set_impairment("")
            self._pass_barrier()
        self._spec = ""
        if self._inbox.clear(is_over=True) and self._server.is_running:
            self._wait_for_given_up()
        self._counted = self._server.stats()

    def _close(self) -> None:
        # Nobody waits for delayed replies any more.
        self._inbox.clear(is_over=True)
        self._server.stop(_DRAIN)

    def _complaint(self) -> str:
        """What did not come, or went wrong; empty: nothing."""
        unmet = self._inbox.unmet()
        if unmet and not self._spec:
            # It may have been sent, and not been looked at yet.
            self._pass_barrier()
            unmet = self._inbox.unmet()
        if not unmet:
            return ""
        return f"{self._name}: {'; '.join(unmet)}; {self._inbox.told()}"

    def _told(self) -> str:
        """The lines about it in the report of a failed test."""
        met = [repr(spec) if spec else "nothing" for spec in self._met]
        impaired = f"impaired by {', then by '.join(met)}" if met else "not impaired"
        text = f"{self._name} at {self._server.url}, {impaired}"
        if not self._sees:
            return text
        open_ones = [f"unmet: {each}" for each in self._inbox.unmet()]
        return "\n".join([f"{text}; {self._inbox.told()}", *open_ones])

    def _set_impairment(self, spec: str) -> None:
        self._spec = self._server.impair(spec)
        self._met.append(self._spec)

    def _need_inbox(self) -> None:
        self._use()
        if not self._sees:
            raise RuntimeError(
                f"cannot tell what came to {self._name}: its built-in responder "
                f"{self._options.get('responder')!r} runs without Python; make it with a "
                "callable, or look at stats()"
            )

    def _open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        options = dict(self._options)
        if options.get("sock") is not None:
            # That has an address; another beside it is for the server to refuse.
            host = "localhost"
        host, port = options.pop("host", host), options.pop("port", port) or port
        self._server = self._make(host, port, options)
        self._server.start()
        self._counted = self._server.stats()


class UdpEcho(Echo):
    """A UDP echo server in a test: see `rsecho.pytest_plugin`."""

    _protocol = "udp"
    _server: UdpServer
    _counted: UdpStats

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__(name, options, is_stream=False)

    @property
    def server(self) -> UdpServer:
        """The server itself."""
        self._use()
        return self._server

    def stats(self) -> UdpStats:
        """Its counters since the test began."""
        from rsecho.pytest_plugin import counted

        return counted.since(self._server.stats(), self._counted)

    def wait_for(
        self, what: Matcher | None = None, *, count: int = 1, timeout: float = _PATIENCE
    ) -> list[Received]:
        """Waits, without the GIL, until datagrams have come in this test.

        Args:
            what: Which ones, as for `expect`; None, the default: any.
            count: How many at least, 1 or more.
            timeout: Seconds, 0 or more.

        Returns:
            All datagrams of this kind that have come, in order.

        Raises:
            AssertionError: they did not come in time; it says what came instead.
            TypeError, ValueError: an argument that can never work.
        """
        __tracebackhide__ = True
        _check_wait(count, timeout)
        return self._wait(_datagrams(what, count), _wanted(what, count, "datagram"), timeout)

    async def wait_for_async(
        self, what: Matcher | None = None, *, count: int = 1, timeout: float = _PATIENCE
    ) -> list[Received]:
        """`wait_for` in a task of asyncio, trio or anyio: other tasks run meanwhile, and it can be
        cancelled."""
        __tracebackhide__ = True
        _check_wait(count, timeout)
        wanted = _datagrams(what, count)
        return await self._wait_async(wanted, _wanted(what, count, "datagram"), timeout)

    def _make(self, host: str, port: int, options: dict[str, Any]) -> UdpServer:
        from rsecho.server import UdpServer

        return UdpServer(host, port, **options)

    def _pending(self) -> int:
        return self._server.stats().pending_packets

    def _pass_barrier(self) -> None:
        from rsecho.pytest_plugin import barrier

        if self._sees:
            barrier.pass_udp(self._server, self._inbox.token)


class TcpEcho(Echo):
    """A TCP echo server in a test: see `rsecho.pytest_plugin`.

    `received` has one entry per read, however the data was sent; `streams` has them joined. A
    script reads the stream: see `expect`.
    """

    _protocol = "tcp"
    _server: TcpServer
    _counted: TcpStats

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        from rsecho.pytest_plugin import answering

        options = dict(options)
        if options.get("framing") is None and options.get("responder") in (None, "echo"):
            # An echo's requests are what reads bring, also where records are decoded.
            options["framing"] = "chunks"
        is_chunked = options.get("framing") == "chunks" or (
            options.get("framing") is None and options.get("unpack") is None
        )
        self._is_chunked = is_chunked and not answering.is_built_in(options)
        super().__init__(name, options, is_stream=self._is_chunked)

    @property
    def server(self) -> TcpServer:
        """The server itself."""
        self._use()
        return self._server

    @property
    def streams(self) -> dict[Peer, bytes]:
        """The bytes that came over each connection in this test, by peer, in the order in which
        the peers first sent something; with `framing="lines"` without line ends.

        Raises:
            RuntimeError: as for `received`.
        """
        return _joined(self.received)

    def stats(self) -> TcpStats:
        """Its counters since the test began."""
        from rsecho.pytest_plugin import counted

        return counted.since(self._server.stats(), self._counted)

    def expect(self, what: Matcher) -> Expectation:
        """Expects a request. What follows says how it is answered: `.reply(…)`, `.delay(seconds)`,
        `.drop()`, `.close()`, `.reset()`; and how often it comes: `.times(n)`, `.always()`.

        With `framing="lines"` or `"records"`, each line or record is a request, as for UDP.
        Otherwise the stream is read, however it was cut into pieces: expected bytes are taken
        from the front once all of them are there, a compiled pattern takes what it matches there
        (`re.match`), and a predicate takes all that is there.

        Args:
            what: The bytes; or a compiled pattern of bytes; or a predicate, called with the
                data, or with the data and the peer if it needs two arguments, on the server's
                thread.

        Raises:
            TypeError: it is something else, or an async function.
            ValueError: it is `b""`, which a stream never brings.
            RuntimeError: as for `received`.
        """
        return super().expect(what)

    def wait_for(
        self,
        what: Matcher | None = None,
        *,
        count: int = 1,
        byte_count: int | None = None,
        timeout: float = _PATIENCE,
    ) -> list[Received]:
        """Waits, without the GIL, until something has come in this test.

        Args:
            what: Bytes or a compiled pattern, looked for in each connection's stream, however
                that was cut into pieces: `count` times in all. Or a predicate of a
                connection's whole stream (and the peer): true for `count` connections. None, the
                default: `count` pieces, lines or records.
            count: How many at least, 1 or more.
            byte_count: Instead of `what` and `count`: how many bytes at least, over all
                connections.
            timeout: Seconds, 0 or more.

        Returns:
            All that has come, in order.

        Raises:
            AssertionError: it did not come in time; it says what came instead.
            TypeError, ValueError: an argument that can never work.
        """
        __tracebackhide__ = True
        _check_wait(count, timeout, byte_count)
        wanted, text = _of_streams(what, count, byte_count)
        return self._wait(wanted, text, timeout)

    async def wait_for_async(
        self,
        what: Matcher | None = None,
        *,
        count: int = 1,
        byte_count: int | None = None,
        timeout: float = _PATIENCE,
    ) -> list[Received]:
        """`wait_for` in a task of asyncio, trio or anyio: other tasks run meanwhile, and it can be
        cancelled."""
        __tracebackhide__ = True
        _check_wait(count, timeout, byte_count)
        wanted, text = _of_streams(what, count, byte_count)
        return await self._wait_async(wanted, text, timeout)

    def _make(self, host: str, port: int, options: dict[str, Any]) -> TcpServer:
        from rsecho.server import TcpServer

        return TcpServer(host, port, **options)

    def _pending(self) -> int:
        return self._server.stats().pending_requests

    def _pass_barrier(self) -> None:
        from rsecho.pytest_plugin import barrier

        # A record of another length would not be answered.
        if self._is_chunked:
            barrier.pass_tcp(self._server, self._inbox.token)


def _check_wait(count: object, timeout: object, byte_count: object = None) -> None:
    """Refuses a wait that would be over at once, or never."""
    for name, value in (("count", count), ("byte_count", byte_count)):
        if value is None and name == "byte_count":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"cannot wait for {name}={value!r}: give a whole number")
        if value < 1:
            raise ValueError(
                f"cannot wait for {name}={value}: give 1 or more; that nothing came, "
                "`received == []` says"
            )
    if byte_count is not None and count != 1:
        raise ValueError("cannot wait for a count and for a number of bytes: give one of them")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"cannot wait for timeout={timeout!r}: give seconds")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"cannot wait for timeout={timeout!r}: give seconds, 0 or more")


def _wanted(what: Matcher | None, count: int, unit: str) -> str:
    """What was waited for, in a report."""
    times = f"{count} {unit}{'' if count == 1 else 's'}"
    return times if what is None else f"{times} of {matching.named(what)}"


def _datagrams(what: Matcher | None, count: int) -> Wanted:
    test = None if what is None else matching.test_of(matching.checked(what))

    def wanted(received: list[Received]) -> list[Received] | None:
        found = [each for each in received if test is None or test(*each)]
        return found if len(found) >= count else None

    return wanted


def _of_streams(what: Matcher | None, count: int, byte_count: int | None) -> tuple[Wanted, str]:
    if what is not None and byte_count is not None:
        raise ValueError("cannot wait for something and for a number of bytes: give one of them")
    counter = None if what is None else _counter(matching.checked(what, is_stream=True))

    def come(received: list[Received]) -> int:
        if byte_count is not None:
            return sum(len(each.data) for each in received)
        if counter is None:
            return len(received)
        return sum(counter(stream, peer) for peer, stream in _joined(received).items())

    least = count if byte_count is None else byte_count

    def wanted(received: list[Received]) -> list[Received] | None:
        return list(received) if come(received) >= least else None

    if byte_count is not None:
        return wanted, f"{byte_count} bytes"
    return wanted, _wanted(what, count, "request" if what is None else "occurrence")


def _counter(what: Matcher) -> Callable[[bytes, Peer], int]:
    """How often something is in a stream."""
    if isinstance(what, bytes):
        return lambda stream, _: stream.count(what)
    if isinstance(what, re.Pattern):
        return lambda stream, _: len(what.findall(stream))
    return matching.test_of(what)


def _joined(received: list[Received]) -> dict[Peer, bytes]:
    pieces: dict[Peer, list[bytes]] = {}
    for data, peer in received:
        pieces.setdefault(peer, []).append(data)
    return {peer: b"".join(parts) for peer, parts in pieces.items()}
