"""What `send` shows: each reply as it comes, and at the end a summary like ping's.

Memory does not grow with the number of replies: nothing of them is kept but their sums.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from rsecho._lines import printable
from rsecho.cli.failure import one_line, reason

if TYPE_CHECKING:
    from rsecho.client import Reply


class Times:
    """Least, mean, greatest and standard deviation of round-trip times, in nanoseconds."""

    def __init__(self) -> None:
        self._count = self._sum = self._sum_of_squares = 0
        self._min = self._max = 0

    def add(self, rtt_ns: int) -> None:
        """One more. The sums are exact: Python's integers have no limit."""
        self._min = min(self._min, rtt_ns) if self._count else rtt_ns
        self._max = max(self._max, rtt_ns)
        self._count += 1
        self._sum += rtt_ns
        self._sum_of_squares += rtt_ns * rtt_ns

    def fields(self) -> dict[str, int | None]:
        """As JSON has them; None without a reply. The deviation is that of all replies, as in
        ping(8), not of a sample."""
        if not self._count:
            return dict.fromkeys(("rtt_min_ns", "rtt_avg_ns", "rtt_max_ns", "rtt_stddev_ns"))
        variance = self._count * self._sum_of_squares - self._sum * self._sum
        return {
            "rtt_min_ns": self._min,
            "rtt_avg_ns": round(self._sum / self._count),
            "rtt_max_ns": self._max,
            "rtt_stddev_ns": math.isqrt(variance) // self._count,
        }

    def line(self) -> str | None:
        """As people read them; None without a reply."""
        if not self._count:
            return None
        shown = "/".join(f"{(value or 0) / 1e6:.3f}" for value in self.fields().values())
        return f"rtt min/avg/max/stddev = {shown} ms"


class Replies:
    """Shows replies as they come, for people or as JSON, and counts them."""

    def __init__(self, given: dict[str, Any], length: int) -> None:
        self._count: int = given["count"]
        is_echo = given["expect"] is None and not given["takes_any"]
        self._right = "equal" if is_echo else "as expected"
        self._show: int = given["show"]
        self._as_json: bool = given["as_json"]
        self._as_jsonl: bool = given["as_jsonl"]
        self._length = length
        self._times = Times()
        self._sent = self._received = self._equal = 0
        self._surplus = 0

    @property
    def is_fine(self) -> bool:
        """Every request was answered by what is right, and by no more."""
        return self._equal == self._count and not self._surplus

    def begin(self, url: str) -> None:
        """Before the first request."""
        if self._as_json:
            import json

            from rsecho.cli.output import plain

            # The document is written as it grows, an entry per line.
            head = {"target": url, "length_bytes": self._length, "count": self._count}
            text = json.dumps({"schema": "rsecho.send/1", **plain(head)}, indent=2)
            click.echo(text.removesuffix("\n}") + ',\n  "replies": [', nl=False)

    def reply(self, url: str, reply: Reply) -> None:
        """A reply came."""
        self._received += 1
        self._equal += reply.is_equal
        self._times.add(reply.rtt_ns)
        self._add(
            {
                "sequence": self._sent + 1,
                "rtt_ns": reply.rtt_ns,
                "length_bytes": len(reply.data),
                "is_equal": reply.is_equal,
                "data_hex": reply.data[: self._show].hex(),
            }
        )
        if not (self._as_json or self._as_jsonl):
            verdict = self._right if reply.is_equal else "DIFFERS"
            timed = f"{len(reply.data)} bytes from {printable(url)} in {reply.rtt_ns / 1e6:.3f} ms"
            click.echo(f"{timed}, {verdict}{self._shown(reply.data)}")

    def failure(self, error: Exception) -> None:
        """A request stayed without its reply."""
        text = one_line(reason(error))
        self._add({"sequence": self._sent + 1, "error": text})
        if not self._as_jsonl:
            click.echo(f"rsecho: {text}", err=True)

    def surplus(self, url: str, data: bytes) -> None:
        """More came than the reply."""
        self._surplus += len(data)
        if not self._as_jsonl:
            more = f"{len(data)} more bytes came from {printable(url)} than were sent"
            click.echo(f"rsecho: {more}{self._shown(data)}", err=True)

    def finish(self, url: str, *, is_interrupted: bool) -> None:
        """After the last request, or after Ctrl-C."""
        if self._as_json:
            import json

            text = json.dumps(self._totals(is_interrupted), indent=2).removeprefix("{\n")
            click.echo(("\n  ]" if self._sent else "]") + ",\n" + text)
        elif self._as_jsonl and self._count > 1:
            from rsecho.cli.output import print_json

            head = {"target": url, "count": self._count}
            print_json(head | self._totals(is_interrupted), schema="send.summary/1")
        elif self._count > 1:
            self._summarise(url)

    def _totals(self, is_interrupted: bool) -> dict[str, Any]:
        lost = self._sent - self._received
        return {
            "sent": self._sent,
            "received": self._received,
            "equal": self._equal,
            "loss_percent": round(100 * lost / self._sent, 3) if self._sent else None,
            **self._times.fields(),
            "surplus_bytes": self._surplus,
            "is_interrupted": is_interrupted,
        }

    def _summarise(self, url: str) -> None:
        click.echo(f"\n--- {printable(url)} ---")
        of = f" of {self._count}" if self._sent < self._count else ""
        counted = f"{self._sent}{of} sent, {self._received} received, {self._equal} {self._right}"
        if self._sent:
            counted += f", {100 * (self._sent - self._received) / self._sent:.3g}% loss"
        click.echo(counted)
        if (line := self._times.line()) is not None:
            click.echo(line)

    def _shown(self, data: bytes) -> str:
        if not self._show:
            return ""
        from rsecho.logs import escape_payload

        return f": {escape_payload(data[: self._show], len(data))}"

    def _add(self, entry: dict[str, Any]) -> None:
        if self._as_json:
            import json

            from rsecho.cli.output import plain

            between = ",\n" if self._sent else "\n"
            click.echo(f"{between}    {json.dumps(plain(entry))}", nl=False)
        elif self._as_jsonl:
            from rsecho.cli.output import print_json

            print_json(entry, schema="send.reply/1")
        self._sent += 1
