"""`rsecho info`: kernel limits, what this build can do, what a socket really gets."""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, failing_with
from rsecho.cli.options import section
from rsecho.cli.shape import Command

if TYPE_CHECKING:
    from rich.table import Table

    from rsecho.server import Server


@click.command(
    "info",
    cls=Command,
    examples=[
        ("rsecho info", "Limits of this machine, and the default sizes of buffers."),
        ("rsecho info --recv-buffer 4M", "What a socket gets that asks for 4 MiB."),
    ],
)
@section("Sockets", shared.buffer_options)
@section("Output", shared.json_option)
def command(as_json: bool, **given: Any) -> None:
    """Show kernel limits, what this build can do, and what a socket really gets.

    With --recv-buffer and --send-buffer: what a socket gets that asks for these sizes.
    """
    document = {
        "version": _version(),
        "limits": _limits(),
        "sockets": _sockets(shared.keywords("client")),
    }
    if as_json:
        from rsecho.cli.output import print_json

        print_json(document, schema="info/1", indent=2)
    else:
        _print_tables(document)


def _version() -> dict[str, Any]:
    from rsecho import _rsecho

    return {
        "rsecho": _rsecho.__version__,
        "build": "debug" if _rsecho.is_debug_build else "optimised",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _limits() -> list[dict[str, Any]]:
    # With those that this system has not, which `rsecho.kernel_limits` gives as None.
    from rsecho._rsecho import kernel_limits

    return [
        {"name": name, "sysctl": sysctl, "values": list(values), "meaning": meaning}
        for name, sysctl, values, meaning in kernel_limits()
    ]


def _sockets(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """A socket of each protocol, made on loopback and asked."""
    from rsecho import TcpServer, UdpServer

    servers: list[tuple[str, type[UdpServer | TcpServer]]]
    servers = [("udp", UdpServer), ("tcp", TcpServer)]
    found = []
    for protocol, make in servers:
        with failing_with(CANNOT_START):
            server: Server = make("127.0.0.1", 0, **settings)
        with server:
            report = {name: dataclasses.asdict(line) for name, line in server.socket_report.items()}
            found.append({"protocol": protocol, "engine": server.engine, "options": report})
    return found


def _print_tables(document: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody's window: as wide as it takes, so that lines can be searched.
        console = Console(highlight=False, width=200)
    version = document["version"]
    built = f"rsecho {version['rsecho']} ({version['build']})"
    console.print(f"{built}, Python {version['python']}, {version['system']}\n")

    table = _table("Kernel limits", "limit", "value", "sysctl", "what it bounds")
    for limit in document["limits"]:
        shown = " ".join(f"{value:,}" for value in limit["values"]) or "not readable here"
        sysctl = limit["sysctl"] or "none on this system"
        table.add_row(limit["name"], shown, sysctl, limit["meaning"])
    console.print(table)

    for sock in document["sockets"]:
        title = f"\nA {sock['protocol'].upper()} socket (engine {sock['engine']})"
        table = _table(title, "option", "asked for", "in effect", "ceiling")
        for name, line in sock["options"].items():
            ceiling = ""
            if line["ceiling"] is not None:
                ceiling = f"{line['ceiling']:,} ({line['sysctl']})"
            table.add_row(name, _shown(line["requested"]), _shown(line["effective"]), ceiling)
        console.print(table)
        for line in sock["options"].values():
            if line["warning"]:
                console.print(f"  {line['severity']}: {line['warning']}", markup=False)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "on" if value else "off"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g} s" if value else "none"
        case _:
            return str(value)
