"""Function URLs: HTTP straight to a function.

A URL is reached by its host name, `<id>.lambda-url.<region>.localhost:<port>` (what stands before `.lambda-url.`
decides), or, where such a name cannot be resolved, by the path `/_streamkit/urls/<id>/...`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from streamkit.api.context import TRACE_HEADER
from streamkit.api.gateway import Route
from streamkit.api.http import Request, Response
from streamkit.api.invoke import ResponseStream
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import Clock
from streamkit.functions import urls
from streamkit.functions.service import Functions
from streamkit.functions.state import LATEST, FunctionState, UrlState
from streamkit.functions.urls import UrlAnswer, UrlRequest
from streamkit.model.errors import RequestError, RequestTooLarge, TooManyRequests
from streamkit.model.names import FunctionArn

_HOST_PART: Final = b".lambda-url."
_FORBIDDEN: Final = (
    b'{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: '
    b'https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}'
)
_JSON: Final = b"application/json"
_STATUSES: Final = range(200, 600)
"""What an answer can have: one below 200 would not be the end of it, and the client would wait for ever."""
_OURS: Final = frozenset(
    (
        "connection",
        "content-length",
        "content-type",
        "date",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amzn-requestid",
    )
)
"""Headers that this server writes. A function's own would contradict them: clients and proxies would not agree on
where the answer ends."""


class FunctionUrls:
    """Routes for the gateway: `by_host` for `host_route`, `by_path` under `PATH`."""

    PATH: Final = "/_streamkit/urls/"

    def __init__(
        self, functions: Functions, authenticator: Authenticator, clock: Clock, *, checks_policy: bool
    ) -> None:
        """`checks_policy`: a URL that anybody may call wants a policy that says so, as in AWS; otherwise the URL's own
        setting is enough."""
        self._functions = functions
        self._authenticator = authenticator
        self._clock = clock
        self._checks_policy = checks_policy

    def by_host(self, host: bytes) -> Route | None:
        url_id, found, _ = host.partition(_HOST_PART)
        if not found:
            return None

        async def route(request: Request) -> Response:
            return await self._answer(request, url_id.decode("latin-1"), request.path, host.decode("latin-1"))

        return route

    async def by_path(self, request: Request) -> Response:
        url_id, slash, rest = request.path.removeprefix(self.PATH).partition("/")
        return await self._answer(request, url_id, slash + rest or "/", f"{url_id}.lambda-url.local")

    async def _answer(self, request: Request, url_id: str, path: str, domain: str) -> Response:
        found = self._functions.registry.settings.find_by_url(url_id)
        if found is None:
            return _forbidden()
        function, qualifier = found
        url = function.urls[qualifier]
        asked = UrlRequest(
            method=request.method,
            path=path,
            query=request.query,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()},
            body=bytes(request.body),
            peer=request.peer.rpartition(":")[0] or request.peer or "127.0.0.1",
            domain=domain,
            request_id=self._functions.invocations.new_id(),
            at_ms=self._clock.now_ms(),
        )
        allowed = urls.preflight(url.cors, asked)
        if allowed is not None:
            return _response(allowed)
        if not self._may_call(function, qualifier, url, request):
            return _forbidden()
        arn = FunctionArn(function.scope, function.name, None if qualifier == LATEST else qualifier)
        trace = request.headers.get(b"x-amzn-trace-id")
        TRACE_HEADER.set(None if trace is None else trace.decode("latin-1"))
        try:
            if url.invoke_mode == "RESPONSE_STREAM":
                return await self._stream(arn, asked, url)
            result = await self._functions.invocations.invoke(
                arn, [urls.event(asked)], request_id=asked.request_id, trace_id=TRACE_HEADER.get()
            )
        except TooManyRequests:
            return Response(429, b'{"Message":"Rate Exceeded."}', _JSON)
        except RequestTooLarge:
            return Response(413, b'{"Message":"Request Entity Too Large"}', _JSON)
        answer = urls.answer(result.payload, failed=result.function_error is not None)
        return _response(urls.with_cors(answer, url.cors, asked.headers.get("origin")), asked.request_id)

    async def _stream(self, arn: FunctionArn, asked: UrlRequest, url: UrlState) -> Response:
        """The head waits for the pieces that say what it is; the body goes on as it comes."""
        stream = ResponseStream(self._functions, arn, urls.event(asked))
        answer = urls.StreamedAnswer()
        chunks = stream.chunks()
        first = b""
        async for chunk in chunks:
            first += answer.feed(chunk)
            if answer.head is not None:
                break
        else:
            first += answer.finish()
        failed = stream.result is not None and stream.result.function_error is not None
        is_streamed = not failed and answer.head is not None and answer.head.status in _STATUSES
        head = answer.head if answer.head is not None and is_streamed else urls.BAD_GATEWAY
        head = urls.with_cors(head, url.cors, asked.headers.get("origin"))

        async def body() -> AsyncIterator[bytes]:
            if first:
                yield first
            async for chunk in chunks:
                if piece := answer.feed(chunk):
                    yield piece

        response = _response(head, asked.request_id)
        if is_streamed:
            response.body = body()
        return response

    def _may_call(self, function: FunctionState, qualifier: str, url: UrlState, request: Request) -> bool:
        if url.auth == "AWS_IAM":
            try:
                return self._authenticator.authenticate(request) is not None
            except RequestError:
                return False
        if not self._checks_policy:
            return True
        policy = function.policies.get(qualifier)
        return policy is not None and any(map(_lets_anybody_call, policy.statements))


def _lets_anybody_call(statement: dict[str, Any]) -> bool:
    if statement.get("Action") != "lambda:InvokeFunctionUrl" or statement.get("Effect") != "Allow":
        return False
    auth = statement.get("Condition", {}).get("StringEquals", {}).get("lambda:FunctionUrlAuthType", "NONE")
    return statement.get("Principal") in ("*", {"AWS": "*"}) and auth == "NONE"


def _forbidden() -> Response:
    return Response(403, _FORBIDDEN, _JSON, ((b"x-amzn-ErrorType", b"AccessDeniedException"),))


def _response(answer: UrlAnswer, request_id: str | None = None) -> Response:
    if answer.status not in _STATUSES:
        answer = urls.BAD_GATEWAY
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers if name not in _OURS]
    if request_id is not None:
        headers.append((b"x-amzn-RequestId", request_id.encode()))
    content_type = answer.header("content-type") or "application/json"
    return Response(answer.status, answer.body, content_type.encode("latin-1"), headers)
