"""What `rsecho push` and `rsecho pull` have in common: options, results, how they fail."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rsecho._lines import printable
from rsecho.cli import options as shared
from rsecho.cli.failure import RUN_TIME, failing_with
from rsecho.cli.options import option, section, stacked
from rsecho.cli.progress import size
from rsecho.cli.types import DURATION

if TYPE_CHECKING:
    from rsecho.transfer import Client, Sent

# Of a digest, for people.
_DIGEST_CHARACTERS = 16

# Whose keyword an option sets, beside those of sockets: a `transfer.Client`'s.
MOVER = frozenset({"mover"})

limit_options = stacked(
    option(
        "--timeout",
        type=DURATION,
        of=MOVER,
        has_own_variable=True,
        show_default="no limit",
        help="Give up when the whole transfer takes longer than this.",
    ),
    shared.progress_timeout_option(MOVER),
)

socket_options = section(
    "Sockets",
    shared.family_options,
    shared.buffer_options,
    shared.ip_options,
    shared.engine_option(MOVER),
)

output_options = stacked(
    option("--quiet", "-q", is_flag=True, help="Print errors only."),
    shared.json_option,
)


def connect(target: tuple[str, int], given: dict[str, Any]) -> Client:
    """A client of the server."""
    from rsecho.transfer import Client

    settings = shared.keywords("client") | shared.keywords("mover")
    settings = shared.obeyed(settings, "transfer")
    with failing_with(RUN_TIME):
        return Client(*target, family=shared.family(given["ipv4"], given["ipv6"]), **settings)


def line(sent: Sent, direction: str) -> str:
    """What became of a transfer, for people; `direction` is "to" or "from"."""
    name = f"{printable(sent.name)}: " if sent.name else ""
    digest = f", blake3 {sent.digest[:_DIGEST_CHARACTERS]}…" if sent.digest else ""
    if sent.was_there:
        return f"{name}already there, {sent.length_bytes} bytes{digest}"
    words = [
        f"{sent.length_bytes} bytes {direction} {printable(sent.url)} in "
        f"{sent.duration_ns / 1e9:.3f} s, {size(sent.bytes_per_second)}/s"
    ]
    if sent.resumed_from_bytes:
        words.append(f", resumed at {sent.resumed_from_bytes}")
    words.append(digest)
    if direction == "to" and sent.retransmitted_packets:
        words.append(f", {sent.retransmitted_packets} of {sent.sent_packets} packets sent again")
    return name + "".join(words)


def document(sent: Sent) -> dict[str, Any]:
    """The same as JSON has it."""
    found = dataclasses.asdict(sent)
    # A message in memory goes to standard output; a path is text.
    found.pop("data", None)
    if found.get("path") is not None:
        found["path"] = str(found["path"])
    return found
