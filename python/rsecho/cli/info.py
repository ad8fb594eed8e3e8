"""`rsecho info`: kernel limits, what this build can do, what a socket really gets."""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, failing_with

if TYPE_CHECKING:
    from rsecho.server import Server


@click.command("info", context_settings={"help_option_names": ["-h", "--help"]})
@shared.buffer_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool, **given: Any) -> None:
    """Show kernel limits, what this build can do, and what a socket really gets.

    With --recv-buffer and --send-buffer: what a socket gets that asks for so much.
    """
    document = {
        "version": _version(),
        "limits": _limits(),
        "sockets": _sockets(shared.socket_settings(given, shared.BUFFER_NAMES)),
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
    from rsecho import kernel_limits

    return [{"name": name, **limit} for name, limit in kernel_limits().to_dict().items()]


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
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    version = document["version"]
    built = f"rsecho {version['rsecho']} ({version['build']})"
    console.print(f"{built}, Python {version['python']}, {version['system']}")

    table = Table(
        "limit",
        "value",
        "sysctl",
        "what it bounds",
        box=None,
        title="Kernel limits",
        title_justify="left",
    )
    for limit in document["limits"]:
        values = limit["values"]
        shown = " ".join(f"{value:,}" for value in values) if values else "not readable here"
        table.add_row(
            limit["name"], shown, limit["sysctl"] or "none on this system", limit["meaning"]
        )
    console.print(table)

    for sock in document["sockets"]:
        title = f"A {sock['protocol'].upper()} socket (engine {sock['engine']})"
        table = Table(
            "option",
            "asked for",
            "in effect",
            "ceiling",
            box=None,
            title=title,
            title_justify="left",
        )
        warnings = []
        for name, line in sock["options"].items():
            ceiling = (
                f"{line['ceiling']:,} ({line['sysctl']})" if line["ceiling"] is not None else ""
            )
            table.add_row(name, _shown(line["requested"]), _shown(line["effective"]), ceiling)
            if line["warning"]:
                warnings.append(line["warning"])
        console.print(table)
        for warning in warnings:
            console.print(f"  {warning}", markup=False)


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "on" if value else "off"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g} s"
        case _:
            return str(value)
