"""A hundred wrong inputs and more: flags, variables, files, passed sockets, Python's arguments.
Each is answered by one line that names its source as its user knows it, the reason and the way
out."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import logging
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import rsecho as package
import rsecho.responders
import rsecho.transfer
from command import PATIENCE, RSECHO, clean_environment
from command import rsecho as run_rsecho
from rsecho.cli import main
from support import until
from wrong_inputs import CANNOT_START, LINES, USAGE, Wrong
from wrong_python import CALLS, PLUGIN, Call

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester"]

HOST = "127.0.0.1"
DESCRIPTORS = Path("/proc/self/fd")

# The command does not speak Python. What a type of argument takes has an underscore as well.
PYTHON = (
    "Traceback", "argument '", "NoneType", "None ", "ValueError", "TypeError", "object at 0x",
    "_bytes", "_per_source", "_seconds", "_timeout=", "responder=", "unpack=", "impair=", "guard=",
)  # fmt: skip
# Python does not speak flags.
FLAGS = ("--", "RSECHO_", "Traceback", " argument '", "NoneType", "pyo3", "object at 0x")

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


class Taken(NamedTuple):
    """Ports and files that the table speaks of."""

    udp: int
    tcp: int
    dead: int
    dir: Path
    file: Path

    def fill(self, text: str) -> str:
        """The text with them."""
        return text.format(**self._asdict())


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    here = tmp_path_factory.mktemp("wrong")
    (here / "there").write_text("not a table\n")
    (here / "broken_responder.py").write_text('raise KeyError("two\\nlines")\n')
    udp, tcp, dead = (
        socket.socket(type=kind)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM)
    )
    with udp, tcp, dead, socket.socket(type=socket.SOCK_DGRAM) as dead_too:
        for each in (udp, tcp, dead):
            each.bind((HOST, 0))
        tcp.listen()
        # Nobody listens on the one, and the other refuses all but its peer.
        dead_too.bind(dead.getsockname())
        dead_too.connect((HOST, 9))
        first, second, third = (each.getsockname()[1] for each in (udp, tcp, dead))
        package.UdpServer(HOST, 0).close()  # what is opened once for all
        yield Taken(first, second, third, here, here / "rsecho.toml")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, taken: Taken) -> Iterator[None]:
    """No variables, and nothing left: descriptors, threads, handlers."""
    for name in list(os.environ):
        if name.startswith(("RSECHO_", "LISTEN_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path, str(taken.dir)])
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    descriptors, threads = len(list(DESCRIPTORS.iterdir())), set(threading.enumerate())
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    gc.collect()
    until(lambda: set(threading.enumerate()) <= threads)
    assert len(list(DESCRIPTORS.iterdir())) <= descriptors


def program(*words: str, keep: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        pass_fds=keep,
        env=clean_environment(),
        check=False,
    )


def judge(wrong: Wrong, taken: Taken, status: object, output: str, errors: str) -> None:
    assert status == wrong.status, errors
    assert output == ""
    assert errors.startswith("rsecho: ") and errors.count("\n") == 1, errors
    for words in map(taken.fill, wrong.says):
        assert words in errors, (words, errors)
    for words in PYTHON:
        assert words not in errors or words in wrong.given, (words, errors)


@needs_linux
@pytest.mark.parametrize("wrong", LINES, ids=lambda row: f"{row.given} {row.variables or ''}")
@pytest.mark.usefixtures("clean")
def test_wrong_lines_variables_and_files(
    wrong: Wrong,
    taken: Taken,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for each in map(taken.fill, wrong.variables):
        monkeypatch.setenv(*each.split("=", 1))
    if wrong.toml is not None:
        taken.file.write_text(taken.fill(wrong.toml))
        if "--config" not in wrong.given:
            monkeypatch.setenv("RSECHO_CONFIG", str(taken.file))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wrong.data)))
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(taken.fill(wrong.given)))
    judge(wrong, taken, ended.value.code, *capsys.readouterr())


def test_the_table_is_long() -> None:
    assert len(LINES) >= 200
    # What an error has to say is more than the name of the option.
    assert all(len("".join(row.says)) > 15 for row in LINES)
    for command in ("serve", "send", "push", "pull", "info", "unpack", "completion"):
        assert any(row.given.startswith(command) for row in LINES)


# As a user has it, with the start and the end of a process.
REAL = [row for row in LINES[::16] if row.toml is None and "broken" not in row.given]


@needs_linux
@pytest.mark.parametrize("wrong", REAL, ids=lambda row: row.given)
def test_the_real_command_says_the_same(wrong: Wrong, taken: Taken) -> None:
    variables = dict(taken.fill(each).split("=", 1) for each in wrong.variables)
    words = shlex.split(taken.fill(wrong.given))
    done = run_rsecho(*words, data=wrong.data, env=variables)
    judge(wrong, taken, done.returncode, done.stdout.decode(), done.stderr.decode())


# (LISTEN_FDS, LISTEN_PID, how descriptor 3 is opened, status, what is said)
PASSED = [
    ("some", "$$", "3<&-", USAGE, ("LISTEN_FDS=some", "not a number of descriptors", "systemd")),
    ("-1", "$$", "3<&-", USAGE, ("LISTEN_FDS=-1", "not a number of descriptors", "systemd")),
    ("1", "me", "3<&-", USAGE, ("LISTEN_PID=me", "not the number of a process", "systemd")),
    ("1", "$$", "3<&-", CANNOT_START, ("descriptor 3 of LISTEN_FDS", "not open", "were passed")),
    ("1", "$$", "3</dev/null", CANNOT_START, ("of LISTEN_FDS", "not a socket", "ListenDatagram=")),
]  # fmt: skip


@needs_linux
@pytest.mark.parametrize(("count", "pid", "opened", "status", "says"), PASSED)
def test_wrong_sockets_of_systemd(
    count: str, pid: str, opened: str, status: int, says: tuple[str, ...], taken: Taken
) -> None:
    line = f"LISTEN_FDS={count} LISTEN_PID={pid} exec {shlex.quote(RSECHO)} serve {opened}"
    done = program("sh", "-c", line)
    judge(Wrong(line, says, status), taken, done.returncode, done.stdout, done.stderr)


@needs_linux
@pytest.mark.parametrize("kind", ["connected", "unix", "unbound"])
def test_wrong_sockets_that_are_passed(kind: str, taken: Taken) -> None:
    says = {
        "connected": ("a connection, not a listener", "Accept=no"),
        "unix": ("a UNIX socket", "give ListenStream= or ListenDatagram= a port"),
        "unbound": ("not bound to a port", "bind it before it is passed"),
    }[kind]
    left, right = socket.socketpair() if kind == "unix" else (socket.socket(), socket.socket())
    with left, right:
        if kind == "connected":
            left.connect((HOST, taken.tcp))
        line = f"LISTEN_FDS=1 LISTEN_PID=$$ exec {shlex.quote(RSECHO)} serve 3<&{left.fileno()}"
        done = program("bash", "-c", line, keep=(left.fileno(),))
    wrong = Wrong(line, ("descriptor 3 of LISTEN_FDS", *says), CANNOT_START)
    judge(wrong, taken, done.returncode, done.stdout, done.stderr)


@needs_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up a capability")
def test_a_low_port_without_the_right_to_it(taken: Taken) -> None:
    # Of a network namespace of its own: this one's sysctl may allow it.
    prefix = ("unshare", "--net", "setpriv", "--bounding-set=-net_bind_service")
    if program(*prefix, "true").returncode != 0:
        pytest.skip("no namespaces here")
    words = ("serve", "--tcp", "0.0.0.0:7")
    done = program(*prefix, RSECHO, *words)
    says = ("tcp://0.0.0.0:7", "ports below 1024", "take a higher port", "setcap")
    wrong = Wrong(" ".join(words), says, CANNOT_START)
    judge(wrong, taken, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def names(taken: Taken) -> Iterator[dict[str, Any]]:
    """What the table of calls speaks of."""
    transfer = package.transfer
    with contextlib.ExitStack() as stack:
        echo, stream = package.UdpServer(HOST, 0), package.TcpServer(HOST, 0)
        for server in (echo, stream):
            stack.enter_context(server)
        sock_udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        sock_udp.bind((HOST, 0))
        sock_tcp = stack.enter_context(socket.create_server((HOST, 0)))
        talks = stack.enter_context(package.TcpClient(*stream.address))
        talks.request(b"accepted")
        yield {
            "rsecho": package,
            "transfer": transfer,
            "HOST": HOST,
            "nan": float("nan"),
            "inf": float("inf"),
            "f": lambda data, peer: data,
            "udp": functools.partial(package.UdpServer, HOST, 0),
            "tcp": functools.partial(package.TcpServer, HOST, 0),
            "guard": package.Guard,
            "policy": transfer.Policy,
            "mover": functools.partial(transfer.Client, HOST, 9),
            "receiver": functools.partial(transfer.Receiver, HOST, 0),
            "echo": echo,
            "stream": stream,
            "asks": stack.enter_context(package.UdpClient(*echo.address)),
            "talks": talks,
            "taken_udp": taken.udp,
            "taken_tcp": taken.tcp,
            "dead": taken.dead,
            "sock_udp": sock_udp,
            "sock_tcp": sock_tcp,
            "sock_unbound": stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)),
            "sock_unix": stack.enter_context(socket.socket(socket.AF_UNIX)),
            "file": stack.enter_context((taken.dir / "there").open()),
        }


@needs_linux
@pytest.mark.parametrize("wrong", CALLS, ids=lambda row: row.expression)
def test_wrong_calls(wrong: Call, names: dict[str, Any], clean: None) -> None:
    with pytest.raises((Exception,)) as raised:
        eval(wrong.expression, names)
    text = str(raised.value)
    assert any(kind.__name__ == wrong.error for kind in type(raised.value).__mro__), raised.value
    assert "\n" not in text and text
    for words in wrong.says:
        assert words in text, (words, text)
    for words in FLAGS:
        assert words not in text.replace("keyword argument", ""), (words, text)


def test_the_table_of_calls_is_long() -> None:
    assert len(CALLS) >= 140 and len({row.expression for row in CALLS}) == len(CALLS)


def test_wrong_marks_and_scripts(pytester: pytest.Pytester) -> None:
    tests = "\n".join(
        f"@pytest.mark.{mark}\ndef test_{number}({line.partition('.')[0].partition('(')[0]}):\n"
        f"    {line}\n"
        for number, (mark, line, _) in enumerate(PLUGIN)
    ).replace("(pass)", "()")
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error")
    pytester.makepyfile(f"import pytest\n\n{tests}")
    done = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:anyio", "-n0", timeout=60)
    assert done.parseoutcomes() == {"failed": len(PLUGIN)}, done.stdout.str()
    parts = re.split(r"^_+ test_\d+ _+$", done.stdout.str(), flags=re.MULTILINE)[1:]
    for (mark, line, says), part in zip(PLUGIN, parts, strict=True):
        told = [each for each in part.splitlines() if not each.startswith((" ", ">"))]
        for words in says:
            assert any(words in each for each in told), (mark, line, words, part)
        assert "NoneType" not in part and "argument '" not in part.replace("keyword argument '", "")
