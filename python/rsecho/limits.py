"""Limits of the kernel for sockets, each with its sysctl."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from rsecho import _rsecho

__all__ = ["KernelLimit", "KernelLimits", "kernel_limits"]


@dataclass(frozen=True, slots=True)
class KernelLimit:
    """One limit of the kernel: its values, its sysctl, its meaning."""

    values: tuple[int, ...]
    """The values of the sysctl, in its order. TCP buffers: minimum, default and maximum. Ports:
    first and last. Others: one value."""
    sysctl: str
    """Name of the sysctl, to change it with `sysctl -w`."""
    meaning: str = field(repr=False)
    """What it limits."""

    @property
    def value(self) -> int:
        """The last of the values, which is the maximum."""
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """Limits of the kernel for sockets. None: this system, or its network namespace, lacks it."""

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
        """The same as dicts, without limits that are None."""
        limits = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: asdict(limit) for name, limit in limits if limit is not None}


def kernel_limits() -> KernelLimits:
    """The current limits of the kernel for sockets, each with the sysctl that changes it."""
    found = {
        name: KernelLimit(tuple(values), sysctl, meaning) if sysctl and values else None
        for name, sysctl, values, meaning in _rsecho.kernel_limits()
    }
    return KernelLimits(**found)
