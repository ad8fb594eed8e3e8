"""How a server of the plugin answers: by its script first, then by the responder it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rsecho.pytest_plugin.inbox import Inbox
    from rsecho.pytest_plugin.script import Ask
    from rsecho.responders import Peer

# The keyword arguments of a server that are for its responder.
OPTIONS = ("responder", "upper", "responder_takes")


def is_built_in(options: Mapping[str, Any]) -> bool:
    """Whether these ask for a responder that runs without Python: no inbox sees what comes."""
    given = options.get("responder")
    return isinstance(given, str) and given != "echo" and not given.startswith("python=")


def check(options: Mapping[str, Any]) -> None:
    """Refuses what a server of these options would refuse, before a responder of ours takes the
    place of theirs.

    Raises:
        TypeError, ValueError: as for `rsecho.UdpServer`.
    """
    from rsecho import _options, _rules

    known = {name: options[name] for name in (*OPTIONS, "error_reply", "unpack") if name in options}
    _options.check(known, _options.ServerOptions, None)
    _rules.check(known, _rules.SERVER)


def through(inbox: Inbox, options: Mapping[str, Any]) -> Callable[[bytes, Peer], Any]:
    """A responder that shows the inbox what came, and answers what its script leaves as these
    options say."""
    from rsecho import responders
    from rsecho.pytest_plugin import calling, script

    reply = _responder(options)
    if responders._is_coroutine_function(reply):
        return _through_later(inbox, reply, script.Ask("the responder", reply, calling.starter()))
    rest = script.Ask("the responder", reply)

    def answer(data: bytes, peer: Peer) -> Any:
        if data.startswith(inbox.token):
            return data
        playing = inbox.take(data, peer, rest)
        return reply(data, peer) if playing is None else playing.begin()

    return responders.GivesLater(answer)


def _through_later(
    inbox: Inbox, reply: Callable[[bytes, Peer], Awaitable[bytes | None]], rest: Ask
) -> Callable[[bytes, Peer], Awaitable[Any]]:
    async def answer(data: bytes, peer: Peer) -> Any:
        if data.startswith(inbox.token):
            return data
        playing = inbox.take(data, peer, rest)
        return await reply(data, peer) if playing is None else playing.begin()

    return answer


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
