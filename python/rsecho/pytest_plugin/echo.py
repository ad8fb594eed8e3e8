"""What the fixtures give: an echo server that a test asks what came, and tells what to do."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from rsecho.pytest_plugin import marker, script, seeds, waiting
from rsecho.pytest_plugin.inbox import Inbox, Received

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeAlias

    from rsecho.pytest_plugin.script import Expectation, Matcher
    from rsecho.responders import Peer
    from rsecho.server import Server, TcpServer, UdpServer
    from rsecho.stats import TcpStats, UdpStats

    Wanted: TypeAlias = Callable[[list[Received]], list[Received] | None]

__all__ = ["Echo", "Impairment", "TcpEcho", "UdpEcho"]

# How long is waited unless told: what comes at all over loopback comes within milliseconds.
_PATIENCE = 5.0

# What is due when a server is closed, nobody waits for: the test is over.
_DRAIN = 0.1

# A thread that waits cannot be cancelled: so long at most it waits in vain.
_STEP = 0.1


class Impairment:
    """What is impaired now. As a context manager it ends with its block; with the test it does
    so in any case."""

    def __init__(self, spec: str, undo: Callable[[], object]) -> None:
        self._undo = undo
        self.spec = spec
        """As it is in force, with the seed that repeats it."""

    def undo(self) -> None:
        """Puts what was in force before back in force."""
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
    # The server is there: what it was made with, its counters when the test began.
    _server: Server
    _options: dict[str, Any]
    _counted: UdpStats | TcpStats

    def __init__(self, name: str, options: dict[str, Any], *, is_stream: bool) -> None:
        from rsecho.pytest_plugin import answering

        self._name = name
        self._inbox = Inbox(is_stream=is_stream)
        self._sees = not answering.is_built_in(options)
        self._options = dict(options)
        # With the seed of the test, which is not known yet.
        self._impair_first = self._options.pop("impair", "")
        if self._sees:
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
        """Numeric."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The one it has got."""
        return self.address[1]

    @property
    def received(self) -> list[Received]:
        """What came in this test, as `(data, peer)` in order; a copy.

        Whatever a client has got an answer to is in it. What an impairment lost on its way in,
        and what came from whom is never answered, is not.

        Raises:
            RuntimeError: the server was made with a built-in responder, which runs without
                Python.
        """
        self._need_inbox()
        return self._inbox.received

    def impair(self, spec: str = "", *, seed: int | None = None) -> Impairment:
        """Impairs this from now on, and nothing else; "" for nothing. Undone after the test.

        Args:
            spec: As `rsecho.UdpServer.impair` takes it: netem's terms for UDP, Toxiproxy's for
                TCP.
            seed: What is decided where `spec` names no seed; None: by the test's own, which
                `--rsecho-seed` repeats.

        Returns:
            What is in force, usable as a context manager for a part of a test.

        Raises:
            ValueError: a text that is not in the grammar, or that this protocol cannot do.
        """
        self._use()
        before = self._spec
        self._set_impairment(seeds.with_seed(spec, self._seed if seed is None else seed))
        return Impairment(self._spec, lambda: self._set_impairment(before))

    def expect(self, what: Matcher) -> Expectation:
        """Expects a request, and answers it as `.reply(data)` or `.drop()` says, `.times(n)`.

        Expectations are asked in their order. Each takes what it wants until it is met; what
        none wants is answered as if there were none. Unless all came, `check` fails, and with
        it the test.

        Args:
            what: The bytes; a compiled pattern of bytes, as `re.search` finds it; or a
                predicate of them, which is called on the server's thread.

        Raises:
            TypeError: it is something else.
            RuntimeError: as for `received`.
        """
        self._need_inbox()
        return self._inbox.expect(what)

    def check(self) -> None:
        """Asserts that all that was expected came. Done by itself when the test ends.

        Raises:
            AssertionError: not all did; it says what came instead.
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
        """A test begins, whose impairments have this seed."""
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
        """What the test's marker says, for when the server is first used."""
        self._mark_to_obey = mark

    def _use(self) -> None:
        """The test uses it."""
        __tracebackhide__ = True
        self._is_used = True
        mark, self._mark_to_obey = self._mark_to_obey, None
        # Who made it with an impairment of its own knows better.
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
        """Forgets all that belongs to a test, what is still on its way included."""
        if self._server.is_running:
            if self._spec:
                self._set_impairment("")
            self._pass_barrier()
        self._spec = ""
        self._inbox.clear()
        self._counted = self._server.stats()

    def _close(self) -> None:
        self._server.stop(_DRAIN)

    def _complaint(self) -> str:
        """What of all that was expected did not come; empty: all did."""
        unmet = self._inbox.unmet()
        if unmet and not self._spec:
            # It may have been sent, and not have been looked at yet.
            self._pass_barrier()
            unmet = self._inbox.unmet()
        if not unmet:
            return ""
        return f"{self._name}: {'; '.join(unmet)}; {self._inbox.told()}"

    def _told(self) -> str:
        """What the report of a failed test says of it."""
        met = [repr(spec) if spec else "nothing" for spec in self._met]
        impaired = ", then by ".join(met or ["nothing"])
        text = f"{self._name} at {self._server.url}, impaired by {impaired}"
        if not self._sees:
            return text
        open_ones = [f"still expected: {each}" for each in self._inbox.unmet()]
        return "\n".join([f"{text}; {self._inbox.told()}", *open_ones])

    def _set_impairment(self, spec: str) -> None:
        self._spec = self._server.impair(spec)
        self._met.append(self._spec)

    def _need_inbox(self) -> None:
        self._use()
        if not self._sees:
            raise RuntimeError(
                f"cannot tell what came to {self._name}: its responder is built in, and runs "
                "without Python; make it with a callable, or look at stats()"
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
        """What it has counted in this test."""
        from rsecho.pytest_plugin import counted

        return counted.since(self._server.stats(), self._counted)

    def wait_for(
        self, what: Matcher | None = None, *, count: int = 1, timeout: float = _PATIENCE
    ) -> list[Received]:
        """Waits, without the GIL, until datagrams have come in this test.

        Args:
            what: Those that are this, as for `expect`; None: any.
            count: At least so many of them.
            timeout: In seconds.

        Returns:
            All of them that have come, in order.

        Raises:
            AssertionError: they did not come in time; it says what came instead.
        """
        __tracebackhide__ = True
        return self._wait(_datagrams(what, count), _wanted(what, count, "datagram"), timeout)

    async def wait_for_async(
        self, what: Matcher | None = None, *, count: int = 1, timeout: float = _PATIENCE
    ) -> list[Received]:
        """`wait_for` in a task of asyncio, trio or anyio; others run meanwhile, and it can be
        cancelled."""
        __tracebackhide__ = True
        wanted = _datagrams(what, count)
        return await self._wait_async(wanted, _wanted(what, count, "datagram"), timeout)

    def _make(self, host: str, port: int, options: dict[str, Any]) -> UdpServer:
        from rsecho.server import UdpServer

        return UdpServer(host, port, **options)

    def _pass_barrier(self) -> None:
        from rsecho.pytest_plugin import barrier

        if self._sees:
            barrier.pass_udp(self._server, self._inbox.token)


class TcpEcho(Echo):
    """A TCP echo server in a test: see `rsecho.pytest_plugin`.

    `received` has what reads brought, which says nothing of how it was sent; `streams` has it
    joined. A script reads the stream: see `expect`.
    """

    _server: TcpServer
    _counted: TcpStats

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        from rsecho.pytest_plugin import answering

        options = dict(options)
        if options.get("framing") is None and options.get("responder") in (None, "echo"):
            # An echo's requests are what comes, whatever else is done with records.
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
        """All that came over each connection in this test, in the order in which they first
        sent something; with `framing="lines"` without the lines' ends.

        Raises:
            RuntimeError: as for `received`.
        """
        return _joined(self.received)

    def stats(self) -> TcpStats:
        """What it has counted in this test."""
        from rsecho.pytest_plugin import counted

        return counted.since(self._server.stats(), self._counted)

    def expect(self, what: Matcher) -> Expectation:
        """Expects something, and answers it as `.reply(data)` or `.drop()` says, `.times(n)`.

        With `framing="lines"` or `"records"` as for UDP: each is a request. Otherwise the stream
        is read, however it was cut into pieces: expected bytes are taken from the front of
        what came once all of them are there, a compiled pattern takes what it matches there
        (`re.match`), a predicate takes all that is there.

        Args:
            what: The bytes; a compiled pattern of bytes; or a predicate of them, which is
                called on the server's thread.

        Raises:
            TypeError: it is something else.
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
            what: This, in what came over one connection, however it was cut into pieces: bytes
                or a compiled pattern, `count` times in all; or a predicate of all that came
                over a connection, for so many connections.
            count: Without `what`: at least so many pieces, lines or records.
            byte_count: Instead: at least so many bytes, over all connections.
            timeout: In seconds.

        Returns:
            All that has come, in order.

        Raises:
            AssertionError: it did not come in time; it says what came instead.
        """
        __tracebackhide__ = True
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
        """`wait_for` in a task of asyncio, trio or anyio; others run meanwhile, and it can be
        cancelled."""
        __tracebackhide__ = True
        wanted, text = _of_streams(what, count, byte_count)
        return await self._wait_async(wanted, text, timeout)

    def _make(self, host: str, port: int, options: dict[str, Any]) -> TcpServer:
        from rsecho.server import TcpServer

        return TcpServer(host, port, **options)

    def _pass_barrier(self) -> None:
        from rsecho.pytest_plugin import barrier

        # A record of another length would not be answered.
        if self._is_chunked:
            barrier.pass_tcp(self._server, self._inbox.token)


def _wanted(what: Matcher | None, count: int, unit: str) -> str:
    """What was waited for, in a message."""
    times = f"{count} {unit}{'' if count == 1 else 's'}"
    return times if what is None else f"{times} of {script.named(what)}"


def _datagrams(what: Matcher | None, count: int) -> Wanted:
    if what is not None:
        what = script.checked(what)

    def wanted(received: list[Received]) -> list[Received] | None:
        found = [each for each in received if what is None or script.matches(what, each.data)]
        return found if len(found) >= count else None

    return wanted


def _of_streams(what: Matcher | None, count: int, byte_count: int | None) -> tuple[Wanted, str]:
    if what is not None:
        what = script.checked(what)
    if what is not None and byte_count is not None:
        raise ValueError("cannot wait for something and for a number of bytes: give one of them")

    def come(received: list[Received]) -> int:
        if byte_count is not None:
            return sum(len(each.data) for each in received)
        if what is None:
            return len(received)
        return sum(_occurrences(what, stream) for stream in _joined(received).values())

    least = count if byte_count is None else byte_count

    def wanted(received: list[Received]) -> list[Received] | None:
        return list(received) if come(received) >= least else None

    if byte_count is not None:
        return wanted, f"{byte_count} bytes"
    return wanted, _wanted(what, count, "request" if what is None else "occurrence")


def _occurrences(what: Matcher, stream: bytes) -> int:
    if isinstance(what, bytes):
        return stream.count(what)
    if isinstance(what, re.Pattern):
        return len(what.findall(stream))
    return bool(what(stream))


def _joined(received: list[Received]) -> dict[Peer, bytes]:
    pieces: dict[Peer, list[bytes]] = {}
    for data, peer in received:
        pieces.setdefault(peer, []).append(data)
    return {peer: b"".join(parts) for peer, parts in pieces.items()}
