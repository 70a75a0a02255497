"""pytest fixtures: a streamkit server for your tests, without Docker and without an account.

    def test_orders(streamkit_endpoint):
        client = boto3.client("kinesis", endpoint_url=streamkit_endpoint, region_name="us-east-1", ...)

`streamkit_server` is a process of its own for one test, that can be killed and restarted; `streamkit_shared_server` one
for the whole run, emptied before each test that uses it; `start_streamkit` starts as many as you like. Options are
those of `streamkit serve`:

    @pytest.mark.parametrize("streamkit_server", [{"transition_delay_ms": 500}], indirect=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from streamkit.testing.server import Option, ServerProcess

StartStreamkit = Callable[..., "ServerProcess"]


@pytest.fixture
def start_streamkit(tmp_path: Path) -> Iterator[StartStreamkit]:
    """A function that starts a server with the given options; all of them end with the test."""
    from streamkit.testing.server import ServerProcess

    servers: list[ServerProcess] = []

    def start(**options: Option) -> ServerProcess:
        server = ServerProcess(tmp_path / f"streamkit-{len(servers)}", **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def streamkit_server(request: pytest.FixtureRequest, start_streamkit: StartStreamkit) -> ServerProcess:
    """A server for this test alone."""
    return start_streamkit(**getattr(request, "param", {}))


@pytest.fixture
def streamkit_endpoint(streamkit_server: ServerProcess) -> str:
    """The URL of `streamkit_server`."""
    return streamkit_server.endpoint


@pytest.fixture(scope="session")
def _streamkit_shared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    from streamkit.testing.server import ServerProcess

    directory = tmp_path_factory.mktemp("streamkit-shared")
    # Nothing that is thrown away at the end has to survive a loss of power.
    with ServerProcess(directory / "data", durability="none", allow_reset=True) as server:
        yield server


@pytest.fixture
def streamkit_shared_server(_streamkit_shared_process: ServerProcess) -> ServerProcess:
    """A server that tests share, without the streams of the tests before: quicker than one of your own."""
    _streamkit_shared_process.reset()
    return _streamkit_shared_process
