"""What a server of the plugin asks: its inbox first, then the responder that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rsecho.pytest_plugin.inbox import Inbox
    from rsecho.responders import Peer

# What of a server's keyword arguments is for its responder.
OPTIONS = ("responder", "upper", "responder_takes")


def is_built_in(options: Mapping[str, Any]) -> bool:
    """Whether these ask for a responder that runs without Python, which no inbox sees."""
    given = options.get("responder")
    return isinstance(given, str) and given != "echo" and not given.startswith("python=")


def through(inbox: Inbox, options: Mapping[str, Any]) -> Callable[[bytes, Peer], Any]:
    """A responder for which the inbox sees what came, and may answer in place of the one that
    these options ask for."""
    from rsecho import responders

    reply = _responder(options)
    if responders._is_coroutine_function(reply):
        return _through_later(inbox, reply)

    def answer(data: bytes, peer: Peer) -> bytes | None:
        scripted, unclaimed = inbox.take(data, peer)
        if unclaimed is None:
            return scripted
        return _joined(scripted, reply(unclaimed, peer))

    return answer


def _through_later(
    inbox: Inbox, reply: Callable[[bytes, Peer], Awaitable[bytes | None]]
) -> Callable[[bytes, Peer], Awaitable[bytes | None]]:
    async def answer(data: bytes, peer: Peer) -> bytes | None:
        scripted, unclaimed = inbox.take(data, peer)
        if unclaimed is None:
            return scripted
        return _joined(scripted, await reply(unclaimed, peer))

    return answer


def _joined(scripted: bytes | None, reply: bytes | None) -> bytes | None:
    # Both only on a stream; an empty reply is another than none.
    return reply if scripted is None else scripted + (reply or b"")


def _responder(options: Mapping[str, Any]) -> Callable[[Any, Peer], Any]:
    from rsecho import RecordLayout, responders

    given = options.get("responder")
    if given is None or given == "echo":
        return _upper if options.get("upper") else _echo
    if isinstance(given, str):
        given = responders.load_callable(given.removeprefix("python="))
    if not callable(given):
        raise TypeError(f"cannot answer with {given!r}: give a name or a callable of (data, peer)")
    if options.get("responder_takes", "bytes") == "fields":
        unpack = options.get("unpack")
        layout = RecordLayout(unpack) if isinstance(unpack, str) else unpack
        return responders._of_fields(given, layout)
    function: Callable[[Any, Peer], Any] = given
    return function


def _echo(data: bytes, _: Peer) -> bytes:
    return data


def _upper(data: bytes, _: Peer) -> bytes:
    from rsecho._rsecho import upper_case

    return upper_case(data)
