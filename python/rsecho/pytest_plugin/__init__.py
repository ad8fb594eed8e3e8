"""Echo servers in tests: what a client sent, and networks that lose, delay and duplicate it.

pytest loads this by itself where rsecho is installed.

    def test_it_asks_again(udp_echo):
        udp_echo.expect(b"ping").drop()
        udp_echo.expect(b"ping").reply(b"pong")
        assert my_client.ask(udp_echo.address, b"ping") == b"pong"

**The servers.** `udp_echo` and `tcp_echo` are servers on 127.0.0.1. They start when first used,
live for the session, and are reset for each test: no impairment, nothing received or expected,
counters at 0; a server that a test ended is started again. `make_udp_echo(…)` and
`make_tcp_echo(…)` make more, with the arguments of `rsecho.UdpServer` and `rsecho.TcpServer`, and
`impair=`; they are closed after the test. `udp_echo_factory(…)` and `tcp_echo_factory(…)` make
servers that live for the session and are reset for each test, for fixtures of your own:

    @pytest.fixture(scope="session")
    def dns_server(udp_echo_factory):
        return udp_echo_factory(workers=2)

Every server has

- `host`, `port`, `address`, and the `server` itself;
- `received`: the requests that came, as `(data, peer)` in order. Every request that a client has
  an answer to is in it. Over TCP it has one entry per read; `streams` has them joined, for each
  connection;
- `wait_for(what, count=, timeout=)`, and `wait_for_async` for asyncio, trio and anyio: waits for
  requests. If they do not come in time, the test fails and says what came instead;
- `expect(what)`, scripted answers: see below;
- `impair("delay 50ms 10ms")`: impairs the network until the test, or a `with` block of it, ends;
- `stats()`: the server's counters since the test began.

**Scripted answers.** `expect` takes bytes, a compiled pattern, or a predicate. Calls behind it
say how the request is answered:

    udp_echo.expect(b"GET").reply(b"200")                    # without a call, it is echoed
    udp_echo.expect(b"GET").drop()                           # no answer
    udp_echo.expect(b"GET").reply(b"part 1", b"part 2")      # several replies
    udp_echo.expect(b"GET").delay(0.2).reply(b"late")        # seconds before the next reply
    udp_echo.expect(is_query).reply(lambda request: request[:2] + REST)    # same message id
    udp_echo.expect(is_query).times(3)                       # three times; .always(): any number
    tcp_echo.expect(b"GET").reply(b"half").close()           # end of stream; .reset(): RST

A reply function is called with the request, or with the request and the peer if it needs two
arguments; it may be an `async def`. A request goes to the first expectation that matches it and is
not met yet, else it is echoed. `strict()` fails the test for such a request instead, `in_order()`
has expectations met in their order, and `clear()` forgets all of them. A test that passed fails if
an expected request did not come; `check()` asserts that earlier.

A server that is made with a built-in responder (`responder="command"`, but not `"echo"`) runs
without Python, so nobody sees what came: `received`, `streams`, `wait_for` and `expect` raise
RuntimeError; `stats()` works.

**Impairments.** `@pytest.mark.impair("loss 20%", seed=1)` impairs all servers of a test. It is an
error on a test that uses none. `with udp_echo.impair("in loss 100%"):` does so for a block. The
words are in docs/impair.md. Impairments that name no seed take the test's, which is made of its id
and the session's seed alone: neither the order of tests nor xdist changes it. pytest's header and
the report of each failure show the session's seed; `--rsecho-seed N` repeats it.

**Ports.** `refused_udp_port`, `refused_tcp_port` and `silent_udp_port` are ports on 127.0.0.1 that
refuse, or never answer. They are held for the session: no other program can take them.

For annotations: `UdpEcho`, `TcpEcho`, `MakeUdpEcho`, `MakeTcpEcho`, `Received`, `Impairment`,
`Expectation`.
"""

from __future__ import annotations

# pytest finds hooks and fixtures among the names of this module. None of these imports loads the
# native module or asyncio before a test uses a server.
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
    tcp_echo_factory,
    udp_echo,
    udp_echo_factory,
)
from rsecho.pytest_plugin.hooks import (
    pytest_addoption,
    pytest_configure,
    pytest_configure_node,
    pytest_fixture_setup,
    pytest_report_header,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_runtest_teardown,
)
from rsecho.pytest_plugin.script import Expectation, Received

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
    "pytest_fixture_setup",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "refused_tcp_port",
    "refused_udp_port",
    "silent_udp_port",
    "tcp_echo",
    "tcp_echo_factory",
    "udp_echo",
    "udp_echo_factory",
]
