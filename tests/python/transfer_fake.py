"""A native half of transfers that fails as it is told: what Python makes of it is tested with this,
the real one with real sockets."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rsecho import _policy, _rsecho
from rsecho.server import UdpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsecho._rsecho import _Message


@dataclass
class Peer:
    """Who takes messages, and what it did with them."""

    messages: dict[str, bytes] = field(default_factory=dict)
    """By name."""
    failures: dict[str, BaseException] = field(default_factory=dict)
    """What is raised instead, by name."""
    given: list[dict[str, Any]] = field(default_factory=list)
    """What each transfer was told."""
    clients: list[FakeClient] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    """Names of messages that do not get anywhere until their client is closed."""
    is_hanging: threading.Event = field(default_factory=threading.Event)
    echoes: Callable[[bytes], bytes] = field(default=lambda data: data)
    figures: dict[str, Any] = field(default_factory=dict)


class FakeClient:
    """As `_rsecho.TransferClient`."""

    address = ("127.0.0.1", 1)
    engine = "batch"

    def __init__(self, peer: Peer, host: str, port: int, options: object, **given: Any) -> None:
        self._peer = peer
        self.name = f"udp://{host}:{port}"
        self.peer = (host, port)
        self.made_with = given
        self.is_closed = threading.Event()
        peer.clients.append(self)

    def close(self) -> None:
        self.is_closed.set()

    def _begin(self, name: str, given: dict[str, Any]) -> None:
        self._peer.given.append(given)
        if name in self._peer.failures:
            raise self._peer.failures[name]
        if name in self._peer.hangs:
            self._peer.is_hanging.set()
            assert self.is_closed.wait(20)
            raise _closed()

    def _figures(self, data: bytes) -> dict[str, Any]:
        return {
            "length": len(data),
            "sent_bytes": len(data),
            "resumed_from": 0,
            "was_there": False,
            "duration_ns": 1_000_000,
            "srtt_ns": 200_000,
            "min_rtt_ns": 100_000,
            "retransmitted_packets": 1,
            "sent_packets": 10,
            "lost_packets": 1,
            "digest": hashlib.sha256(data).digest(),
            "chunk_bytes": 1200,
            "cwnd_bytes": 12_000,
            **self._peer.figures,
        }

    def send(self, source: Any, given: dict[str, Any], progress: Any, /) -> dict[str, Any]:
        name = "/".join(given["name"])
        self._begin(name, given)
        match source:
            case ("path", str(path)):
                data = Path(path).read_bytes()
            case ("fd", int(descriptor)):
                data = b""
                while some := os.read(descriptor, 1000):
                    data += some
            case _:
                data = bytes(memoryview(source).cast("B"))
        if self.is_closed.is_set():
            raise _closed()
        if progress is not None:
            total = None if isinstance(source, tuple) and source[0] == "fd" else len(data)
            progress(len(data) // 2, total)
            progress(len(data), len(data))
        self._peer.messages[name] = data
        return self._figures(data)

    def fetch(
        self, name: list[str], sink: Any, given: dict[str, Any], progress: Any, /
    ) -> dict[str, Any]:
        self._begin("/".join(name), given)
        data = self._peer.messages["/".join(name)]
        if progress is not None:
            progress(len(data), len(data))
        if sink is not None:
            Path(sink[1]).write_bytes(data)
        return self._figures(data) | {"data": data if sink is None else None}

    def echo(self, data: Any, given: dict[str, Any], progress: Any, /) -> bytes:
        self._begin("", given)
        return self._peer.echoes(bytes(data))


def _closed() -> BaseException:
    from rsecho import TransferError

    return TransferError("cannot send: the client was closed", "cancelled")


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    """Whoever is at the other end of every client."""
    found = Peer()

    def make(host: str, port: int, options: object, **given: Any) -> FakeClient:
        return FakeClient(found, host, port, options, **given)

    monkeypatch.setattr(_rsecho, "TransferClient", make, raising=False)
    return found


class FakeServer:
    """A native server that has messages to be taken."""

    def __init__(self, native: _rsecho.Server, messages: queue.Queue[_Message]) -> None:
        self._native = native
        self._messages = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def take_message(self, timeout: float | None, /) -> _Message | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._messages.get(timeout=0.005)
            except queue.Empty:
                if self._native.finish() is not None:
                    return None
                if deadline is not None and time.monotonic() >= deadline:
                    return None


@pytest.fixture
def arriving(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[_Message]:
    """What comes to every server that is made from now on."""
    messages: queue.Queue[_Message] = queue.Queue()
    bind = UdpServer._bind

    def fake_bind(self: UdpServer, given: dict[str, Any]) -> Any:
        given.pop("transfer", None)
        return FakeServer(bind(self, given), messages)

    monkeypatch.setattr(UdpServer, "_bind", fake_bind)
    monkeypatch.setattr(_policy, "native", lambda policy: None)
    return messages


def message(
    data: bytes | None = b"data",
    *,
    name: str = "",
    path: str | None = None,
    missing: list[tuple[int, int]] | None = None,
    error: tuple[str, str] | None = None,
) -> _Message:
    """What a native server hands over."""
    words = name.split("/") if name else []
    return (
        ("127.0.0.1", 5),
        7,
        words,
        data,
        path,
        len(data or b""),
        hashlib.sha256(data or b"").digest(),
        missing,
        error,
    )
