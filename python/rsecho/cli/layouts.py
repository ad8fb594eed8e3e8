"""Record layouts by options; an error names the option that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rsecho.cli.failure import USAGE, CommandError
from rsecho.cli.spoken import name_of

if TYPE_CHECKING:
    from rsecho import RecordLayout


def layout_of(parameter: str, format: str, names: str | None) -> RecordLayout:
    """The layout of `format`, which is the value of this parameter of the command.

    Raises:
        CommandError: one of the two cannot be used.
    """
    from rsecho import FormatError, RecordLayout

    wrong = parameter
    try:
        layout = RecordLayout(format)
        wrong = "names"
        return layout if names is None else RecordLayout(format, names=names)
    except FormatError as error:
        context = click.get_current_context()
        (each,) = (each for each in context.command.params if each.name == wrong)
        raise CommandError(f"{name_of(context, each)}: {error}", USAGE) from None
