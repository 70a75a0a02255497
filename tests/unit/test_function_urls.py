"""Function URLs: what a function is sent of a request, and what a client is sent of its answer."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.functions.urls import (
    BAD_GATEWAY,
    StreamedAnswer,
    UrlAnswer,
    UrlRequest,
    answer,
    event,
    preflight,
    with_cors,
)
from streamkit.model.limits import URL_PRELUDE_BYTES_MAX

DOMAIN = "abc.lambda-url.us-east-1.on.aws"


def request(**changes: Any) -> UrlRequest:
    members: dict[str, Any] = {
        "method": "GET",
        "path": "/",
        "query": "",
        "headers": {},
        "body": b"",
        "peer": "127.0.0.1",
        "domain": DOMAIN,
        "request_id": "id-1",
        "at_ms": 1_631_055_022_677,
    }
    return UrlRequest(**{**members, **changes})


def event_of(**changes: Any) -> Any:
    return json.loads(event(request(**changes)))


# -- events ----------------------------------------------------------------------------------------------------------


def test_an_event_has_aws_shape() -> None:
    """Payload format 2.0, with the placeholders of a function URL."""
    headers = {"user-agent": "curl/8", "x-a": "1,2", "cookie": "a=1; b=2", "content-type": "application/json"}
    assert event_of(method="POST", path="/my/path", query="p=v1&p=v2&q=%20w", headers=headers, body=b'{"a": 1}') == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "p=v1&p=v2&q=%20w",
        "cookies": ["a=1", "b=2"],
        "headers": {"user-agent": "curl/8", "x-a": "1,2", "content-type": "application/json"},
        "queryStringParameters": {"p": "v1,v2", "q": " w"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": DOMAIN,
            "domainPrefix": "abc",
            "http": {
                "method": "POST",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl/8",
            },
            "requestId": "id-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "07/Sep/2021:22:50:22 +0000",
            "timeEpoch": 1631055022677,
        },
        "body": '{"a": 1}',
        "isBase64Encoded": False,
    }


def test_what_is_empty_is_left_out() -> None:
    assert {"cookies", "queryStringParameters", "body"}.isdisjoint(event_of())


def test_a_path_stays_as_it_was_sent() -> None:
    found = event_of(path="/a%2Fb+c%20d")
    assert found["rawPath"] == found["requestContext"]["http"]["path"] == "/a%2Fb+c%20d"


def test_a_caller_who_signed_is_named() -> None:
    found = event_of(account="111122223333", authorizer={"accessKey": "AKIA"})["requestContext"]
    assert found["accountId"] == "111122223333"
    assert found["authorizer"] == {"iam": {"accessKey": "AKIA"}}


@pytest.mark.parametrize(
    ("content_type", "body", "is_base64"),
    [
        ("text/plain; charset=utf-8", b"hi", False),
        ("application/json", b"{}", False),
        ("application/vnd.api+json", b"{}", False),
        ("application/octet-stream", b"hi", True),
        ("image/png", b"\x89PNG", True),
        ("application/json", b"\xff\xfe", True),  # says it is text, and is not
        ("", b"hi", True),
    ],
)
def test_only_text_is_sent_as_text(content_type: str, body: bytes, is_base64: bool) -> None:
    found = event_of(method="POST", headers={"content-type": content_type}, body=body)
    assert found["isBase64Encoded"] is is_base64
    assert (base64.b64decode(found["body"]) if is_base64 else found["body"].encode()) == body


@given(st.binary(min_size=1), st.sampled_from(["text/plain", "application/json", "application/x", "a/b+xml"]))
def test_every_body_can_be_got_back(body: bytes, content_type: str) -> None:
    found = event_of(method="POST", headers={"content-type": content_type}, body=body)
    assert (base64.b64decode(found["body"]) if found["isBase64Encoded"] else found["body"].encode()) == body


# -- answers ---------------------------------------------------------------------------------------------------------


def test_an_object_with_a_status_is_the_response() -> None:
    found = answer(
        json.dumps(
            {
                "statusCode": 201,
                "headers": {"Content-Type": "text/html", "X-N": 7, "X-B": True},
                "cookies": ["a=1; Secure", "b=2"],
                "body": "<p>",
            }
        ).encode()
    )
    assert found.status == 201
    assert found.body == b"<p>"
    assert list(found.headers) == [
        ("content-type", "text/html"),
        ("x-n", "7"),
        ("x-b", "true"),
        ("set-cookie", "a=1; Secure"),
        ("set-cookie", "b=2"),
    ]


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b'{"message":"hi"}', b'{"message":"hi"}'),
        (b"[1,2]", b"[1,2]"),
        (b"null", b"null"),
        (b"7", b"7"),
        (b'"Hello"', b"Hello"),
        (b'{"body":"x","headers":{"a":"b"}}', b'{"body":"x","headers":{"a":"b"}}'),
    ],
)
def test_anything_else_is_the_body_of_a_200(payload: bytes, body: bytes) -> None:
    assert answer(payload) == UrlAnswer(200, (("content-type", "application/json"),), body)


def test_a_body_in_base64_is_decoded() -> None:
    payload = {"statusCode": 200, "body": base64.b64encode(b"\x00\xff").decode(), "isBase64Encoded": True}
    assert answer(json.dumps(payload).encode()).body == b"\x00\xff"


@pytest.mark.parametrize("status", ["204", 204, 204.0])
def test_a_status_may_be_written_as_any_number(status: object) -> None:
    assert answer(json.dumps({"statusCode": status}).encode()) == UrlAnswer(
        204, (("content-type", "application/json"),)
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"statusCode":"abc"}',
        b'{"statusCode":99}',
        b'{"statusCode":600}',
        b'{"statusCode":null}',
        b'{"statusCode":true}',
        b'{"statusCode":200,"headers":[]}',
        b'{"statusCode":200,"headers":{"a":{}}}',
        b'{"statusCode":200,"headers":{"a b":"c"}}',
        b'{"statusCode":200,"headers":{"a":"b\\r\\nset-cookie: x"}}',
        b'{"statusCode":200,"cookies":["a\\nb"]}',
        b'{"statusCode":200,"cookies":"a"}',
        b'{"statusCode":200,"body":"*","isBase64Encoded":true}',
        b'{"statusCode":200,"isBase64Encoded":"yes"}',
    ],
)
def test_what_can_be_no_response_is_a_bad_gateway(payload: bytes) -> None:
    assert answer(payload) == BAD_GATEWAY
    assert BAD_GATEWAY.status == 502


def test_a_failed_function_is_a_bad_gateway_whatever_it_says() -> None:
    assert answer(b'{"statusCode": 200}', failed=True) == BAD_GATEWAY


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), st.lists(st.text()))
def test_no_header_of_a_handler_can_begin_another(headers: dict[str, Any], cookies: list[str]) -> None:
    found = answer(json.dumps({"statusCode": 200, "headers": headers, "cookies": cookies}).encode())
    for name, value in found.headers:
        assert not {"\r", "\n", "\0"} & set(name + value)


# -- streams ---------------------------------------------------------------------------------------------------------

PRELUDE = b'{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=d"]}' + bytes(8)


def streamed(pieces: list[bytes], has_prelude: bool | None = None) -> tuple[UrlAnswer | None, bytes]:
    stream = StreamedAnswer(has_prelude)
    body = b""
    for piece in pieces:
        body += stream.feed(piece)
        assert not body or stream.head is not None, "a body before its head"
    body += stream.finish()
    return stream.head, body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(st.binary(), st.lists(st.integers(0, 100)), st.sampled_from([True, None]))
def test_a_prelude_is_found_however_it_is_cut(body: bytes, places: list[int], has_prelude: bool | None) -> None:
    head, found = streamed(cut(PRELUDE + body, places), has_prelude)
    assert head is not None
    assert head.status == 201
    assert list(head.headers)[1:] == [("x-a", "b"), ("set-cookie", "c=d")]
    assert found == body


@given(st.binary(), st.lists(st.integers(0, 100)))
def test_a_body_without_prelude_arrives_whole(body: bytes, places: list[int]) -> None:
    head, found = streamed(cut(body, places), False)
    assert head is not None
    assert head.status == 200
    assert found == body


@pytest.mark.parametrize("body", [b"", b"text", b'{"a":1}', b'{"a":1}\n{"a":2}', b"{" * 40_000, b"{}" + bytes(7)])
def test_a_body_that_looks_like_a_prelude_and_is_none_arrives_whole(body: bytes) -> None:
    head, found = streamed(cut(body, [1, 5, 1000]))
    assert head is not None
    assert (head.status, found) == (200, body)


def test_json_lines_are_not_held_back() -> None:
    stream = StreamedAnswer()
    assert stream.feed(b'{"a":1}\n{"a"') == b'{"a":1}\n{"a"'


@pytest.mark.parametrize(
    "data", [b"{}", b"no json" + bytes(8) + b"x", b'{"statusCode":"x"}' + bytes(8), b"x" * (URL_PRELUDE_BYTES_MAX + 1)]
)
def test_a_malformed_prelude_is_a_bad_gateway(data: bytes) -> None:
    assert streamed([data, b"more"], True) == (BAD_GATEWAY, b"")


# -- CORS ------------------------------------------------------------------------------------------------------------

CORS = {
    "AllowOrigins": ["https://a.example"],
    "AllowMethods": ["GET", "POST"],
    "AllowHeaders": ["x-a"],
    "ExposeHeaders": ["x-b"],
    "MaxAge": 60,
    "AllowCredentials": True,
}


def asks(origin: str, method: str = "GET", **more: str) -> UrlRequest:
    return request(method="OPTIONS", headers={"origin": origin, "access-control-request-method": method} | more)


def test_a_browser_is_told_what_it_may() -> None:
    found = preflight(CORS, asks("https://a.example"))
    assert found is not None
    assert dict(found.headers) == {
        "access-control-allow-origin": "https://a.example",
        "vary": "Origin",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-b",
        "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "x-a",
        "access-control-max-age": "60",
    }


@pytest.mark.parametrize("asked", [asks("https://b.example"), asks("https://a.example", "DELETE")])
def test_a_browser_that_may_not_is_told_nothing(asked: UrlRequest) -> None:
    assert preflight(CORS, asked) == UrlAnswer(200)


def test_without_configuration_the_function_answers_preflights() -> None:
    assert preflight(None, asks("https://a.example")) is None
    assert preflight(CORS, request(method="OPTIONS")) is None
    assert preflight(CORS, request(headers={"origin": "https://a.example"})) is None


def test_any_origin_may_where_the_configuration_says_so() -> None:
    found = preflight({"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"]}, asks("https://z", "PUT"))
    assert found is not None
    assert found.header("access-control-allow-origin") == "*"
    credentials = with_cors(UrlAnswer(200), {"AllowOrigins": ["*"], "AllowCredentials": True}, "https://z")
    assert credentials.header("access-control-allow-origin") == "https://z"


def test_the_configuration_stands_above_the_functions_own_headers() -> None:
    own = UrlAnswer(200, (("access-control-allow-origin", "*"), ("x", "y")), b"b")
    assert with_cors(own, None, "https://a.example") == own
    found = with_cors(own, CORS, "https://a.example")
    assert [value for name, value in found.headers if name == "access-control-allow-origin"] == ["https://a.example"]
    assert found.header("x") == "y"
    assert with_cors(own, CORS, "https://b.example").header("access-control-allow-origin") is None
