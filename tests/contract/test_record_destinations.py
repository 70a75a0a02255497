"""Our destinations of records keep the port's promises, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamkit.clock import Clock
from streamkit.delivery.destination import Destination, OpenDestination, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.testing.destination_contract import DestinationContract, Document, Harness, Run, Stage
from streamkit_connectors import http, opensearch, splunk
from tests.wire.record_endpoints import BulkIndex, Endpoint, FirehoseEndpoint, SplunkCollector


class EndpointHarness(Harness):
    def __init__(self, server: Endpoint, open_it: OpenDestination, options: Mapping[str, Any]) -> None:
        self.server = server
        self.open_it = open_it
        self.options = options

    def open(self, clock: Clock) -> Destination:
        spec = DestinationSpec("tested", {"url": self.server.url, **self.options})
        return self.open_it(spec, Surroundings(clock, Path("buckets")))

    async def read_back(self) -> Sequence[Document]:
        return await asyncio.to_thread(self.read)

    def read(self) -> Sequence[Document]:
        raise NotImplementedError

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Who answers hangs up."""
        self.server.is_out = True
        try:
            yield
        finally:
            self.server.is_out = False


class FirehoseHarness(EndpointHarness):
    """Exactly once: this endpoint remembers request ids."""

    server: FirehoseEndpoint

    def read(self) -> Sequence[Document]:
        return [Document.from_json(data) for data in self.server.records]


class TestHttpEndpoint(DestinationContract):
    @pytest.fixture(params=["NONE", "GZIP"])
    def harness(self, request: pytest.FixtureRequest) -> Iterator[Harness]:
        with FirehoseEndpoint() as server:
            yield FirehoseHarness(server, http.open_destination, {"content_encoding": request.param})


class SplunkHarness(EndpointHarness):
    exactly_once = False
    server: SplunkCollector

    def read(self) -> Sequence[Document]:
        lines = b"".join(self.server.raw).splitlines()
        events = [event["event"] for event in self.server.events]
        return [Document.from_json(line) for line in lines] + [Document(each["id"], each["text"]) for each in events]


class TestSplunk(DestinationContract):
    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        with SplunkCollector() as server:
            yield SplunkHarness(server, splunk.open_destination, {"token": "secret-token", "type": "Raw"})


class OpenSearchHarness(EndpointHarness):
    refused = "poison"
    server: BulkIndex

    def read(self) -> Sequence[Document]:
        return [Document.from_json(orjson.dumps(each)) for each in self.server.documents.values()]


class TestOpenSearch(DestinationContract):
    """Exactly once, by document ids."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        with BulkIndex() as server:
            yield OpenSearchHarness(server, opensearch.open_destination, {"index": "documents"})

    def test_it_says_what_it_takes_and_what_it_is_called(self, run: Run) -> None:
        """With AWS's name for its error output, which has capitals."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            assert destination.takes == "records"
            assert not destination.is_ordered
            assert destination.failed_output_type == "AmazonOpenSearchService-failed"
            assert destination.metric == "AmazonOpenSearchService"

        run(scenario)


class TestOpenSearchWithoutDocumentIds(DestinationContract):
    """At least once."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        with BulkIndex() as server:
            options = {"index": "documents", "id_format": "NO_DOCUMENT_ID"}
            harness = OpenSearchHarness(server, opensearch.open_destination, options)
            harness.exactly_once = False
            yield harness

    test_it_says_what_it_takes_and_what_it_is_called = TestOpenSearch.test_it_says_what_it_takes_and_what_it_is_called
