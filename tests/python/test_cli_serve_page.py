"""What docs/command-line.md says of `rsecho serve` is what it does."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from command import serving
from rsecho.stats import UdpStats

ROOT = Path(__file__).resolve().parents[2]

# As plain `serve`, on free ports: 9999 may be taken.
PLAIN = ("--udp", "localhost:0", "--tcp", "localhost:0")

COUNTERS = set(UdpStats.__dataclass_fields__) - {"engine", "dropped", "more"}


def test_the_screen_of_plain_serve() -> None:
    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("```console\n$ rsecho serve\n")
    screen = rest.partition("```")[0].splitlines()
    with serving(*PLAIN) as server:
        shown = [f"rsecho listening {url}" for url in server.urls]
    assert [re.sub(r":\d+$", ":9999", line) for line in shown] == screen[:-1]
    assert screen[-1] == "rsecho ready"
    assert server.errors == ""


def test_a_json_log_line_has_its_numbers_as_fields() -> None:
    options = ("--udp", "127.0.0.1:0", "--recv-buffer", "1G", "--log-format", "json")
    with serving(*options) as server:
        server.end(signal.SIGINT)
    lines = {line["event"]: line for line in map(json.loads, server.errors.splitlines())}
    clamped = lines["option"]
    assert clamped["option"] == "SO_RCVBUF"
    assert clamped["requested_bytes"] == 1 << 30
    assert clamped["sysctl"] == "net.core.rmem_max"
    # The kernel stores twice what it took: socket(7).
    assert clamped["effective_bytes"] == 2 * clamped["ceiling_bytes"]
    stopped = lines["stopped"]
    assert COUNTERS - set(stopped) == set()
    assert (stopped["kernel_drops"], stopped["dropped"]) == (0, {})
