"""`@pytest.mark.impair(spec, seed=N)`, read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsecho.pytest_plugin import seeds

if TYPE_CHECKING:
    import pytest


def shown(mark: pytest.Mark) -> str:
    """As it was written."""
    words = [repr(each) for each in mark.args]
    words += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"@pytest.mark.impair({', '.join(words)})"


def spec_of(mark: pytest.Mark, own_seed: int) -> str:
    """What it says is to be impaired, with its seed or the test's own.

    Raises:
        ValueError: it says something else.
    """
    seed = mark.kwargs.get("seed")
    is_fine = (
        len(mark.args) == 1
        and isinstance(mark.args[0], str)
        and mark.kwargs.keys() <= {"seed"}
        and (seed is None or (isinstance(seed, int) and 0 <= seed < 2**64))
    )
    if not is_fine:
        raise ValueError(
            'it takes what to impair, and a seed if need be, as in impair("loss 20%", seed=1)'
        )
    if seed is not None and not seeds.lacks_seed(mark.args[0]):
        raise ValueError(
            "its seed= would change nothing, as what to impair names a seed: leave one of them out"
        )
    return seeds.with_seed(mark.args[0], own_seed if seed is None else seed)
