"""From a request to the service that answers it: hosts, paths, AWS's target header, authentication, errors, metrics.

A request is for the first of these that knows it: a host's route; the operation its target header names; the route of
its path; the route of the longest prefix of its path; the operation of a REST service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from streamkit.api.context import TRACE_HEADER
from streamkit.api.errors import RequestIds, error_answer
from streamkit.api.eventstream import CONTENT_TYPE as EVENT_STREAM
from streamkit.api.http import Body as Body  # also the services' name for it
from streamkit.api.http import Buffer, Deferred, Request, Response
from streamkit.api.rest import Encoded, RestAnswer, RestOperation, encode_refusal, query_pairs, rest_operations
from streamkit.api.rest_paths import PathTree
from streamkit.api.service_model import Operation, ServiceModel
from streamkit.api.sigv4 import Authenticator, scope_of
from streamkit.log import ERROR_CODE, OPERATION, REQUEST_ID
from streamkit.metrics import Registry
from streamkit.model.errors import (
    AccessDenied,
    NotImplementedHere,
    RequestError,
    SerializationError,
    StreamkitError,
    UnknownOperation,
)
from streamkit.model.names import Scope

_log = logging.getLogger(__name__)

Action = Callable[[Scope, dict[str, Any]], Awaitable[Mapping[str, Any] | Body]]
RestAction = Callable[[Scope, dict[str, Any]], Awaitable[Mapping[str, Any] | RestAnswer]]
Respond = Callable[[Body, BaseException | None], None]
FastPath = Callable[[Scope, Buffer, Respond], bool]
Route = Callable[[Request], Awaitable[Response]]
HostRoute = Callable[[bytes], Route | None]

_JSON: Final = b"application/json"
_CORS: Final = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: "
    b"x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date\r\n"
)
_PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: GET, HEAD, PUT, POST, DELETE, OPTIONS\r\nAccess-Control-Max-Age: 172800\r\n"
)


class JsonService(Protocol):
    """A service of AWS's JSON protocol. Found by the prefix of its target header."""

    model: ServiceModel

    @property
    def actions(self) -> Mapping[str, Action]:
        """By operation. An action gets checked values; what it returns is encoded by the model, or sent as it is.

        An output member that is an event stream is given as an asynchronous iterator of events: mappings of one key,
        the event's name, to its members.
        """
        ...

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        """By operation: the whole of it for the plain case, from body to body, which it responds later. False where the
        case is not plain; then nothing was done, and the action decides."""
        ...


class RestService(Protocol):
    """A service of AWS's REST-JSON protocol. Found by the method and the path of its operations."""

    model: ServiceModel

    @property
    def actions(self) -> Mapping[str, RestAction]:
        """By operation; one of the model that is not there is answered as not implemented.

        An action gets checked values, members by their names in the model wherever the request has them: path, query
        (a list where the member is one), headers, JSON. A body that is a blob's is bytes; an empty body gives no
        member. What it returns are the output's members by name, likewise; None is left out. A payload of a blob is
        given as bytes, as a sequence of buffers, or as an asynchronous iterator of bytes, an event stream as an
        asynchronous iterator of events. The status is the model's, unless the output has a member for it.

        To answer with a request id, headers or a status of its own, an action returns a `RestAnswer` around its output.
        An error's status and members come from the model's shape of its code; `StreamkitError.fields` holds its further
        members (TooManyRequestsException: `Reason`, and `retryAfterSeconds`, which is a header).
        """
        ...


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    model: Operation
    action: Action | None
    fast_path: FastPath | None
    content_type: bytes


@dataclass(frozen=True, slots=True)
class _RestOperation:
    name: str
    codec: RestOperation
    service: ServiceModel
    action: RestAction | None


class Gateway:
    """Answers every request of a server. `handle` is given to `HttpServer`."""

    def __init__(
        self,
        services: Sequence[JsonService],
        routes: Mapping[tuple[str, str], Route],
        *,
        authenticator: Authenticator,
        default_scope: Scope,
        request_ids: RequestIds,
        metrics: Registry,
        rest_services: Sequence[RestService] = (),
        prefix_routes: Mapping[str, Route] = MappingProxyType({}),
        host_route: HostRoute | None = None,
        late_services: Mapping[str, Callable[[], JsonService]] = MappingProxyType({}),
    ) -> None:
        """`late_services` are made when they are first asked for, by the prefixes of their target headers: their models
        are large, and few clients use them. `prefix_routes` get every method of the paths that start with their texts;
        `host_route` is asked first, with the Host header of every request. No two REST services may have the same path
        in their models."""
        self._routes = routes
        self._prefix_routes = sorted(prefix_routes.items(), key=lambda item: -len(item[0]))
        self._host_route = host_route
        self._authenticator = authenticator
        self._default_scope = default_scope
        self._request_ids = request_ids
        self._operations: dict[bytes, _Operation] = {}
        for each in services:
            self._add_json(each)
        self._late_services = {prefix.encode(): make for prefix, make in late_services.items()}
        self._paths: PathTree[_RestOperation] = PathTree()
        for service in rest_services:
            self._add_rest(service)
        self._durations = metrics.histogram(
            "streamkit_request_seconds", "Time from a complete request to its answer.", ("operation",)
        )
        self._errors = metrics.counter("streamkit_request_errors_total", "Refused requests.", ("operation", "code"))

    def _add_json(self, service: JsonService) -> None:
        actions, fast_paths, model = service.actions, service.fast_paths, service.model
        content_type = model.wire.content_type.encode()
        for name, operation in model.operations.items():
            self._operations[f"{model.target_prefix}.{name}".encode()] = _Operation(
                name, operation, actions.get(name), fast_paths.get(name), content_type
            )

    def _late_operation(self, target: bytes) -> _Operation | None:
        make = self._late_services.pop(target.partition(b".")[0], None)
        if make is not None:
            self._add_json(make())
        return self._operations.get(target)

    def _add_rest(self, service: RestService) -> None:
        model = service.model
        actions = service.actions
        for name, codec in rest_operations(model).items():
            http = model.operations[name].http
            self._paths.add(http.method, http.request_uri, _RestOperation(name, codec, model, actions.get(name)))

    def handle(self, request: Request) -> Response | Deferred | asyncio.Future[Response]:
        if self._host_route is not None:
            route = self._host_route(request.headers.get(b"host", b""))
            if route is not None:
                return self._begin_route(route, request, "host")
        target = request.headers.get(b"x-amz-target")
        if target is None or request.method != "POST" or (request.path != "/" and target not in self._operations):
            return self._handle_path(request)
        operation = self._operations.get(target) or self._late_operation(target)
        started_s = time.perf_counter()
        try:
            if operation is None:
                raise UnknownOperation("")
            scope = self._scope_of(request)
            answer, respond = self._answer_later(operation, request, started_s)
            if operation.fast_path is not None and operation.fast_path(scope, request.body, respond):
                return answer
            if operation.action is None:
                raise NotImplementedHere(f"streamkit does not implement {operation.name} yet.")
            values = operation.model.decode(bytes(request.body))
        except RequestError as error:
            return self._refused(_first_error(error, request), operation, request)
        task = asyncio.get_running_loop().create_task(_run(operation, scope, values))
        task.add_done_callback(partial(_pass_on, respond))
        return answer

    def failed(self, request: Request, error: BaseException) -> Response:
        """The answer where a handler broke; for `HttpServer`."""
        return self._refused(error, None, request)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _answer_later(self, operation: _Operation, request: Request, started_s: float) -> tuple[Deferred, Respond]:
        """An answer, and what gives it."""
        answer = Deferred()

        def respond(body: Body, error: BaseException | None) -> None:
            self._durations.observe(time.perf_counter() - started_s, operation.name)
            if error is not None:
                answer.answer(self._refused(error, operation, request))
                return
            streamed = type(body) is not bytes and isinstance(body, AsyncIterator)
            content_type = EVENT_STREAM if streamed else operation.content_type
            answer.answer(Response(200, body, content_type, self._headers(request)))

        return answer, respond

    def _refused(self, error: BaseException, operation: _Operation | None, request: Request) -> Response:
        status, body = error_answer(error)
        name = operation.name if operation is not None else "unknown"
        lines = self._note_refusal(error, name, status, request)
        return Response(status, body, b"application/x-amz-json-1.1", lines)

    def _note_refusal(self, error: BaseException, name: str, status: int, request: Request) -> bytes:
        """Counts and logs a refusal; returns its header lines."""
        request_id, extended_id = self._request_ids.next()
        code = error.code if isinstance(error, StreamkitError) else StreamkitError.code
        self._errors.add(1, name, code)
        fields = {OPERATION: name, ERROR_CODE: code, REQUEST_ID: request_id.decode()}
        if status < 500 or isinstance(error, RequestError):
            _log.info("refused: %s", error, extra=fields)
        else:
            known = isinstance(error, StreamkitError)
            _log.error("failed: %s", error, extra=fields, exc_info=None if known else error)
        return _id_lines(request_id, extended_id, request)

    def _headers(self, request: Request) -> bytes:
        return _id_lines(*self._request_ids.next(), request)

    def _scope_of(self, request: Request) -> Scope:
        credential = self._authenticator.authenticate(request)
        return scope_of(credential, self._default_scope.account, self._default_scope.region)

    # -- paths -------------------------------------------------------------------------------------------------------

    def _handle_path(self, request: Request) -> Response | Deferred | asyncio.Future[Response]:
        path = request.path
        route = self._routes.get((request.method, path))
        if route is not None:
            return self._begin_route(route, request, path)
        for prefix, route in self._prefix_routes:
            if path.startswith(prefix):
                return self._begin_route(route, request, prefix)
        if request.method == "OPTIONS":
            return self._preflight(request)
        if self._paths.knows(path):
            return self._handle_rest(request)
        if request.method == "POST" and path == "/":
            return self._refused(_first_error(UnknownOperation(""), request), None, request)
        known = sorted(
            [*(f"{method} {path}" for method, path in self._routes), *(prefix for prefix, _ in self._prefix_routes)]
        )
        text = f"Nothing is at {request.method} {path}. AWS requests go to POST /; there are also: "
        return Response(404, json.dumps({"message": text + ", ".join(known)}).encode(), _JSON)

    def _begin_route(self, route: Route, request: Request, label: str) -> asyncio.Future[Response]:
        """`label` stands for the route in the metrics."""
        return asyncio.get_running_loop().create_task(self._run_route(route, request, label))

    async def _run_route(self, route: Route, request: Request, label: str) -> Response:
        started_s = time.perf_counter()
        try:
            return await route(request)
        except StreamkitError as error:
            self._errors.add(1, label, error.code)
            _log.info("refused: %s", error, extra={OPERATION: label, ERROR_CODE: error.code})
            return Response(*error_answer(error), _JSON)
        finally:
            self._durations.observe(time.perf_counter() - started_s, label)

    # -- REST --------------------------------------------------------------------------------------------------------

    def _handle_rest(self, request: Request) -> Response | Deferred:
        started_s = time.perf_counter()
        query = query_pairs(request.query)
        found = self._paths.find(request.method, request.path, query)
        try:
            scope = self._scope_of(request)
            if found is None:
                # What AWS's front says, which has to name an action before it can ask whether it is allowed.
                raise AccessDenied("Unable to determine service/operation name to be authorized")
            operation = found.target
            if operation.action is None:
                raise NotImplementedHere(f"streamkit does not implement {operation.name} yet.")
            values = operation.codec.decode(request, found.labels, query)
        except RequestError as error:
            return self._rest_refused(error, None if found is None else found.target, request)
        answer = Deferred()
        trace = request.headers.get(b"x-amzn-trace-id")
        task = asyncio.get_running_loop().create_task(_run_rest(operation.action, operation, scope, values, trace))
        task.add_done_callback(partial(self._rest_done, operation, request, answer, started_s))
        return answer

    def _rest_done(
        self,
        operation: _RestOperation,
        request: Request,
        answer: Deferred,
        started_s: float,
        task: asyncio.Task[tuple[Encoded, str | None]],
    ) -> None:
        self._durations.observe(time.perf_counter() - started_s, operation.name)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            answer.answer(self._rest_refused(error, operation, request))
            return
        encoded, own_id = task.result()
        request_id, extended_id = self._request_ids.next()
        if own_id is not None:
            request_id = own_id.encode()
        lines = _id_lines(request_id, extended_id, request)
        answer.answer(Response(encoded.status, encoded.body, encoded.content_type, lines + encoded.headers))

    def _rest_refused(self, error: BaseException, operation: _RestOperation | None, request: Request) -> Response:
        encoded = encode_refusal(error, {} if operation is None else operation.service.errors)
        name = "unknown" if operation is None else operation.name
        lines = self._note_refusal(error, name, encoded.status, request)
        return Response(encoded.status, encoded.body, encoded.content_type, lines + encoded.headers)

    def _preflight(self, request: Request) -> Response:
        """A browser asks whether it may: it may."""
        wanted = request.headers.get(b"access-control-request-headers", b"*")
        allowed = b"Access-Control-Allow-Headers: %b\r\n" % wanted
        return Response(200, b"", headers=self._headers(request) + _PREFLIGHT + allowed)


def _id_lines(request_id: bytes, extended_id: bytes, request: Request) -> bytes:
    """The header lines that every answer of AWS has."""
    lines = b"x-amzn-RequestId: %b\r\nx-amz-id-2: %b\r\n" % (request_id, extended_id)
    return lines + _CORS if b"origin" in request.headers else lines


def _pass_on(respond: Respond, task: asyncio.Task[Body]) -> None:
    error = task.exception()
    respond(b"" if error else task.result(), error)


async def _run(operation: _Operation, scope: Scope, values: dict[str, Any]) -> Body:
    assert operation.action is not None
    output = await operation.action(scope, values)
    if not isinstance(output, Mapping):
        return output
    if operation.model.event_stream is not None:
        return operation.model.encode_stream(output)
    return operation.model.encode(output)


async def _run_rest(
    action: RestAction, operation: _RestOperation, scope: Scope, values: dict[str, Any], trace: bytes | None
) -> tuple[Encoded, str | None]:
    """The answer, and the request id that the action wants it to have."""
    TRACE_HEADER.set(None if trace is None else trace.decode("latin-1"))
    output = await action(scope, values)
    own_id = output.request_id if isinstance(output, RestAnswer) else None
    return operation.codec.encode(output), own_id


def _first_error(error: RequestError, request: Request) -> RequestError:
    """AWS parses the body before it looks at the target or at who asks: a broken one is what it complains of."""
    if isinstance(error, SerializationError):
        return error
    try:
        document = json.loads(bytes(request.body))
    except (ValueError, RecursionError):
        return SerializationError("")
    return error if isinstance(document, dict) else SerializationError("")
