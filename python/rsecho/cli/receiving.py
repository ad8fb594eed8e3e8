"""Options about large messages that a server takes in and sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, failing_with
from rsecho.cli.options import POLICY, UDP, option, stacked
from rsecho.cli.types import SIZE, Whole

if TYPE_CHECKING:
    from rsecho.transfer import Policy

# Of `--transfer-access`: whether the server receives, and whether it shares.
_ACCESS = {"both": (True, True), "push": (True, False), "pull": (False, True)}

transfer_options = stacked(
    option(
        "--transfer",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        of=POLICY,
        sets="directory",
        help="Accept files into this directory (rsecho push), and offer the files in it (rsecho "
        "pull).",
    ),
    option(
        "--transfer-access",
        type=click.Choice(list(_ACCESS)),
        metavar="WHAT",
        default="both",
        show_default=True,
        serves=UDP,
        help="What clients may do there: push, pull or both.",
    ),
    option(
        "--transfer-quota",
        type=SIZE,
        of=POLICY,
        sets="quota_bytes",
        show_default="the disk's",
        help="How many bytes the directory may hold in all.",
    ),
    option(
        "--transfer-rate",
        type=SIZE,
        metavar="BYTES",
        of=POLICY,
        sets="bytes_per_second",
        verb="limits",
        show_default="as fast as the path allows",
        help="How many bytes per second are sent to one client, at most.",
    ),
    option(
        "--overwrite",
        is_flag=True,
        of=POLICY,
        sets="overwrites",
        help="Let rsecho push --replace replace files. By default it is refused.",
    ),
    option(
        "--echo-transfers",
        is_flag=True,
        of=POLICY,
        sets="echo",
        help="Send each large message back (rsecho push --echo); with or without --transfer.",
    ),
    shared.wire_option(POLICY),
    option(
        "--keep-partial",
        is_flag=True,
        of=POLICY,
        help="With --wire plain: keep what arrived of a message that is incomplete.",
    ),
    shared.max_message_option(of=POLICY, sets="max_message_bytes"),
    option(
        "--max-total",
        type=SIZE,
        default=64 << 20,
        show_default="64M",
        of=POLICY,
        sets="max_total_bytes",
        help="Memory for all messages, and for all data that arrived out of order.",
    ),
    option(
        "--max-open-per-source",
        type=Whole(1),
        default=8,
        show_default=True,
        of=POLICY,
        help="How many transfers one source (an IPv4 address or an IPv6 /64) may have open.",
    ),
    shared.progress_timeout_option(POLICY),
)


def policy(given: dict[str, Any]) -> Policy | None:
    """What is done with large messages; None: nothing."""
    if given["transfer"] is None and not given["echo_transfers"]:
        return None
    from rsecho.transfer import Policy

    receives, shares = _ACCESS[given["transfer_access"]]
    with failing_with(CANNOT_START):
        settings = {"receives": receives, "shares": shares, **shared.keywords("policy")}
        return Policy(**shared.obeyed(settings, "policy", "served"))
