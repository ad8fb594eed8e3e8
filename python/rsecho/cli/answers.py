"""Options about what a server answers, and what impairs it on purpose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rsecho.cli.options import BOTH, TCP, UDP, option, stacked
from rsecho.cli.types import DURATION, SIZE

answer_options = stacked(
    option(
        "--responder",
        metavar="NAME",
        of=BOTH,
        help="What to answer: echo, upper, prefix=TEXT, discard (RFC 863), daytime (RFC 867), time "
        "(RFC 868), command (TIME, ECHO text, HOSTNAME, CLIENTIP, SERVERADDRESS), or "
        "python=module:function, called with (data, peer).  [default: echo]",
    ),
    option("--upper", is_flag=True, of=BOTH, help="With echo or prefix=TEXT: in upper case."),
    option(
        "--error-reply",
        metavar="TEXT",
        help="What is answered when python=… raises.  [default: nothing]",
    ),
    option(
        "--responder-takes",
        type=click.Choice(["bytes", "fields"]),
        default="bytes",
        show_default=True,
        of=BOTH,
        help="What python=… is called with: the bytes, or the fields of --unpack by name.",
    ),
    option(
        "--framing",
        type=click.Choice(["lines", "records", "chunks"]),
        of=TCP,
        help="TCP: what a request is: a line, a record of --unpack, or what was read.  [default: "
        "lines for a named responder, records with --unpack, chunks for python=…]",
    ),
    option(
        "--max-line",
        type=SIZE,
        default=65_536,
        show_default="64K",
        of=TCP,
        sets="max_line_bytes",
        help="TCP: a longer line is answered with an error, and the connection ends.",
    ),
    option(
        "--broadcast",
        is_flag=True,
        of=UDP,
        sets="answer_broadcast",
        help="UDP: answer what was sent to a broadcast or multicast address as well, from the "
        "interface's own, late and seldom.",
    ),
    option(
        "--broadcast-delay",
        type=DURATION,
        default=0.1,
        show_default="100ms",
        of=UDP,
        help="UDP: answer a broadcast after a random time of at most so long.",
    ),
    option(
        "--broadcast-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        of=UDP,
        help="UDP: answer so many broadcasts a second at most.",
    ),
    option(
        "--impair",
        metavar="SPEC",
        default="",
        of=BOTH,
        help="Impair on purpose. UDP, as tc-netem(8): 'delay 50ms 10ms loss 1% seed 7', 'in loss "
        "20%; out duplicate 1%'. TCP, as Toxiproxy: 'latency 100 jitter 20, bandwidth 64', "
        "'reset_peer 500'. Both kinds of listeners take what both grammars have, as in 'delay "
        "50ms'.",
    ),
    option(
        "--impair-udp",
        metavar="SPEC",
        of=UDP,
        sets="impair",
        help="The same for UDP, where that is another.",
    ),
    option("--impair-tcp", metavar="SPEC", of=TCP, sets="impair", help="The same for TCP."),
)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """What does not go to the servers as it is."""
    if (given["responder"] or "").startswith("python="):
        # As `python -m` does: what lies here can be named.
        sys.path.insert(0, str(Path.cwd()))
    return {} if given["error_reply"] is None else {"error_reply": given["error_reply"].encode()}
