"""What pytest calls, in the order in which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rsecho.pytest_plugin import seeds
from rsecho.pytest_plugin.session import KEY, Session

if TYPE_CHECKING:
    from collections.abc import Generator

_MARKER = (
    "impair(spec, *, seed=None): impair what udp_echo, tcp_echo and what make_udp_echo and "
    "make_tcp_echo made send or receive in this test (rsecho), as in "
    '@pytest.mark.impair("delay 50ms 10ms", seed=1)'
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rsecho-seed`."""
    parser.getgroup("rsecho", "echo servers that misbehave on purpose").addoption(
        "--rsecho-seed",
        type=seeds.read_seed,
        metavar="N",
        help="seed of all impairments that name none, so that a run can be repeated "
        "(default: another one each time; it is in the header and with each failure)",
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
    """Hands the seed to a process of xdist's."""
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
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Checks what the test expected when it has passed."""
    session = item.config.stash[KEY]
    session.fail_for_marker()
    result = yield
    session.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Says with a failure how to repeat it, and what the servers saw."""
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
