"""The `rsecho` command as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RSECHO = str(Path(sys.executable).with_name("rsecho"))

# Far more than anything here takes.
PATIENCE = 20


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without what would configure the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSECHO_")}
    return {**kept, **(extra or {})}


def rsecho(
    *words: str, data: bytes | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end."""
    return subprocess.run(
        [RSECHO, *words],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=PATIENCE,
        env=clean_environment(env),
        check=False,
    )


@dataclass
class Serving:
    """A running `rsecho serve`."""

    process: subprocess.Popen[str]
    urls: list[str]
    """As it printed them."""
    status: int | None = None
    output: list[str] = field(default_factory=list)
    """Lines of standard output after `ready`."""
    errors: str = ""
    """All of standard error, once it has ended."""

    def address(self, protocol: str, host: str = "127.0.0.1") -> tuple[str, int]:
        """Host and port of one listener."""
        for url in map(urlsplit, self.urls):
            if (url.scheme, url.hostname) == (protocol, host):
                assert url.port is not None
                return host, url.port
        raise AssertionError(f"no {protocol} on {host} among {self.urls}")

    def end(self, *signals: signal.Signals) -> None:
        """Ends it by SIGINT, or by these signals, and keeps what it still says."""
        if self.status is not None:
            return
        for number in signals or (signal.SIGINT,):
            self.process.send_signal(number)
        output, self.errors = self.process.communicate(timeout=PATIENCE)
        self.output += output.splitlines()
        self.status = self.process.returncode

    def wait(self) -> None:
        """Waits until it ends by itself."""
        output, self.errors = self.process.communicate(timeout=PATIENCE)
        self.output += output.splitlines()
        self.status = self.process.returncode

    @property
    def totals(self) -> list[dict[str, Any]]:
        """What each server counted (with --jsonl)."""
        documents = [json.loads(line) for line in self.output]
        return [found for found in documents if found["event"] == "totals"]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The fields of each record (with --jsonl --unpack)."""
        documents = [json.loads(line) for line in self.output]
        return [found["fields"] for found in documents if found["event"] == "record"]


@contextlib.contextmanager
def serving(
    *options: str, prefix: tuple[str, ...] = (), env: Mapping[str, str] | None = None, **popen: Any
) -> Iterator[Serving]:
    """`rsecho serve` with these options, ready; ended when the block is left."""
    with subprocess.Popen(
        [*prefix, RSECHO, "serve", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(env),
        **popen,
    ) as process:
        assert process.stdout is not None
        found = Serving(process, [])
        try:
            for line in process.stdout:
                if line == "rsecho ready\n" or '"event": "ready"' in line:
                    break
                is_json = line.startswith("{")
                found.urls.append(json.loads(line)["url"] if is_json else line.split()[-1])
            else:
                _, errors = process.communicate(timeout=PATIENCE)
                raise AssertionError(f"did not start: {errors}")
            yield found
        finally:
            if found.status is None:
                found.end()


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Any program that prints a line when it is ready; ended when the block is left."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), words
        try:
            yield process
        finally:
            process.kill()
