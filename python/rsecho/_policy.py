"""What a server does with large messages. Users find it in `rsecho.transfer`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from rsecho import _options, _rsecho, _rules
from rsecho._brief import brief
from rsecho._explained import explained

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self

    from rsecho._options import Wire

__all__ = ["Policy", "native"]


@explained(_options.TransferOptions)
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Policy:
    """How a server handles large messages, as in `UdpServer(transfer=Policy(directory="in"))`.

    Each limit is for all workers together. A name from outside is never used as a path: each
    component is looked up by itself below the directory, and links are not followed. A file appears
    under its name only when it is complete and on disk.

    Args:
        **options: See `rsecho.sockets.TransferOptions`.

    Raises:
        TypeError: a value has another type.
        ValueError: a value is out of range, or would have no effect with the other keywords.
        OSError: the directory cannot be used.
    """

    directory: str | PathLike[str] | None = None
    receives: bool = True
    shares: bool = True
    overwrites: bool = False
    quota_bytes: int | None = None
    echo: bool = False
    wire: Wire = "native"
    keep_partial: bool = False
    max_message_bytes: int = 16 << 20
    max_total_bytes: int = 64 << 20
    max_open_per_source: int = 8
    progress_timeout: float = 10.0
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(Policy)}
        _options.check(given, _options.TransferOptions, self)
        _rules.check(given, _rules.POLICY)
        if self.directory is not None:
            object.__setattr__(self, "directory", os.fsdecode(self.directory))
        native(self)

    __repr__ = brief


# Where users find it.
Policy.__module__ = "rsecho.transfer"


def check_served(policy: Policy) -> None:
    """Refuses what has no effect on a server whose messages nobody takes.

    Raises:
        ValueError: one line that names the keyword, why it has none, and the way out.
    """
    if not isinstance(policy, Received):
        _rules.check(
            {each.name: getattr(policy, each.name) for each in fields(Policy)}, _rules.SERVED
        )


def native(policy: Policy | None) -> _rsecho.TransferPolicy | None:
    """What the native server takes."""
    if policy is None:
        return None
    given = {each.name: getattr(policy, each.name) for each in fields(Policy)}
    takes = policy._takes if isinstance(policy, Announced) else "nothing"
    return _rsecho.TransferPolicy(**given, takes=takes)


class Announced(Policy):
    """A policy whose files are announced as they arrive. Messages without a name are not files
    and are refused."""

    __slots__ = ()
    _takes = "files"

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """By what a policy says."""
        return cls(**{each.name: getattr(policy, each.name) for each in fields(Policy)})


class Received(Announced):
    """The same where somebody takes all messages: a `Receiver`."""

    __slots__ = ()
    _takes = "all"
