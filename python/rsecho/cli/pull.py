"""`rsecho pull`: fetch a file over UDP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rsecho.cli import moving
from rsecho.cli.failure import RUN_TIME, CommandError, failing_with
from rsecho.cli.options import option
from rsecho.cli.progress import Display
from rsecho.cli.types import SIZE, HostPort


@click.command("pull", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("target", type=HostPort(), metavar="HOST:PORT")
@click.argument("name")
@click.argument("to", required=False, type=click.Path(allow_dash=True))
@option("--force", is_flag=True, help="Take the place of what is there.")
@option(
    "--max-message",
    type=SIZE,
    default=16 << 20,
    show_default="16M",
    help="With TO -: the longest that is taken into memory.",
)
@moving.limit_options
@moving.socket_options
@moving.output_options
def command(target: tuple[str, int], name: str, to: str | None, **given: Any) -> None:
    """Fetch NAME from a server that shares files (rsecho serve --transfer DIR) into TO.

    TO is a file, a directory that is there, or - for standard output, by way of memory; without it,
    a file of that name here. It appears once it is whole. What came in part before is gone on with.
    Status 1 if it failed.

    \b
    rsecho pull localhost:9999 photo.raw
    rsecho pull --force server:9999 albums/2026/1.raw /tmp/
    rsecho pull server:9999 notes.txt - | less
    """
    from rsecho import TransferError

    is_output = to == "-"
    if is_output and given["as_json"]:
        raise click.UsageError("--json and TO - exclude each other: both are standard output")
    with moving.connect(target, given) as client, Display(None, given["quiet"]) as display:
        display.begin(name)
        try:
            with failing_with(RUN_TIME):
                found = client.fetch(
                    name,
                    to=None if is_output else to or Path(),
                    overwrite=given["force"],
                    max_message_bytes=given["max_message"],
                    progress=display,
                )
        except TransferError as error:
            raise CommandError(str(error), RUN_TIME) from None
        display.end(found.length_bytes)
    if given["as_json"]:
        from rsecho.cli.output import print_json

        print_json(moving.document(found), schema="pull/1", indent=2)
    elif not given["quiet"]:
        click.echo(moving.line(found, "from"), err=is_output)
    if is_output and found.data is not None:
        sys.stdout.buffer.write(found.data)
        sys.stdout.buffer.flush()
