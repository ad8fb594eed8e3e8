"""The pytest plugin in runs of pytest of its own: what passes, what fails, and what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

pytest_plugins = ["pytester"]

HEAD = """
import socket
import pytest

def ask(echo, data, timeout=10):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        client.connect(echo.address)
        client.send(data)
        return client.recv(65536)
"""


@pytest.fixture
def sample(pytester: pytest.Pytester) -> Sample:
    """A project with tests, to be written."""
    return Sample(pytester)


class Sample:
    """Runs pytest in a process of its own over a file of tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error")

    def run(self, *tests: str, options: Sequence[str] = (), **files: str) -> pytest.RunResult:
        """With these tests in one file, or these files."""
        if tests:
            files = {"test_sample": HEAD + "\n".join(tests)}
        if files:
            self.pytester.makepyfile(**files)
        others = ("asyncio", "anyio", "hypothesispytest", "timeout")
        off = [word for name in others for word in ("-p", f"no:{name}")]
        return self.pytester.runpytest_subprocess(*off, *options, timeout=60)


def seed_of(result: pytest.RunResult) -> int:
    """The one in the header."""
    found = re.search(r"^rsecho: --rsecho-seed (\d+)$", result.stdout.str(), re.MULTILINE)
    assert found
    return int(found[1])


# What is loaded.


def test_nothing_heavy_is_loaded_before_a_test_needs_it(sample: Sample) -> None:
    conftest = """
        import sys

        def pytest_unconfigure(config):
            heavy = ["rsecho._rsecho", "rsecho.server", "asyncio", "trio", "click"]
            print("loaded:", [name for name in heavy if name in sys.modules])
            print("plugin:", "rsecho.pytest_plugin" in sys.modules)
    """
    test = "def test(udp_echo): assert ask(udp_echo, b'x') == b'x'"
    collected = sample.run(options=["--collect-only"], conftest=conftest, test_sample=HEAD + test)
    collected.stdout.fnmatch_lines(["*1 test collected*", "loaded: []", "plugin: True"])
    ran = sample.run()
    ran.assert_outcomes(passed=1)
    # The server is there, still without an event loop.
    ran.stdout.fnmatch_lines(["loaded: *'rsecho._rsecho', 'rsecho.server'*"])
    ran.stdout.no_fnmatch_line("loaded: *asyncio*")


def test_what_tests_import_for_annotations_is_light_as_well() -> None:
    code = """
import sys
from rsecho.pytest_plugin import (
    Expectation, Impairment, MakeTcpEcho, MakeUdpEcho, Received, TcpEcho, UdpEcho,
)
assert not {"rsecho._rsecho", "asyncio"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


def test_what_there_is_is_described(sample: Sample) -> None:
    sample.run(options=["--markers"]).stdout.fnmatch_lines(["@pytest.mark.impair(spec,*"])
    sample.run(options=["--help"]).stdout.fnmatch_lines(["*--rsecho-seed=N*"])
    names = ["udp_echo", "tcp_echo", "make_udp_echo", "make_tcp_echo"]
    names += ["udp_echo_factory", "tcp_echo_factory"]
    ports = ["refused_udp_port", "refused_tcp_port", "silent_udp_port"]
    found = sample.run(options=["--fixtures"]).stdout.str()
    for name in names + ports:
        # Each with its documentation in the line that follows.
        assert re.search(rf"^{name}( \[session scope\])? -- .*\n    \w", found, re.MULTILINE), name


# From test to test.


def test_a_server_is_as_new_for_each_test(sample: Sample) -> None:
    result = sample.run(
        """
        ports = set()

        @pytest.mark.parametrize("number", range(4))
        def test(number, udp_echo, tcp_echo):
            ports.add(udp_echo.port)
            assert len(ports) == 1
            assert udp_echo.received == tcp_echo.received == []
            assert udp_echo.stats().received_packets == 0
            assert ask(udp_echo, b"expected") == b"expected"
            udp_echo.expect(b"expected").reply(b"answer")
            assert ask(udp_echo, b"expected") == b"answer"
            udp_echo.impair("loss 100%")
            with pytest.raises(TimeoutError):
                ask(udp_echo, b"x", 0.05)
    """.replace("\n        ", "\n")
    )
    result.assert_outcomes(passed=4)


def test_a_server_that_a_test_ended_serves_the_next(sample: Sample) -> None:
    result = sample.run("""
ports = set()

@pytest.mark.parametrize("number", range(3))
def test(number, udp_echo, tcp_echo):
    ports.add(udp_echo.port)
    assert len(ports) == 1
    assert ask(udp_echo, b"x") == b"x"
    udp_echo.server.stop()
    tcp_echo.server.close()
""")
    result.assert_outcomes(passed=3)


def test_servers_live_as_long_as_their_fixtures(sample: Sample) -> None:
    result = sample.run("""
made = []

def test_makes(make_udp_echo, make_tcp_echo, udp_echo):
    made.extend([make_udp_echo(), make_udp_echo(), make_tcp_echo()])
    assert all(echo.server.is_running for echo in made)
    made.append(udp_echo)

def test_finds_them_closed():
    assert [echo.server.is_running for echo in made] == [False, False, False, True]

@pytest.fixture(scope="module")
def configured(udp_echo):
    return udp_echo.address

def test_fixtures_of_any_scope_may_use_the_sessions(configured, udp_echo):
    assert configured == udp_echo.address
""")
    result.assert_outcomes(passed=3)


# Failures.


def test_what_was_expected_and_never_came_fails_the_test(sample: Sample) -> None:
    result = sample.run("""
def test_expects(udp_echo, make_udp_echo):
    udp_echo.expect(b"never")
    make_udp_echo().expect(b"neither").drop()
    assert ask(udp_echo, b"else") == b"else"

def test_does_not(udp_echo):
    assert udp_echo.received == []
""")
    # Failed, as what is wrong with a test does; no error of a fixture.
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "udp_echo: expect(b'never') never came; 1 came:",
            "  b'else' from 127.0.0.1:*",
            "make_udp_echo[[]0]: expect(b'neither').drop() never came; nothing came",
            "FAILED test_sample.py::test_expects - Failed: udp_echo: expect(b'never')*",
        ]
    )


def test_a_failure_is_reported_with_seed_impairments_and_what_came(sample: Sample) -> None:
    result = sample.run(
        """
@pytest.mark.impair("loss 100%", seed=3)
def test_fails(udp_echo):
    udp_echo.impair("duplicate 100%")
    udp_echo.expect(b"this came")
    udp_echo.expect(b"this never").drop()
    ask(udp_echo, b"this came")
    assert not "at the end"

def test_has_nothing_to_do_with_it():
    assert not "at all"
""",
        options=["--rsecho-seed", "99", "-q"],
    )
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert text.count("repeat with: pytest --rsecho-seed 99") == 1
    result.stdout.fnmatch_lines(
        [
            "*- rsecho -*",
            "repeat with: pytest --rsecho-seed 99",
            "udp_echo at udp://*impaired by 'loss 100% seed 3', then by 'duplicate 100% seed *",
            "  b'this came' from *",
            "unmet: expect(b'this never').drop() never came",
        ]
    )
    assert text.count("unmet: ") == 1


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ('"lozz 5%"', "*impair('lozz 5%'): cannot impair with \"lozz\": there is no such*"),
        ("", "*its first argument is wrong: it takes a text, and a seed if need be*"),
        ('"loss 5%", seed="x"', "*: cannot use seed='x': give a whole number*"),
        ('"loss 5%", sed=5', "*there is no keyword 'sed': it takes a text*"),
        ('"loss 5% seed 3", seed=4', "*seed=4): seed=4 would change nothing, as 'loss*"),
    ],
)
def test_a_bad_marker_fails_the_test_in_one_line(sample: Sample, marker: str, line: str) -> None:
    result = sample.run(f"""
@pytest.mark.impair({marker})
def test_marked(udp_echo):
    raise RuntimeError("this does not run")

@pytest.mark.impair({marker})
def test_making(make_udp_echo):
    make_udp_echo()
    raise RuntimeError("this does not run")

def test_next(udp_echo):
    assert ask(udp_echo, b"x") == b"x"
""")
    result.assert_outcomes(failed=2, passed=1)
    assert "this does not run" not in result.stdout.str().replace('raise RuntimeError("this', "")
    found = [
        text for text in result.outlines if text.startswith(("udp_echo: ", "make_udp_echo[0]: "))
    ]
    assert len(found) == 2
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()


def test_a_marker_on_a_test_without_a_server_is_an_error(sample: Sample) -> None:
    result = sample.run(
        """
pytestmark = pytest.mark.impair("loss 5%", seed=1)

def test_pure():
    assert True

def test_ports(refused_udp_port):
    assert refused_udp_port

def test_never_made(make_udp_echo):
    assert make_udp_echo

def test_skipped():
    pytest.skip("it says nothing then")

def test_by_name(request):
    request.getfixturevalue("udp_echo").received

def test_made(make_tcp_echo):
    make_tcp_echo(impair="latency 1")
""",
        options=["-q"],
    )
    result.assert_outcomes(failed=3, passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.impair('loss 5%', seed=1) impairs nothing, as this test uses no server "
            "of rsecho's fixtures: use udp_echo, tcp_echo or one of their factories, or remove *",
        ]
    )


def test_of_two_markers_at_one_place_none_is_ignored(sample: Sample) -> None:
    result = sample.run("""
@pytest.mark.impair("loss 5%")
@pytest.mark.impair("delay 5ms")
def test_two(udp_echo):
    raise RuntimeError("this does not run")

@pytest.mark.impair("loss 5%")
@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.impair("delay 5ms")), 2])
def test_parameter(udp_echo, n):
    assert n == 2
""")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        ["*impair('loss 5%') and @pytest.mark.impair('delay 5ms') are both on test_two, and only*"]
    )


def test_factories_make_servers_for_the_session(sample: Sample) -> None:
    result = sample.run(
        """
@pytest.fixture(scope="session")
def shout(udp_echo_factory):
    return udp_echo_factory(responder=lambda data, peer: data.upper())

@pytest.fixture(scope="module")
def port(shout):
    return shout.port

@pytest.fixture(scope="session")
def tcp(tcp_echo_factory):
    return tcp_echo_factory(framing="lines")

ports = set()
made = []

@pytest.mark.parametrize("number", range(3))
def test_isolated(number, shout, tcp):
    ports.add(shout.port)
    assert len(ports) == 1
    assert shout.received == [] and shout.stats().received_packets == 0
    assert ask(shout, b"x") == b"X"
    shout.expect(b"y").reply(b"z").always()
    shout.strict()
    shout.impair("duplicate 100%")
    assert ask(shout, b"y") == b"z"
    made.extend([shout, tcp])

@pytest.mark.impair("loss 100%")
def test_knows_only_the_port(port):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.sendto(b"x", ("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            client.recv(10)

def test_does_not_use_it(udp_echo):
    assert not "in a report"

def test_fails(shout):
    shout.expect(b"never")

def test_makes_one_itself(udp_echo_factory):
    assert ask(udp_echo_factory(), b"x") == b"x"
""",
        options=["-q"],
    )
    result.assert_outcomes(passed=5, failed=2)
    text = result.stdout.str()
    assert "shout: expect(b'never') never came; nothing came" in text
    # Each failed test names the servers that it used, and only those.
    assert len(re.findall(r"^shout at udp://", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^udp_echo at udp://", text, re.MULTILINE)) == 1


def test_what_is_unexpected_fails_its_test_and_says_what_was_expected(sample: Sample) -> None:
    result = sample.run("""
def test_strict(udp_echo):
    udp_echo.strict()
    udp_echo.expect(lambda request: request[2:] == b"query").reply(lambda r: r[:2] + b"answer")
    assert ask(udp_echo, b"IDquery") == b"IDanswer"
    with pytest.raises(TimeoutError):
        ask(udp_echo, b"more", 0.1)

def test_wrong_function(udp_echo):
    udp_echo.expect(b"a").reply(lambda request: request.decode())
    with pytest.raises(TimeoutError):
        ask(udp_echo, b"a", 0.1)

def test_next(udp_echo):
    assert ask(udp_echo, b"x") == b"x"
""")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "udp_echo: unexpected b'more' from 127.0.0.1:* (nothing more was expected); 2 came:",
            "udp_echo: lambda request: request.decode() (test_sample.py:*) raised TypeError: a "
            "reply is bytes, a list of bytes, or None for none, not str: encode it; 1 came:",
        ]
    )


# Seeds.

SEEDS = """
@pytest.mark.parametrize("number", range(4))
def test_seed(number, udp_echo, make_udp_echo):
    print("seed", number, udp_echo.impair("loss 1%").spec)

def test_other(udp_echo):
    print("seed other", udp_echo.impair("loss 1%").spec)
"""


def own_seeds(result: pytest.RunResult) -> set[str]:
    """What the tests printed."""
    found = {line for line in result.outlines if line.startswith("seed ")}
    assert len(found) == 5
    return found


def test_a_seed_is_new_each_time_and_repeats_when_given(sample: Sample) -> None:
    first = sample.run(SEEDS, options=["-rP"])
    second = sample.run(options=["-rP"])
    assert own_seeds(first).isdisjoint(own_seeds(second))
    # Every test has one of its own.
    assert len({line.split()[-1] for line in own_seeds(first)}) == 5
    again = sample.run(options=["-rP", "--rsecho-seed", str(seed_of(first))])
    assert seed_of(again) == seed_of(first)
    assert own_seeds(again) == own_seeds(first)


@pytest.mark.parametrize("options", [["-n", "2"], ["-n", "2", "--dist", "loadgroup"]])
def test_processes_and_their_order_change_no_seed(sample: Sample, options: list[str]) -> None:
    grouped = SEEDS.replace("def test_other", '@pytest.mark.xdist_group("b")\ndef test_other')
    spread = sample.run(grouped, options=["-rP", *options])
    spread.assert_outcomes(passed=5)
    # Chosen once, for all processes.
    alone = sample.run(options=["-rP", "--rsecho-seed", str(seed_of(spread))])
    assert own_seeds(alone) == own_seeds(spread)


def test_a_bad_seed_is_a_usage_error(sample: Sample) -> None:
    result = sample.run("def test(): pass", options=["--rsecho-seed", "-5"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "'-5' is not a seed" in result.stderr.str()


def test_servers_of_processes_are_their_own(sample: Sample) -> None:
    result = sample.run(
        """
@pytest.mark.parametrize("number", range(40))
def test(number, udp_echo, tcp_echo, refused_tcp_port, silent_udp_port):
    assert udp_echo.received == []
    assert ask(udp_echo, b"x") == b"x"
    assert len(udp_echo.received) == 1
    with socket.create_connection(tcp_echo.address, 10) as client:
        client.sendall(b"data")
        tcp_echo.wait_for(byte_count=4)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", refused_tcp_port), 10)
""",
        options=["-n", "2"],
    )
    result.assert_outcomes(passed=40)


def test_f42_a_responder_that_does_not_return_is_told_and_holds_up_nothing(sample: Sample) -> None:
    result = sample.run(
        """
import threading

def test_it(make_udp_echo):
    begun = threading.Event()

    def answer(data, peer):
        begun.set()
        threading.Event().wait()

    echo = make_udp_echo(responder=answer)
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", echo.address)
        assert begun.wait(10)

def test_another(udp_echo):
    assert ask(udp_echo, b"x") == b"x"
"""
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*StopTimeoutError: *worker rsecho-udp-0 is still in its responder*"]
    )
    result.stderr.fnmatch_lines(["rsecho: udp://*worker rsecho-udp-0 is still in the responder*"])
