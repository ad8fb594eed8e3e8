"""One run of pytest: its seed, the servers of its tests, and what is reset between tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from rsecho.pytest_plugin import marker, seeds

if TYPE_CHECKING:
    from rsecho.pytest_plugin.echo import Echo

    _Echo = TypeVar("_Echo", bound=Echo)

KEY = pytest.StashKey["Session"]()


class Session:
    """The state of the plugin between its hooks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._item: pytest.Item | None = None
        self._trouble = ""
        self._is_called = False
        self._mark: pytest.Mark | None = None
        # The servers that live on, each with the fixture that stands for it, and those of the
        # test that runs.
        self._shared: list[tuple[str, Echo]] = []
        self._own: list[Echo] = []
        # The fixtures that are being made, the innermost last.
        self.making: list[str] = []

    # Servers come and go.

    def share(self, fixture: str, echo: _Echo) -> _Echo:
        """A server for all tests. Those that use this fixture use the server."""
        self._shared.append((fixture, echo))
        self._prepare(echo, is_used=True)
        return echo

    def unshare(self, echo: Echo) -> None:
        """Closes it."""
        self._shared = [each for each in self._shared if each[1] is not echo]
        echo._close()

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
        self._mark = None
        try:
            self._mark = marker.closest(item)
        except ValueError as error:
            self._trouble = str(error)
        names = getattr(item, "fixturenames", ())
        for fixture, echo in self._shared:
            self._prepare(echo, is_used=fixture in names)

    def fail_for_marker(self) -> None:
        """Fails the test if its marker cannot be obeyed. Done when the test is called, as pytest
        takes failures before that for errors of fixtures."""
        self._is_called = True
        if self._trouble:
            pytest.fail(self._trouble, pytrace=False)

    def check(self) -> None:
        """Fails a test that has passed if an expected request did not come, or its marker
        impaired nothing."""
        complaints = [text for echo in self._used() if (text := echo._complaint())]
        if self._mark is not None and not self._used():
            complaints.append(
                f"{marker.shown(self._mark)} impairs nothing, as this test uses no server of "
                "rsecho's fixtures: use udp_echo, tcp_echo or one of their factories, or remove "
                "the marker"
            )
        if complaints:
            pytest.fail("\n".join(complaints), pytrace=False)

    def told(self) -> str:
        """The section in the report of a failed test; empty if it used no server."""
        if not (used := self._used()):
            return ""
        repeat = f"repeat with: pytest --rsecho-seed {self.seed}"
        own = f"this test's seed, for impairments without one: {self._own_seed()}"
        return "\n".join([repeat, own, *(echo._told() for echo in used)])

    def end(self) -> None:
        """After the test's fixtures have gone."""
        self._is_called = False
        for _, echo in self._shared:
            echo._end()
        self._item = self._mark = None

    def _used(self) -> list[Echo]:
        shared = [echo for _, echo in self._shared]
        return [echo for echo in (*shared, *self._own) if echo._is_used]

    def _own_seed(self) -> int:
        return seeds.seed_of(self.seed, "" if self._item is None else seeds.test_id(self._item))

    def _prepare(self, echo: Echo, *, is_used: bool) -> None:
        echo._begin(self._own_seed())
        if self._mark is not None:
            echo._mark(self._mark)
        if not is_used:
            # It may be later, by `request.getfixturevalue`; then it calls `_use` itself.
            return
        try:
            echo._use()
        except pytest.fail.Exception as failure:
            if self._is_called:
                raise
            self._trouble = str(failure)
