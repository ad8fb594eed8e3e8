"""The kernel's ceilings, each with the sysctl that holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from rsecho import _rsecho

__all__ = ["KernelLimit", "KernelLimits", "kernel_limits"]


@dataclass(frozen=True, slots=True)
class KernelLimit:
    """One number, or a few, that the kernel holds."""

    values: tuple[int, ...]
    """One value, or what the sysctl holds in its order: least, default and most for TCP's
    buffers, first and last for ports."""
    sysctl: str
    """The name to change it by, with `sysctl -w`."""
    meaning: str
    """What it bounds."""

    @property
    def value(self) -> int:
        """The last of the values: the ceiling."""
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """What the kernel allows; None for what this system (or its namespace) has not."""

    udp_recv_buffer_max_bytes: KernelLimit | None
    udp_send_buffer_max_bytes: KernelLimit | None
    udp_recv_buffer_default_bytes: KernelLimit | None
    udp_send_buffer_default_bytes: KernelLimit | None
    tcp_recv_buffer_bytes: KernelLimit | None
    tcp_send_buffer_bytes: KernelLimit | None
    accept_queue_max: KernelLimit | None
    syn_queue_max: KernelLimit | None
    unprivileged_port_start: KernelLimit | None
    ephemeral_ports: KernelLimit | None

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Plain data, without what is not there."""
        limits = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: asdict(limit) for name, limit in limits if limit is not None}


def kernel_limits() -> KernelLimits:
    """What the kernel allows sockets now, and where to change it."""
    found = {
        name: KernelLimit(tuple(values), sysctl, meaning) if sysctl and values else None
        for name, sysctl, values, meaning in _rsecho.kernel_limits()
    }
    return KernelLimits(**found)
