"""`rsecho info`: kernel limits, what this build can do, what a socket really gets."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, failing_with
from rsecho.cli.options import section
from rsecho.cli.shape import Command

if TYPE_CHECKING:
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
        _print(document)


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
            report = {
                name: dataclasses.asdict(line) | _autotuned(protocol, name)
                for name, line in server.socket_report.items()
            }
            found.append({"protocol": protocol, "engine": server.engine, "options": report})
    return found


def _autotuned(protocol: str, name: str) -> dict[str, Any]:
    """How far the kernel grows a TCP buffer by itself; setsockopt(2) has another ceiling."""
    sysctl = _AUTOTUNED.get(name)
    if protocol != "tcp" or sysctl is None:
        return {}
    found = [limit["values"] for limit in _limits() if limit["sysctl"] == sysctl]
    values: list[int] = found[0] if found else []
    return {
        "autotuning_ceiling": values[-1] if values else None,
        "autotuning_sysctl": sysctl if values else None,
    }


_AUTOTUNED = {"recv_buffer_bytes": "net.ipv4.tcp_rmem", "send_buffer_bytes": "net.ipv4.tcp_wmem"}


def _print(document: dict[str, Any]) -> None:
    """As people read it, in lines of 80 columns; values are never cut."""
    version = document["version"]
    built = f"rsecho {version['rsecho']} ({version['build']} build)"
    _say(f"{built}, Python {version['python']}, {version['system']}")

    _say("\nKernel limits", bold=True)
    for limit in document["limits"]:
        # Ports are names rather than amounts.
        form = "d" if "port" in limit["name"] else ",d"
        shown = " ".join(f"{value:{form}}" for value in limit["values"]) or "not readable here"
        _say(f"  {limit['sysctl'] or 'none on this system'}: {shown}")
        _say(limit["meaning"], indent=6)
    _say("`sysctl -w NAME=VALUE` changes one until the next boot.", indent=2)

    for sock in document["sockets"]:
        _say(f"\nA {sock['protocol'].upper()} socket (engine {sock['engine']})", bold=True)
        _say(_row("option", "asked for", "in effect"))
        for line in sock["options"].values():
            name = _NAMES.get(line["option"], line["option"])
            _say(_row(name, _shown(line["requested"]), _shown(line["effective"])))
            for text in _ceilings(line):
                _say(text, indent=6)
            if line["warning"]:
                _say(f"{line['severity']}: {line['warning']}", indent=6)


# What is shown is a part of the option, or no option of the kernel's.
_NAMES = {"listen(2)": "backlog", "IP_TOS": "DSCP (IP_TOS)", "IPV6_TCLASS": "DSCP (IPV6_TCLASS)"}


def _row(name: str, requested: str, effective: str) -> str:
    return f"  {name:<18}{requested:>16}{effective:>16}"


def _ceilings(line: dict[str, Any]) -> list[str]:
    texts = []
    if line["ceiling"] is not None:
        is_buffer = line["option"] in ("SO_RCVBUF", "SO_SNDBUF")
        how = "set by an option" if is_buffer else "in listen(2)"
        doubled = "; the kernel doubles it" if is_buffer else ""
        texts.append(f"{how}: at most {line['ceiling']:,} ({line['sysctl']}){doubled}")
    if line.get("autotuning_ceiling") is not None:
        most, sysctl = line["autotuning_ceiling"], line["autotuning_sysctl"]
        texts.append(f"grown by autotuning, unless set: at most {most:,} ({sysctl}, last value)")
    return texts


def _say(text: str, *, indent: int = 0, bold: bool = False) -> None:
    if indent:
        margin = " " * indent
        text = textwrap.fill(
            text,
            min(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80,
            initial_indent=margin,
            subsequent_indent=margin + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    click.echo(click.style(text, bold=True) if bold else text)


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
