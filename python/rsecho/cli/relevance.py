"""Nothing asked for is ignored: which options a command obeys only together with others.

These are rules about flags, in their words; `_rules.py` has those about keywords. `judge` and
`contest` are pure functions over the tables `RULES` and `EXCLUSIVE`. An option on the
command line that has no effect is an error that names it, what it depends on, and the way out. The
environment and a file may set what a command does not use; but a file that names its own listeners
may not have an entry that these cannot obey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

Values: TypeAlias = Mapping[str, Any]


class Rule(NamedTuple):
    """Options that are obeyed only where a condition holds."""

    names: tuple[str, ...]
    """Of the options' values."""
    is_obeyed: Callable[[Values], Any]
    """Given all values of the command, wherever they come from."""
    why: str
    """Read after the option's name."""
    is_for_all: bool = False
    """An error from an environment or a file as well: without the option, something else would
    happen than was asked for."""


class Exclusive(NamedTuple):
    """Options of which one may be given."""

    names: tuple[str, ...]
    why: str
    """Read after their names and "exclude each other"."""


class Asked(NamedTuple):
    """One option that was set."""

    name: str
    """As its user wrote it: a flag, a variable, or a key in a file."""
    protocols: frozenset[str] = frozenset(("udp", "tcp"))
    """Listeners that can obey it."""
    verb: str = "is for"
    """Read between the name and the protocol."""
    otherwise: str = ""
    """The way out, where another option does that for the other protocol."""
    is_typed: bool = True
    """A flag on the command line: it has to have an effect."""
    knows_listeners: bool = False
    """From a file that names the listeners as well: these have to be able to obey it."""


class Given(NamedTuple):
    """What a command was asked for."""

    values: Values
    asked: Mapping[str, Asked]
    """The options that were set, by the names of their values."""
    served: Mapping[str, str]
    """Protocol of each listener: what asked for it, as in "--udp". Empty: both, by default."""


class Ignored(NamedTuple):
    """Options that would have no effect."""

    names: frozenset[str] = frozenset()
    """Those that may: from the environment or a file."""
    refusal: str | None = None
    """Why one of them may not, and the way out."""


def judge(command: str, given: Given) -> Ignored:
    """Which options have no effect, and whether one of them is an error."""
    names, refusal = set(), None
    for name, asked in given.asked.items():
        if given.served and asked.protocols.isdisjoint(given.served):
            names.add(name)
            if asked.is_typed or asked.knows_listeners:
                refusal = refusal or _of_another_protocol(asked, given.served)
    for rule in RULES.get(command, ()):
        for name in rule.names:
            if name in given.asked and not rule.is_obeyed(given.values):
                names.add(name)
                if given.asked[name].is_typed or rule.is_for_all:
                    refusal = refusal or f"{given.asked[name].name} {rule.why}"
    return Ignored(frozenset(names), refusal)


def contest(command: str, asked: Mapping[str, Asked], ranks: Mapping[str, int]) -> Ignored:
    """Of options that exclude each other the one from the strongest source (the least rank)
    holds; two from the same source are an error."""
    names = set()
    for group in EXCLUSIVE.get(command, ()):
        present = [name for name in group.names if name in asked]
        strongest = [n for n in present if ranks[n] == min(ranks[each] for each in present)]
        if len(strongest) > 1:
            told = [asked[name].name for name in strongest]
            words = f"{', '.join(told[:-1])} and {told[-1]}"
            return Ignored(refusal=f"{words} exclude each other: {group.why}")
        names |= set(present) - set(strongest)
    return Ignored(frozenset(names))


def _of_another_protocol(asked: Asked, served: Mapping[str, str]) -> str:
    other = " or ".join(sorted(asked.protocols, reverse=True))
    does = "are" if len(served) > 1 else "is"
    way_out = asked.otherwise or f"add --{other}, or leave it out"
    only = " and ".join(served.values())
    return f"{asked.name} {asked.verb} {other.upper()}, and only {only} {does} served; {way_out}"


def _responder(values: Values) -> str:
    responder: str = values["responder"] or "echo"
    kind = responder.partition("=")[0]
    return "upper" if kind == "echo" and values["upper"] else kind


def _has_requests(values: Values) -> bool:
    return _responder(values) not in ("echo", "discard", "daytime", "time")


def _reads_lines(values: Values) -> bool:
    default = "chunks" if _responder(values) == "python" else "lines"
    return _has_requests(values) and (values["framing"] or default) == "lines"


def _takes_messages(values: Values) -> bool:
    return values["transfer"] is not None or values["echo_transfers"]


def _stores(values: Values) -> bool:
    return values["transfer"] is not None and values["transfer_access"] != "pull"


def _sends_messages(values: Values) -> bool:
    is_plain = values["wire"] == "plain"
    shares = values["transfer"] is not None and values["transfer_access"] != "push"
    return values["echo_transfers"] or (shares and not is_plain)


def _may_be(family: int) -> Callable[[Values], bool]:
    """Whether an address of this family can be among those of --udp and --tcp."""

    def may_be(values: Values) -> bool:
        hosts = [host for each in ("udp", "tcp") for host, _ in values[each]]
        if values["ipv4"] or values["ipv6"]:
            return bool(values["ipv6" if family == 6 else "ipv4"])
        is_other = _is_ipv4 if family == 6 else _is_ipv6
        return not hosts or not all(map(is_other, hosts))

    return may_be


def _is_ipv4(host: str) -> bool:
    return host.count(".") == 3 and host.replace(".", "").isdecimal()


def _is_ipv6(host: str) -> bool:
    return ":" in host


_BUFFERS = Rule(
    ("force_buffers",),
    lambda v: v["recv_buffer"] is not None or v["send_buffer"] is not None,
    "needs --recv-buffer or --send-buffer: it lets their size pass the kernel's limit",
)
_PLAIN_WIRE = "needs --wire plain: "

RULES: dict[str, tuple[Rule, ...]] = {
    "serve": (
        Rule(
            ("ipv4", "ipv6"),
            lambda v: v["udp"] or v["tcp"] or not v["passed"],
            "chooses among the addresses of --udp and --tcp, and only sockets that were passed "
            "(LISTEN_FDS) are served; leave it out",
        ),
        Rule(
            ("ipv6_only",),
            _may_be(6),
            "is for IPv6 addresses, and only IPv4 addresses are served; leave it out, or listen "
            "on [::] as well",
        ),
        _BUFFERS,
        Rule(
            ("cpus",),
            lambda v: len(v["cpus"] or ()) <= v["workers"],
            "lists more CPUs than there are workers, and each worker is bound to one; raise "
            "--workers, or list fewer",
            is_for_all=True,
        ),
        Rule(
            ("min_rate_window",),
            lambda v: v["min_rate"],
            "needs --min-rate: it is the time over which that rate is measured",
        ),
        Rule(
            ("upper",),
            lambda v: (
                (v["responder"] or "echo").partition("=")[0]
                in ("echo", "upper", "prefix", "upper+prefix")
            ),
            "needs --responder echo or prefix=TEXT: others do not answer with what came",
        ),
        Rule(
            ("error_reply",),
            lambda v: _responder(v) == "python",
            "needs --responder python=module:function: it is the answer when that raises",
        ),
        Rule(
            ("responder_takes",),
            lambda v: _responder(v) == "python",
            "needs --responder python=module:function: it says what that is called with",
        ),
        Rule(
            ("responder_takes",),
            lambda v: v["responder_takes"] != "fields" or v["unpack"] is not None,
            "fields needs --unpack FORMAT: it says which fields there are",
        ),
        Rule(
            ("framing",),
            _has_requests,
            "needs a --responder other than echo, discard, daytime and time: these do not look "
            "for requests in a stream",
        ),
        Rule(
            ("framing",),
            lambda v: v["framing"] != "records" or v["unpack"] is not None,
            "records needs --unpack FORMAT: it says how long a record is",
        ),
        Rule(
            ("max_line",),
            _reads_lines,
            "needs a --responder that reads lines: upper, prefix=TEXT or command; or python=… "
            "with --framing lines",
        ),
        Rule(
            ("broadcast_delay", "broadcast_rate"),
            lambda v: v["broadcast"],
            "needs --broadcast: without it no broadcast is answered",
        ),
        Rule(
            ("names",),
            lambda v: v["unpack"] is not None,
            "needs --unpack FORMAT: it names the fields of that",
        ),
        Rule(
            ("impair",),
            lambda v: any(v[f"impair_{each}"] is None for each in v["protocols"]),
            "has no effect: --impair-udp or --impair-tcp takes its place for each protocol that "
            "is served; leave one out",
        ),
        Rule(
            ("max_datagram",),
            lambda v: not _takes_messages(v),
            "excludes --transfer and --echo-transfers: the packets of large messages have to be "
            "whole",
        ),
        Rule(
            ("echo_transfers",),
            lambda v: v["transfer"] is None or v["transfer_access"] != "pull",
            "excludes --transfer-access pull: what is sent back has to be accepted first",
        ),
        Rule(
            ("transfer_access", "transfer_quota"),
            lambda v: v["transfer"] is not None,
            "needs --transfer DIR: it is about that directory",
        ),
        Rule(
            ("overwrite",),
            lambda v: v["transfer"] is not None,
            "needs --transfer DIR: without it no file is kept",
        ),
        Rule(
            (
                "wire",
                "max_message",
                "max_total",
                "max_open_per_source",
                "progress_timeout",
                "transfer_rate",
                "keep_partial",
            ),
            _takes_messages,
            "needs --transfer DIR or --echo-transfers: without them large messages are "
            "datagrams like any others",
        ),
        Rule(
            ("overwrite", "transfer_quota"),
            _stores,
            "has no effect with --transfer-access pull: nothing is taken in",
        ),
        Rule(
            ("overwrite",),
            lambda v: v["wire"] != "plain",
            "needs --wire native: plain messages carry no names",
        ),
        Rule(
            ("transfer_rate",),
            _sends_messages,
            "needs files that others may pull, or --echo-transfers: nothing is sent here",
        ),
        Rule(
            ("max_message",),
            lambda v: v["echo_transfers"] or v["wire"] == "plain",
            "needs --echo-transfers or --wire plain: otherwise every message is a file, for "
            "which --transfer-quota is the limit",
        ),
        Rule(
            ("keep_partial",),
            lambda v: v["wire"] == "plain",
            _PLAIN_WIRE + "a native transfer is kept until it is complete anyway",
        ),
        Rule(
            ("log_payload",),
            lambda v: v["log_level"] == "debug" or v["log_config"] is not None,
            "needs --log-level debug: payloads are logged there",
        ),
    ),
    "send": (
        _BUFFERS,
        Rule(
            ("interval",),
            lambda v: v["count"] > 1,
            "needs --count 2 or more: it is the time between requests",
        ),
        Rule(("line",), lambda v: v["tcp"], "needs --tcp: a datagram ends by itself"),
        Rule(("tcp",), lambda v: v["tcp"], "and udp://… contradict each other; leave one out"),
    ),
    "push": (
        _BUFFERS,
        Rule(
            ("chunk",),
            lambda v: v["wire"] == "plain",
            _PLAIN_WIRE + "otherwise the path decides",
        ),
        Rule(
            ("name", "replace"),
            lambda v: v["wire"] != "plain",
            "needs --wire native: plain messages carry no names",
        ),
        Rule(
            ("name", "replace"),
            lambda v: not v["echo"],
            "excludes --echo: what comes back is not kept",
        ),
        Rule(
            ("replace",),
            lambda v: v["source"] != "-" or v["name"] is not None,
            "needs --name for standard input: without a name, nothing is replaced",
        ),
        Rule(
            ("echo",),
            lambda v: v["wire"] != "plain",
            "needs --wire native: with plain, it is not possible to ask for anything",
        ),
    ),
    "pull": (
        _BUFFERS,
        Rule(
            ("max_message",),
            lambda v: v["to"] == "-",
            "needs TO to be -: a file may have any length",
        ),
        Rule(
            ("force",),
            lambda v: v["to"] != "-",
            "needs TO to be a file: standard output is never replaced",
        ),
        Rule(
            ("as_json",),
            lambda v: v["to"] != "-",
            "excludes TO -: both are standard output",
        ),
    ),
    "info": (_BUFFERS,),
}

_FAMILIES = Exclusive(("ipv4", "ipv6"), "leave both out to use either")
_OUTPUTS = Exclusive(("as_json", "as_jsonl"), "the first is one document, the second a stream")

EXCLUSIVE: dict[str, tuple[Exclusive, ...]] = {
    "serve": (
        _FAMILIES,
        _OUTPUTS,
        Exclusive(("log_config", "log_level"), "the file sets levels itself"),
        Exclusive(("log_config", "log_format"), "the file sets formats itself"),
    ),
    "send": (
        _FAMILIES,
        _OUTPUTS,
        Exclusive(("text", "hex_digits", "file", "stdin"), "each says what to send"),
        Exclusive(("expect", "takes_any"), "each says which reply is right"),
    ),
    "push": (_FAMILIES, _OUTPUTS),
    "pull": (_FAMILIES,),
    "unpack": (_OUTPUTS,),
}
