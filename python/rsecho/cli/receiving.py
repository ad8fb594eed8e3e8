"""Options about large messages that a server takes in and sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, failing_with
from rsecho.cli.options import Option, option, stacked
from rsecho.cli.types import DURATION, SIZE

if TYPE_CHECKING:
    from rsecho.transfer import Policy

# Whose keyword an option sets: a `transfer.Policy`'s.
POLICY = frozenset({"policy"})

# Of `--transfer-access`: whether the server receives, and whether it shares.
_ACCESS = {"both": (True, True), "push": (True, False), "pull": (False, True)}

transfer_options = stacked(
    option(
        "--transfer",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        of=POLICY,
        sets="directory",
        help="UDP: take files into this directory (rsecho push) and share those in it (rsecho "
        "pull).",
    ),
    option(
        "--transfer-access",
        type=click.Choice(list(_ACCESS)),
        default="both",
        show_default=True,
        help="What others may do there.",
    ),
    option(
        "--transfer-quota",
        type=SIZE,
        of=POLICY,
        sets="quota_bytes",
        help="How much may lie there in all.  [default: what there is room for]",
    ),
    option(
        "--transfer-rate",
        type=SIZE,
        metavar="BYTES",
        of=POLICY,
        sets="bytes_per_second",
        help="Send so many bytes a second at most to whoever pulls.  [default: as fast as the "
        "path allows]",
    ),
    option(
        "--overwrite",
        is_flag=True,
        of=POLICY,
        sets="overwrites",
        help="What is pushed with --replace may take the place of what has its name.  [default: "
        "that is refused]",
    ),
    option(
        "--echo-transfers",
        is_flag=True,
        of=POLICY,
        sets="echo",
        help="UDP: send each large message back (rsecho push --echo); also without --transfer.",
    ),
    option(
        "--wire",
        type=click.Choice(["native", "plain"]),
        default="native",
        show_default=True,
        of=POLICY,
        help="What large messages come in: docs/transfer.md; or a count and numbered chunks, which "
        "nobody acknowledges.",
    ),
    option(
        "--keep-partial",
        is_flag=True,
        of=POLICY,
        help="With --wire plain: keep what came of a message of which a part was lost.",
    ),
    option(
        "--max-message",
        type=SIZE,
        default=16 << 20,
        show_default="16M",
        of=POLICY,
        sets="max_message_bytes",
        help="The longest message in memory. Files have no such limit.",
    ),
    option(
        "--max-total",
        type=SIZE,
        default=64 << 20,
        show_default="64M",
        of=POLICY,
        sets="max_total_bytes",
        help="All messages in memory, and all that came early, together.",
    ),
    option(
        "--max-open-per-source",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        of=POLICY,
        help="Transfers of one source at a time: an IPv4 address or an IPv6 /64.",
    ),
    option(
        "--progress-timeout",
        type=DURATION,
        default=10.0,
        show_default="10s",
        of=POLICY,
        help="A transfer has failed when nothing moved for so long.",
    ),
)


def policy(given: dict[str, Any]) -> Policy | None:
    """What is done with large messages; None: nothing."""
    if given["transfer"] is None and not given["echo_transfers"]:
        _refuse_without()
        return None
    from rsecho.transfer import Policy

    receives, shares = _ACCESS[given["transfer_access"]]
    with failing_with(CANNOT_START):
        settings = {"receives": receives, "shares": shares, **shared.keywords("policy")}
        return Policy(**shared.obeyed(settings, "policy"))


def _refuse_without() -> None:
    """An option that would have no effect is an error, where it was given here."""
    context = click.get_current_context()
    for each in context.command.params:
        if not isinstance(each, Option) or each.name is None:
            continue
        if not (each.owners & POLICY or each.name == "transfer_access"):
            continue
        if context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{each.opts[0]} needs --transfer DIR or --echo-transfers: without them large "
                "messages are datagrams like any others"
            )
