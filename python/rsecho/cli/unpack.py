"""`rsecho unpack`: struct decoding on the command line."""

from __future__ import annotations

import click

from rsecho.cli import options as shared
from rsecho.cli import payload
from rsecho.cli.failure import RUN_TIME, CommandError
from rsecho.cli.output import print_json
from rsecho.cli.shape import Command


@click.command(
    "unpack",
    cls=Command,
    examples=[
        (
            "rsecho unpack '! I 2s Q 2h f' 00000001616200000000000000020003000440a00000",
            "One record, given in hex.",
        ),
        ("rsecho unpack '<HH' --names 'x y' --jsonl - < dump.bin", "A file of records, as JSON."),
        ("rsecho unpack '! I 2s Q 2h f'", "How long a record is, and which fields it has."),
    ],
)
@click.argument("format")
@click.argument("data", required=False, metavar="[HEX|-]")
@shared.names_option
@shared.json_option
@shared.jsonl_option
def command(
    format: str, data: str | None, names: str | None, as_json: bool, as_jsonl: bool
) -> None:
    """Decode records of FORMAT, Python's struct format with `<`, `>`, `!` or `=` in front.

    The data is HEX (spaces and colons are ignored), or with - the bytes of standard input: one
    record or several. Without data, the layout is shown. Bytes are printed as Python literals, and
    as hex in JSON.
    """
    from rsecho import RecordError
    from rsecho.cli.layouts import layout_of

    layout = layout_of("format", format, names)
    described = {"format": layout.format, "size_bytes": layout.size, "names": list(layout.names)}
    if data is None:
        if as_json or as_jsonl:
            print_json({**described, "records": []}, schema="unpack/1")
        else:
            click.echo(
                f"{layout.size} bytes, {layout.field_count} values: {' '.join(layout.names)}"
            )
        return
    raw = _read(data)
    try:
        if len(raw) == 0:
            layout.unpack(raw)  # says why not
        records = (
            dict(zip(layout.names, values, strict=True)) for values in layout.iter_unpack(raw)
        )
        if as_json:
            print_json({**described, "records": list(records)}, schema="unpack/1")
            return
        for record in records:
            if as_jsonl:
                print_json({"fields": record}, schema="record/1")
            else:
                click.echo(" ".join(f"{name}={value!r}" for name, value in record.items()))
    except RecordError as error:
        raise CommandError(str(error), RUN_TIME) from None


def _read(data: str) -> bytes | bytearray:
    return payload.from_stdin() if data == "-" else payload.from_hex(data, "HEX")
