"""Reads `@pytest.mark.impair(spec, seed=N)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsecho.pytest_plugin import seeds

if TYPE_CHECKING:
    import pytest


def shown(mark: pytest.Mark) -> str:
    """The marker as it was written."""
    words = [repr(each) for each in mark.args]
    words += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"@pytest.mark.impair({', '.join(words)})"


def closest(item: pytest.Item) -> pytest.Mark | None:
    """The marker that counts for a test: its own before its class's and its module's.

    Raises:
        ValueError: there are two at that place, and one would be ignored.
    """
    for node in reversed(item.listchain()):
        marks = [mark for mark in node.own_markers if mark.name == "impair"]
        if len(marks) > 1:
            raise ValueError(
                f"{shown(marks[1])} and {shown(marks[0])} are both on {node.name}, and only one "
                'can be in force: write one marker, as in impair("delay 50ms loss 20%")'
            )
        if marks:
            return marks[0]
    return None


def spec_of(mark: pytest.Mark, own_seed: int) -> str:
    """The impairment that it names, with its seed or the test's own.

    Raises:
        ValueError: its arguments are wrong.
    """
    unknown = sorted(mark.kwargs.keys() - {"seed"})
    if len(mark.args) != 1 or not isinstance(mark.args[0], str) or unknown:
        problem = (
            f"there is no keyword {unknown[0]!r}" if unknown else "its first argument is wrong"
        )
        raise ValueError(
            f'{problem}: it takes a text, and a seed if need be, as in impair("loss 20%", seed=1)'
        )
    spec, seed = mark.args[0], mark.kwargs.get("seed")
    try:
        seeds.check(spec, seed)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return seeds.with_seed(spec, own_seed if seed is None else seed)
