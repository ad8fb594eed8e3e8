"""`rsecho push`: send a file, a directory or a pipe over UDP."""

from __future__ import annotations

import dataclasses
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsecho._lines import printable
from rsecho.cli import moving
from rsecho.cli import options as shared
from rsecho.cli.failure import RUN_TIME, USAGE, CommandError, one_line, reason
from rsecho.cli.moving import MOVER
from rsecho.cli.options import option, section
from rsecho.cli.progress import Display, size
from rsecho.cli.shape import Command
from rsecho.cli.types import SIZE, HostPort
from rsecho.cli.walk import walk

if TYPE_CHECKING:
    from typing import BinaryIO

    from rsecho.transfer import Client

# Reasons for which the next file would fail as well.
_OF_THE_SERVER = {"unknown", "too_many", "refused", "timed_out", "cancelled", "version"}


@click.command(
    "push",
    cls=Command,
    examples=[
        ("rsecho push photo.raw localhost:9999", "Send one file."),
        (
            "rsecho push --rate 10M --name backup/today albums/ server:9999",
            "Send a directory under another name, at most 10 MiB per second.",
        ),
        ("tar c /etc | rsecho push - --name etc.tar server:9999", "Send standard input."),
    ],
)
@click.argument("source", metavar="FILE", type=click.Path(exists=True, allow_dash=True))
@click.argument("target", type=HostPort("udp"), metavar="HOST:PORT")
@section(
    "Transfer",
    option(
        "--name",
        metavar="NAME",
        show_default="the same as here; none for standard input",
        help="Name on the server, with / between components. For a directory: of the directory. "
        "A server that keeps files refuses data without a name.",
    ),
    option("--replace", is_flag=True, help="Replace the server's file of that name, if it allows."),
    option(
        "--rate",
        type=SIZE,
        metavar="BYTES",
        of=MOVER,
        show_default="as fast as the path allows",
        help="How many bytes per second are sent at most, as in 10M.",
    ),
    moving.limit_options,
    option(
        "--echo",
        is_flag=True,
        help="Let a server with --echo-transfers send it back, and compare. Held in memory.",
    ),
    shared.wire_option(MOVER),
    option(
        "--chunk",
        type=SIZE,
        of=MOVER,
        sets="chunk_bytes",
        show_default="what fits into one packet",
        help="With --wire plain: bytes per chunk.",
    ),
)
@section("Output", moving.output_options, shared.jsonl_option)
@moving.socket_options
def command(source: str, target: tuple[str, int], **given: Any) -> None:
    """Send FILE to a server that accepts files (rsecho serve --transfer DIR), whole or not at all.

    FILE is a file, a directory (every file below it; symbolic links are left out), or - for
    standard input. An interrupted transfer is resumed, and a file that the server has already is
    not sent again. Status 1 if anything failed.
    """
    push = Push(given)
    with moving.connect(target, given) as client:
        push.run(client, source)
        push.finish(client.url)
    if push.has_failed:
        sys.exit(RUN_TIME)


class Push:
    """One file after the other, and what became of each."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._replace: bool = given["replace"]
        self._is_plain: bool = given["wire"] == "plain"
        self._name: str | None = given["name"]
        self._is_echo: bool = given["echo"]
        self._is_quiet: bool = given["quiet"]
        self._as_json: bool = given["as_json"]
        self._as_jsonl: bool = given["as_jsonl"]
        self._entries: list[dict[str, Any]] = []
        self._start = time.monotonic_ns()
        self.has_failed = False
        if self._name == "":
            text = "cannot use an empty --name; leave it out to send a file under its own name"
            raise CommandError(text, USAGE)

    def run(self, client: Client, source: str) -> None:
        """Sends all of it, until something fails for which the rest would fail as well."""
        if source != "-" and Path(source).is_dir():
            self._directory(client, Path(source))
            return
        if source == "-":
            total, name = None, self._name or ""
        else:
            status = Path(source).stat()
            is_file = stat.S_ISREG(status.st_mode)
            total = status.st_size if is_file else None
            # A pipe's own name says nothing, as in /dev/fd/63.
            name = self._name or (Path(source).name if is_file else "")
        with Display(total, self._is_quiet) as display:
            self._one(client, display, source, name.split("/") if name else [], is_single=True)

    def _directory(self, client: Client, top: Path) -> None:
        base = self._name if self._name is not None else top.resolve().name
        found = walk(top, tuple(base.split("/")) if base else ())
        for path, kind in found.left_out:
            click.echo(f"rsecho: left out {printable(str(path))}: it is {kind}", err=True)
        for path, why in found.unreadable:
            self._failed(str(path), f"cannot read {path}: {why}", "io")
        total = sum(length for _, _, length in found.files)
        with Display(total, self._is_quiet) as display:
            for number, (path, name, _) in enumerate(found.files):
                if not self._one(client, display, str(path), list(name), is_single=False):
                    if left := len(found.files) - number - 1:
                        click.echo(f"rsecho: {left} more files were not tried", err=True)
                    break

    def _one(
        self, client: Client, display: Display, source: str, name: list[str], *, is_single: bool
    ) -> bool:
        """False: what it failed of concerns the files that are left as well."""
        from rsecho import TransferError

        shown = "/".join(name)
        display.begin(shown)
        try:
            stream = _opened(source)
        except OSError as error:
            self._failed(source, f"cannot read {source}: {reason(error)}", "io")
            return True
        try:
            self._send(client, display, source, stream, name)
            return True
        except TransferError as error:
            display.end(0)
            text = self._with_way_out(str(error))
            self._failed(source, _told(shown, text, is_single), error.reason)
            return error.reason not in _OF_THE_SERVER
        except ValueError as error:
            # Its name, which is no other file's.
            if is_single:
                raise CommandError(str(error), USAGE) from None
            display.end(0)
            self._failed(source, _told(shown, str(error), is_single), "bad_name")
            return True
        except OSError as error:
            display.end(0)
            self._failed(source, _told(shown, reason(error), is_single), "io")
            return False
        finally:
            if not isinstance(stream, Path) and source != "-":
                stream.close()

    def _with_way_out(self, text: str) -> str:
        """The server's words, with what to do about it here."""
        if self._is_echo:
            unnamed = "the server does not echo; it needs --echo-transfers"
        else:
            unnamed = "--name NAME gives it one"
        taken = "--name NAME sends it under another, --replace replaces that file"
        if self._replace:
            taken = "--replace needs a server with --overwrite; --name NAME sends it under another"
        for theirs, ours in (("give it one", unnamed), ("take another name or remove it", taken)):
            if text.endswith(theirs):
                return text.removesuffix(theirs) + ours
        return text

    def _send(
        self,
        client: Client,
        display: Display,
        source: str,
        stream: Path | BinaryIO,
        name: list[str],
    ) -> None:
        if self._is_echo:
            self._echo(client, display, source, stream, name)
            return
        # The plain wire carries no name; what is shown has it all the same.
        carried = [] if self._is_plain else name
        sent = client.send(stream, name=carried, replace=self._replace, progress=display)
        sent = dataclasses.replace(sent, name="/".join(name))
        display.end(sent.length_bytes)
        self._say(moving.line(sent, "to"))
        self._add({"source": source, **moving.document(sent)})

    def _echo(
        self,
        client: Client,
        display: Display,
        source: str,
        stream: Path | BinaryIO,
        name: list[str],
    ) -> None:
        data = stream.read_bytes() if isinstance(stream, Path) else stream.read()
        start = time.monotonic_ns()
        is_equal = client.echo(data, progress=display) == data
        took = time.monotonic_ns() - start
        display.end(len(data))
        shown = f"{printable('/'.join(name))}: " if name else ""
        rate = size(len(data) / (max(took, 1) / 1e9))
        verdict = "equal" if is_equal else "DIFFERS"
        self._say(
            f"{shown}{len(data)} bytes to {printable(client.url)} and back in {took / 1e9:.3f} s, "
            f"{rate}/s, {verdict}"
        )
        self.has_failed |= not is_equal
        lengths = {"name": "/".join(name), "url": client.url, "length_bytes": len(data)}
        self._add({"source": source, **lengths, "duration_ns": took, "is_equal": is_equal})

    def _say(self, text: str) -> None:
        if not (self._is_quiet or self._as_json or self._as_jsonl):
            click.echo(text)

    def _failed(self, source: str, text: str, why: str) -> None:
        self.has_failed = True
        click.echo(f"rsecho: {one_line(text)}", err=True)
        self._add({"source": source, "error": one_line(text), "reason": why})

    def _add(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        if self._as_jsonl:
            from rsecho.cli.output import print_json

            print_json(entry, schema="push.file/1")

    def finish(self, url: str) -> None:
        """All is done."""
        failed = sum("error" in entry for entry in self._entries)
        lengths = [entry["length_bytes"] for entry in self._entries if "error" not in entry]
        took = time.monotonic_ns() - self._start
        if self._as_json:
            from rsecho.cli.output import print_json

            totals = {"length_bytes": sum(lengths), "duration_ns": took, "failed": failed}
            print_json({"target": url, **totals, "files": self._entries}, schema="push/1", indent=2)
        elif len(self._entries) > 1:
            files = "1 file" if len(lengths) == 1 else f"{len(lengths)} files"
            there = sum(bool(entry.get("was_there")) for entry in self._entries)
            of_them = f" ({there} already there)" if there else ""
            but = f", {failed} failed" if failed else ""
            self._say(
                f"{files}{of_them}, {sum(lengths)} bytes to {printable(url)} in "
                f"{took / 1e9:.3f} s{but}"
            )


def _told(name: str, text: str, is_single: bool) -> str:
    return text if is_single or name in text else f"{name}: {text}"


def _opened(source: str) -> Path | BinaryIO:
    """A file by its path, which is opened by who reads it; anything else, such as a pipe, opened
    once.

    Raises OSError where it cannot be read.
    """
    if source == "-":
        return sys.stdin.buffer
    path = Path(source)
    stream = path.open("rb")
    if not path.is_file():
        return stream
    stream.close()
    return path
