"""Where options come from: flags, variables, files; and that an error names its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from command import rsecho, serving
from rsecho.cli import command as group
from rsecho.cli.options import Option
from rsecho.cli.shape import Command

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("serve", "send", "ping", "push", "pull", "info", "unpack", "completion")


def options(name: str) -> list[Option]:
    """Of a command."""
    found = group.get_command(click.Context(group), name)
    assert isinstance(found, Command)
    assert all(isinstance(each, Option | click.Argument) for each in found.params)
    return [each for each in found.params if isinstance(each, Option)]


def test_a_variable_means_the_same_in_every_command() -> None:
    found: dict[str, tuple[object, ...]] = {}
    assert list(COMMANDS) == group.list_commands(click.Context(group))
    for command in COMMANDS:
        for each in options(command):
            # An option of the same name, kind, default and explanation is the same one.
            kind = type(each.type), each.is_flag, each.multiple
            meaning = each.opts, kind, each.stated_default, each.help
            assert isinstance(each.envvar, str) and each.envvar.startswith("RSECHO_")
            assert found.setdefault(each.envvar, meaning) == meaning, (command, each.envvar)
    assert {"RSECHO_SERVE_TIMEOUT", "RSECHO_SEND_TIMEOUT", "RSECHO_UDP"} < set(found)


@pytest.mark.parametrize(
    "words", [["serve"], ["send", "a:1"], ["push", "Makefile", "a:1"], ["pull", "a:1", "x"]]
)
def test_a_variable_that_would_mean_several_things_is_refused(words: list[str]) -> None:
    done = rsecho(*words, env={"RSECHO_TIMEOUT": "3s"})
    own = f"RSECHO_{words[0].upper()}_TIMEOUT"
    assert done.returncode == 2
    assert "RSECHO_TIMEOUT is not read: --timeout has another meaning" in done.stderr.decode()
    assert f"set {own} instead" in done.stderr.decode()
    # Whoever sets the right one has read that.
    done = rsecho(*words, env={"RSECHO_TIMEOUT": "3s", own: "soon"})
    assert f"rsecho: {own}: 'soon' is not a duration".encode() in done.stderr


VALUES = [
    ("--ttl", "300", "from 1 to 255"),
    ("--ttl", "-1", "from 1 to 255"),
    ("--ttl", "1.5", "is not a whole number"),
    ("--ttl", "many", "is not a whole number"),
    ("--ttl", "9" * 5000, "is not a whole number"),
    ("--workers", "0", "from 1 to 1024"),
    ("--backlog", "99999999999", "is not a whole number from 0 to 2147483647"),
    ("--max-amplification", "nan", "1 or more"),
    ("--max-amplification", "inf", "1 or more"),
    ("--max-amplification", "0.5", "1 or more"),
    ("--broadcast-rate", "0", "more than 0"),
    ("--broadcast-rate", "nan", "more than 0"),
    ("--recv-buffer", "-5", "is not a size"),
    ("--recv-buffer", "1.5M", "is not a size"),
    ("--recv-buffer", "nan", "is not a size"),
    ("--recv-buffer", "99999999999G", "is too large"),
    ("--recv-buffer", "4G", "the kernel takes at most"),
    ("--timeout", "nan", "is not a duration"),
    ("--timeout", "-1s", "is not a duration"),
    ("--timeout", "1e999", "is not a duration"),
    ("--drain-timeout", "99999999999999999h", "at most 1000000h"),
    ("--idle-timeout", "5 minutes", "is not a duration"),
    ("--keep-alive", "0,0,0", "1s to 32767s"),
    ("--keep-alive", "30s,5s,500", "1 to 127"),
    ("--keep-alive", "30s,5s,3,1", "IDLE[,INTERVAL[,COUNT]]"),
    ("--cpus", "a", "is not a list of CPUs"),
    ("--cpus", "3-1", "is not a list of CPUs"),
    ("--rate-limit", "1e3", "is not a rate"),
    ("--rate-limit", "-1", "is not a rate"),
    ("--rate-limit", "0", "--rate-limit"),
    ("--wait", "never", "'balanced', 'latency', 'busy'"),
    ("--transfer", "/nonesuch", "does not exist"),
    ("--udp", "70000", "0 to 65535"),
]


@pytest.mark.parametrize(("flag", "value", "why"), VALUES)
def test_a_wrong_value_names_its_flag_or_its_variable(flag: str, value: str, why: str) -> None:
    by_flag = rsecho("serve", f"{flag}={value}")
    variable = "RSECHO_" + flag[2:].replace("-", "_").upper()
    variable = variable.replace("RSECHO_TIMEOUT", "RSECHO_SERVE_TIMEOUT")
    by_variable = rsecho("serve", env={variable: value})
    for done, name in ((by_flag, flag), (by_variable, variable)):
        text = done.stderr.decode()
        assert (done.returncode, done.stdout, text.count("\n")) == (2, b"", 1), text
        assert name in text and why.replace("--rate-limit", name) in text, text


def test_a_flag_that_a_variable_sets_is_true_or_false() -> None:
    done = rsecho("info", env={"RSECHO_JSON": "maybe"})
    assert done.returncode == 2
    assert done.stderr == b"rsecho: RSECHO_JSON: 'maybe' is neither true nor false; write 1 or 0\n"
    for value, is_json in (("yes", True), ("1", True), ("0", False), ("", False)):
        assert rsecho("info", env={"RSECHO_JSON": value}).stdout.startswith(b"{") == is_json


ENTRIES = [
    ('json = "yes"', "json", 'is "yes"; write true or false'),
    ("json = 1", "json", "is 1; write true or false"),
    ("workers = 2.5", "workers", "is 2.5; write a whole number"),
    ("workers = true", "workers", "is true; write a whole number"),
    ('workers = "2"', "workers", 'is "2"; write a whole number'),
    ("workers = 0", "workers", "0 is not a whole number from 1"),
    ("drain_timeout = nan", "drain_timeout", "nan is not a duration"),
    ("drain-timeout = -inf", "drain-timeout", "-inf is not a duration"),
    ("recv_buffer = -5", "recv_buffer", "-5 is not a size"),
    ("recv_buffer = 1.5", "recv_buffer", "is 1.5; write a number of bytes"),
    ("recv_buffer = true", "recv_buffer", "is true; write a number of bytes"),
    ("max_amplification = nan", "max_amplification", "is not a number, 1 or more"),
    ('max_amplification = "3"', "max_amplification", 'is "3"; write a number'),
    ("responder = 5", "responder", "is 5; write a text"),
    ("responder = { a = 1 }", "responder", "is a table; write a text"),
    ("udp = [true]", "udp", "is true; write a port"),
    ("udp = 70000", "udp", "0 to 65535"),
    ("allow = [5]", "allow", "is 5; write a text"),
    ("rate_limit = -1", "rate_limit", "-1 is not a rate"),
    ('wait = "never"', "wait", "is not one of"),
]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("entry", "key", "why"), ENTRIES)
def test_a_wrong_value_in_a_file_names_file_table_and_key(
    tmp_path: Path, before: bool, entry: str, key: str, why: str
) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text(f"[serve]\n{entry}\n")
    config = "--config", str(file)
    done = rsecho(*config, "serve") if before else rsecho("serve", *config)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout, text.count("\n")) == (2, b"", 1), text
    assert f"{file}: [serve] {key}" in text and why in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("workers = 2\n", "workers is not in a table; write it below [info]"),
        ("[serv]\nworkers = 2\n", "[serv] is not a command; the tables are [serve], [send]"),
        ("[serve]\nworker = 2\n", "[serve] has no option 'worker'"),
        ("[serve]\nconfig = 'a'\n", "[serve] has no option 'config'"),
        ("[serve\n", "cannot read configuration"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text(text)
    done = rsecho("info", "--config", str(file))
    assert done.returncode == 2
    assert why in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_a_file_may_stand_before_or_after_the_command_or_in_the_environment(
    tmp_path: Path,
) -> None:
    json, no_json = tmp_path / "json.toml", tmp_path / "no.toml"
    json.write_text("[info]\njson = true\n[serve]\nworkers = 2\n")
    no_json.write_text("[info]\njson = false\n")
    after, before = ("info", "--config", str(json)), ("--config", str(json), "info")
    for words, env in (
        (after, {}),
        (before, {}),
        (("info",), {"RSECHO_CONFIG": str(json)}),
        # The word in the line wins.
        (after, {"RSECHO_CONFIG": str(no_json)}),
        (before, {"RSECHO_CONFIG": str(no_json)}),
        (after, {"RSECHO_CONFIG": "/nonesuch"}),
    ):
        assert rsecho(*words, env=env).stdout.startswith(b"{"), (words, env)
    done = rsecho("--config", str(json), *after)
    assert done.returncode == 2 and b"before and after the command" in done.stderr
    done = rsecho("info", env={"RSECHO_CONFIG": "/nonesuch"})
    assert (done.returncode, b"RSECHO_CONFIG: File '/nonesuch'" in done.stderr) == (2, True)
    for command in COMMANDS:
        assert b"--config FILE" in rsecho(command, "--help").stdout


def test_keywords_of_the_package_are_told_as_flags() -> None:
    for words, why in (
        (["--max-total", "1K", "--max-message", "1M", "--echo-transfers"], "--max-message"),
        (["--max-datagram", "0"], "--max-datagram"),
        (["--min-rate", "5", "--min-rate-window", "0"], "--min-rate-window 0"),
    ):
        done = rsecho("serve", "--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", *words)
        text = done.stderr.decode()
        assert done.returncode == 2 and why in text, text
        assert "_" not in text.replace("net.core.", ""), text


def test_defaults_are_the_servers_own() -> None:
    # What nobody set is not passed on, so that a server may refuse what needs something else.
    with serving("--udp", "127.0.0.1:0", "--broadcast", "--broadcast-delay", "0"):
        pass


@pytest.mark.parametrize("command", ["serve", "info"])
def test_a_misspelled_variable_is_refused(command: str) -> None:
    done = rsecho(command, env={"RSECHO_RATE_LIMT": "5"})
    assert done.returncode == 2 and done.stdout == b""
    assert b"RSECHO_RATE_LIMT is not a variable of rsecho; did you mean RSECHO_RATE_LIMIT?" in (
        done.stderr
    )


def test_variables_of_others_are_let_be() -> None:
    # Of Services called rsecho, rsecho-udp and rsecho-send, and of another command.
    services = ("", "UDP_", "SEND_")
    env = {f"RSECHO_{each}SERVICE_HOST": "10.0.0.1" for each in services}
    env |= {f"RSECHO_{each}SERVICE_PORT": "9999" for each in services}
    env |= {f"RSECHO_{each}SERVICE_PORT_ECHO": "9999" for each in services}
    env |= {f"RSECHO_{each}PORT": "udp://10.0.0.1:9999" for each in services}
    env |= {f"RSECHO_{each}PORT_9999_UDP_PROTO": "udp" for each in services}
    env |= {f"RSECHO_{each}PORT_9999_TCP_ADDR": "10.0.0.1" for each in services}
    done = rsecho("unpack", "!H", env=env | {"RSECHO_COUNT": "5"})
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("key", ["rate-limit", "rate_limit"])
def test_a_key_is_named_as_the_file_spells_it(key: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f"[serve]\n{key} = 0\n")
    done = rsecho("serve", "--config", str(file))
    assert f"[serve] {key} = 0: a rate is more than 0".encode() in done.stderr


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (("serve", "-4", "--udp", "[::1]:0"), {}, "leave out --ipv4"),
        (("serve", "--udp", "[::1]:0"), {"RSECHO_IPV4": "1"}, "leave out RSECHO_IPV4"),
        (("send", "-6", "127.0.0.1:9"), {}, "leave out --ipv6"),
        (("serve", "--impair", "loss 10%"), {}, "--impair-udp and --impair-tcp impair one"),
        (("send", "127.0.0.1:9", "--timeout", "0"), {}, "--timeout: 0 leaves no time for a reply"),
    ],
)
def test_a_way_out_is_in_the_words_of_the_command(
    words: tuple[str, ...], env: dict[str, str], told: str
) -> None:
    done = rsecho(*words, env=env)
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_impairing_one_protocol_needs_no_word_about_the_other() -> None:
    done = rsecho("serve", "--udp", "0", "--impair", "foo")
    assert b"--impair: cannot impair" in done.stderr and b"--impair-tcp" not in done.stderr
