"""What a shell may offer as the value of an option."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_ALGORITHMS = "/proc/sys/net/ipv4/tcp_available_congestion_control"

RESPONDERS = (
    "echo", "upper", "prefix=", "discard", "daytime", "time", "command", "python=",
)  # fmt: skip


def responders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of answers."""
    return [name for name in RESPONDERS if name.startswith(incomplete)]


def congestion_algorithms(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Those of the running kernel."""
    try:
        with open(_ALGORITHMS, encoding="ascii") as file:  # noqa: PTH123 (pathlib takes 2 ms)
            names = file.read().split()
    except OSError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def interfaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Network interfaces of this machine."""
    try:
        names = [name for _, name in socket.if_nameindex()]
    except OSError:
        return []
    return [name for name in names if name.startswith(incomplete)]
