"""Options of the long runs."""

from __future__ import annotations

import random
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("streamkit faults")
    group.addoption("--kill-rounds", type=int, default=4, help="how often servers under load are killed (default: 4)")
    group.addoption("--sql-streams", action="store_true", help="all SQL cases that fit from streams of four shards")
    group.addoption("--sql-ticks", default="997", help="rows a tick in the SQL cases, several by commas (default: 997)")
    group.addoption("--kill-seed", type=int, default=None, help="repeats the choices of a round (default: random)")


def pytest_configure(config: pytest.Config) -> None:
    """One seed for a run: processes that share its tests must find the same ones."""
    if config.option.kill_seed is None:
        shared = getattr(config, "workerinput", {}).get("kill_seed")
        config.option.kill_seed = random.SystemRandom().randrange(1_000_000) if shared is None else shared


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_configure_node(node: Any) -> None:
    node.workerinput["kill_seed"] = node.config.option.kill_seed
