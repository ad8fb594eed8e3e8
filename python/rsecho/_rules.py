"""What a keyword needs to have an effect. One that would have none is refused: somebody who sets a
limit believes in it.

One table for servers, clients and policies. `_options.check` says whether a keyword is there at
all, and of which type.

The flags have a table of their own, `cli/relevance.py`: it speaks of flags, knows where a value
came from, and has rules that no keyword has (which listeners are served). If a keyword of a server
has a rule here and a flag, the flag needs a rule there (`test_rules.py`). The command passes its
settings through `obeyed`, because an environment or a file may set what it does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rsecho._arguments import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeAlias

    Given: TypeAlias = Mapping[str, Any]


class Rule(NamedTuple):
    """One keyword of one kind of owner, and when it has an effect."""

    owner: str
    keyword: str
    is_obeyed: Callable[[Given], object]
    reason: str
    """Why it has none otherwise."""
    way_out: str


SERVER, UDP, TCP, CLIENT, POLICY = "server", "udp", "tcp", "client", "policy"
TRANSFER, SEND, FETCH = "transfer", "send", "fetch"
# A policy whose messages nobody takes out of the server: not that of a Receiver.
SERVED = "served"
# Its default cannot be told from the same number.
_MAX_MESSAGE_BYTES = 16 << 20

# They send something of their own, or nothing, whatever comes.
_UNASKED = ("discard", "daytime", "time")


def _asked(given: Given, *names: str) -> bool:
    """One of these is set, and not to its own "off"."""
    return any(is_asked(given.get(name)) for name in names)


def is_asked(value: object) -> bool:
    """False of what asks for nothing: None, False, an empty text or list."""
    is_empty = isinstance(value, str | list | tuple) and not value
    return not (value is None or value is False or is_empty)


def _is_callable(given: Given) -> bool:
    responder = given.get("responder")
    return callable(responder) or str(responder).startswith("python=")


def _reads_requests(given: Given) -> bool:
    responder = given.get("responder")
    if responder is None or responder == "echo":
        return _asked(given, "upper")
    return responder not in _UNASKED


def _cuts_lines(given: Given) -> bool:
    framing = given.get("framing")
    if framing is None:
        return _reads_requests(given) and not _is_callable(given)
    return bool(framing == "lines")


_BUFFERS = ("recv_buffer_bytes", "send_buffer_bytes")
_FORCE = "it raises recv_buffer_bytes and send_buffer_bytes, and neither is set"
_FORCE_OUT = "set one of them, or leave force_buffers out"

RULES = (
    Rule(UDP, "force_buffers", lambda g: _asked(g, *_BUFFERS, "transfer"), _FORCE, _FORCE_OUT),
    Rule(TCP, "force_buffers", lambda g: _asked(g, *_BUFFERS), _FORCE, _FORCE_OUT),
    Rule(CLIENT, "force_buffers", lambda g: _asked(g, *_BUFFERS), _FORCE, _FORCE_OUT),
    Rule(
        SERVER,
        "on_record",
        lambda g: _asked(g, "unpack"),
        "it is called with each record, and no records are decoded",
        "give their layout as unpack=",
    ),
    Rule(
        SERVER,
        "error_reply",
        _is_callable,
        "only a callable responder raises, and this server has none",
        "give a callable as responder=, or leave error_reply out",
    ),
    Rule(
        SERVER,
        "responder_takes",
        lambda g: g["responder_takes"] == "bytes" or _is_callable(g),
        "only a callable responder takes fields",
        "give a callable as responder=, or leave responder_takes out",
    ),
    Rule(
        SERVER,
        "responder_takes",
        lambda g: g["responder_takes"] == "bytes" or _asked(g, "unpack"),
        "the fields are those of a record layout, and none is set",
        "give it as unpack=",
    ),
    Rule(
        SERVER,
        "upper",
        lambda g: not _is_callable(g),
        "it is for the responders 'echo' and 'prefix=TEXT', and responder= is a callable",
        "let the callable return upper case",
    ),
    Rule(
        SERVER,
        "workers",
        lambda g: g["workers"] == 1 or g.get("reuse_port") is not False,
        "each worker binds a socket of its own to the port, which needs reuse_port",
        "leave reuse_port out, or take one worker",
    ),
    Rule(
        SERVER,
        "cpus",
        lambda g: len(g["cpus"]) <= (g.get("workers") or 1),
        "each worker is bound to one CPU, and there are fewer workers",
        "raise workers=, or list fewer CPUs",
    ),
    Rule(
        SERVER,
        "family",
        lambda g: g["family"] == 0 or g.get("sock") is None,
        "it chooses among the addresses of a host, and sock= has its address already",
        "leave family out",
    ),
    Rule(
        UDP,
        "max_datagram_bytes",
        lambda g: not _asked(g, "transfer"),
        "it shortens datagrams, and the packets of large messages (transfer=) have to be whole",
        "leave one of them out",
    ),
    Rule(
        UDP,
        "broadcast_delay",
        lambda g: _asked(g, "answer_broadcast"),
        "it delays answers to broadcasts, and broadcasts are not answered",
        "set answer_broadcast=True as well",
    ),
    Rule(
        UDP,
        "broadcast_rate",
        lambda g: _asked(g, "answer_broadcast"),
        "it limits answers to broadcasts, and broadcasts are not answered",
        "set answer_broadcast=True as well",
    ),
    Rule(
        TCP,
        "min_rate_window",
        lambda g: _asked(g, "min_bytes_per_second"),
        "it is the window of min_bytes_per_second, which is not set",
        "set that as well",
    ),
    Rule(
        TCP,
        "framing",
        _reads_requests,
        "it says what a request is, and plain echo has no requests (nor have 'discard', "
        "'daytime' and 'time')",
        "set another responder=, or leave framing out",
    ),
    Rule(
        TCP,
        "framing",
        lambda g: g["framing"] != "records" or _asked(g, "unpack"),
        "a stream is cut by the length of a record layout, and none is set",
        "give it as unpack=",
    ),
    Rule(
        TCP,
        "max_line_bytes",
        _cuts_lines,
        "it limits lines, and this server does not read lines",
        "set framing='lines' and a responder= other than plain echo, or leave max_line_bytes out",
    ),
    Rule(
        POLICY,
        "quota_bytes",
        lambda g: _asked(g, "directory"),
        "it limits a directory, and none is set",
        "set directory= as well",
    ),
    Rule(
        POLICY,
        "overwrites",
        lambda g: _asked(g, "directory"),
        "it is about files in a directory, and none is set",
        "set directory= as well",
    ),
    Rule(
        POLICY,
        "overwrites",
        lambda g: _asked(g, "receives"),
        "nothing is received (receives=False)",
        "leave one of them out",
    ),
    Rule(
        POLICY,
        "echo",
        lambda g: _asked(g, "receives"),
        "what is sent back has to be received, and receives=False",
        "leave one of them out",
    ),
    Rule(
        POLICY,
        "keep_partial",
        lambda g: g.get("wire") == "plain",
        "only the plain wire loses parts; the native one sends them again",
        "set wire='plain', or leave keep_partial out",
    ),
    Rule(
        POLICY,
        "bytes_per_second",
        lambda g: (
            _asked(g, "echo")
            or (_asked(g, "directory") and _asked(g, "shares") and g.get("wire") != "plain")
        ),
        "it limits what is sent, and nothing is: no files are shared, no messages echoed",
        "set directory= or echo=True, or leave bytes_per_second out",
    ),
    Rule(
        SERVED,
        "max_message_bytes",
        lambda g: (
            g["max_message_bytes"] == _MAX_MESSAGE_BYTES
            or not _asked(g, "directory")
            or _asked(g, "echo")
            or g.get("wire") == "plain"
        ),
        "it limits messages in memory, and with a directory alone each message is a file",
        "limit files by quota_bytes=, or leave it out",
    ),
    Rule(
        TRANSFER,
        "chunk_bytes",
        lambda g: g.get("wire") == "plain",
        "on the native wire it follows the path",
        "set wire='plain', or leave chunk_bytes out",
    ),
    Rule(
        SEND,
        "replace",
        lambda g: g["wire"] != "plain",
        "wire='plain' carries no names",
        "leave replace out, or take the native wire",
    ),
    Rule(
        SEND,
        "name",
        lambda g: g["wire"] != "plain",
        "wire='plain' carries no names",
        "leave name out, or take the native wire",
    ),
    Rule(
        SEND,
        "replace",
        lambda g: _asked(g, "called"),
        "a message without a name takes the place of nothing",
        "give it one by name=",
    ),
    Rule(
        FETCH,
        "overwrite",
        lambda g: g["to"] is not None,
        "what is fetched goes into memory, where nothing is overwritten",
        "give a file or directory by to=",
    ),
    Rule(
        FETCH,
        "max_message_bytes",
        lambda g: g["to"] is None,
        "it limits messages in memory, and this one becomes a file",
        "leave it out, or leave to out",
    ),
)


def check(given: Given, *owners: str) -> None:
    """Refuses the first keyword that has no effect.

    Raises:
        ValueError: one line that names it, why it has none, and the way out.
    """
    for rule in _broken(given, owners):
        value = shown(given[rule.keyword])
        raise ValueError(f"cannot set {rule.keyword}={value}: {rule.reason}; {rule.way_out}")


def obeyed(given: Given, *owners: str, kept: Collection[str] = ()) -> dict[str, Any]:
    """Those that have an effect, and those to keep in any case, which `check` is to judge."""
    left = dict(given)
    # What is left out may be what another one needed.
    while broken := [rule for rule in _broken(left, owners) if rule.keyword not in kept]:
        for rule in broken:
            left.pop(rule.keyword, None)
    return left


def _broken(given: Given, owners: tuple[str, ...]) -> list[Rule]:
    return [
        rule
        for rule in RULES
        if rule.owner in owners and is_asked(given.get(rule.keyword)) and not rule.is_obeyed(given)
    ]
