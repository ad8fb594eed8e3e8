"""Options about what a server answers, and what impairs it on purpose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rsecho.cli import completions
from rsecho.cli.options import BOTH, TCP, UDP, names_option, option, stacked
from rsecho.cli.spoken import name_of
from rsecho.cli.types import DURATION, SIZE, Number

answer_options = stacked(
    option(
        "--responder",
        metavar="NAME",
        of=BOTH,
        show_default="echo",
        shell_complete=completions.responders,
        help="What to answer: echo; upper (the same in upper case); prefix=TEXT (the same after "
        "TEXT); discard (RFC 863); daytime (RFC 867); time (RFC 868); command (TIME, ECHO text, "
        "HOSTNAME, CLIENTIP, SERVERADDRESS); or python=module:function, called with (data, peer).",
    ),
    option("--upper", is_flag=True, of=BOTH, help="With echo or prefix=TEXT: in upper case."),
    option(
        "--error-reply",
        metavar="TEXT",
        show_default="no answer",
        help="Answer this when python=… raises an exception.",
    ),
    option(
        "--responder-takes",
        type=click.Choice(["bytes", "fields"]),
        metavar="WHAT",
        default="bytes",
        show_default=True,
        of=BOTH,
        help="What python=… is called with: bytes, or fields (of --unpack, by name).",
    ),
    option(
        "--framing",
        type=click.Choice(["lines", "records", "chunks"]),
        metavar="UNIT",
        of=TCP,
        help="TCP: what one request is: lines, records (of --unpack), or chunks (whatever one "
        "read returns). [default: lines; for python=…: records with --unpack, otherwise chunks]",
    ),
    option(
        "--max-line",
        type=SIZE,
        default=65_536,
        show_default="64K",
        of=TCP,
        sets="max_line_bytes",
        help="TCP: a longer line is answered with an error, and the connection is closed.",
    ),
    option(
        "--broadcast",
        is_flag=True,
        of=UDP,
        sets="answer_broadcast",
        help="UDP: also answer what is sent to broadcast and multicast addresses, after a random "
        "delay.",
    ),
    option(
        "--broadcast-delay",
        type=DURATION,
        default=0.1,
        show_default="100ms",
        of=UDP,
        help="UDP: longest delay before a broadcast is answered.",
    ),
    option(
        "--broadcast-rate",
        type=Number(0, 1e9, is_open=True),
        default=10.0,
        show_default="10",
        of=UDP,
        verb="limits",
        help="UDP: how many broadcasts per second are answered.",
    ),
    option(
        "--unpack",
        metavar="FORMAT",
        help="Decode what arrives as records, and log them: '! I 2s Q 2h f', as in Python's struct "
        "module.",
    ),
    names_option,
)

impair_options = stacked(
    option(
        "--impair",
        metavar="SPEC",
        default="",
        of=BOTH,
        help="Lose, delay or change traffic on purpose. UDP, as tc-netem(8): 'delay 50ms 10ms loss "
        "1% seed 7', 'in loss 20%; out duplicate 1%'. TCP, as Toxiproxy: 'latency 100 jitter 20, "
        "bandwidth 64', 'reset_peer 500'. docs/impair.md lists everything.",
    ),
    option(
        "--impair-udp",
        metavar="SPEC",
        of=UDP,
        sets="impair",
        otherwise="--impair-tcp is for TCP",
        help="For UDP, instead of --impair.",
    ),
    option(
        "--impair-tcp",
        metavar="SPEC",
        of=TCP,
        sets="impair",
        otherwise="--impair-udp is for UDP",
        help="For TCP, instead of --impair.",
    ),
)


def impairing(protocol: str) -> str:
    """What says how this protocol is impaired: a flag, a variable, or a key in the file."""
    context = click.get_current_context()
    own = f"impair_{protocol}"
    wanted = "impair" if context.params[own] is None else own
    (each,) = (each for each in context.command.params if each.name == wanted)
    return name_of(context, each)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """What does not go to the servers as it is."""
    if (given["responder"] or "").startswith("python="):
        # As `python -m` does: what lies here can be named.
        sys.path.insert(0, str(Path.cwd()))
    return {} if given["error_reply"] is None else {"error_reply": given["error_reply"].encode()}
