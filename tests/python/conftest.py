"""Fixtures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Recorder(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, logger: str) -> list[logging.LogRecord]:
        """What one logger wrote."""
        return [record for record in list(self.records) if record.name == logger]

    def lines(self, logger: str) -> list[str]:
        """The same as text."""
        return [record.getMessage() for record in self.of(logger)]

    def events(self, server: str) -> list[str]:
        """The events of one server."""
        return [
            record.__dict__["event"]
            for record in list(self.records)
            if record.__dict__.get("server") == server
        ]


@pytest.fixture
def logged() -> Iterator[Recorder]:
    """Everything that the package logs during a test, from DEBUG on."""
    recorder = Recorder()
    logger = logging.getLogger("rsecho")
    before = logger.level
    logger.addHandler(recorder)
    logger.setLevel(logging.DEBUG)
    yield recorder
    logger.removeHandler(recorder)
    logger.setLevel(before)
