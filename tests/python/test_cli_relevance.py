"""Nothing asked for is ignored: flags without effect, what excludes each other, and who may set
what is not used."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from command import rsecho, serving
from rsecho.cli import command as group
from rsecho.cli import relevance
from rsecho.cli.options import BOTH, GUARD, TCP, UDP, Option
from rsecho.cli.relevance import Asked, Given

if TYPE_CHECKING:
    from pathlib import Path


def subcommand(name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


SERVE = [each for each in subcommand("serve").params if isinstance(each, Option)]
LISTENER = {"udp": ("--udp", "127.0.0.1:0"), "tcp": ("--tcp", "127.0.0.1:0")}
# A value that each kind of option takes, to get as far as the question whether it has an effect.
VALUES = {
    "size": "1K", "duration": "1s", "n": "1", "x": "2", "rate[:burst]": "5", "text": "x",
    "idle[,interval[,count]]": "30s", "directory": ".",
}  # fmt: skip


def words(option: Option) -> list[str]:
    """The option with a value."""
    flag = max(option.opts, key=len)
    if isinstance(option.type, click.Choice):
        return [flag, option.type.choices[0]]
    return [flag] if option.is_flag else [flag, VALUES[option.type.name]]


@pytest.mark.parametrize(
    "option",
    [each for each in SERVE if each.protocols != BOTH and each.name not in ("udp", "tcp")],
    ids=lambda each: each.opts[-1],
)
def test_what_no_listener_can_obey_is_an_error_that_names_both(option: Option) -> None:
    (own,) = option.protocols
    other = "tcp" if own == "udp" else "udp"
    done = rsecho("serve", *LISTENER[other], *words(option))
    text = done.stderr.decode()
    assert (done.returncode, done.stdout, text.count("\n")) == (2, b"", 1), text
    told = f"rsecho: {words(option)[0]} {option.verb} {own.upper()}, and only --{other} is served"
    assert text.startswith(told), text
    # The way out.
    assert text[len(told) :].strip("; \n"), text


def test_options_of_one_protocol_are_many_and_guards_say_whose_they_are() -> None:
    names = {each.opts[-1] for each in SERVE if each.protocols in (UDP, TCP)}
    assert names > {
        "--rate-limit", "--rate-limit-total", "--max-connections", "--congestion", "--backlog",
        "--max-line", "--framing", "--broadcast", "--transfer", "--max-connections-per-source",
        "--max-amplification", "--answer-service-ports", "--loop-guard", "--linger",
        "--keep-alive", "--no-delay", "--min-rate", "--stop-on-empty", "--max-datagram",
        "--impair-udp", "--impair-tcp", "--transfer-access",
    }  # fmt: skip
    # Which protocol a guard protects is not to be seen from whose keyword it is.
    told = {each.name: each.protocols for each in SERVE if each.owners & GUARD}
    assert {name for name, which in told.items() if which == BOTH} == {"allow", "deny"}


@pytest.mark.parametrize(
    ("command", "given", "why"),
    [
        ("serve", "--tcp 0 --rate-limit 9", "--connection-rate-limit limits TCP"),
        ("serve", "--tcp 0 --no-loop-guard", "--no-loop-guard is for UDP, and only --tcp"),
        ("serve", "--broadcast-delay 1s", "--broadcast-delay needs --broadcast: "),
        ("serve", "--broadcast-rate 2", "--broadcast-rate needs --broadcast: "),
        ("serve", "--upper --responder time", "--upper needs --responder echo or prefix=TEXT"),
        ("serve", "--error-reply x", "--error-reply needs --responder python="),
        ("serve", "--responder-takes fields", "--responder-takes needs --responder python="),
        (
            "serve",
            "--responder python=os:getcwd --responder-takes fields",
            "--responder-takes fields needs --unpack FORMAT",
        ),
        ("serve", "--framing lines", "--framing needs a --responder other than echo"),
        ("serve", "--framing lines --responder time", "--framing needs a --responder other"),
        ("serve", "--framing records --responder upper", "--framing records needs --unpack"),
        ("serve", "--max-line 1K", "--max-line needs a --responder that reads lines"),
        ("serve", "--max-line 1K --responder python=a:b", "python=… with --framing lines"),
        ("serve", "--min-rate-window 1s", "--min-rate-window needs --min-rate: "),
        ("serve", "--min-rate-window 1s --min-rate 0", "--min-rate-window needs --min-rate: "),
        ("serve", "--force-buffers", "--force-buffers needs --recv-buffer or --send-buffer"),
        ("serve", "--names a", "--names needs --unpack FORMAT"),
        ("serve", "--log-payload 9", "--log-payload needs --log-level debug"),
        ("serve", "--transfer-access pull", "--transfer-access needs --transfer DIR"),
        ("serve", "--transfer-quota 1G", "--transfer-quota needs --transfer DIR"),
        ("serve", "--overwrite --echo-transfers", "--overwrite needs --transfer DIR"),
        ("serve", "--wire plain", "--wire needs --transfer DIR or --echo-transfers"),
        ("serve", "--max-total 1G", "--max-total needs --transfer DIR or --echo-transfers"),
        ("serve", "--keep-partial --transfer .", "--keep-partial needs --wire plain: "),
        ("serve", "--max-message 1M --transfer .", "--transfer-quota is the limit"),
        ("serve", "--overwrite --transfer . --transfer-access pull", "nothing is taken in"),
        ("serve", "--transfer-rate 1M --transfer . --transfer-access push", "nothing is sent"),
        ("serve", "--max-datagram 9 --echo-transfers", "--max-datagram excludes --transfer"),
        (
            "serve",
            "--echo-transfers --transfer . --transfer-access pull",
            "--echo-transfers excludes --transfer-access pull",
        ),
        ("serve", "--udp 127.0.0.1:0 --ipv6-only", "--ipv6-only is for IPv6 addresses"),
        ("serve", "--udp 127.0.0.1:0 --dual-stack", "--dual-stack is for IPv6 addresses"),
        ("serve", "-4 --ipv6-only", "--ipv6-only is for IPv6 addresses"),
        (
            "serve",
            "--udp 0 --impair delay=1 --impair-udp delay=2",
            "--impair has no effect: --impair-udp",
        ),
        ("serve", "--cpus 0-1", "--cpus lists more CPUs than there are workers"),
        ("serve", "--json --jsonl", "--json and --jsonl exclude each other"),
        ("serve", "-4 -6", "--ipv4 and --ipv6 exclude each other"),
        ("serve", "--log-level debug --log-config Makefile", "exclude each other: the file sets"),
        ("serve", "--log-format json --log-config Makefile", "exclude each other: the file sets"),
        ("send", "a:1 --interval 1s", "--interval needs --count 2 or more"),
        ("send", "a:1 --line", "--line needs --tcp"),
        ("send", "udp://a:1 --tcp", "--tcp and udp://… contradict each other"),
        ("send", "a:1 text --hex 00", "TEXT and --hex exclude each other"),
        ("send", "a:1 --stdin --file Makefile text", "--file and --stdin exclude each other"),
        ("send", "a:1 --any --expect x", "--expect and --any exclude each other"),
        ("send", "a:1 --json --jsonl", "--json and --jsonl exclude each other"),
        ("send", "a:1 --force-buffers", "--force-buffers needs --recv-buffer"),
        ("push", "Makefile a:1 --chunk 9", "--chunk needs --wire plain"),
        ("push", "Makefile a:1 --wire plain --name x", "--name needs --wire native"),
        ("push", "Makefile a:1 --echo --replace", "--replace excludes --echo"),
        ("push", "Makefile a:1 --echo --wire plain", "--echo needs --wire native"),
        ("push", "- a:1 --replace", "--replace needs --name for standard input"),
        ("push", "Makefile tcp://a:1", "over udp:// only"),
        ("pull", "a:1 x --max-message 1M", "--max-message needs TO to be -"),
        ("pull", "a:1 x - --force", "--force needs TO to be a file"),
        ("pull", "a:1 x - --json", "--json excludes TO -"),
        ("info", "--force-buffers", "--force-buffers needs --recv-buffer"),
        ("unpack", "!H --json --jsonl", "--json and --jsonl exclude each other"),
    ],
)
def test_an_option_that_needs_another_or_excludes_it(command: str, given: str, why: str) -> None:
    done = rsecho(command, *(each.replace("=", " ", 1) if "delay=" in each else each
                             for each in given.split()))  # fmt: skip
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), text
    assert why in text and text.count("\n") == 1


def test_what_would_be_obeyed_in_part_is_an_error_from_the_environment_too() -> None:
    done = rsecho("serve", *LISTENER["udp"], env={"RSECHO_CPUS": "0,0"})
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "rsecho: RSECHO_CPUS lists more CPUs than there are workers, and each worker is bound to "
        "one; raise --workers, or list fewer\n"
    )
    cpu = str(min(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "0"
    more = {"RSECHO_CPUS": f"{cpu},{cpu}", "RSECHO_WORKERS": "2"}
    with serving(*LISTENER["udp"], env=more) as server:
        server.end()


def test_every_name_in_the_tables_is_an_option_or_argument() -> None:
    assert set(relevance.RULES) | set(relevance.EXCLUSIVE) <= set(
        group.list_commands(click.Context(group))
    )
    for table in (relevance.RULES, relevance.EXCLUSIVE):
        for name, rules in table.items():
            known = {each.name for each in subcommand(name).params}
            for rule in rules:
                assert set(rule.names) <= known, rule


# Nothing there is used by a plain echo over UDP; a flag of each would be an error.
UNUSED = {
    "RSECHO_RATE_LIMIT_TOTAL": "5", "RSECHO_BROADCAST_DELAY": "1s", "RSECHO_FRAMING": "lines",
    "RSECHO_MAX_LINE": "9", "RSECHO_BACKLOG": "5", "RSECHO_NAMES": "a b", "RSECHO_UPPER": "0",
    "RSECHO_ERROR_REPLY": "x", "RSECHO_RESPONDER_TAKES": "fields", "RSECHO_OVERWRITE": "1",
    "RSECHO_TRANSFER_QUOTA": "5", "RSECHO_MAX_CONNECTIONS_PER_SOURCE": "3", "RSECHO_JSON": "1",
    "RSECHO_FORCE_BUFFERS": "1", "RSECHO_MIN_RATE_WINDOW": "1s", "RSECHO_IPV6_ONLY": "1",
    "RSECHO_LOG_LEVEL": "error",
}  # fmt: skip


def test_the_environment_and_a_file_may_set_what_is_not_used(tmp_path: Path) -> None:
    with serving("--udp", "127.0.0.1:0", "--jsonl", env=UNUSED) as server:
        assert len(server.urls) == 1
    assert server.status == 0 and server.totals[0]["stats"]["received_packets"] == 0
    file = tmp_path / "rsecho.toml"
    file.write_text("[serve]\nbacklog = 5\nframing = 'lines'\nbroadcast_delay = 1\n")
    with serving("--udp", "127.0.0.1:0", "--config", str(file)):
        pass


def test_a_file_that_names_its_listeners_has_no_entry_that_these_cannot_obey(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text("[serve]\ntcp = '127.0.0.1:0'\nrate_limit = 5\n")
    done = rsecho("serve", "--config", str(file))
    assert done.returncode == 2
    told = f"rsecho: {file}: [serve] rate_limit limits UDP, and only tcp of that file is served; "
    assert done.stderr.decode().startswith(told), done.stderr
    with serving("--config", str(file), "--udp", "127.0.0.1:0") as server:
        assert len(server.urls) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd")
@pytest.mark.parametrize(("kind", "flag"), [("udp", "--backlog=5"), ("tcp", "--rate-limit=5")])
def test_sockets_that_are_passed_are_listeners(kind: str, flag: str) -> None:
    script = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    passed = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    with passed:
        passed.bind(("127.0.0.1", 0))
        prefix = sys.executable, "-c", script, str(passed.fileno())
        for words in ([flag], ["-4"]):
            with (
                pytest.raises(AssertionError, match="LISTEN_FDS") as raised,
                serving(*words, prefix=prefix, pass_fds=(passed.fileno(),)),
            ):
                pass
            assert ("a UDP socket of" in str(raised.value)) == (kind == "udp" and words != ["-4"])


def test_the_judge_is_a_pure_function() -> None:
    typed, inherited = Asked("--backlog", TCP), Asked("RSECHO_BACKLOG", TCP, is_typed=False)
    values: dict[str, Any] = {"backlog": 5}
    for asked, refused in ((typed, True), (inherited, False)):
        given = Given(values, {"backlog": asked}, {"udp": "--udp"})
        found = relevance.judge("serve", given)
        assert found.names == {"backlog"}
        assert (found.refusal is not None) == refused
        both = given._replace(served={"udp": "--udp", "tcp": "--tcp"})
        assert relevance.judge("serve", both) == relevance.Ignored()
        assert relevance.judge("serve", given._replace(served={})) == relevance.Ignored()


def test_the_stronger_source_wins_where_two_exclude_each_other() -> None:
    asked = {"as_json": Asked("--json"), "as_jsonl": Asked("RSECHO_JSONL", is_typed=False)}
    assert relevance.contest("info", asked, {"as_json": 0, "as_jsonl": 1}).names == set()
    found = relevance.contest("serve", asked, {"as_json": 0, "as_jsonl": 1})
    assert found == relevance.Ignored(frozenset({"as_jsonl"}))
    refused = relevance.contest("serve", asked, {"as_json": 1, "as_jsonl": 1}).refusal
    assert refused is not None and "RSECHO_JSONL exclude each other" in refused


def test_two_variables_that_exclude_each_other_are_an_error() -> None:
    done = rsecho("info", env={"RSECHO_JSON": "1"})
    assert done.returncode == 0
    done = rsecho("unpack", "!H", env={"RSECHO_JSON": "1", "RSECHO_JSONL": "1"})
    assert done.returncode == 2
    assert b"RSECHO_JSON and RSECHO_JSONL exclude each other" in done.stderr
