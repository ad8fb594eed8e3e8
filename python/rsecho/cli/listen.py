"""From `--udp` and `--tcp` to bound servers."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from rsecho._rsecho import resolve
from rsecho.cli.addresses import Wanted, collision
from rsecho.cli.answers import impairing
from rsecho.cli.failure import CANNOT_START, USAGE, CommandError, failing_with, reason
from rsecho.cli.passed import passed_descriptors, protocol_of
from rsecho.cli.spoken import name_of
from rsecho.server import TcpServer, UdpServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsecho.server import Server

DEFAULT_PORT = 9999

# Both, whatever the hosts file says of the name; IPv4 first.
_LOCALHOST = ["127.0.0.1", "::1"]

_ANY = ["0.0.0.0", "::"]

_logger = logging.getLogger("rsecho.server")


class Listeners:
    """Binds servers one after the other; what is bound is given back if a later one fails."""

    def __init__(self, family: Literal[0, 4, 6], udp: dict[str, Any], tcp: dict[str, Any]) -> None:
        self.servers: list[Server] = []
        self._family = family
        self._settings = {"udp": udp, "tcp": tcp}

    def bind(self, udp: Sequence[tuple[str, int]], tcp: Sequence[tuple[str, int]]) -> list[Server]:
        """All that were asked for; with neither, UDP and TCP on localhost:9999."""
        passed = passed_descriptors()
        if not (udp or tcp or passed):
            udp = tcp = [("localhost", DEFAULT_PORT)]
        wanted = [
            (protocol, self._hosts(protocol, host, port), port)
            for protocol, addresses in (("udp", udp), ("tcp", tcp))
            for host, port in addresses
        ]
        self._refuse_collisions(wanted)
        try:
            for descriptor in passed:
                self._adopt(descriptor)
            for protocol, hosts, port in wanted:
                self._bind_hosts(protocol, hosts, port)
        except BaseException:
            self.close()
            raise
        return self.servers

    def close(self) -> None:
        """Gives every address back."""
        for server in self.servers:
            server.close()
        self.servers.clear()

    def _refuse_collisions(self, wanted: Sequence[tuple[str, list[str], int]]) -> None:
        """Before anything is bound: the kernel would only say that a port is in use."""
        for protocol, settings in self._settings.items():
            if settings.get("reuse_port") or (protocol == "udp" and settings.get("reuse_address")):
                continue  # asked to share
            bound = [
                Wanted(host, port, self._ipv6_only(protocol, host, hosts))
                for each, hosts, port in wanted
                for host in hosts
                if each == protocol
            ]
            if text := collision(protocol, bound):
                raise CommandError(_sourced(protocol, text), USAGE)

    def _ipv6_only(self, protocol: str, host: str, hosts: list[str]) -> bool | None:
        # Beside 0.0.0.0 for the same port; elsewhere as it was asked for.
        is_beside = host == "::" and len(hosts) > 1
        only: bool | None = self._settings[protocol].get("ipv6_only")
        return True if is_beside else only

    def _make(self, protocol: str, host: str, port: int, hosts: list[str]) -> Server:
        settings = self._settings[protocol] | {
            "family": self._family,
            "ipv6_only": self._ipv6_only(protocol, host, hosts),
        }
        if ":" not in host:
            del settings["ipv6_only"]  # is for the others
        return (UdpServer if protocol == "udp" else TcpServer)(host, port, **settings)

    def _adopt(self, descriptor: int) -> None:
        protocol = protocol_of(descriptor)
        make = UdpServer if protocol == "udp" else TcpServer
        try:
            with failing_with(CANNOT_START):
                self.servers.append(make(sock=descriptor, **self._settings[protocol]))
        except CommandError as error:
            raise CommandError(_wrong(protocol, str(error)), error.status) from None

    def _hosts(self, protocol: str, host: str, port: int) -> list[str]:
        if host == "localhost":
            kept = {4: _LOCALHOST[:1], 6: _LOCALHOST[1:]}
            return kept.get(self._family, _LOCALHOST)
        if not host:
            # All interfaces: of each family by a socket of its own, so that a machine without
            # IPv6 has the other; by one where --dual-stack wants it.
            if self._settings["udp"].get("ipv6_only") is False and self._family == 0:
                return ["::"]
            return {4: _ANY[:1], 6: _ANY[1:]}.get(self._family, _ANY)
        try:
            return [found for found, _ in resolve(host, port, self._family)]
        except (ValueError, OSError) as error:
            raise CommandError(f"{_asked_by(protocol)}: {reason(error)}", USAGE) from None

    def _bind_hosts(self, protocol: str, hosts: list[str], port: int) -> None:
        """Every address of a host, all with one port, also where it is the kernel's choice."""
        attempts = 20 if port == 0 and len(hosts) > 1 else 1
        for attempt in range(attempts):
            bound: list[Server] = []
            try:
                for each in hosts:
                    real_port = bound[0].address[1] if bound else port
                    if (
                        server := self._bind_one(protocol, each, real_port, hosts, bool(bound))
                    ) is not None:
                        bound.append(server)
            except OSError as error:
                for server in bound:
                    server.close()
                if error.errno == errno.EADDRINUSE and attempt + 1 < attempts:
                    continue  # free for one family, taken for the other
                raise CommandError(_sourced(protocol, reason(error)), CANNOT_START) from None
            self.servers += bound
            return

    def _bind_one(
        self, protocol: str, host: str, port: int, hosts: list[str], may_fail: bool
    ) -> Server | None:
        """None: this machine lacks that address, and another of the same name is bound."""
        try:
            return self._make(protocol, host, port, hosts)
        except ValueError as error:
            raise CommandError(_wrong(protocol, str(error)), USAGE) from None
        except OSError as error:
            if may_fail and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _logger.info("left out %s: this machine has no such address", host)
                return None
            raise


def _wrong(protocol: str, text: str) -> str:
    """An error about a setting. That of an impairment shows a word of it, and not whose it is."""
    if not text.startswith("cannot impair "):
        return text
    given = click.get_current_context().params
    if (
        given["impair"] is not None
        and given["impair_tcp"] is None
        and bool(given["udp"]) == bool(given["tcp"])
    ):
        # One text for both, and the options of UDP are not those of TCP.
        text += "; --impair-udp and --impair-tcp impair one of them"
    return f"{impairing(protocol)}: {text}"


def _asked_by(protocol: str) -> str:
    """What asked for the addresses of this protocol: a flag, a variable, or a key in the file."""
    context = click.get_current_context()
    (each,) = (each for each in context.command.params if each.name == protocol)
    return name_of(context, each)


def _sourced(protocol: str, text: str) -> str:
    """An error that shows the address, with what asked for it where that was not a flag."""
    source = click.get_current_context().get_parameter_source(protocol)
    is_known = source in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT)
    return text if is_known else f"{_asked_by(protocol)}: {text}"
