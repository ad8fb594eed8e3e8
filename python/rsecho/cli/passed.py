"""Sockets that systemd passed to this process: sd_listen_fds(3)."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Literal

from rsecho.cli.failure import CANNOT_START, USAGE, CommandError

# SD_LISTEN_FDS_START.
_FIRST = 3

_COUNT = re.compile("[0-9]{1,9}")


def passed_descriptors() -> range:
    """Their descriptors; none where they were passed to another process."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count:
        return range(0)
    if pid and not re.fullmatch("[0-9]{1,9}", pid):
        raise CommandError(
            f"cannot use LISTEN_PID={pid}: it is not the number of a process, as systemd sets it",
            USAGE,
        )
    if pid != str(os.getpid()):
        return range(0)
    if not _COUNT.fullmatch(count):
        why = "it is not a number of descriptors, as systemd sets it"
        raise CommandError(f"cannot use LISTEN_FDS={count[:32]}: {why}", USAGE)
    return range(_FIRST, _FIRST + int(count))


def passed_protocols() -> set[str]:
    """Those of the passed sockets, which are not taken yet. What is wrong with them is said where
    they are taken."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not _COUNT.fullmatch(count):
        return set()
    found = set()
    for descriptor in range(_FIRST, _FIRST + min(int(count), 1024)):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as passed:
                found.add("udp" if passed.type == socket.SOCK_DGRAM else "tcp")
        except OSError:
            continue
    return found


def protocol_of(descriptor: int) -> Literal["udp", "tcp"]:
    """What can be served on a descriptor; an error in systemd's words if nothing can."""
    try:
        # As sd_listen_fds(3) does: what systemd passes is open across exec.
        os.set_inheritable(descriptor, False)
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            return _checked(descriptor, passed)
    except OSError as error:
        if error.errno == errno.EBADF:
            open_ones = descriptor - _FIRST
            why = f"it is not open; only {open_ones} of the sockets that it counts were passed"
            raise _unusable(descriptor, why) from None
        if error.errno == errno.ENOTSOCK:
            why = "it is a file or a pipe, not a socket"
            way_out = "pass sockets only: ListenDatagram= for UDP, ListenStream= for TCP"
            raise _unusable(descriptor, f"{why}; {way_out}") from None
        raise _unusable(descriptor, str(error.strerror)) from None


def _checked(descriptor: int, passed: socket.socket) -> Literal["udp", "tcp"]:
    if passed.family not in (socket.AF_INET, socket.AF_INET6):
        what = "a UNIX socket" if passed.family == socket.AF_UNIX else "not an IP socket"
        raise _unusable(descriptor, f"it is {what}; give ListenStream= or ListenDatagram= a port")
    if passed.type not in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        way_out = "use ListenStream= or ListenDatagram="
        raise _unusable(descriptor, f"it is neither UDP nor TCP; {way_out}")
    if passed.type == socket.SOCK_STREAM and _is_connected(passed):
        raise _unusable(
            descriptor, "it is a connection, not a listener; set Accept=no in the .socket unit"
        )
    if passed.getsockname()[1] == 0:
        raise _unusable(descriptor, "it is not bound to a port; bind it before it is passed")
    return "udp" if passed.type == socket.SOCK_DGRAM else "tcp"


def _is_connected(passed: socket.socket) -> bool:
    try:
        passed.getpeername()
    except OSError:
        return False
    return True


def _unusable(descriptor: int, why: str) -> CommandError:
    return CommandError(f"cannot serve descriptor {descriptor} of LISTEN_FDS: {why}", CANNOT_START)
