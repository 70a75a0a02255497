"""The OpenSearch destination against a real server that takes bulk requests. What it answers here, OpenSearch 2.19 was
seen to answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB, OPENSEARCH_RECORDS_MAX
from streamkit.testing.clock import ManualClock
from streamkit_connectors.opensearch import Naming, OpenSearch, one_line, week_suffix
from tests.wire.record_endpoints import (
    BulkIndex,
    answers,
    changes,
    drips,
    floods,
    hangs_up,
    loses_the_answer,
    seal,
    stalls,
)

SURROUNDINGS = Surroundings(ManualClock(), Path("buckets"))
HOUR_MS = 3_600_000
AWSS_EXAMPLE = datetime(2016, 2, 25, 13, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[BulkIndex]:
    with BulkIndex() as server:
        yield server


@pytest.fixture(autouse=True)
def _tries_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit_connectors.opensearch.OPENSEARCH_RETRY_MS_MIN", 1)


def opened(url: str, *, body_bytes_max: int = 10 * MIB, **options: Any) -> OpenSearch:
    spec = DestinationSpec("opensearch", {"url": url, "index": "logs", "rotation": "NoRotation", **options})
    return OpenSearch(spec, SURROUNDINGS, body_bytes_max=body_bytes_max)


def deliver(destination: OpenSearch, *sealed: Sealed) -> list[Refused]:
    async def main() -> list[Refused]:
        try:
            return [refused for each in sealed for refused in await destination.deliver(each, may_be_there=False)]
        finally:
            await destination.close()

    return asyncio.run(main())


def failure_of(destination: OpenSearch, sealed: Sealed) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        deliver(destination, sealed)
    assert not caught.value.is_final
    return caught.value


def millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_bulk_request_has_an_operation_and_a_line_for_each_record(server: BulkIndex, tmp_path: Path) -> None:
    """With an id of the object and the row."""
    sealed = seal(tmp_path, [b'{"a":1}', b' {"b": [1,\r\n2]} \n'])
    assert deliver(opened(f"{server.url}/behind/a/proxy/", user="me", password="pass:word"), sealed) == []
    (request,) = server.requests
    assert request.path == "/behind/a/proxy/_bulk?filter_path=errors,items.*.status,items.*.error"
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["authorization"] == "Basic bWU6cGFzczp3b3Jk"
    assert request.body == (
        b'{"create":{"_index":"logs","_id":"%(id)s.0"}}\n{"a":1}\n'
        b'{"create":{"_index":"logs","_id":"%(id)s.1"}}\n{"b": [1,\r 2]}\n'
    ) % {b"id": sealed.id.encode()}


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({"id_format": "NO_DOCUMENT_ID"}, {"create": {"_index": "logs"}}),
        ({"id_format": "NO_DOCUMENT_ID", "type_name": "t"}, {"index": {"_index": "logs", "_type": "t"}}),
        ({"type_name": "t"}, {"create": {"_index": "logs", "_type": "t", "_id": "ID.0"}}),
        ({"index": '100%s"ä'}, {"create": {"_index": '100%s"ä', "_id": "ID.0"}}),
        ({"index": "100%", "id_format": "NO_DOCUMENT_ID"}, {"create": {"_index": "100%"}}),
    ],
)
def test_operations_have_what_was_asked_for(
    server: BulkIndex, tmp_path: Path, options: dict[str, Any], action: dict[str, Any]
) -> None:
    sealed = seal(tmp_path, [b"{}"])
    deliver(opened(server.url, **options), sealed)
    assert json.loads(server.requests[0].body.split(b"\n")[0].replace(sealed.id.encode(), b"ID")) == action


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        ("NoRotation", "myindex"),
        ("OneHour", "myindex-2016-02-25-13"),
        ("OneDay", "myindex-2016-02-25"),
        ("OneWeek", "myindex-2016-w08"),
        ("OneMonth", "myindex-2016-02"),
    ],
)
def test_indexes_rotate_as_in_awss_table(rotation: str, expected: str) -> None:
    """ "Index rotation for the Amazon ES destination"."""
    assert Naming.of({"index": "myindex", "rotation": rotation}).index_at(millis(AWSS_EXAMPLE)) == expected


def test_weeks_begin_on_sunday() -> None:
    weeks = [week_suffix(datetime(2016, 1, 1, tzinfo=UTC) + timedelta(days=day)) for day in range(366)]
    assert weeks[:4] == ["-2016-w00", "-2016-w00", "-2016-w01", "-2016-w01"]
    changed = [at for at in range(1, 366) if weeks[at] != weeks[at - 1]]
    assert all((datetime(2016, 1, 1, tzinfo=UTC) + timedelta(days=at)).weekday() == 6 for at in changed)
    assert weeks == sorted(weeks)


def test_each_record_goes_to_the_index_of_its_own_arrival(server: BulkIndex, tmp_path: Path) -> None:
    """Also within an object; and the next day a retry goes to the same."""
    start_ms = millis(AWSS_EXAMPLE)
    arrived_ms = [start_ms, start_ms + HOUR_MS - 1, start_ms + HOUR_MS, start_ms, start_ms + 24 * HOUR_MS]
    sealed = seal(tmp_path, [b'{"at":%d}' % at for at in range(5)], arrived_ms=arrived_ms)
    deliver(opened(server.url, rotation="OneHour"), sealed, sealed)
    found: dict[str, list[int]] = {index: [] for index, _ in server.documents}
    for (index, _), document in server.documents.items():
        found[index].append(document["at"])
    assert found == {"logs-2016-02-25-13": [0, 1, 3], "logs-2016-02-25-14": [2], "logs-2016-02-26-13": [4]}


def test_large_objects_are_several_requests(server: BulkIndex, tmp_path: Path) -> None:
    """Within the bound of bytes, with the operations; and of documents."""
    records = [b'{"n":%d}' % number for number in range(12_000)]
    deliver(opened(server.url), seal(tmp_path, records))
    assert [request.body.count(b"\n") // 2 for request in server.requests] == [
        OPENSEARCH_RECORDS_MAX,
        OPENSEARCH_RECORDS_MAX,
        2_000,
    ]
    del server.requests[:]
    deliver(opened(server.url, body_bytes_max=10_000), seal(tmp_path, records, number=2))
    assert all(9_000 < len(request.body) <= 10_000 for request in server.requests[:-1])
    assert sorted(each["n"] for each in server.documents.values()) == sorted([*range(12_000)] * 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.sampled_from(["\n", "\r\n", "\n\n  "]), st.booleans())
def test_any_document_fits_on_a_line_and_stays_the_same(value: Any, space: str, is_ascii: bool) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=is_ascii).replace("\n", space) + space
    line = one_line(text.encode())
    assert line is not None
    assert b"\n" not in line
    assert json.loads(line) == value


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_nothing_with_a_line_feed_in_it_gets_into_a_request(before: bytes, after: bytes) -> None:
    """It would shift all lines after it: the next record would be taken for an operation."""
    line = one_line(before + b"\n" + after)
    assert line is None or b"\n" not in line


# -- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id_format", "count"), [("FIREHOSE_DEFAULT", 3), ("NO_DOCUMENT_ID", 6)])
def test_a_lost_answer_doubles_nothing_where_documents_have_ids(
    server: BulkIndex, tmp_path: Path, id_format: str, count: int
) -> None:
    """And everything where they have none, as AWS says of that choice."""
    server.script.append(loses_the_answer)
    sealed = seal(tmp_path, [b'{"a":1}', b'{"a":2}', b'{"a":3}'])
    failure_of(opened(server.url, id_format=id_format), sealed)
    assert deliver(opened(server.url, id_format=id_format), sealed) == []
    assert len(server.documents) == count


def test_a_document_that_was_changed_since_stays_as_it_is(server: BulkIndex, tmp_path: Path) -> None:
    sealed = seal(tmp_path, [b'{"a":1}'])
    deliver(opened(server.url), sealed)
    server.documents["logs", f"{sealed.id}.0"]["a"] = "changed"
    deliver(opened(server.url), sealed)
    assert server.documents == {("logs", f"{sealed.id}.0"): {"a": "changed"}}


@pytest.mark.parametrize("id_format", ["FIREHOSE_DEFAULT", "NO_DOCUMENT_ID"])
def test_documents_that_a_busy_cluster_put_off_are_tried_again_alone(tmp_path: Path, id_format: str) -> None:
    with BulkIndex(busy=2) as server:
        records = [b'{"n":%d}' % number for number in range(10)]
        assert deliver(opened(server.url, id_format=id_format), seal(tmp_path, records)) == []
        assert len(server.documents) == 10
        assert len(server.requests) == 3


def test_a_cluster_that_stays_busy_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    """And what it had taken is not sent to it again, also where documents have no ids."""
    with BulkIndex() as server:
        put_off = {"create": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "full"}}}

        def takes_the_first(reply: Any) -> Any:
            """Of however many it is asked for, though our server took them all: it forgets the others."""
            items = json.loads(reply.body)["items"]
            for place in list(server.documents)[1:]:
                del server.documents[place]
            body = {"errors": True, "items": items[:1] + [put_off] * (len(items) - 1)}
            return reply._replace(body=json.dumps(body).encode())

        def takes_none(endpoint: Any, request: Any, handler: Any) -> None:
            count = request.body.count(b"\n") // 2
            body = json.dumps({"errors": True, "items": [put_off] * count}).encode()
            answers(200, body)(endpoint, request, handler)

        server.script += [changes(takes_the_first), *[takes_none] * 4]

        async def main() -> None:
            destination = opened(server.url, id_format="NO_DOCUMENT_ID")
            sealed = seal(tmp_path, [b'{"n":%d}' % number for number in range(4)])
            with pytest.raises(DeliveryFailed) as caught:
                await destination.deliver(sealed, may_be_there=False)
            assert (caught.value.error_code, caught.value.is_final) == ("OS.ServiceException", False)
            assert "rejected_execution_exception" in caught.value.message
            assert caught.value.delivered == [range(1)]
            assert await destination.deliver(sealed, may_be_there=True) == []
            await destination.close()

        asyncio.run(main())
        assert sorted(document["n"] for document in server.documents.values()) == [0, 1, 2, 3]


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_the_cluster_refuses_for_what_it_is_goes_alone(server: BulkIndex, tmp_path: Path) -> None:
    """With the status and the error of the cluster, which is what AWS's error documents have."""
    records = [b'{"a":1}', b"no JSON", b'{"text":"poison"}', b"", b"[1]", b'{"a":"li\nne"}', b'{"a":2}']
    refused = deliver(opened(server.url), seal(tmp_path, records))
    assert [(each.row, each.code) for each in refused] == [(row, "400") for row in (1, 2, 3, 4, 5)]
    assert json.loads(refused[1].message) == {
        "type": "mapper_parsing_exception",
        "reason": "failed to parse field [text]",
    }
    assert [document["a"] for document in server.documents.values()] == [1, 2]


def test_a_request_that_is_too_large_is_halved_until_it_fits(server: BulkIndex, tmp_path: Path) -> None:
    """Only a record that is too large alone is refused."""
    server.body_bytes_max = 1_000
    records = [b'{"n":%d,"x":"%s"}' % (number, b"x" * (2_000 if number == 5 else 100)) for number in range(20)]
    (refused,) = deliver(opened(server.url), seal(tmp_path, records))
    assert (refused.row, refused.code) == (5, "413")
    assert sorted(document["n"] for document in server.documents.values()) == [n for n in range(20) if n != 5]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "security_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "index_closed_exception"),
        (400, "invalid_index_name_exception"),
        (429, "circuit_breaking_exception"),
        (503, "unavailable_shards_exception"),
    ],
)
def test_what_is_not_the_records_fault_is_a_failure_that_may_pass(
    server: BulkIndex, tmp_path: Path, status: int, kind: str
) -> None:
    item = {"create": {"status": status, "error": {"type": kind, "reason": "because"}}}
    act = answers(200, json.dumps({"errors": True, "items": [item]}).encode())
    server.script += [act] * 5
    failure = failure_of(opened(server.url), seal(tmp_path, [b"{}"]))
    assert kind in failure.message


# -- failures of whole requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (answers(401), "OS.AccessDenied"),
        (answers(403, b"no permissions for [indices:data/write/bulk]"), "OS.AccessDenied"),
        (answers(404), "OS.ResourceNotFound"),
        (answers(400, b'{"error":{"type":"illegal_argument_exception"}}'), "OS.ServiceException"),
        (answers(429), "OS.ServiceException"),
        (answers(503), "OS.ServiceException"),
        (answers(307, Location="/elsewhere"), "OS.ServiceException"),
        (changes(lambda reply: reply._replace(body=b"<html>")), "OS.ServiceException"),
        (changes(lambda reply: reply._replace(body=b'{"errors":false,"items":[]}')), "OS.ServiceException"),
        (changes(lambda reply: reply._replace(body=b"[" * 100_000)), "OS.ServiceException"),
        (floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), "OS.ServiceException"),
        (hangs_up, "OS.ConnectionFailed"),
        (loses_the_answer, "OS.ConnectionFailed"),
    ],
)
def test_a_request_that_fails_as_a_whole_may_go_better_another_time(
    server: BulkIndex, tmp_path: Path, act: Any, code: str
) -> None:
    server.script.append(act)
    sealed = seal(tmp_path, [b'{"a":1}'])
    assert failure_of(opened(server.url), sealed).error_code == code
    assert deliver(opened(server.url), sealed) == []
    assert len(server.documents) == 1


@pytest.mark.parametrize("act", [stalls, drips(b"HTTP/1.1 200 OK\r\n\r\n", b" ")])
def test_no_answer_in_time_is_a_failure_that_may_pass(
    server: BulkIndex, tmp_path: Path, act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit_connectors.opensearch.OPENSEARCH_TIMEOUT_MS", 300)
    server.script.append(act)
    assert failure_of(opened(server.url), seal(tmp_path, [b"{}"])).error_code == "OS.RequestTimeout"


def test_nobody_there_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failure = failure_of(opened(f"http://127.0.0.1:{port}"), seal(tmp_path, [b"{}"]))
    assert failure.error_code == "OS.ConnectionFailed"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index": ""},
        {"index": "a", "rotation": "OneYear"},
        {"index": "a", "id_format": "NONE"},
        {"index": "a", "url": "http://search.example.com"},
        {"index": "a", "user": "a:b"},
        {"index": "a", "shards": 5},
    ],
)
def test_options_that_cannot_be_right_are_told_before_anything_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        OpenSearch(DestinationSpec("opensearch", {"url": "https://search.example.com", **options}), SURROUNDINGS)
