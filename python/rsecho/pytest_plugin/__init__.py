"""Echo servers in tests: what a client sent, and networks that lose, delay and duplicate it.

pytest loads this by itself where rsecho is installed.

    def test_it_asks_again(udp_echo):
        udp_echo.impair("loss 50%")
        assert my_client.ask(udp_echo.address, b"ping") == b"ping"

`udp_echo` and `tcp_echo` are servers on 127.0.0.1 that start when first used, live for the
session, and are as new for each test: impairments are off, what came and what was expected is
forgotten, counters begin at 0, and one that a test ended serves again. `make_udp_echo(…)` and
`make_tcp_echo(…)` make more, with any arguments of `rsecho.UdpServer` and `rsecho.TcpServer`;
they are closed after the test. All of them have

- `host`, `port`, `address`, and the `server` itself;
- `received`: what came, as `(data, peer)` in order. Whatever a client has an answer to is in it.
  For TCP that is what reads brought; `streams` has it joined for each connection;
- `wait_for(what, count=, timeout=)`, and `wait_for_async` for asyncio, trio and anyio: until it
  has come. What comes too late, or not at all, fails the test with what came instead;
- `expect(b"GET").reply(b"200")`, `.drop()`, `.times(3)`: scripted answers. `check()` asserts that
  all of it came, and is done by itself when the test has passed; where the test failed by itself,
  its report says what was still expected;
- `impair("delay 50ms 10ms")`: impairs this until the test ends, or until a `with` block of it does;
- `stats()`: what the server counted in this test.

One that is made with a built-in responder by name (`responder="command"`, but not `"echo"`) runs
without Python, so nobody sees what came: `received`, `streams`, `wait_for` and `expect` raise
RuntimeError, and `stats()` is what is left to look at.

`@pytest.mark.impair("loss 20%", seed=1)` impairs all servers of a test, from their first use. What
can be impaired, in which words: docs/impair.md.

**The same again.** Impairments that name no seed take that of the test, which comes from its id
and the session's seed alone: neither the order of tests nor xdist changes it. The session's is
in pytest's header and in the report of each test that failed; `--rsecho-seed N` repeats it.

`refused_udp_port`, `refused_tcp_port` and `silent_udp_port` are ports on 127.0.0.1 that refuse,
or never answer, for as long as the session lasts: nobody else can take them meanwhile.

For annotations: `UdpEcho`, `TcpEcho`, `MakeUdpEcho`, `MakeTcpEcho`, `Received`, `Impairment`,
`Expectation`.
"""

from __future__ import annotations

# pytest looks for hooks and fixtures among the names of this module. None of this imports the
# native module, or asyncio, before a test asks for a server.
from rsecho.pytest_plugin.echo import Impairment, TcpEcho, UdpEcho
from rsecho.pytest_plugin.fixtures import (
    MakeTcpEcho,
    MakeUdpEcho,
    make_tcp_echo,
    make_udp_echo,
    refused_tcp_port,
    refused_udp_port,
    silent_udp_port,
    tcp_echo,
    udp_echo,
)
from rsecho.pytest_plugin.hooks import (
    pytest_addoption,
    pytest_configure,
    pytest_configure_node,
    pytest_report_header,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_runtest_teardown,
)
from rsecho.pytest_plugin.inbox import Received
from rsecho.pytest_plugin.script import Expectation

__all__ = [
    "Expectation",
    "Impairment",
    "MakeTcpEcho",
    "MakeUdpEcho",
    "Received",
    "TcpEcho",
    "UdpEcho",
    "make_tcp_echo",
    "make_udp_echo",
    "pytest_addoption",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "refused_tcp_port",
    "refused_udp_port",
    "silent_udp_port",
    "tcp_echo",
    "udp_echo",
]
