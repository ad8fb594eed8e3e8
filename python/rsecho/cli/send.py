"""`rsecho send`: ask an echo server and judge the answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import RUN_TIME, USAGE, CommandError, failing_with, one_line, reason
from rsecho.cli.options import option, section
from rsecho.cli.shape import Command
from rsecho.cli.types import DURATION, SIZE, HostPort, Whole

if TYPE_CHECKING:
    from rsecho import TcpClient, UdpClient
    from rsecho.client import Reply


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
        show_default="1s",
        has_own_variable=True,
        help="How long to wait for each reply.",
    ),
    option(
        "--expect",
        metavar="TEXT",
        show_default="what was sent",
        help="The right reply, for servers that are not an echo. \\n, \\x00 and the like are "
        "escapes, as in Python.",
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

    Without TEXT, --hex, --file or --stdin: "hello". Status 1 if a reply is missing or differs.
    """
    payload, expected = _payload(given), _expected(given["expect"])
    results = Results(given)
    with _connect(target, given) as client:
        for number in range(1, given["count"] + 1):
            if number > 1 and given["interval"]:
                time.sleep(given["interval"])
            try:
                reply = _exchange(client, payload, given, expected)
                results.reply(number, client.url, reply)
            except (OSError, EOFError) as error:
                results.failure(number, client.url, error)
                if given["tcp"]:
                    break  # the connection is gone, or out of step
        results.finish(client.url, len(payload))
    if not results.is_fine:
        sys.exit(RUN_TIME)


def _payload(given: dict[str, Any]) -> bytes:
    if given["stdin"]:
        return sys.stdin.buffer.read()
    if given["hex_digits"] is not None:
        try:
            return bytes.fromhex(given["hex_digits"])
        except ValueError as error:
            raise CommandError(
                f"cannot read --hex: {error}; write two digits a byte", USAGE
            ) from None
    if given["file"] is not None:
        with failing_with(USAGE):
            return Path(given["file"]).read_bytes()
    text: str = "hello" if given["text"] is None else given["text"]
    # What the shell gave that is no UTF-8 goes out as it came in.
    return text.encode("utf-8", "surrogateescape")


def _expected(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        # As in a literal: what is not an escape stays the character that it is.
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode()
    except UnicodeDecodeError as error:
        raise CommandError(f"cannot read --expect: {error.reason}", USAGE) from None


def _exchange(
    client: UdpClient | TcpClient,
    payload: bytes,
    given: dict[str, Any],
    expected: bytes | None,
) -> Reply:
    from rsecho import TcpClient

    takes_any: bool = given["takes_any"]
    if given["line"] and isinstance(client, TcpClient):
        return client.exchange_line(payload, expected=expected, takes_any=takes_any)
    return client.exchange(payload, expected=expected, takes_any=takes_any)


def _connect(target: tuple[str, int], given: dict[str, Any]) -> UdpClient | TcpClient:
    from rsecho import TcpClient, UdpClient

    settings = shared.obeyed(shared.keywords("client"), "client")
    family = shared.family(given["ipv4"], given["ipv6"])
    client = TcpClient if given["tcp"] else UdpClient
    with failing_with(RUN_TIME):
        return client(*target, timeout=given["timeout"], family=family, **settings)


class Results:
    """Replies as they come, for people or as JSON."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._count: int = given["count"]
        is_echo = given["expect"] is None and not given["takes_any"]
        self._right = "equal" if is_echo else "as expected"
        self._show: int = given["show"]
        self._as_json: bool = given["as_json"]
        self._as_jsonl: bool = given["as_jsonl"]
        self._entries: list[dict[str, Any]] = []
        self._equal = 0
        self._received = 0

    @property
    def is_fine(self) -> bool:
        """Every request was answered, with what was sent."""
        return self._equal == self._count

    def reply(self, number: int, url: str, reply: Reply) -> None:
        """One reply."""
        self._received += 1
        self._equal += reply.is_equal
        self._add(
            {
                "sequence": number,
                "rtt_ns": reply.rtt_ns,
                "length_bytes": len(reply.data),
                "is_equal": reply.is_equal,
                "data_hex": reply.data[: self._show].hex(),
            }
        )
        if not (self._as_json or self._as_jsonl):
            from rsecho._lines import printable
            from rsecho.logs import escape_payload

            verdict = self._right if reply.is_equal else "DIFFERS"
            shown = escape_payload(reply.data[: self._show], len(reply.data))
            timed = f"{len(reply.data)} bytes from {printable(url)} in {reply.rtt_ns / 1e6:.3f} ms"
            click.echo(f"{timed}, {verdict}: {shown}")

    def failure(self, number: int, url: str, error: Exception) -> None:
        """A request without its reply."""
        text = one_line(reason(error))
        self._add({"sequence": number, "error": text})
        if not self._as_jsonl:
            click.echo(f"rsecho: {text}", err=True)

    def finish(self, url: str, length: int) -> None:
        """All requests are done."""
        if self._as_json:
            from rsecho.cli.output import print_json

            totals = {"sent": len(self._entries), "received": self._received, "equal": self._equal}
            document = {"target": url, "length_bytes": length, **totals, "replies": self._entries}
            print_json(document, schema="send/1", indent=2)
        elif self._count > 1 and not self._as_jsonl:
            click.echo(f"{len(self._entries)} sent, {self._received} received, {self._equal} equal")

    def _add(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        if self._as_jsonl:
            from rsecho.cli.output import print_json

            print_json(entry, schema="send.reply/1")
