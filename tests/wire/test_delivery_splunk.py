"""The Splunk destination against a real server: the event collector's protocol, and each of its errors."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB
from streamkit.testing.clock import ManualClock
from streamkit.testing.destination_contract import DELIVERY_ID
from streamkit_connectors.records import Part
from streamkit_connectors.splunk import Splunk, bad_events
from tests.wire.record_endpoints import (
    Reply,
    SplunkCollector,
    answers,
    changes,
    drips,
    floods,
    hangs_up,
    loses_the_answer,
    seal,
    splunk_says,
    stalls,
)

SURROUNDINGS = Surroundings(ManualClock(), Path("buckets"))
CHANNEL = str(uuid.UUID(DELIVERY_ID))


@pytest.fixture
def server() -> Iterator[SplunkCollector]:
    with SplunkCollector() as server:
        yield server


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit_connectors.splunk.SPLUNK_ACK_POLL_MS_MIN", 5)
    monkeypatch.setattr("streamkit_connectors.splunk.SPLUNK_ACK_POLL_MS_MAX", 50)


def opened(url: str, *, ack_timeout_ms: int = 5_000, body_bytes_max: int = 16 * MIB, **options: Any) -> Splunk:
    spec = DestinationSpec("splunk", {"url": url, "token": "secret-token", **options})
    return Splunk(spec, SURROUNDINGS, ack_timeout_ms=ack_timeout_ms, body_bytes_max=body_bytes_max)


def deliver(destination: Splunk, sealed: Sealed) -> list[Refused]:
    async def main() -> list[Refused]:
        try:
            return list(await destination.deliver(sealed, may_be_there=False))
        finally:
            await destination.close()

    return asyncio.run(main())


def failure_of(destination: Splunk, sealed: Sealed) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        deliver(destination, sealed)
    assert not caught.value.is_final
    return caught.value


# -- the protocol -----------------------------------------------------------------------------------------------------


def test_raw_records_stand_one_after_the_other_as_they_are(server: SplunkCollector, tmp_path: Path) -> None:
    """With the token, and a channel of the delivery stream's own; then the acknowledgement is asked for."""
    assert deliver(opened(server.url), seal(tmp_path, [b"one\n", b"", b"two", bytes(range(256))])) == []
    data, ack = server.requests
    assert (data.path, ack.path) == ("/services/collector/raw", "/services/collector/ack")
    assert data.headers["authorization"] == ack.headers["authorization"] == "Splunk secret-token"
    assert data.headers["x-splunk-request-channel"] == ack.headers["x-splunk-request-channel"] == CHANNEL
    assert data.body == b"one\ntwo" + bytes(range(256))
    assert json.loads(ack.body) == {"acks": [0]}


def test_events_are_sent_to_the_event_collector(server: SplunkCollector, tmp_path: Path) -> None:
    records = [b'{"event":{"a":1},"host":"h"}', b'{"event":"text"}\n{"time":1.5,"event":[1]}\n', b"  "]
    assert deliver(opened(server.url, type="Event"), seal(tmp_path, records)) == []
    assert server.requests[0].path == "/services/collector/event"
    assert server.requests[0].headers["content-type"] == "application/json"
    assert [event["event"] for event in server.events] == [{"a": 1}, "text", [1]]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/services/collector/raw"),
        ("/", "/services/collector/raw"),
        ("/services/collector", "/services/collector/raw"),
        ("/services/collector/event", "/services/collector/raw"),
        ("/behind/a/proxy/?sourcetype=x", "/behind/a/proxy/services/collector/raw?sourcetype=x"),
    ],
)
def test_the_url_may_name_the_server_or_the_collector(
    server: SplunkCollector, tmp_path: Path, path: str, expected: str
) -> None:
    deliver(opened(server.url + path), seal(tmp_path, [b"one"]))
    assert [request.path for request in server.requests] == [expected, expected.replace("/raw", "/ack")]


def test_it_is_asked_until_it_acknowledges(tmp_path: Path) -> None:
    with SplunkCollector(asked_before_acknowledging=2) as server:
        deliver(opened(server.url), seal(tmp_path, [b"one"]))
        assert [request.path.rpartition("/")[2] for request in server.requests] == ["raw", "ack", "ack", "ack"]


def test_without_an_acknowledgement_in_time_it_is_sent_again(tmp_path: Path) -> None:
    """It may be indexed all the same: that is when Splunk has data twice."""
    with SplunkCollector(asked_before_acknowledging=1_000) as server:
        sealed = seal(tmp_path, [b"one"])
        failure = failure_of(opened(server.url, ack_timeout_ms=100), sealed)
        assert failure.error_code == "Splunk.AckTimeout"
        assert "it's possible the data was indexed" in failure.message
        failure_of(opened(server.url, ack_timeout_ms=100), sealed)
        assert server.raw == [b"one", b"one"]


def test_a_failure_to_ask_is_no_failure_to_deliver(server: SplunkCollector, tmp_path: Path) -> None:
    """As long as there is time, it is asked again, and nothing is sent twice."""
    server.script += [changes(lambda reply: reply), answers(503), hangs_up]
    deliver(opened(server.url), seal(tmp_path, [b"one"]))
    assert server.raw == [b"one"]
    assert len(server.requests) == 4


def test_load_balancers_are_led_to_the_node_that_took_the_data(server: SplunkCollector, tmp_path: Path) -> None:
    """Sticky sessions: the cookies of its answer come with the question."""
    cookie = {"Set-Cookie": "AWSELB=node-7; PATH=/; HttpOnly"}
    server.script.append(changes(lambda reply: reply._replace(headers={**reply.headers, **cookie})))
    deliver(opened(server.url), seal(tmp_path, [b"one"]))
    assert "cookie" not in server.requests[0].headers
    assert server.requests[1].headers["cookie"] == "AWSELB=node-7"


def test_records_without_data_are_not_sent(server: SplunkCollector, tmp_path: Path) -> None:
    """Splunk takes no request without data."""
    assert deliver(opened(server.url), seal(tmp_path, [b"", b""])) == []
    assert not server.requests


def test_a_large_object_is_several_requests_and_those_acknowledged_are_not_repeated(
    server: SplunkCollector, tmp_path: Path
) -> None:
    async def main() -> None:
        destination = opened(server.url, body_bytes_max=10)
        server.script += [changes(lambda reply: reply), changes(lambda reply: reply), hangs_up]
        sealed = seal(tmp_path, [b"1234"] * 4 + [b"much longer than that"])
        with pytest.raises(DeliveryFailed) as caught:
            await destination.deliver(sealed, may_be_there=False)
        assert caught.value.delivered == [range(2)]
        assert await destination.deliver(sealed, may_be_there=True) == []
        await destination.close()

    asyncio.run(main())
    assert server.raw == [b"12341234", b"12341234", b"much longer than that"]


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (splunk_says(403, 1, "Token disabled"), "Splunk.DisabledToken"),
        (splunk_says(401, 2, "Token is required"), "Splunk.InvalidToken"),
        (splunk_says(401, 3, "Invalid authorization"), "Splunk.InvalidToken"),
        (splunk_says(403, 4, "Invalid token"), "Splunk.InvalidToken"),
        (splunk_says(400, 7, "Incorrect index"), "Splunk.InvalidIndex"),
        (splunk_says(500, 8, "Internal server error"), "Splunk.ServerError"),
        (splunk_says(503, 9, "Server is busy"), "Splunk.IndexerBusy"),
        (splunk_says(400, 10, "Data channel is missing"), "Splunk.ServerError"),
        (splunk_says(400, 11, "Invalid data channel"), "Splunk.ProxyWithoutStickySessions"),
        (Reply(502, b"<html>bad gateway"), "Splunk.ServerError"),
        (Reply(200, b"<html>"), "Splunk.ServerError"),
        (Reply(302, b"", {"Location": "/elsewhere"}), "Splunk.ServerError"),
    ],
)
def test_errors_that_may_pass_have_awss_codes(server: SplunkCollector, tmp_path: Path, reply: Reply, code: str) -> None:
    server.script.append(changes(lambda _: reply))
    failure = failure_of(opened(server.url), seal(tmp_path, [b"one"]))
    assert failure.error_code == code
    assert failure.message


@pytest.mark.parametrize("code", [5, 6, 12, 13, 15])
def test_what_splunk_finds_badly_formatted_is_refused_at_once(
    server: SplunkCollector, tmp_path: Path, code: int
) -> None:
    """Another try cannot go better."""
    server.script.append(changes(lambda _: splunk_says(400, code, "bad")))
    refused = deliver(opened(server.url), seal(tmp_path, [b"one", b"two"]))
    assert [(each.row, each.code) for each in refused] == [
        (0, "Splunk.InvalidDataFormat"),
        (1, "Splunk.InvalidDataFormat"),
    ]


def test_a_token_without_acknowledgement_is_told_once(tmp_path: Path) -> None:
    """AWS demands it. The data is there by then, so that it is not sent again."""
    with SplunkCollector(asked_before_acknowledging=None) as server:
        (refused,) = deliver(opened(server.url), seal(tmp_path, [b"one"]))
        assert refused.code == "Splunk.DisabledAck"
        assert server.raw == [b"one"]


def test_a_wrong_token_is_told(server: SplunkCollector, tmp_path: Path) -> None:
    assert failure_of(opened(server.url, token="other"), seal(tmp_path, [b"one"])).error_code == "Splunk.InvalidToken"


def test_events_that_are_none_are_refused_alone(server: SplunkCollector, tmp_path: Path) -> None:
    """Splunk would refuse what follows them, too."""
    records = [
        b'{"event":1}',
        b"text",
        b'{"a":1}',
        b'{"event":2}',
        b'{"event":""}',
        b'{"event":null}',
        b"[1]",
        b'{"event":3}{"a":1}',
    ]
    refused = deliver(opened(server.url, type="Event"), seal(tmp_path, [*records, b'{"event":4}']))
    assert [each.row for each in refused] == [1, 2, 4, 5, 6, 7]
    assert {each.code for each in refused} == {"Splunk.InvalidDataFormat"}
    assert [event["event"] for event in server.events] == [1, 2, 4]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.lists(json_values.filter(lambda value: value not in (None, "")), max_size=4), st.sampled_from(["", " ", "\n"])
)
@settings(max_examples=40, deadline=None)
def test_any_event_is_taken_for_one(tmp_path_factory: pytest.TempPathFactory, values: list[Any], between: str) -> None:
    record = between.join(json.dumps({"event": value}) for value in values).encode()
    sealed = seal(tmp_path_factory.mktemp("events"), [record])
    assert not list(bad_events(sealed, [Part(0, 1, 0)]))


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (hangs_up, "Splunk.ConnectionClosed"),
        (loses_the_answer, "Splunk.ConnectionClosed"),
        (floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), "Splunk.ServerError"),
        (floods(b"HTTP/1.1 200 OK\r\nX-A: ", b"x" * 65_536), "Splunk.ServerError"),
    ],
)
def test_an_answer_that_is_none_is_a_failure_that_may_pass(
    server: SplunkCollector, tmp_path: Path, act: Any, code: str
) -> None:
    server.script.append(act)
    assert failure_of(opened(server.url), seal(tmp_path, [b"one"])).error_code == code


@pytest.mark.parametrize("act", [stalls, drips(b"HTTP/1.1 200 OK\r\n\r\n", b" ")])
def test_no_answer_in_time_is_a_failure_that_may_pass(
    server: SplunkCollector, tmp_path: Path, act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit_connectors.splunk.SPLUNK_REQUEST_TIMEOUT_MS", 300)
    server.script.append(act)
    assert failure_of(opened(server.url), seal(tmp_path, [b"one"])).error_code == "Splunk.ConnectionTimeout"


def test_nobody_there_is_a_failure_that_may_pass(server: SplunkCollector, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert (
        failure_of(opened(f"http://127.0.0.1:{port}"), seal(tmp_path, [b"one"])).error_code == "Splunk.InvalidEndpoint"
    )
    url = server.url.replace("http:", "https:")  # speaks no TLS
    assert failure_of(opened(url), seal(tmp_path, [b"one"])).error_code == "Splunk.SSLHandshake"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://splunk.example.com"},
        {"url": "https://splunk.example.com", "token": ""},
        {"url": "https://splunk.example.com", "token": "a\nb"},
        {"url": "https://splunk.example.com", "token": "t", "type": "raw"},
        {"url": "https://splunk.example.com", "token": "t", "ack_timeout_ms": 179_999},
        {"url": "https://splunk.example.com", "token": "t", "ack_timeout_ms": 600_001},
        {"url": "https://splunk.example.com", "token": "t", "ack_timeout_ms": "180000"},
        {"url": "http://splunk.example.com", "token": "t"},
        {"url": "https://splunk.example.com", "token": "t", "index": "main"},
    ],
)
def test_options_that_cannot_be_right_are_told_before_anything_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Splunk(DestinationSpec("splunk", options), SURROUNDINGS)
