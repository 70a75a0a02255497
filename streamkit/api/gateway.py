"""From a request to the service that answers it: paths, AWS's target header, authentication, errors, metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from streamkit.api.errors import RequestIds, error_answer
from streamkit.api.http import Buffer, Deferred, Request, Response
from streamkit.api.service_model import ServiceModel
from streamkit.api.sigv4 import Authenticator, scope_of
from streamkit.log import ERROR_CODE, OPERATION, REQUEST_ID
from streamkit.metrics import Registry
from streamkit.model.errors import (
    NotImplementedHere,
    RequestError,
    SerializationError,
    StreamkitError,
    UnknownOperation,
)
from streamkit.model.names import Scope

_log = logging.getLogger(__name__)

Body = bytes | Sequence[Buffer]
Action = Callable[[Scope, dict[str, Any]], Awaitable[Mapping[str, Any] | Body]]
Respond = Callable[[Body, BaseException | None], None]
FastPath = Callable[[Scope, Buffer, Respond], bool]
Route = Callable[[Request], Awaitable[Response]]

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
        """By operation. An action gets checked values; what it returns is encoded by the model, or sent as it is."""
        ...

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        """By operation: the whole of it for the plain case, from body to body, which it responds later. False where the
        case is not plain; then nothing was done, and the action decides."""
        ...


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    model: Any
    action: Action | None
    fast_path: FastPath | None
    content_type: bytes


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
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._default_scope = default_scope
        self._request_ids = request_ids
        self._operations = {
            f"{service.model.target_prefix}.{name}".encode(): _Operation(
                name,
                model,
                service.actions.get(name),
                service.fast_paths.get(name),
                service.model.wire.content_type.encode(),
            )
            for service in services
            for name, model in service.model.operations.items()
        }
        self._durations = metrics.histogram(
            "streamkit_request_seconds", "Time from a complete request to its answer.", ("operation",)
        )
        self._errors = metrics.counter("streamkit_request_errors_total", "Refused requests.", ("operation", "code"))

    def handle(self, request: Request) -> Response | Deferred | asyncio.Future[Response]:
        target = request.headers.get(b"x-amz-target")
        if target is None or request.method != "POST":
            return self._handle_path(request)
        operation = self._operations.get(target)
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
            if error is None:
                answer.answer(Response(200, body, operation.content_type, self._headers(request)))
            else:
                answer.answer(self._refused(error, operation, request))

        return answer, respond

    def _refused(self, error: BaseException, operation: _Operation | None, request: Request) -> Response:
        status, body = error_answer(error)
        request_id, extended_id = self._request_ids.next()
        name = operation.name if operation is not None else "unknown"
        code = error.code if isinstance(error, StreamkitError) else StreamkitError.code
        self._errors.add(1, name, code)
        fields = {OPERATION: name, ERROR_CODE: code, REQUEST_ID: request_id.decode()}
        if status < 500 or isinstance(error, NotImplementedHere):
            _log.info("refused: %s", error, extra=fields)
        else:
            known = isinstance(error, StreamkitError)
            _log.error("failed: %s", error, extra=fields, exc_info=None if known else error)
        lines = _id_lines(request_id, extended_id, request)
        return Response(status, body, b"application/x-amz-json-1.1", lines)

    def _headers(self, request: Request) -> bytes:
        return _id_lines(*self._request_ids.next(), request)

    def _scope_of(self, request: Request) -> Scope:
        credential = self._authenticator.authenticate(request)
        return scope_of(credential, self._default_scope.account, self._default_scope.region)

    # -- paths -------------------------------------------------------------------------------------------------------

    def _handle_path(self, request: Request) -> Response | asyncio.Future[Response]:
        if request.method == "OPTIONS":
            return self._preflight(request)
        route = self._routes.get((request.method, request.path))
        if route is not None:
            return asyncio.get_running_loop().create_task(self._run_route(route, request))
        if request.method == "POST" and request.path == "/":
            return self._refused(_first_error(UnknownOperation(""), request), None, request)
        known = sorted(f"{method} {path}" for method, path in self._routes)
        text = f"Nothing is at {request.method} {request.path}. AWS requests go to POST /; there are also: "
        return Response(404, json.dumps({"message": text + ", ".join(known)}).encode(), _JSON)

    async def _run_route(self, route: Route, request: Request) -> Response:
        started_s = time.perf_counter()
        try:
            return await route(request)
        except StreamkitError as error:
            self._errors.add(1, request.path, error.code)
            _log.info("refused: %s", error, extra={OPERATION: request.path, ERROR_CODE: error.code})
            return Response(*error_answer(error), _JSON)
        finally:
            self._durations.observe(time.perf_counter() - started_s, request.path)

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
    if isinstance(output, Mapping):
        body: bytes = operation.model.encode(output)
        return body
    return output


def _first_error(error: RequestError, request: Request) -> RequestError:
    """AWS parses the body before it looks at the target or at who asks: a broken one is what it complains of."""
    if isinstance(error, SerializationError):
        return error
    try:
        document = json.loads(bytes(request.body))
    except (ValueError, RecursionError):
        return SerializationError("")
    return error if isinstance(document, dict) else SerializationError("")
