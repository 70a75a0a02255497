"""What an `App` refuses, and in which words: where it is defined, where it is started, and while it is not open."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from streamkit import App, RecordBatch, StreamkitError
from streamkit.model.errors import DataDirectoryInUse, UsageError

T = TypeVar("T")

TIMEOUT_S = 30


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(work(), TIMEOUT_S)

    return asyncio.run(within())


def app_with(path: Path, port: int | None = None, **options: Any) -> App:
    """One function, `f`, that reads stream `s`."""
    app = App(path, port=port)
    app.function(stream="s", name="f", **options)(handler)
    return app


async def works(app: App) -> bool:
    """Whether it can be opened, and its functions run."""
    async with app:
        return await app.invoke("f") is None


def handler(event: Any, context: Any) -> None:
    """Does nothing."""


async def async_handler(event: Any, context: Any) -> None:
    """Does nothing."""


def only_event(event: Any) -> None:
    """Cannot be called as a handler is."""


def no_parameters() -> None:
    """Cannot either."""


def three_parameters(event: Any, context: Any, more: Any) -> None:
    """Nor can this."""


def batch_handler(batch: RecordBatch, context: Any) -> None:
    """Does nothing."""


def local() -> Callable[[Any, Any], None]:
    def handler(event: Any, context: Any) -> None:
        """Is in no module."""

    return handler


class Handlers:
    def method(self, event: Any, context: Any) -> None:
        """Does nothing."""


@pytest.mark.parametrize(
    ("options", "function", "text"),
    [
        ({}, no_parameters, r"no_parameters cannot be called with \(event, context\)"),
        ({}, only_event, r"only_event cannot be called with \(event, context\)"),
        ({}, three_parameters, r"three_parameters cannot be called with \(event, context\)"),
        ({}, lambda event, context: None, r"'<lambda>' cannot be the name of a function; .* name="),
        ({}, functools.partial(handler), r"cannot be the name of a function; .* name="),
        ({"name": "with space"}, handler, r"'with space' cannot be the name of a function"),
        ({"name": "f", "environment": "fork"}, lambda event, context: None, r"cannot be imported by another process"),
        ({"environment": "fork"}, local(), r"'local\.<locals>\.handler' cannot be imported"),
        ({"environment": "fork"}, Handlers().method, r"'Handlers\.method' cannot be imported"),
        ({"environment": "fork"}, async_handler, r"async_handler is async"),
        ({"stream": "s", "tumbling_window_s": 5}, batch_handler, r"batch_handler takes batches, but a window's state"),
    ],
)
def test_what_cannot_be_a_function_is_refused_where_it_is_defined(
    tmp_path: Path, options: dict[str, Any], function: Callable[..., Any], text: str
) -> None:
    """Before anything is opened, with a sentence that says what to do."""
    with pytest.raises(UsageError, match=text):
        App(tmp_path / "data").function(**options)(function)
    assert not (tmp_path / "data").exists()


def test_two_functions_cannot_have_one_name(tmp_path: Path) -> None:
    app = App(tmp_path / "data")
    app.function()(handler)
    with pytest.raises(UsageError, match="there are two functions called 'handler'"):
        app.function(stream="s")(handler)
    app.function(name="another")(handler)


def test_a_server_is_no_place_for_an_app() -> None:
    with pytest.raises(UsageError, match="a data directory of its own, not http://localhost:4566"):
        App("http://localhost:4566")


def test_functions_are_defined_while_the_app_is_not_open(tmp_path: Path) -> None:
    async def work() -> None:
        app = App(tmp_path / "data")
        async with app:
            with pytest.raises(UsageError, match="before the app is started"):
                app.function()(handler)
            with pytest.raises(UsageError, match="started already"):
                await app.__aenter__()
        app.function()(handler)
        async with app:
            assert await app.invoke("handler") is None

    run(work)


def test_an_app_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def check(app: App) -> None:
        with pytest.raises(UsageError, match="the app is not started"):
            await app.invoke("f")
        with pytest.raises(UsageError, match="the app is not started"):
            await app.caught_up()
        with pytest.raises(UsageError, match="the app is not started"):
            _ = app.kit
        with pytest.raises(UsageError, match="the app is not started"):
            _ = app.endpoint

    async def work() -> None:
        app = App(tmp_path / "data", port=0)
        await check(app)
        async with app:
            assert app.endpoint.startswith("http://127.0.0.1:")
        await check(app)
        with pytest.raises(UsageError, match="not served; give it a port="):
            _ = App(tmp_path / "data").endpoint

    run(work)


@pytest.mark.parametrize("port", [None, 0])
def test_a_directory_that_is_in_use_is_refused_until_it_is_free(tmp_path: Path, port: int | None) -> None:
    """The app that could not have it can be opened later."""

    async def work() -> bool:
        second = app_with(tmp_path / "data", port)
        async with App(tmp_path / "data"):
            with pytest.raises(DataDirectoryInUse):
                await second.__aenter__()
        return await works(second)

    assert run(work)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """And the directory is free again."""

    async def work() -> None:
        async with App(tmp_path / "one", port=0) as first:
            port = int(first.endpoint.rpartition(":")[2])
            with pytest.raises(UsageError, match=f"cannot listen on port {port}: .*[Aa]ddress.* in use"):
                await App(tmp_path / "two", port=port).__aenter__()
            async with App(tmp_path / "two"):
                pass

    run(work)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batchSize"),
        ({"retries_max": 100_000}, "maximumRetryAttempts"),
        ({"filters": [{"data": "no list"}]}, "Invalid filter pattern"),
        ({"tumbling_window_s": 5, "parallelization_factor": 2}, "ParallelizationFactor must be 1"),
        ({"on_failure": "arn:aws:nothing:::here"}, "arn:aws:nothing:::here"),
        ({"timeout_s": 100_000}, "timeout"),
        ({"start": datetime(2100, 1, 1, tzinfo=UTC)}, "in the future"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_the_start(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    """In the words of the API; nothing stays open."""

    async def work() -> bool:
        for _ in range(2):
            with pytest.raises(StreamkitError, match=text):
                await app_with(tmp_path / "data", **options).__aenter__()
        return await works(app_with(tmp_path / "data"))

    assert run(work)
