"""Which client is tested."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from retry_client.hasty import Client


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--client`."""
    parser.addoption("--client", choices=["careful", "hasty"], default="careful")


@pytest.fixture
def make_client(pytestconfig: pytest.Config) -> Callable[..., Client]:
    """The client that was chosen."""
    name = pytestconfig.getoption("client")
    chosen: Callable[..., Client] = import_module(f"retry_client.{name}").Client
    return chosen
