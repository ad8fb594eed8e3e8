"""Which seed an impairment gets. Plain functions."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# Short enough to type; the impairments' grammar takes 8 bytes.
_SEED_BYTES = 4

# The grammar takes abbreviated options, as tc does.
_SEED_WORDS = ("s", "se", "see", "seed")


def any_seed() -> int:
    """A random one, for a session that was given none."""
    return int.from_bytes(os.urandom(_SEED_BYTES))


def read_seed(text: str) -> int:
    """The value of `--rsecho-seed`.

    Raises:
        argparse.ArgumentTypeError: it is not a number from 0 to 2**64 - 1.
    """
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: give a number, 0 to 2**64-1")
    return seed


def test_id(item: pytest.Item) -> str:
    """The id of a test, the same in every process of xdist."""
    # With --dist loadgroup, workers of xdist append the groups to the id (xdist/remote.py).
    groups = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers("xdist_group")
    }
    return item.nodeid.removesuffix("@" + "_".join(sorted(groups)))


def seed_of(session_seed: int, name: str) -> int:
    """A test's own seed: the order of tests and the process that runs them do not change it."""
    from hashlib import blake2b

    text = f"{session_seed} {name}".encode()
    return int.from_bytes(blake2b(text, digest_size=_SEED_BYTES).digest())


def check(spec: object, seed: object) -> None:
    """Refuses a seed that is none, or would change nothing.

    Raises:
        TypeError: the spec is not a str, or the seed not a whole number.
        ValueError: the seed is out of range, or has no effect.
    """
    if not isinstance(spec, str):
        raise TypeError(f"cannot impair by {spec!r}: give a text, as in 'loss 20%'")
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"cannot use seed={seed!r}: give a whole number from 0 to 2**64-1")
    if not 0 <= seed < 2**64:
        raise ValueError(f"cannot use seed={seed}: give a whole number from 0 to 2**64-1")
    if not _ways(spec):
        raise ValueError(f"seed={seed} would change nothing, as nothing is impaired: leave it out")
    if not lacks_seed(spec):
        raise ValueError(
            f"seed={seed} would change nothing, as {spec!r} names a seed: leave one of them out"
        )


def with_seed(spec: str, seed: int) -> str:
    """The same impairments, with this seed for each direction (`in …; out …`) that names none."""
    return "; ".join(part if _has_seed(part) else f"{part} seed {seed}" for part in _ways(spec))


def lacks_seed(spec: str) -> bool:
    """Whether `with_seed` adds one, or there is nothing to which it could add one."""
    ways = _ways(spec)
    return not ways or any(not _has_seed(part) for part in ways)


def _ways(spec: str) -> list[str]:
    return [part.strip() for part in spec.split(";") if part.strip()]


def _has_seed(part: str) -> bool:
    words = part.replace(",", " ").split()
    return any(word in _SEED_WORDS or word.startswith("seed=") for word in words)
