"""One server for the cheap wire tests, wiped between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, kinesis
from tests.wire.cloud import Cloud, open_cloud


@pytest.fixture
def client(streamkit_shared_server: ServerProcess) -> Iterator[Any]:
    """boto3 on the shared server."""
    with kinesis(streamkit_shared_server.endpoint) as made:
        yield made


@pytest.fixture
def raw(streamkit_shared_server: ServerProcess) -> Iterator[RawClient]:
    """Raw HTTP on the shared server."""
    with RawClient(streamkit_shared_server.port) as made:
        yield made


@pytest.fixture
def cloud(streamkit_shared_server: ServerProcess) -> Iterator[Cloud]:
    """Lambda, Kinesis and CloudWatch Logs on the shared server."""
    with open_cloud(streamkit_shared_server.endpoint) as made:
        yield made
