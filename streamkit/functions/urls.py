"""Function URLs: an HTTP request to the event that AWS makes of it (payload format 2.0), an answer back to HTTP.

Pure: no I/O, no clock. Whoever serves the URL looks for the function, checks who asks, and invokes it in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson
import pybase64

from streamkit.model.limits import URL_PRELUDE_BYTES_MAX

PRELUDE_TYPE: Final = "application/vnd.awslambda.http-integration-response"
"""The content type of a streamed response that begins with its status and headers."""

_JSON: Final = "application/json"
_PRELUDE_END: Final = bytes(8)
_TEXT_TYPES: Final = ("application/json", "application/javascript", "application/xml", "application/graphql")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class UrlRequest:
    """A request as it came. Header names are in lower case; a repeated header's values are joined with a comma.

    `path` and `query` are as they were sent, and so they stay: unlike an HTTP API, a function URL decodes neither.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str  # IP address
    domain: str  # of the URL: `<url id>.lambda-url.<region>.on.aws`, or what stands for it here
    request_id: str
    at_ms: int
    protocol: str = "HTTP/1.1"
    account: str = "anonymous"  # AWS's word where nobody had to sign; else the caller's account
    authorizer: Mapping[str, Any] | None = None  # AWS's `iam` object, where the caller signed


@dataclass(frozen=True, slots=True)
class UrlAnswer:
    """What the client gets. `headers` may repeat a name (`set-cookie`); names are in lower case."""

    status: int
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)


BAD_GATEWAY: Final = UrlAnswer(502, (("content-type", _JSON),), b"Internal Server Error")
"""What a client is told when the function failed, or answered with something that is no HTTP response."""


# -- the event -------------------------------------------------------------------------------------------------------


def event(request: UrlRequest) -> bytes:
    """The payload the function is invoked with. Members that AWS leaves out where they are empty are left out."""
    prefix = request.domain.partition(".")[0]
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    cookies = [cookie.strip() for cookie in request.headers.get("cookie", "").split(";") if cookie.strip()]
    if cookies:
        document["cookies"] = cookies
    document["headers"] = {name: value for name, value in request.headers.items() if name != "cookie"}
    if parameters := _parameters(request.query):
        document["queryStringParameters"] = parameters
    context: dict[str, Any] = {"accountId": request.account, "apiId": prefix}
    if request.authorizer is not None:
        context["authorizer"] = {"iam": request.authorizer}
    http = {
        "method": request.method,
        "path": request.path,
        "protocol": request.protocol,
        "sourceIp": request.peer,
        "userAgent": request.headers.get("user-agent"),
    }
    document["requestContext"] = context | {
        "domainName": request.domain,
        "domainPrefix": prefix,
        "http": {name: value for name, value in http.items() if value is not None},
        "requestId": request.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _time(request.at_ms),
        "timeEpoch": request.at_ms,
    }
    body, is_base64 = _body(request)
    if body is not None:
        document["body"] = body
    document["isBase64Encoded"] = is_base64
    return orjson.dumps(document)


def _parameters(query: str) -> dict[str, str]:
    """Decoded; values of a name that comes again are joined with a comma."""
    parameters: dict[str, str] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            name, value = unquote_plus(name), unquote_plus(value)
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _body(request: UrlRequest) -> tuple[str | None, bool]:
    """The body as text where its type says it is text and it is; else in base64. None: there is none."""
    if not request.body:
        return None, False
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_text = kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml"))
    if is_text and "content-encoding" not in request.headers:
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return pybase64.b64encode_as_string(request.body), True


def _time(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at.day:02d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"


# -- the answer ------------------------------------------------------------------------------------------------------


def answer(payload: bytes, *, failed: bool = False) -> UrlAnswer:
    """The HTTP response that a function's result stands for; `failed` where the function did.

    An object with `statusCode` says itself what it is. Anything else is the body of a 200, as JSON; a string is sent
    as it is, without quotation marks. What cannot be a response is a 502.
    """
    if failed:
        return BAD_GATEWAY
    try:
        result = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return BAD_GATEWAY
    if isinstance(result, str):
        return UrlAnswer(200, (("content-type", _JSON),), result.encode())
    if not isinstance(result, dict) or "statusCode" not in result:
        return UrlAnswer(200, (("content-type", _JSON),), payload)
    head = _head(result, default_type=_JSON)
    body = _answer_body(result)
    if head is None or body is None:
        return BAD_GATEWAY
    return UrlAnswer(head.status, head.headers, body)


def _head(result: dict[str, Any], default_type: str) -> UrlAnswer | None:
    """Status, headers and cookies of an object; None where one of them is malformed."""
    status = _status(result.get("statusCode", 200))
    given, cookies = result.get("headers"), result.get("cookies")
    if status is None or not isinstance(given, dict | None) or not isinstance(cookies, list | None):
        return None
    headers: dict[str, str] = {"content-type": default_type}
    for name, value in (given or {}).items():
        text = _header_value(value)
        if text is None or not _is_token(name):
            return None
        headers[name.lower()] = text
    lines = [*headers.items()]
    for cookie in cookies or ():
        text = _header_value(cookie)
        if text is None:
            return None
        lines.append(("set-cookie", text))
    return UrlAnswer(status, tuple(lines))


def _status(value: Any) -> int | None:
    """A number, or its digits."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) == 3:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 100 <= value <= 599 else None


def _header_value(value: Any) -> str | None:
    """Scalars as JSON writes them; None for what is none, and for what would end the line."""
    if isinstance(value, bool | int | float) or value is None:
        return "" if value is None else orjson.dumps(value).decode()
    if isinstance(value, str) and value.isprintable() and _is_latin(value):
        return value
    return None


def _is_latin(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


def _is_token(name: str) -> bool:
    return bool(name) and name.isascii() and all(letter.isalnum() or letter in "!#$%&'*+-.^_`|~" for letter in name)


def _answer_body(result: dict[str, Any]) -> bytes | None:
    body = result.get("body")
    is_base64 = result.get("isBase64Encoded", False)
    if not isinstance(is_base64, bool | None):
        return None
    if body is None:
        return b""
    if not isinstance(body, str):
        return orjson.dumps(body)  # AWS takes an object for the JSON it is
    if not is_base64:
        return body.encode()
    try:
        return pybase64.b64decode(body, validate=True)
    except ValueError:
        return None


# -- streamed answers ------------------------------------------------------------------------------------------------


class StreamedAnswer:
    """A response of a RESPONSE_STREAM function, as its pieces come.

    `has_prelude` says whether it begins with its status and headers (the runtime's content type is `PRELUDE_TYPE`);
    None: it is looked at, and a body that begins with a JSON object waits until it is clear that it is no prelude.
    """

    def __init__(self, has_prelude: bool | None = None) -> None:
        self.head: UrlAnswer | None = None  # without body; None until it is known
        self._has_prelude = has_prelude
        self._held = bytearray()
        if has_prelude is False:
            self.head = _PLAIN_HEAD

    def feed(self, piece: bytes) -> bytes:
        """What of the body can be sent on. `head` is known before any of it; it is `BAD_GATEWAY` where the prelude is
        malformed, and then nothing more comes."""
        if self.head is not None:
            return b"" if self.head is BAD_GATEWAY else piece
        scanned = max(0, len(self._held) - len(_PRELUDE_END))
        self._held += piece
        end = self._held.find(_PRELUDE_END, scanned)
        if end >= 0 and (self._has_prelude or bytes(self._held[:1]) == b"{"):
            return self._begin(bytes(self._held[:end]), bytes(self._held[end + len(_PRELUDE_END) :]))
        if self._has_prelude:
            if len(self._held) > URL_PRELUDE_BYTES_MAX:
                self.head = BAD_GATEWAY
            return b""
        if (
            bytes(self._held[:1]) not in (b"", b"{")
            or len(self._held) > URL_PRELUDE_BYTES_MAX
            or self._is_past_an_object()
        ):
            return self._plain()
        return b""

    def finish(self) -> bytes:
        """The rest of the body, when the function has ended."""
        if self.head is None:
            if self._has_prelude:
                self.head = BAD_GATEWAY
            else:
                return self._plain()
        return b""

    def _begin(self, prelude: bytes, rest: bytes) -> bytes:
        try:
            document = orjson.loads(prelude)
        except orjson.JSONDecodeError:
            document = None
        head = _head(document, default_type=_STREAM_TYPE) if isinstance(document, dict) else None
        if head is None and not self._has_prelude:
            return self._plain()
        self.head = head or BAD_GATEWAY
        self._held.clear()
        return rest if head is not None else b""

    def _plain(self) -> bytes:
        self.head = _PLAIN_HEAD
        held = bytes(self._held)
        self._held.clear()
        return held

    def _is_past_an_object(self) -> bool:
        """Whether it holds a whole JSON object and something behind it that does not end a prelude."""
        try:
            _, end = _DECODER.raw_decode(text := self._held.decode("latin-1"))
        except ValueError:
            return False  # cut off, or no JSON; the zeros may still come
        return bool(text[end:].strip("\0"))


_DECODER: Final = json.JSONDecoder()
_STREAM_TYPE: Final = "application/octet-stream"
_PLAIN_HEAD: Final = UrlAnswer(200, (("content-type", _STREAM_TYPE),))


# -- CORS ------------------------------------------------------------------------------------------------------------


def preflight(cors: Mapping[str, Any] | None, request: UrlRequest) -> UrlAnswer | None:
    """The answer to a browser that asks whether it may, where the URL has a CORS configuration; None where the request
    is none of these, and goes to the function."""
    wanted = request.headers.get("access-control-request-method")
    if cors is None or request.method != "OPTIONS" or wanted is None or "origin" not in request.headers:
        return None
    headers = cors_headers(cors, request.headers["origin"])
    methods: list[str] = cors.get("AllowMethods") or []
    if not headers or not ("*" in methods or wanted in methods):
        return UrlAnswer(200)
    asked = request.headers.get("access-control-request-headers")
    allowed: list[str] = cors.get("AllowHeaders") or []
    headers.append(("access-control-allow-methods", ",".join(methods)))
    if asked is not None and "*" in allowed:
        headers.append(("access-control-allow-headers", asked))
    elif allowed:
        headers.append(("access-control-allow-headers", ",".join(allowed)))
    if cors.get("MaxAge") is not None:
        headers.append(("access-control-max-age", str(cors["MaxAge"])))
    return UrlAnswer(200, tuple(headers))


def cors_headers(cors: Mapping[str, Any], origin: str) -> list[tuple[str, str]]:
    """Of any answer to this origin; none where the origin may not."""
    origins: list[str] = cors.get("AllowOrigins") or []
    with_credentials = bool(cors.get("AllowCredentials"))
    if "*" in origins and not with_credentials:
        headers = [("access-control-allow-origin", "*")]
    elif "*" in origins or origin in origins:
        headers = [("access-control-allow-origin", origin), ("vary", "Origin")]
    else:
        return []
    if with_credentials:
        headers.append(("access-control-allow-credentials", "true"))
    if cors.get("ExposeHeaders"):
        headers.append(("access-control-expose-headers", ",".join(cors["ExposeHeaders"])))
    return headers


def with_cors(found: UrlAnswer, cors: Mapping[str, Any] | None, origin: str | None) -> UrlAnswer:
    """An answer with the URL's CORS headers, in place of those that the function may have given itself."""
    if cors is None or origin is None:
        return found
    headers = cors_headers(cors, origin)
    own = [(name, value) for name, value in found.headers if not name.startswith("access-control-")]
    return UrlAnswer(found.status, (*own, *headers), found.body)
