"""`rsecho ping`: what it prints for people and programs, and its status."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, clean_environment, rsecho, serving
from netns import Routed, needs_namespaces, routed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["routed"]


@pytest.fixture
def server() -> Iterator[package.UdpServer]:
    with package.UdpServer("127.0.0.1") as server:
        yield server


def target(server: package.UdpServer) -> str:
    return f"127.0.0.1:{server.address[1]}"


def ping(*words: str) -> tuple[int, str, str]:
    done = rsecho("ping", *words)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_line_per_reply_and_a_summary(server: package.UdpServer) -> None:
    status, output, errors = ping(target(server), "-c", "3", "-i", "5ms")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == f"PING udp://{target(server)} with 64 bytes"
    for number in range(3):
        assert re.fullmatch(
            rf"64 bytes from udp://{target(server)}: seq={number} rtt=\d+\.\d{{3}} ms",
            lines[1 + number],
        )
    assert lines[5] == f"--- udp://{target(server)} ---"
    assert lines[6].startswith("3 sent, 3 received, 0% loss, 0.0 s")
    assert re.fullmatch(r"rtt min/avg/max/stddev = [\d./]+ ms", lines[7])
    assert lines[8].startswith("rtt p50 ")
    assert lines[-1].startswith("clock: the kernel's; this process's would add ")
    assert max(map(len, lines)) <= 80


def test_quiet_prints_the_summary_only(server: package.UdpServer) -> None:
    _, output, _ = ping(target(server), "-c", "3", "-i", "1ms", "-q")
    assert "seq=" not in output and "3 received" in output


def test_one_document(server: package.UdpServer) -> None:
    status, output, _ = ping(target(server), "-c", "4", "-i", "1ms", "--json")
    document = json.loads(output)
    assert (status, document["schema"]) == (0, "rsecho.ping/1")
    assert (document["sent"], document["received"], document["loss"]["lost"]) == (4, 4, 0)
    assert document["rtt"]["p50_ns"] > 0 and document["is_interrupted"] is False


def test_a_document_per_sample_and_the_summary(server: package.UdpServer) -> None:
    _, output, _ = ping(target(server), "-c", "4", "-i", "1ms", "--jsonl")
    *samples, last = (json.loads(line) for line in output.splitlines())
    assert [each["sequence"] for each in samples] == [0, 1, 2, 3]
    assert {each["schema"] for each in samples} == {"rsecho.ping.sample/1"}
    assert last["schema"] == "rsecho.ping/1"


def test_csv(server: package.UdpServer) -> None:
    _, output, _ = ping(target(server), "-c", "4", "-i", "1ms", "--csv")
    rows = list(csv.DictReader(output.splitlines()))
    assert [row["sequence"] for row in rows] == ["0", "1", "2", "3"]
    assert all(int(row["rtt_ns"]) > 0 and row["kind"] == "reply" for row in rows)


def test_the_histogram_is_read_by_another_implementation(
    server: package.UdpServer, tmp_path: Path
) -> None:
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

    path = tmp_path / "rtt.hlog"
    _, output, _ = ping(target(server), "-c", "500", "-i", "200us", "--hdr", str(path), "--json")
    found = json.loads(output)["rtt"]
    *head, line = path.read_text().splitlines()
    assert head[0] == "#[Histogram log format version 1.3]"
    histogram = HdrHistogram.decode(line.rpartition(",")[2].encode())
    assert histogram.get_total_count() == found["count"] == 500
    for percent, key in ((50, "p50_ns"), (90, "p90_ns"), (99, "p99_ns")):
        assert histogram.get_value_at_percentile(percent) == pytest.approx(found[key], rel=0.002)


@pytest.mark.parametrize(
    ("limits", "status", "told"),
    [
        ("loss>1%", 0, ""),
        ("loss>1%,rtt.p99>60s", 0, ""),
        ("rtt.p99>1ns", 4, "rtt.p99>1ns: it is "),
        ("loss>=0", 4, "loss>=0: it is 0%"),
        ("rtt.p50>1ns , rtt.max>1ns", 4, "rtt.max>1ns: it is "),
    ],
)
def test_a_limit_that_is_crossed_is_status_4(
    server: package.UdpServer, limits: str, status: int, told: str
) -> None:
    found, _, errors = ping(target(server), "-c", "5", "-i", "1ms", "-q", "--fail-if", limits)
    assert (found, told in errors) == (status, True)


def test_no_reply_at_all_is_status_1(server: package.UdpServer) -> None:
    server.impair("loss 100%")
    status, output, _ = ping(target(server), "-c", "3", "-i", "1ms", "-w", "50ms")
    assert status == 1
    assert "seq=2 lost: no reply in time" in output
    assert "3 sent, 0 received, 100% loss" in output
    assert "losses in 1 run, the longest of 3" in output


@pytest.mark.parametrize("form", ["--json", "-q"])
def test_ctrl_c_prints_what_was_measured(server: package.UdpServer, form: str) -> None:
    with subprocess.Popen(
        [RSECHO, "ping", target(server), "-i", "1ms", form],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(None),
    ) as process:
        while server.stats().received_packets < 50:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    if form == "--json":
        document = json.loads(output)
        assert document["is_interrupted"] is True
        assert document["received"] >= 49
    else:
        assert "received, 0% loss" in output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval", "1us"], "--interval"),
        (["--size", "3"], "--size"),
        (["--schedule", "often"], "periodic, poisson or file:PATH"),
        (["--schedule", "file:/nonesuch"], "no such file"),
        (["--seed", "1"], "--seed"),
        (["--fail-if", "loss"], "cannot read --fail-if 'loss'"),
        (["--fail-if", "speed>1%"], "there is no such figure"),
        (["--fail-if", "rtt.p99>5"], "write its unit, as in rtt.p99>5ms"),
        (["--percentiles", "50,x"], "50,90,99.9"),
        (["--csv", "--json"], "--csv excludes"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(words: list[str], told: str) -> None:
    status, output, errors = ping("127.0.0.1:9", "-c", "1", *words)
    assert (status, output) == (2, "")
    assert told.lower() in errors.lower() and errors.count("\n") == 1


@needs_namespaces
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
def test_a_router_that_drops_every_tenth_packet_is_ten_percent_to_the_packet(
    routed: Routed,
) -> None:
    routed.nft(
        "table ip t { chain f { type filter hook forward priority 0; }; }; "
        "add rule ip t f udp dport 9999 numgen inc mod 10 == 0 counter drop"
    )
    with serving("--udp", "10.9.8.1:9999", prefix=routed.within(routed.server)):
        words = ("-c", "1000", "-i", "500us", "-w", "500ms", "--json")
        done = subprocess.run(
            [*routed.within(routed.client), RSECHO, "ping", "10.9.8.1:9999", *words],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
    document = json.loads(done.stdout)
    assert (document["sent"], document["received"]) == (1000, 900)
    assert document["loss"]["percent"] == 10.0
    assert (document["loss"]["runs"], document["loss"]["longest_run"]) == (100, 1)
    assert document["reordering"]["reordered"] == document["duplicates"] == 0
    # The links have a device each: their stamps are taken there.
    assert document["kernel_rtts"] == 900
