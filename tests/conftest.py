"""Options of the long runs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("streamkit faults")
    group.addoption("--kill-rounds", type=int, default=4, help="how often servers under load are killed (default: 4)")
    group.addoption("--sql-ticks", default="997", help="rows a tick in the SQL cases, several by commas (default: 997)")
    group.addoption("--kill-seed", type=int, default=None, help="repeats the choices of a round (default: random)")
