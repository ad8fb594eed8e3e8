"""`rsecho pull`: fetch a file over UDP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rsecho.cli import moving
from rsecho.cli import options as shared
from rsecho.cli.failure import RUN_TIME, USAGE, CommandError, failing_with
from rsecho.cli.options import option, section
from rsecho.cli.progress import Display
from rsecho.cli.shape import Command
from rsecho.cli.types import HostPort


@click.command(
    "pull",
    cls=Command,
    examples=[
        ("rsecho pull localhost:9999 photo.raw", "Fetch photo.raw into this directory."),
        ("rsecho pull --force server:9999 albums/2026/1.raw /tmp/", "Replace /tmp/1.raw."),
        ("rsecho pull server:9999 notes.txt - | less", "Read a file without keeping it."),
    ],
)
@click.argument("target", type=HostPort("udp"), metavar="HOST:PORT")
@click.argument("name")
@click.argument("to", required=False, type=click.Path(allow_dash=True))
@section(
    "Transfer",
    option("--force", is_flag=True, help="Replace the file if it exists."),
    shared.max_message_option(of=frozenset({"fetch"}), sets="max_message_bytes"),
    moving.limit_options,
)
@section("Output", moving.output_options)
@moving.socket_options
def command(target: tuple[str, int], name: str, to: str | None, **given: Any) -> None:
    """Fetch the file NAME from a server that offers files (rsecho serve --transfer DIR).

    TO is a file, an existing directory, or - for standard output. Without it, the file gets its own
    name in the current directory. It appears once it is complete; an interrupted fetch is resumed.
    Status 1 if it failed.
    """
    from rsecho import TransferError

    if not name:
        raise CommandError("NAME is empty; give the name of a file on the server", USAGE)
    is_output = to == "-"
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
