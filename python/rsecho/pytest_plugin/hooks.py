"""The hooks, in the order in which pytest calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rsecho.pytest_plugin import seeds
from rsecho.pytest_plugin.session import KEY, Session

if TYPE_CHECKING:
    from collections.abc import Generator

_MARKER = (
    "impair(spec, *, seed=None): impair all servers of rsecho's fixtures in this test (udp_echo, "
    'tcp_echo, make_udp_echo, …), as in @pytest.mark.impair("delay 50ms 10ms", seed=1)'
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rsecho-seed`."""
    parser.getgroup("rsecho", "echo servers that misbehave on purpose").addoption(
        "--rsecho-seed",
        type=seeds.read_seed,
        metavar="N",
        help="repeat a run: the seed of all impairments that name none (default: random; "
        "the header and each failure show it)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Chooses the session's seed."""
    config.addinivalue_line("markers", _MARKER)
    seed = getattr(config, "workerinput", {}).get("rsecho_seed")
    if seed is None:
        seed = config.getoption("rsecho_seed")
    config.stash[KEY] = Session(seeds.any_seed() if seed is None else seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hands the seed to a process of xdist."""
    node.workerinput["rsecho_seed"] = node.config.stash[KEY].seed


def pytest_report_header(config: pytest.Config) -> str:
    """How to repeat this run."""
    return f"rsecho: --rsecho-seed {config.stash[KEY].seed}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Makes the servers ready for the test."""
    item.config.stash[KEY].begin(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Notes which fixture is being made: servers that a factory makes there are of its tests."""
    making = request.config.stash[KEY].making
    making.append(fixturedef.argname)
    try:
        return (yield)
    finally:
        making.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Checks a test that has passed: did all come that it expected?"""
    session = item.config.stash[KEY]
    session.fail_for_marker()
    result = yield
    session.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to a failure how to repeat it, and what came to the servers."""
    report = yield
    session = item.config.stash[KEY]
    if report.failed and (text := session.told()):
        report.sections.append(("rsecho", text))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Has the servers forget the test."""
    try:
        return (yield)
    finally:
        item.config.stash[KEY].end()
