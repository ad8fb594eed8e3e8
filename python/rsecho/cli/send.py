"""`rsecho send`: ask an echo server and judge the answer."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli import payload
from rsecho.cli.failure import RUN_TIME, failing_with
from rsecho.cli.interrupts import Interrupts
from rsecho.cli.options import option, section
from rsecho.cli.replies import Replies
from rsecho.cli.shape import Command
from rsecho.cli.types import DURATION, SIZE, HostPort, Whole

if TYPE_CHECKING:
    from rsecho import TcpClient, UdpClient
    from rsecho.client import Reply


def _some_time(context: click.Context, option: click.Parameter, seconds: float) -> float:
    if seconds == 0:
        raise click.BadParameter("0 leaves no time for a reply; write 1s, say", context, option)
    return seconds


@click.command(
    "send",
    cls=Command,
    examples=[
        ("rsecho send localhost:9999 data", "One datagram; is the reply equal?"),
        ("rsecho send tcp://[::1]:9999 --file photo.jpg --json", "A file over TCP."),
        ("rsecho send localhost:9999 --count 10 --interval 1s", "Ten requests."),
        ("rsecho send localhost:9999 'ECHO hello' --expect hello", "A server that is not an echo."),
    ],
)
@click.argument("target", type=HostPort("udp", "tcp"), metavar="HOST:PORT")
@click.argument("text", required=False)
@section(
    "What to send",
    option(
        "--tcp",
        is_flag=True,
        # RSECHO_TCP says where `serve` listens, which is no flag.
        envvar="RSECHO_SEND_TCP",
        help="Send over one TCP connection instead of as UDP datagrams. tcp://HOST:PORT means the "
        "same.",
    ),
    option("--hex", "hex_digits", metavar="HEX", help="Send these bytes."),
    option(
        "--file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Send a file's bytes.",
    ),
    option("--stdin", is_flag=True, help="Send the bytes of standard input."),
    option("--count", type=Whole(1), default=1, show_default=True, help="Number of requests."),
    option(
        "--interval", type=DURATION, default=0.0, show_default="0", help="Time between requests."
    ),
)
@section(
    "What to expect",
    option(
        "--timeout",
        type=DURATION,
        default=1.0,
        callback=_some_time,
        show_default="1s",
        has_own_variable=True,
        help="How long to wait for each reply.",
    ),
    option(
        "--expect",
        metavar="TEXT",
        show_default="what was sent",
        help="The right reply, for servers that are not an echo. \\n, \\x00, \\u20ac and the "
        "like are escapes.",
    ),
    option("--any", "takes_any", is_flag=True, help="Accept any reply as right."),
    option(
        "--line",
        is_flag=True,
        help="TCP: send a line and wait for a line. The line ends are added and left out.",
    ),
)
@section(
    "Output",
    option(
        "--show",
        type=SIZE,
        default=128,
        show_default=True,
        help="How many bytes of each reply are shown.",
    ),
    shared.json_option,
    shared.jsonl_option,
)
@section("Sockets", shared.family_options, shared.buffer_options, shared.ip_options)
def command(target: tuple[str, int], **given: Any) -> None:
    """Send TEXT to an echo server. Show the reply, its time, and whether it is equal.

    Without TEXT, --hex, --file or --stdin: "hello".

    With --count, a summary at the end: loss, and the minimum, average, maximum and standard
    deviation of the times.

    Status 1 if a reply is missing or differs. Ctrl-C shows what has come and ends with status 130.
    """
    host, port = target
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    data = payload.of_send(given, shown)
    expect = given["expect"]
    expected = None if expect is None else payload.escaped(expect, "--expect")
    replies = Replies(given, len(data))
    with Interrupts() as interrupts:
        with interrupts.waiting():
            client = _connect(target, given)
        with client:
            replies.begin(client.url)
            with contextlib.suppress(KeyboardInterrupt):
                _ask(client, data, expected, given, replies, interrupts)
            replies.finish(client.url, is_interrupted=interrupts.number is not None)
        if interrupts.number is not None:
            sys.exit(interrupts.status)
    if not replies.is_fine:
        sys.exit(RUN_TIME)


def _ask(
    client: UdpClient | TcpClient,
    data: bytes | bytearray,
    expected: bytes | None,
    given: dict[str, Any],
    replies: Replies,
    interrupts: Interrupts,
) -> None:
    for number in range(given["count"]):
        try:
            with interrupts.waiting():
                if number and given["interval"]:
                    time.sleep(given["interval"])
                reply = _exchange(client, data, given, expected)
        except (OSError, EOFError) as error:
            replies.failure(error)
            if given["tcp"]:
                return  # the connection is gone, or out of step
        else:
            replies.reply(client.url, reply)
    if _is_plain_echo(given):
        with interrupts.waiting():
            surplus = _surplus(client, given["timeout"])
        if surplus:
            replies.surplus(client.url, surplus)


def _is_plain_echo(given: dict[str, Any]) -> bool:
    return given["expect"] is None and not (given["takes_any"] or given["line"])


# How long a server is given to say more than was asked of it, at most.
_SURPLUS_SECONDS = 0.25


def _surplus(client: UdpClient | TcpClient, timeout: float) -> bytes:
    """What a server sends after an echo that was as long as what it echoes. Of datagrams, each
    reply shows how long it is."""
    from rsecho import TcpClient

    if not isinstance(client, TcpClient):
        return b""
    try:
        client.finish()
        return client._native.receive(1 << 16, min(timeout, _SURPLUS_SECONDS))
    except OSError:
        return b""  # it waits for more, or has reset the connection: the replies were equal


def _exchange(
    client: UdpClient | TcpClient,
    data: bytes | bytearray,
    given: dict[str, Any],
    expected: bytes | None,
) -> Reply:
    from rsecho import TcpClient

    takes_any: bool = given["takes_any"]
    if given["line"] and isinstance(client, TcpClient):
        return client.exchange_line(data, expected=expected, takes_any=takes_any)
    return client.exchange(data, expected=expected, takes_any=takes_any)


def _connect(target: tuple[str, int], given: dict[str, Any]) -> UdpClient | TcpClient:
    from rsecho import TcpClient, UdpClient

    settings = shared.obeyed(shared.keywords("client"), "client")
    family = shared.family(given["ipv4"], given["ipv6"])
    client = TcpClient if given["tcp"] else UdpClient
    with failing_with(RUN_TIME):
        return client(*target, timeout=given["timeout"], family=family, **settings)
