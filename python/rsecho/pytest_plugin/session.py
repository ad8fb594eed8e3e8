"""One run of pytest: its seed, the servers of its tests, and what happens to them between tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from rsecho.pytest_plugin import seeds

if TYPE_CHECKING:
    from rsecho.pytest_plugin.echo import Echo

    _Echo = TypeVar("_Echo", bound=Echo)

KEY = pytest.StashKey["Session"]()


class Session:
    """What the plugin knows between its hooks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._item: pytest.Item | None = None
        self._trouble = ""
        self._is_called = False
        # The servers that live on, by fixture, and those of the test that runs.
        self._shared: dict[str, Echo] = {}
        self._own: list[Echo] = []

    # Servers come and go.

    def share(self, fixture: str, echo: _Echo) -> _Echo:
        """A server for all tests, made for the first that uses it."""
        self._shared[fixture] = echo
        self._prepare(echo, is_used=True)
        return echo

    def unshare(self, fixture: str) -> None:
        """Closes it."""
        self._shared.pop(fixture)._close()

    def own(self, echo: _Echo) -> _Echo:
        """A server of the test that runs."""
        self._own.append(echo)
        self._prepare(echo, is_used=True)
        return echo

    def disown(self, echo: Echo) -> None:
        """Closes it."""
        self._own.remove(echo)
        echo._close()

    # Tests come and go.

    def begin(self, item: pytest.Item) -> None:
        """Before the test's fixtures are made."""
        self._item, self._trouble, self._is_called = item, "", False
        names = getattr(item, "fixturenames", ())
        for fixture, echo in self._shared.items():
            self._prepare(echo, is_used=fixture in names)

    def fail_for_marker(self) -> None:
        """Fails the test if its marker could not be obeyed: once it is called, since what fails
        before counts as an error of fixtures."""
        self._is_called = True
        if self._trouble:
            pytest.fail(self._trouble, pytrace=False)

    def check(self) -> None:
        """Fails the test unless all came that it expected."""
        if complaints := self.complaints():
            pytest.fail("\n".join(complaints), pytrace=False)

    def complaints(self) -> list[str]:
        """What was expected and did not come, a text for each server."""
        return [text for echo in self._used() if (text := echo._complaint())]

    def told(self) -> str:
        """What a failed test's report says; empty if it has to do with no server."""
        if not (used := self._used()):
            return ""
        repeat = f"repeat with: pytest --rsecho-seed {self.seed}"
        own = f"seed of this test's impairments that name none: {self._own_seed()}"
        return "\n".join([repeat, own, *(echo._told() for echo in used)])

    def end(self) -> None:
        """After the test's fixtures have gone."""
        self._is_called = False
        for echo in self._shared.values():
            echo._end()
        self._item = None

    def _used(self) -> list[Echo]:
        return [echo for echo in (*self._shared.values(), *self._own) if echo._is_used]

    def _own_seed(self) -> int:
        return seeds.seed_of(self.seed, "" if self._item is None else seeds.test_id(self._item))

    def _prepare(self, echo: Echo, *, is_used: bool) -> None:
        echo._begin(self._own_seed())
        mark = None if self._item is None else self._item.get_closest_marker("impair")
        if mark is not None:
            echo._mark(mark)
        if not is_used:
            # It may be yet, by `request.getfixturevalue`; then it does what follows itself.
            return
        try:
            echo._use()
        except pytest.fail.Exception as failure:
            if self._is_called:
                raise
            self._trouble = str(failure)
