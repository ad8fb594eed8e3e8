"""From `--udp` and `--tcp` to bound servers."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Literal

from rsecho._rsecho import resolve
from rsecho.cli.failure import CANNOT_START, USAGE, CommandError, failing_with
from rsecho.server import TcpServer, UdpServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsecho.server import Server

DEFAULT_PORT = 9999

# Both, whatever the hosts file says of the name; IPv4 first.
_LOCALHOST = ["127.0.0.1", "::1"]

# systemd's first passed descriptor: SD_LISTEN_FDS_START, sd_listen_fds(3).
_FIRST_PASSED = 3

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
        try:
            for descriptor in passed:
                self._adopt(descriptor)
            for protocol, addresses in (("udp", udp), ("tcp", tcp)):
                for host, port in addresses:
                    self._bind_host(protocol, host, port)
        except BaseException:
            self.close()
            raise
        return self.servers

    def close(self) -> None:
        """Gives every address back."""
        for server in self.servers:
            server.close()
        self.servers.clear()

    def _make(self, protocol: str, host: str, port: int, family: Literal[0, 4, 6]) -> Server:
        settings = dict(self._settings[protocol])
        if ":" not in host:
            settings.pop("ipv6_only", None)  # for the IPv6 addresses among several
        if protocol == "udp":
            return UdpServer(host, port, family=family, **settings)
        return TcpServer(host, port, family=family, **settings)

    def _adopt(self, descriptor: int) -> None:
        try:
            # As sd_listen_fds(3) does: what systemd passes is open across exec.
            os.set_inheritable(descriptor, False)
            with socket.socket(fileno=os.dup(descriptor)) as passed:
                is_udp = passed.type == socket.SOCK_DGRAM
        except OSError as error:
            text = f"cannot adopt descriptor {descriptor} of LISTEN_FDS: {error.strerror}"
            raise CommandError(text, CANNOT_START) from None
        with failing_with(CANNOT_START):
            if is_udp:
                self.servers.append(UdpServer(sock=descriptor, **self._settings["udp"]))
            else:
                self.servers.append(TcpServer(sock=descriptor, **self._settings["tcp"]))

    def _hosts(self, host: str, port: int) -> list[str]:
        if host == "localhost":
            kept = {4: _LOCALHOST[:1], 6: _LOCALHOST[1:]}
            return kept.get(self._family, _LOCALHOST)
        if not host:
            return ["::"] if self._family == 6 else ["0.0.0.0"]
        with failing_with(USAGE):
            return [found for found, _ in resolve(host, port, self._family)]

    def _bind_host(self, protocol: str, host: str, port: int) -> None:
        """Every address of a host, all with one port, also where it is the kernel's choice."""
        hosts = self._hosts(host, port)
        attempts = 20 if port == 0 and len(hosts) > 1 else 1
        for attempt in range(attempts):
            bound: list[Server] = []
            try:
                for each in hosts:
                    real_port = bound[0].address[1] if bound else port
                    if (
                        server := self._bind_one(protocol, each, real_port, bool(bound))
                    ) is not None:
                        bound.append(server)
            except OSError as error:
                for server in bound:
                    server.close()
                if error.errno == errno.EADDRINUSE and attempt + 1 < attempts:
                    continue  # free for one family, taken for the other
                with failing_with(CANNOT_START):
                    raise
            self.servers += bound
            return

    def _bind_one(self, protocol: str, host: str, port: int, may_fail: bool) -> Server | None:
        """None: this machine lacks that address, and another of the same name is bound."""
        try:
            return self._make(protocol, host, port, self._family)
        except ValueError as error:
            raise CommandError(str(error), USAGE) from None
        except OSError as error:
            if may_fail and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _logger.info("left out %s: this machine has no such address", host)
                return None
            raise


def passed_descriptors() -> list[int]:
    """The sockets that systemd passed to this process: sd_listen_fds(3)."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise CommandError(f"cannot use LISTEN_FDS={count}: it is a number of descriptors", USAGE)
    return list(range(_FIRST_PASSED, _FIRST_PASSED + int(count)))
