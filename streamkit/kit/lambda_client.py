"""Functions, mappings and logs of a server, by the names and members that AWS's API gives them.

No SDK: a request costs what our own client costs, and is not signed, as local servers accept it.
"""

from __future__ import annotations

import asyncio
import io
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlencode

import orjson

from streamkit.functions.code import pack
from streamkit.kit.http_client import Answer, HttpClient
from streamkit.metrics import Registry
from streamkit.model import errors
from streamkit.model.limits import BODY_BYTES_MAX, FUNCTION_TIMEOUT_S_MAX, KIB
from streamkit.model.names import Scope

if TYPE_CHECKING:
    from streamkit.api.firehose import Firehose
    from streamkit.api.http import Response
    from streamkit.node import Node

Values = Mapping[str, Any]

_FUNCTIONS: Final = "/2015-03-31/functions"
_MAPPINGS: Final = "/2015-03-31/event-source-mappings"
# What a path has no place for goes into the query of GET and DELETE, and into the body of POST and PUT.
_OPERATIONS: Final = {
    "ListFunctions": ("GET", _FUNCTIONS),
    "CreateFunction": ("POST", _FUNCTIONS),
    "GetFunction": ("GET", f"{_FUNCTIONS}/{{FunctionName}}"),
    "DeleteFunction": ("DELETE", f"{_FUNCTIONS}/{{FunctionName}}"),
    "GetFunctionConfiguration": ("GET", f"{_FUNCTIONS}/{{FunctionName}}/configuration"),
    "UpdateFunctionConfiguration": ("PUT", f"{_FUNCTIONS}/{{FunctionName}}/configuration"),
    "UpdateFunctionCode": ("PUT", f"{_FUNCTIONS}/{{FunctionName}}/code"),
    "PublishVersion": ("POST", f"{_FUNCTIONS}/{{FunctionName}}/versions"),
    "ListVersionsByFunction": ("GET", f"{_FUNCTIONS}/{{FunctionName}}/versions"),
    "ListAliases": ("GET", f"{_FUNCTIONS}/{{FunctionName}}/aliases"),
    "CreateAlias": ("POST", f"{_FUNCTIONS}/{{FunctionName}}/aliases"),
    "GetAlias": ("GET", f"{_FUNCTIONS}/{{FunctionName}}/aliases/{{Name}}"),
    "UpdateAlias": ("PUT", f"{_FUNCTIONS}/{{FunctionName}}/aliases/{{Name}}"),
    "DeleteAlias": ("DELETE", f"{_FUNCTIONS}/{{FunctionName}}/aliases/{{Name}}"),
    "PutFunctionConcurrency": ("PUT", "/2017-10-31/functions/{FunctionName}/concurrency"),
    "DeleteFunctionConcurrency": ("DELETE", "/2017-10-31/functions/{FunctionName}/concurrency"),
    "GetLayerVersionByArn": ("GET", "/2018-10-31/layers?find=LayerVersion"),
    "ListEventSourceMappings": ("GET", _MAPPINGS),
    "CreateEventSourceMapping": ("POST", _MAPPINGS),
    "GetEventSourceMapping": ("GET", f"{_MAPPINGS}/{{UUID}}"),
    "UpdateEventSourceMapping": ("PUT", f"{_MAPPINGS}/{{UUID}}"),
    "DeleteEventSourceMapping": ("DELETE", f"{_MAPPINGS}/{{UUID}}"),
}
FIREHOSE: Final = "Firehose_20150804"
_POLL_S: Final = 0.02  # while a function or a mapping is being made or changed
_BODY_ROOM_BYTES: Final = 64 * KIB  # of a request, for what it has beside code
_BY_CODE: Final = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.RequestError) and each is not errors.TooManyRequests
}


# -- code ------------------------------------------------------------------------------------------------------------


class Package(NamedTuple):
    """Code, ready to be given to a server. `sha256` is in base64, as CodeSha256 is."""

    path: Path
    data: bytes
    sha256: str

    @property
    def values(self) -> dict[str, str]:
        """As CreateFunction and UpdateFunctionCode take it. What is too large for a request is named by its path: only
        a server on this machine can read that."""
        if len(self.data) * 4 // 3 > BODY_BYTES_MAX - _BODY_ROOM_BYTES:
            return {"S3Bucket": "file", "S3Key": str(self.path.resolve())}
        return {"ZipFile": b64encode(self.data).decode()}


def package_of(path: Path) -> Package:
    """The code in a directory, a Python file or a zip; the same files give the same package. Raises UsageError."""
    try:
        if path.is_dir():
            zipped = io.BytesIO()
            pack(path, zipped)
            data = zipped.getvalue()
        elif path.suffix == ".py":
            data = _file_alone(path)
        else:
            data = path.read_bytes()
    except OSError as error:
        raise errors.UsageError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    except errors.InvalidParameterValue as error:
        raise errors.UsageError(f"{path} cannot be a function's code: {error}") from error
    return Package(path, data, b64encode(sha256(data).digest()).decode())


def _file_alone(path: Path) -> bytes:
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

    zipped = io.BytesIO()
    with ZipFile(zipped, "w", ZIP_DEFLATED) as package:
        entry = ZipInfo(path.name)  # its time is the earliest a zip can have, so that equal files make equal zips
        entry.compress_type = ZIP_DEFLATED
        entry.external_attr = 0o100644 << 16
        package.writestr(entry, path.read_bytes())
    return zipped.getvalue()


# -- calls -----------------------------------------------------------------------------------------------------------


class Invoked(NamedTuple):
    """`error` is AWS's X-Amz-Function-Error: then the payload is the error object. `log_tail` only if wanted."""

    payload: bytes
    error: str | None
    version: str
    request_id: str
    log_tail: bytes


class Transport(Protocol):
    """What carries requests: an `HttpClient`, or `InProcess`."""

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Sequence[bytes] = ()
    ) -> Answer: ...

    async def close(self) -> None: ...


class LambdaClient:
    """Calls of one account and region. Each raises a StreamkitError; those of the server arrive as the same classes."""

    def __init__(self, transport: str | Transport, scope: Scope) -> None:
        """`transport` may be an endpoint's URL. An invocation is waited for as long as a function may run."""
        self._transport = (
            HttpClient(transport, timeout_s=FUNCTION_TIMEOUT_S_MAX + 60) if isinstance(transport, str) else transport
        )
        self._scope = scope

    async def __aenter__(self) -> LambdaClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    async def call(self, operation: str, values: Values) -> dict[str, Any]:
        """An operation of Lambda's API. Blobs are base64 and times seconds, as they are on the wire."""
        method, template = _OPERATIONS[operation]
        path = template.format_map({name: quote(str(value), safe="") for name, value in values.items()})
        rest = {name: value for name, value in values.items() if f"{{{name}}}" not in template and value is not None}
        if method in ("GET", "DELETE"):
            query = urlencode(rest, quote_via=quote)
            path = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
            return decoded(await self._request("lambda", method, path))
        return decoded(await self._request("lambda", method, path, orjson.dumps(rest)))

    async def all(self, operation: str, member: str, values: Values | None = None) -> list[dict[str, Any]]:
        """The items of all pages of a listing."""
        found: list[dict[str, Any]] = []
        marker: str | None = None
        while True:
            page = await self.call(operation, {**(values or {}), "Marker": marker})
            found += page[member]
            marker = page.get("NextMarker")
            if not marker:
                return found

    async def invoke(
        self,
        function: str,
        payload: bytes,
        *,
        qualifier: str | None = None,
        asynchronously: bool = False,
        wants_tail: bool = False,
    ) -> Invoked:
        """Runs a function once and returns what came of it; asynchronously, returns when the event is on disk."""
        path = f"{_FUNCTIONS}/{quote(function, safe='')}/invocations"
        if qualifier is not None:
            path += f"?Qualifier={quote(qualifier, safe='')}"
        headers = {"X-Amz-Invocation-Type": "Event" if asynchronously else "RequestResponse"}
        if wants_tail:
            headers["X-Amz-Log-Type"] = "Tail"
        answer = await self._request("lambda", "POST", path, payload, headers)
        if answer.status >= 300:
            raise _error_of(answer)
        error = answer.headers.get(b"x-amz-function-error")
        return Invoked(
            bytes(answer.body),
            None if error is None else error.decode(),
            answer.headers.get(b"x-amz-executed-version", b"").decode(),
            answer.headers.get(b"x-amzn-requestid", b"").decode(),
            b64decode(answer.headers.get(b"x-amz-log-result", b"")),
        )

    async def logs(self, operation: str, values: Values) -> dict[str, Any]:
        """An operation of CloudWatch Logs."""
        headers = {"X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        given = {name: value for name, value in values.items() if value is not None}
        return decoded(await self._request("logs", "POST", "/", orjson.dumps(given), headers))

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def settled_function(self, name: str) -> dict[str, Any]:
        """The function's configuration when no change of it is under way."""
        while True:
            found = await self.call("GetFunctionConfiguration", {"FunctionName": name})
            if found.get("State") != "Pending" and found.get("LastUpdateStatus") != "InProgress":
                return found
            await asyncio.sleep(_POLL_S)

    async def settled_mapping(self, mapping_id: str) -> dict[str, Any] | None:
        """The mapping when no change of it is under way; None if it is gone then."""
        while True:
            try:
                found = await self.call("GetEventSourceMapping", {"UUID": mapping_id})
            except errors.ResourceNotFound:
                return None
            if found["State"] in ("Enabled", "Disabled"):
                return found
            await asyncio.sleep(_POLL_S)

    async def _request(
        self, service: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        own = {**headers_of(self._scope, service), "Content-Type": "application/json"}
        return await self._transport.request(method, path, {**own, **(headers or {})}, [body])


def headers_of(scope: Scope, service: str) -> dict[str, str]:
    """An unsigned credential, as local servers accept it: whose account it is, and in which region."""
    credential = f"{scope.account}/20260101/{scope.region}/{service}/aws4_request"
    return {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0",
        "X-Amz-Date": "20260101T000000Z",
    }


def decoded(answer: Answer) -> dict[str, Any]:
    """The values of an answer; raises the error that it is."""
    if answer.status >= 300:
        raise _error_of(answer)
    found: dict[str, Any] = orjson.loads(answer.body or b"{}")
    return found


def _error_of(answer: Answer) -> errors.StreamkitError:
    """The server's error as the class it was raised as. Where a service writes its code differs, as does its text."""
    try:
        fields = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        fields = {}
    code = answer.headers.get(b"x-amzn-errortype", str(fields.get("__type", "")).encode()).decode()
    code = code.rpartition("#")[2].partition(":")[0]
    message = str(fields.get("message") or fields.get("Message") or f"the server answered {answer.status}")
    if code == errors.TooManyRequests.code:
        return errors.TooManyRequests(str(fields.get("Reason", "")), message)
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    return errors.ServerError(f"{code}: {message}" if code else message)


# -- without a network -----------------------------------------------------------------------------------------------


class InProcess:
    """Carries requests to a node of this process, whatever its server wants of signatures, and before it listens.

    Logs and metrics are not served here.
    """

    def __init__(self, node: Node, scope: Scope, endpoint: Callable[[], str] = str) -> None:
        from streamkit.api.errors import RequestIds
        from streamkit.api.functions import Functions
        from streamkit.api.gateway import Gateway
        from streamkit.api.http import Request, Response
        from streamkit.api.invoke import InvokeOperations
        from streamkit.api.lambda_service import LambdaService, load_model
        from streamkit.api.mappings import MappingOperations
        from streamkit.api.server import FLUSH_PATH
        from streamkit.api.sigv4 import Authenticator

        def firehose() -> Firehose:
            from streamkit.api.firehose import Firehose

            return Firehose(node.deliveries.registry, node.streams, node.clock, Registry())

        async def flush(request: Request) -> Response:
            await node.deliveries.flush_named(unquote(request.path.removeprefix(FLUSH_PATH).strip("/")) or None)
            return Response(200, b"{}", b"application/json")

        functions = Functions(node.functions.registry, endpoint=endpoint)
        mappings = MappingOperations(node.mappings.registry)
        self._gateway = Gateway(
            [],
            {("POST", FLUSH_PATH): flush},
            authenticator=Authenticator("off", {}, node.clock),
            default_scope=scope,
            request_ids=RequestIds(random.Random(0)),
            metrics=Registry(),
            rest_services=[LambdaService(load_model(), [functions, mappings, InvokeOperations(node.functions)])],
            prefix_routes={f"{FLUSH_PATH}/": flush},
            late_services={FIREHOSE: firehose},
        )

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: Sequence[bytes] = ()) -> Answer:
        from streamkit.api.http import Deferred, Request, Response

        given = {name.lower().encode(): value.encode() for name, value in headers.items()}
        handled = self._gateway.handle(Request(method, path, given, b"".join(body)))
        if isinstance(handled, Response):
            return _answer_of(handled)
        if isinstance(handled, Deferred):
            response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            handled.then(response.set_result)
            return _answer_of(await response)
        return _answer_of(await handled)

    async def close(self) -> None:
        """There is nothing to close."""


def _answer_of(response: Response) -> Answer:
    lines = response.headers.split(b"\r\n") if isinstance(response.headers, bytes) else []
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines) if name}
    body = response.body
    assert isinstance(body, bytes | Sequence), "what is carried here answers at once"
    return Answer(response.status, headers, bytearray(body if isinstance(body, bytes) else b"".join(body)))
