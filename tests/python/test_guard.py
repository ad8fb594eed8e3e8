"""Sources that must not be answered, on real sockets."""

from __future__ import annotations

import dataclasses
import ipaddress
import resource
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import rsecho
from forge import needs_root, send_forged
from rsecho.guard import RULES_OF
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Recorder

ENGINES = ["batch", "portable"]


def wait_for_packets(server: rsecho.UdpServer, count: int) -> rsecho.UdpStats:
    """The statistics, once so many datagrams have come."""
    deadline = time.monotonic() + 10
    while (stats := server.stats()).received_packets < count:
        assert time.monotonic() < deadline, stats
        time.sleep(0.001)
    return stats


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
def test_f14_a_source_port_of_zero_is_dropped_counted_and_logged_once_a_second(
    engine: rsecho.Engine, logged: Recorder
) -> None:
    with rsecho.UdpServer("127.0.0.1", engine=engine) as server:
        assert server.engine == engine
        start = time.monotonic()
        for sent in range(50, 1001, 50):
            send_forged(("127.0.0.1", 0), server.address, b"who?", count=50)
            # In step with the server: its buffer holds some 250 of them.
            stats = wait_for_packets(server, sent)
        seconds = time.monotonic() - start
        assert stats.dropped["source_port_zero"] == 1000
        assert stats.sent_packets == 0
        with rsecho.UdpClient(*server.address, timeout=10) as client:
            assert client.request(b"honest") == b"honest"
    stats = server.stats()
    assert stats.received_packets == stats.sent_packets + sum(stats.dropped.values())
    rsecho.flush_logs()
    lines = [line for line in logged.lines("rsecho.server") if "source_port_zero" in line]
    told = [line for line in lines if " did not answer " in line]
    # One a second, and what was left at the end.
    assert 1 <= len(told) <= 2 + seconds, told


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_f16_a_forged_source_of_the_servers_own_address_is_not_answered(
    engine: rsecho.Engine, host: str
) -> None:
    with rsecho.UdpServer(host, engine=engine) as server:
        port = server.address[1]
        send_forged(("127.0.0.1", port), ("127.0.0.1", port), b"echo to yourself")
        stats = wait_for_packets(server, 1)
        assert stats.dropped["own_address"] == 1
        # Had it been answered, the answer would be here by now: it comes before this one.
        with rsecho.UdpClient("127.0.0.1", port, timeout=10) as client:
            client.request(b"honest")
        stats = server.stats()
        assert (stats.received_packets, stats.sent_packets) == (2, 1)


def conserved(stats: rsecho.UdpStats) -> bool:
    return stats.received_packets == stats.sent_packets + sum(stats.dropped.values())


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_f17_two_servers_and_one_forged_datagram_end_within_64_rounds(
    engine: rsecho.Engine, host: str, logged: Recorder
) -> None:
    with (
        rsecho.UdpServer(host, engine=engine) as one,
        rsecho.UdpServer(host, engine=engine) as other,
    ):
        assert (one.engine, other.engine) == (engine, engine)
        send_forged(one.address, other.address, b"round and round")

        def dropped() -> int:
            return sum(sum(server.stats().dropped.values()) for server in (one, other))

        until(dropped)
        # What was dropped was the only one there was.
        for server in (one, other):
            with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
                assert client.request(b"honest") == b"honest"
            stats = server.stats()
            assert 2 <= stats.received_packets <= 64
            assert conserved(stats)
        assert dropped() == 1
    rsecho.flush_logs()
    told = [line for line in logged.lines("rsecho.server") if " ended an echo loop with " in line]
    assert len(told) == 1, told
    assert any(f":{server.address[1]}: " in told[0] for server in (one, other))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("ttl", [1, 2, 4, 5, 8, 30, 40, 63])
@pytest.mark.parametrize("impair", ["", "duplicate 100%", "in duplicate 100%; out duplicate 100%"])
def test_f17_a_server_that_reaches_less_far_ends_it_too(
    engine: rsecho.Engine, host: str, ttl: int, impair: str
) -> None:
    with (
        rsecho.UdpServer(host, engine=engine, ttl=ttl, impair=impair) as short,
        rsecho.UdpServer(host, engine=engine) as other,
    ):
        # One only: others would show the other server that it has several hop limits.
        send_forged(other.address, short.address, b"round and round")

        def is_over() -> bool:
            # Whatever is not dropped is answered, and comes to the other one.
            before = [server.stats().received_packets for server in (short, other)]
            time.sleep(0.05)
            return before == [server.stats().received_packets for server in (short, other)]

        until(is_over)
        for server in (short, other):
            stats = server.stats()
            assert stats.received_packets <= 4 * 256
            came = stats.received_packets + stats.duplicated_packets
            assert came == stats.sent_packets + sum(stats.dropped.values())


@pytest.mark.skipif(sys.platform != "linux", reason="hop limits are told on Linux only")
@pytest.mark.parametrize("engine", ENGINES)
def test_f17_another_server_of_the_same_socket_that_ends_changes_nothing(
    engine: rsecho.Engine,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))

        def reports() -> bool:
            return own.getsockopt(socket.IPPROTO_IP, 12) == 1  # IP_RECVTTL

        with rsecho.UdpServer(sock=own, engine=engine) as first:
            until(reports)
            own.setsockopt(socket.IPPROTO_IP, 12, 0)
            with rsecho.UdpServer(sock=own, engine=engine) as second:
                until(reports)
                first.stop()
                assert not reports()
                with rsecho.UdpServer("127.0.0.1", engine=engine) as other:
                    send_forged(other.address, second.address, b"round and round")
                    until(
                        lambda: (
                            sum(other.stats().dropped.values())
                            + sum(second.stats().dropped.values())
                        )
                    )
                    assert second.stats().received_packets <= 64


@pytest.mark.parametrize("engine", ENGINES)
def test_f17_an_echo_that_does_not_protect_itself_stays_below_the_limit(
    engine: rsecho.Engine,
) -> None:
    guard = rsecho.Guard(rate_per_source=(200, 50))
    with (
        rsecho.UdpServer("127.0.0.1", engine=engine, guard=guard) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo,
    ):
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(0.5)
        echo.sendto(b"round and round", server.address)
        rounds, start = 0, time.monotonic()
        try:
            while True:
                data, peer = echo.recvfrom(100)
                rounds += 1
                echo.sendto(data, peer)
        except TimeoutError:
            seconds = time.monotonic() - start
        assert 50 <= rounds <= 50 + 200 * seconds
        assert server.stats().dropped["rate_limited"] == 1
        assert conserved(server.stats())


def hop_limits_of_replies(
    address: tuple[str, int], own: int, payloads: list[bytes]
) -> list[tuple[bytes, int]]:
    """What comes back to a client that sends with this hop limit, and with which it came."""
    is_v6 = ":" in address[0]
    level = socket.IPPROTO_IPV6 if is_v6 else socket.IPPROTO_IP
    sends, reports = (
        (socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVHOPLIMIT)
        if is_v6
        else (socket.IP_TTL, IP_RECVTTL)
    )
    came = []
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(level, sends, own)
        client.setsockopt(level, reports, 1)
        client.connect(address)
        for payload in payloads:
            client.send(payload)
            data, control, _, _ = client.recvmsg(100, 100)
            came.append((data, int.from_bytes(control[0][2], sys.byteorder)))
    return came


@pytest.mark.skipif(sys.platform != "linux", reason="these options are Linux's")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("impair", ["", "delay 100us"])
def test_f17_replies_have_a_smaller_hop_limit_than_their_requests(
    engine: rsecho.Engine, host: str, impair: str
) -> None:
    with rsecho.UdpServer(host, engine=engine, impair=impair) as server:
        assert server.engine == engine
        # Long enough that the socket's own follows what most replies are to have.
        payloads = [b"%d" % number for number in range(600)]
        for own, wanted in ((64, {63}), (255, {120}), (41, {40}), (64, {63})):
            came = hop_limits_of_replies(server.address, own, payloads)
            assert [data for data, _ in came] == payloads
            assert {hop_limit for _, hop_limit in came} == wanted, own
    # From far away, or chosen: one less might not arrive. A server of its own: the kernel may give
    # the client the port of one before, which is then known by another hop limit.
    with rsecho.UdpServer(host, engine=engine, impair=impair) as server:
        came = hop_limits_of_replies(server.address, 3, payloads)
        assert min(hop_limit for _, hop_limit in came) >= 64


@pytest.mark.skipif(sys.platform != "linux", reason="these options are Linux's")
@pytest.mark.parametrize("engine", ENGINES)
def test_without_the_loop_guard_replies_have_the_sockets_hop_limit(engine: rsecho.Engine) -> None:
    guard = rsecho.Guard(loop_guard=False)
    with rsecho.UdpServer("127.0.0.1", engine=engine, guard=guard, ttl=9) as server:
        assert {hop for _, hop in hop_limits_of_replies(server.address, 3, [b"x"] * 9)} == {9}
    with rsecho.UdpServer("127.0.0.1", engine=engine, ttl=9) as server:
        assert {hop for _, hop in hop_limits_of_replies(server.address, 64, [b"x"] * 9)} == {9}


# Of linux/udp.h and linux/in.h: the socket module has no names for them.
UDP_GRO, IP_RECVTTL = 104, 12


@pytest.mark.skipif(sys.platform != "linux", reason="these options are Linux's")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("was", [0, 1])
def test_a_socket_that_was_passed_in_gets_its_options_back(
    engine: rsecho.Engine, host: str, was: int
) -> None:
    is_v6 = ":" in host
    options = [(socket.IPPROTO_UDP, UDP_GRO), (socket.IPPROTO_IP, IP_RECVTTL)]
    hops = [(socket.IPPROTO_IP, socket.IP_TTL)]
    if is_v6:
        hops.append((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS))
        options.append((socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT))
    with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((host, 0))
        for option in options:
            own.setsockopt(*option, was)
        sent_with = [own.getsockopt(*option) for option in hops]
        with rsecho.UdpServer(sock=own, engine=engine) as server:
            assert server.engine == engine
            with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
                for _ in range(600):
                    client.request(b"hello")
            # Its owner may send by it as well.
            assert [own.getsockopt(*option) for option in hops] == sent_with
            assert all(own.getsockopt(*option) for option in options[1:])
            assert own.getsockopt(*options[0]) == (1 if engine == "batch" else was)
        assert [own.getsockopt(*option) for option in options] == [was] * len(options)
        assert [own.getsockopt(*option) for option in hops] == sent_with


@pytest.mark.parametrize("engine", ENGINES)
def test_who_may_ask(engine: rsecho.Engine) -> None:
    networks = ipaddress.ip_network("127.0.0.0/30"), "127.0.0.9"
    guard = rsecho.Guard(allow=networks, deny=["127.0.0.2/32"])
    assert guard.allow == ("127.0.0.0/30", "127.0.0.9")
    with rsecho.UdpServer("127.0.0.1", engine=engine, guard=guard) as server:
        for host, is_allowed in (("127.0.0.2", False), ("127.0.0.4", False), ("127.0.0.9", True)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((host, 0))
                client.sendto(b"may I?", server.address)
                if is_allowed:
                    client.settimeout(PATIENCE)
                    assert client.recv(10) == b"may I?"
        assert server.stats().dropped["denied"] == 2
        assert conserved(server.stats())


def test_a_client_beyond_its_rate_is_told_nothing_and_counted() -> None:
    guard = rsecho.Guard(rate_per_source=(0.01, 3), rate_total=(0.01, 100))
    with rsecho.UdpServer("127.0.0.1", guard=guard) as server:
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            for number in range(3):
                client.request(bytes([number]))
            client.send(b"once more")
        until(lambda: server.stats().dropped["rate_limited"] == 1)
        assert conserved(server.stats())


def is_served(address: tuple[str, int]) -> bool:
    with rsecho.TcpClient(*address, timeout=PATIENCE) as client:
        try:
            return client.request(b"hello") == b"hello"
        except (rsecho.EndOfStreamError, ConnectionError):
            return False


@pytest.mark.parametrize("engine", ENGINES)
def test_tcp_connections_by_source(engine: rsecho.Engine, logged: Recorder) -> None:
    guard = rsecho.Guard(connections_per_source=1)
    with rsecho.TcpServer("127.0.0.1", engine=engine, guard=guard) as server:
        with rsecho.TcpClient(*server.address, timeout=PATIENCE) as first:
            first.request(b"hello")
            for _ in range(10):
                assert not is_served(server.address)
        until(lambda: is_served(server.address))
        stats = server.stats()
        assert stats.refused_by_source >= 10
        assert stats.accepted_connections == 2
    rsecho.flush_logs()
    told = [line for line in logged.lines("rsecho.server") if " at once (" in line]
    assert 1 <= len(told) <= 3, told


def is_served_from(host: str, address: tuple[str, int]) -> bool:
    with socket.create_connection(address, PATIENCE, source_address=(host, 0)) as client:
        try:
            client.sendall(b"hello")
            return client.recv(5) == b"hello"
        except ConnectionError:
            return False


@pytest.mark.parametrize("engine", ENGINES)
def test_tcp_connections_per_second(engine: rsecho.Engine, logged: Recorder) -> None:
    guard = rsecho.Guard(connection_rate_per_source=(0.01, 3))
    with rsecho.TcpServer("127.0.0.1", engine=engine, guard=guard) as server:
        start = time.monotonic()
        assert [is_served(server.address) for _ in range(10)] == [True] * 3 + [False] * 7
        # Another source has its own.
        assert is_served_from("127.0.0.2", server.address)
        seconds = time.monotonic() - start
        stats = server.stats()
        assert (stats.refused_by_rate, stats.refused_by_source) == (7, 0)
        assert stats.accepted_connections == 4
        assert stats.accepted_connections == stats.active_connections + sum(stats.closed.values())
    rsecho.flush_logs()
    told = [line for line in logged.lines("rsecho.server") if " at once (" in line]
    assert 1 <= len(told) <= 2 + seconds, told
    assert "refused_by_rate=" in told[0] and "denied" not in told[0]


def test_a_client_beyond_its_rate_sees_an_end_of_stream() -> None:
    guard = rsecho.Guard(connection_rate_per_source=(0.01, 1))
    with rsecho.TcpServer("127.0.0.1", guard=guard) as server:
        assert is_served(server.address)
        with socket.create_connection(server.address, PATIENCE) as client:
            assert client.recv(1) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine's")
@pytest.mark.parametrize("engine", ENGINES)
def test_many_sources_take_no_memory_and_leave_a_limited_one_limited(
    engine: rsecho.Engine,
) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    guard = rsecho.Guard(connection_rate_per_source=(0.01, 1))
    with rsecho.TcpServer("127.0.0.1", engine=engine, guard=guard) as server:
        for number in range(500):
            is_served_from(f"127.1.1.{number % 250 + 1}", server.address)
        assert is_served(server.address)
        before = resident()
        for number in range(3000):
            source = f"127.2.{number // 250}.{number % 250 + 1}"
            assert is_served_from(source, server.address), source
            if number % 100 == 0:
                assert not is_served(server.address)
        assert resident() - before < 4 << 20
        stats = server.stats()
        assert stats.refused_by_rate == 250 + 30
        assert stats.accepted_connections == 250 + 1 + 3000


UDP_RULES: list[dict[str, Any]] = [
    {"rate_per_source": 100},
    {"rate_total": (100, 5)},
    {"max_amplification": 2},
    {"answer_service_ports": True},
    {"loop_guard": False},
]
TCP_RULES: list[dict[str, Any]] = [
    {"connections_per_source": 0},
    {"connection_rate_per_source": 100},
]


@pytest.mark.parametrize(
    ("server", "protocol", "rule"),
    [
        *[(rsecho.TcpServer, "TCP", rule) for rule in UDP_RULES],
        *[(rsecho.UdpServer, "UDP", rule) for rule in TCP_RULES],
    ],
)
def test_a_rule_that_a_server_cannot_obey_is_refused_and_left_out_by_only(
    server: Callable[..., Any], protocol: str, rule: dict[str, Any]
) -> None:
    guard = rsecho.Guard(deny=["192.0.2.0/24"], **rule)
    own: Literal["udp", "tcp"] = "udp" if protocol == "UDP" else "tcp"
    (name,) = rule
    with pytest.raises(ValueError, match="cannot set") as raised:
        server("127.0.0.1", guard=guard)
    text = str(raised.value)
    for part in (name, f"this server is {protocol}", f'guard.only("{own}") leaves it out'):
        assert part in text, text
    assert "\n" not in text and "--" not in text
    assert guard.only(own) == rsecho.Guard(deny=["192.0.2.0/24"])
    assert guard.only("udp" if own == "tcp" else "tcp") == guard
    with server("127.0.0.1", guard=guard.only(own)):
        pass


def test_every_rule_is_of_one_protocol_or_of_both() -> None:
    names = {field.name for field in dataclasses.fields(rsecho.Guard)}
    udp, tcp = (frozenset[str]().union(*rules) for rules in (UDP_RULES, TCP_RULES))
    assert {"udp": udp, "tcp": tcp} == RULES_OF
    assert names == {"allow", "deny"} | udp | tcp


def test_one_guard_for_both_protocols() -> None:
    both = rsecho.Guard(rate_per_source=(0.01, 1), connection_rate_per_source=(0.01, 1))
    with (
        rsecho.UdpServer("127.0.0.1", guard=both.only("udp")) as udp,
        rsecho.TcpServer("127.0.0.1", guard=both.only("tcp")) as tcp,
    ):
        with rsecho.UdpClient(*udp.address, timeout=PATIENCE) as client:
            assert client.request(b"one") == b"one"
            client.send(b"two")
        until(lambda: udp.stats().dropped["rate_limited"] == 1)
        assert [is_served(tcp.address) for _ in range(2)] == [True, False]


def test_tcp_denied() -> None:
    guard = rsecho.Guard(deny=["127.0.0.0/8"])
    with rsecho.TcpServer("127.0.0.1", guard=guard) as server:
        assert not is_served(server.address)
        stats = server.stats()
        assert (stats.denied_connections, stats.accepted_connections) == (1, 0)


def test_one_line_says_what_holds_beyond_loopback(logged: Recorder) -> None:
    guard = rsecho.Guard(rate_per_source=100)
    for server in (
        rsecho.UdpServer("0.0.0.0", guard=guard),
        rsecho.TcpServer("0.0.0.0", idle_timeout=0),
        rsecho.UdpServer("127.0.0.1", guard=guard),
        rsecho.TcpServer("127.0.0.1"),
    ):
        with server:
            pass
    rsecho.flush_logs()
    records = logged.of("rsecho.server")
    told = [record.getMessage() for record in records if record.__dict__["event"] == "guards"]
    assert len(told) == 2
    assert "answers no service ports, ends echo loops" in told[0]
    assert (
        "rate limit per source: 100 datagrams per second, for all sources together: none" in told[0]
    )
    assert "silent connections never, stalled ones after 60 s" in told[1]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"allow": ["10.0.0.0/33"]}, ValueError, 'allow="10.0.0.0/33": .*0 to 32 bits'),
        ({"deny": ["::/129"]}, ValueError, 'deny="::/129": .*; write ADDRESS/BITS'),
        (
            {"allow": ["10.0.0.1/24"]},
            ValueError,
            'allow="10.0.0.1/24": .*; write 10.0.0.0/24, or 10.0.0.1',
        ),
        (
            {"allow": [ipaddress.ip_interface("fd00::1/8")]},
            ValueError,
            "write fd00::/8, or fd00::1",
        ),
        # It can be iterated over, by its 16 million addresses.
        ({"deny": ipaddress.ip_network("10.0.0.0/8")}, TypeError, r"write \['10.0.0.0/8'\]"),
        ({"deny": 5}, TypeError, "deny=5: it is a list of networks"),
        ({"loop_guard": 0}, TypeError, "loop_guard.*True or False, not 0"),
        (
            {"answer_service_ports": "no"},
            TypeError,
            "answer_service_ports.*True or False, not 'no'",
        ),
        ({"deny": ["example.org"]}, ValueError, "numeric address"),
        ({"allow": "10.0.0.0/8"}, TypeError, "list of networks"),
        ({"rate_per_source": 0}, ValueError, "rate_per_source"),
        ({"rate_total": (5, 0)}, ValueError, "rate_total"),
        ({"rate_total": float("nan")}, ValueError, "rate_total"),
        ({"rate_total": (5, -1)}, ValueError, "rate_total"),
        ({"rate_total": float("inf")}, ValueError, "rate_total=inf: .*; leave it out"),
        ({"rate_total": (1e-9, 5)}, ValueError, "rate_total=1e-9 .*; take a higher rate"),
        ({"rate_per_source": "100"}, TypeError, "rate_per_source.*not '100'"),
        ({"rate_per_source": True}, TypeError, "rate_per_source.*not True"),
        ({"rate_per_source": [100, 5]}, TypeError, r"rate_per_source.*not \[100, 5\]"),
        ({"rate_per_source": (100, 1.5)}, TypeError, r"rate_per_source.*not \(100, 1.5\)"),
        ({"connection_rate_per_source": -1}, ValueError, "connection_rate_per_source=-1"),
        (
            {"connection_rate_per_source": (1, 0)},
            ValueError,
            "connection_rate_per_source: a burst of 0",
        ),
        (
            {"max_amplification": float("inf")},
            ValueError,
            "max_amplification=inf: .*; leave it out",
        ),
        ({"max_amplification": "3"}, TypeError, "max_amplification.*not '3'"),
        ({"connections_per_source": 1.5}, TypeError, "connections_per_source.*not 1.5"),
        ({"connections_per_source": True}, TypeError, "connections_per_source.*not True"),
        ({"max_amplification": 0.5}, ValueError, "max_amplification"),
        ({"connections_per_source": -1}, ValueError, "connections_per_source"),
    ],
)
def test_rules_that_can_never_work(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        rsecho.Guard(**arguments)
    assert len(str(raised.value).splitlines()) == 1


def test_a_guard_is_a_value() -> None:
    assert rsecho.Guard(allow=["10.0.0.0/8"]) == rsecho.Guard(allow=("10.0.0.0/8",))
    assert hash(rsecho.Guard()) == hash(rsecho.Guard())
    assert repr(rsecho.Guard()) == "Guard()"
    assert repr(rsecho.Guard(rate_total=(5, 2))) == "Guard(rate_total=(5, 2))"
    with pytest.raises(AttributeError):
        rsecho.Guard().loop_guard = False  # type: ignore[misc]
