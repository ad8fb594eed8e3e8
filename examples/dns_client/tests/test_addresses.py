"""Names are asked for again, and only answers with the id of the request count (RFC 1035)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.rrset
import pytest
from dns_client import addresses

if TYPE_CHECKING:
    from conftest import DnsServer

NAME = "host.example"


def is_query(request: bytes) -> bool:
    """A question for the IPv4 addresses of the host."""
    question = dns.message.from_wire(request).question[0]
    return question.to_text() == f"{NAME}. IN A"


def answer(request: bytes, *found: str) -> bytes:
    """The answer to a request, with its id."""
    response = dns.message.make_response(dns.message.from_wire(request))
    response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "A", *found))
    return response.to_wire()


def right(request: bytes) -> bytes:
    """The answer that the tests wait for."""
    return answer(request, "192.0.2.1", "192.0.2.2")


def with_wrong_id(request: bytes) -> bytes:
    """Another answer, to a question that nobody asked."""
    wrong_id = (int.from_bytes(request[:2]) ^ 1).to_bytes(2)
    return wrong_id + answer(request, "198.51.100.66")[2:]


def truncated(request: bytes) -> bytes:
    """An answer that says only that it has no room in a datagram (TC)."""
    response = dns.message.make_response(dns.message.from_wire(request))
    response.flags |= dns.flags.TC
    return response.to_wire()


def test_an_answer_has_the_id_of_its_request(dns_server: DnsServer) -> None:
    query = dns_server.udp.expect(is_query).reply(right).times(2)
    for _ in range(2):
        assert addresses(NAME, dns_server.address) == ["192.0.2.1", "192.0.2.2"]
    first, second = (request[:2] for request, _ in query.received)
    # By chance once in 65,536 times.
    assert first != second


def test_a_request_whose_answer_is_lost_is_sent_again(dns_server: DnsServer) -> None:
    dns_server.udp.expect(is_query).drop()
    dns_server.udp.expect(is_query).reply(right)
    assert addresses(NAME, dns_server.address) == ["192.0.2.1", "192.0.2.2"]


def test_an_answer_with_another_id_is_not_believed(dns_server: DnsServer) -> None:
    dns_server.udp.expect(is_query).reply(with_wrong_id, right)
    assert addresses(NAME, dns_server.address) == ["192.0.2.1", "192.0.2.2"]


def test_an_answer_that_comes_late_is_not_mixed_up(dns_server: DnsServer) -> None:
    late = dns_server.udp.expect(is_query).delay(0.3).reply(lambda r: answer(r, "192.0.2.9"))
    dns_server.udp.expect(is_query).reply(right)
    assert addresses(NAME, dns_server.address) == ["192.0.2.1", "192.0.2.2"]
    assert late.is_met


def test_a_truncated_answer_is_asked_for_over_tcp(dns_server: DnsServer) -> None:
    dns_server.udp.expect(is_query).reply(truncated)

    def is_whole(data: bytes) -> bool:
        # RFC 1035 section 4.2.2: two bytes say how long a message is that follows.
        return len(data) == 2 + int.from_bytes(data[:2]) and is_query(data[2:])

    def over_tcp(data: bytes) -> list[bytes]:
        message = right(data[2:])
        return [len(message).to_bytes(2), message]

    dns_server.tcp.expect(is_whole).reply(over_tcp).close()
    assert addresses(NAME, dns_server.address) == ["192.0.2.1", "192.0.2.2"]


def test_it_gives_up_when_nobody_answers(dns_server: DnsServer) -> None:
    dns_server.udp.expect(is_query).drop().always()
    with pytest.raises(dns.exception.Timeout):
        addresses(NAME, dns_server.address, timeout=0.02)
    assert len(dns_server.udp.received) > 1


def test_on_a_bad_network(dns_server: DnsServer) -> None:
    # Not by the marker, which impairs all servers of a test: TCP loses nothing.
    dns_server.udp.impair("in loss 30%; out duplicate 30% delay 5ms", seed=1)
    dns_server.udp.expect(is_query).reply(right).always()
    for _ in range(10):
        found = addresses(NAME, dns_server.address, timeout=0.1)
        assert found == ["192.0.2.1", "192.0.2.2"]
