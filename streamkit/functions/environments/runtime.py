"""AWS's runtime for Python, as code sees it: finding the handler, the context object, results and errors, logging.

Public names, texts and formats are those of AWS's runtime interface client. Results are encoded byte for byte as there
(`json` with simplejson's rules); events are parsed by orjson where that gives what `json` would.

Workers import this module; it must not import what a worker has no use for.
"""

from __future__ import annotations

import importlib
import json
import logging
import marshal
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Final

import orjson

from streamkit.model.limits import RESPONSE_BYTES_MAX

Handler = Callable[[Any, Any], Any]
ErrorObject = dict[str, Any]
Marshal = Callable[[object], bytes]


class Fault(Exception):
    """An error that AWS's runtime names itself."""

    def __init__(self, error_type: str, message: str, stack_trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack_trace = stack_trace or []


class ResponseTooLarge(Exception):
    """The response has more bytes than an invocation may answer with."""


# -- the handler -----------------------------------------------------------------------------------------------------


def load_handler(name: str) -> Handler:
    """Imports what `module.function` names; a module in a package is named with dots or slashes.

    Raises `Fault`; whatever else the module's code raises passes through.
    """
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {error}") from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module"
        ) from None
    module = import_module(module_name.replace("/", "."), module_name)
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", message) from None
    return handler


def load_source(source: str) -> Handler:
    """The object that `package.module:attribute` or `path/to/file.py:attribute` names. Raises as `load_handler`."""
    place, separator, attribute = source.rpartition(":")
    if not separator or not place or not attribute:
        raise Fault("Runtime.MalformedHandlerName", f"Bad source '{source}': expected module:attribute") from None
    if place.endswith(".py"):
        directory, file_name = os.path.split(os.path.abspath(place))
        sys.path.insert(0, directory)
        place = file_name[: -len(".py")]
    found: Any = import_module(place, place)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Fault("Runtime.HandlerNotFound", f"Handler '{attribute}' missing on module '{place}'") from None
    handler: Handler = found
    return handler


def import_module(name: str, shown_name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{shown_name}': {error}") from None
    except SyntaxError as error:
        place = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        message = f"Syntax error in module '{shown_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, [place]) from None


# -- the context object ----------------------------------------------------------------------------------------------


class _Printed:
    """Prints itself with its members, as AWS's classes do."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{','.join(f'{name}={getattr(self, name)}' for name in self.__slots__)}])"


class CognitoIdentity(_Printed):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")


class Client(_Printed):
    __slots__ = (  # noqa: RUF023 - as they are printed
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )


class ClientContext(_Printed):
    __slots__ = ("custom", "env", "client")  # noqa: RUF023 - as they are printed

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        client = values.get("client")
        self.client = None if client is None else Client(client)


_W3C_FIELDS: Final = ("traceparent", "tracestate", "baggage")
_PRINTED: Final = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)


class LambdaContext:
    """What a handler gets as its second argument."""

    def __init__(self, fixed: Mapping[str, str | None], meta: Mapping[str, Any]) -> None:
        """`fixed`: see `fixed_context`. Raises `Fault` for a client context or an identity that is no JSON."""
        members = self.__dict__
        members.update(fixed)
        self.aws_request_id: str = meta["id"]
        self.invoked_function_arn: str = meta["arn"]
        self.tenant_id: str | None = None
        client, cognito = meta.get("client"), meta.get("cognito")
        self._w3c_fields: dict[str, str] = {}
        self.client_context: ClientContext | None = None
        if client:
            values = _parse(client, "Client Context")
            self._w3c_fields = _take_w3c(values)
            self.client_context = None if values is None else ClientContext(values)
        self.identity = CognitoIdentity((cognito and _parse(cognito, "Cognito Identity")) or {})
        self._epoch_deadline_time_in_ms: int = meta["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._epoch_deadline_time_in_ms - now_ms())

    def w3c(self) -> dict[str, str]:
        """The W3C trace context that came with the client context."""
        return dict(self._w3c_fields)

    def log(self, msg: object) -> None:
        """Writes to the function's log, as it is."""
        sys.stdout.write(str(msg))
        sys.stdout.flush()

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{','.join(f'{name}={getattr(self, name)}' for name in _PRINTED)}])"


def fixed_context(variables: Mapping[str, str]) -> dict[str, str | None]:
    """What every context object of an environment has in common."""
    return {
        "log_group_name": variables.get("AWS_LAMBDA_LOG_GROUP_NAME"),
        "log_stream_name": variables.get("AWS_LAMBDA_LOG_STREAM_NAME"),
        "function_name": variables.get("AWS_LAMBDA_FUNCTION_NAME"),
        "memory_limit_in_mb": variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        "function_version": variables.get("AWS_LAMBDA_FUNCTION_VERSION"),
    }


def now_ms() -> int:
    """A worker is a process of its own, with no clock to be given: it reads the kernel's."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except Exception as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: {error}") from None


def _take_w3c(values: Any) -> dict[str, str]:
    """Takes the trace context out of a client context: it is not the handler's to see there."""
    taken = values.pop("w3c", None) if isinstance(values, dict) else None
    if not isinstance(taken, dict):
        return {}
    return {name: taken[name] for name in _W3C_FIELDS if isinstance(taken.get(name), str)}


# -- events ----------------------------------------------------------------------------------------------------------

_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_BLANKS: Final = b" \t\n\r-"
_LONG_NUMBERS: Final = tuple(before + b"0" * 19 for before in (b":", b",", b"["))
_OF_A_SERVICE: Final = b'{"Records":[{'


def load_event(payload: memoryview) -> Any:
    """The event. Raises `Fault` where it is no JSON.

    orjson makes floats of integers beyond 64 bits. They are looked for first, except in events that services make:
    numbers in those are the services'.
    """
    try:
        if bytes(payload[: len(_OF_A_SERVICE)]) == _OF_A_SERVICE or not _may_have_long_numbers(payload):
            return orjson.loads(payload)
    except orjson.JSONDecodeError:
        pass  # NaN, or half a surrogate pair: both pass on AWS
    try:
        return json.loads(str(payload, "utf-8"))
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _may_have_long_numbers(payload: memoryview) -> bool:
    if len(payload) < 19:
        return False
    text = bytes(payload).translate(_DIGITS, _BLANKS)
    return text.startswith(b"0" * 19) or any(number in text for number in _LONG_NUMBERS)


# -- results ---------------------------------------------------------------------------------------------------------

_MODERN: Final = ("3.12", "3.13", "3.14", "3.15")  # since these, AWS's runtime leaves other characters as they are


def make_marshal(runtime: str) -> Marshal:
    """What makes a response of a handler's result, as `runtime` ("python3.11") does.

    It raises `Fault`, or `ResponseTooLarge`.
    """
    is_ascii = not runtime.endswith(_MODERN)
    quote = json.encoder.encode_basestring_ascii if is_ascii else json.encoder.encode_basestring
    encode = json.JSONEncoder(ensure_ascii=is_ascii, default=_default).encode

    def marshal_result(result: Any) -> bytes:
        if isinstance(result, bytes):
            return checked(result)
        try:
            try:
                # It refuses whatever is not exactly of a basic type, and takes a tenth of the time of the encoding.
                marshal.dumps(result, 2)
                text = encode(result)
            except (TypeError, ValueError):
                text = _encode(result, quote)
            return checked(text.encode())
        except ResponseTooLarge:
            raise
        except RecursionError:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: Circular reference detected") from None
        except Exception as error:
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None

    return marshal_result


def checked(payload: bytes) -> bytes:
    if len(payload) > RESPONSE_BYTES_MAX:
        raise ResponseTooLarge
    return payload


def _default(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    raise _not_json(value)


def _not_json(value: object) -> TypeError:
    return TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _encode(value: Any, quote: Callable[[str], str]) -> str:
    """JSON of what the C encoder would get wrong or refuse: decimals, named tuples, subclasses of the basic types."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bytes):
        return quote(value.decode())
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return json.dumps(float(value))
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, list | tuple):
        return "[" + ", ".join([_encode(each, quote) for each in value]) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join([f"{quote(_key(k))}: {_encode(v, quote)}" for k, v in value.items()]) + "}"
    if _is_decimal(value):
        return json.dumps(math.nan) if value.is_nan() else str(value)
    raise _not_json(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode()
    if key is None or isinstance(key, bool | int | float):
        return _encode(key, str)
    raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")


def _is_decimal(value: object) -> bool:
    decimal = sys.modules.get("decimal")
    return decimal is not None and isinstance(value, decimal.Decimal)


# -- errors ----------------------------------------------------------------------------------------------------------

_encode_error: Final = json.JSONEncoder().encode
_OWN_FILES: Final = {__file__}  # frames of these do not show in stack traces

UNHANDLED_AT_INIT: Final = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. However, in rare "
    "cases, a Lambda runtime update can cause unexpected function behavior. For functions using managed runtimes, "
    "runtime updates can be triggered by a function change, or can be applied automatically. To determine if the "
    "runtime has been updated, check the runtime version in the INIT_START log entry. If this error correlates with a "
    "change in the runtime version, you may be able to mitigate this error by temporarily rolling back to the previous "
    "runtime version. For more information, see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)


def hide_frames_of(file: str) -> None:
    _OWN_FILES.add(file)


def error_of(error: BaseException, request_id: str = "") -> ErrorObject:
    """AWS's error object for what the code raised; the frames before the function's own are left out."""
    if isinstance(error, ResponseTooLarge):
        message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
        return {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}
    if isinstance(error, Fault):
        message, name, trace = error.message, error.error_type, error.stack_trace
    else:
        message, name, trace = _text_of(error), type(error).__name__, _stack_trace(error.__traceback__)
    return {"errorMessage": message, "errorType": name, "requestId": request_id, "stackTrace": trace}


def error_json(error: ErrorObject) -> bytes:
    """The error object as a payload; one that is itself too large is replaced."""
    payload = _encode_error(error).encode()
    if len(payload) > RESPONSE_BYTES_MAX:
        payload = _encode_error(error_of(ResponseTooLarge())).encode()
    return payload


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        return f"<{type(error).__name__}: its text could not be made: {type(another).__name__}>"


def _stack_trace(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)
    first = next((at for at, frame in enumerate(frames) if frame.filename not in _OWN_FILES), 0)
    # Without the columns that newer Pythons underline: AWS's runtime does not show them.
    return traceback.format_list([(each.filename, each.lineno or 0, each.name, each.line) for each in frames[first:]])


# -- logging ---------------------------------------------------------------------------------------------------------


class Logging:
    """The root logger's set-up, and how errors are logged. `request_id` is that of the invocation under way."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.request_id = ""
        self._is_json = variables.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
        level = variables.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        logging.Formatter.converter = time.gmtime
        handler = _LogHandler(self)
        handler.setFormatter(_JsonFormatter() if self._is_json else logging.Formatter(_TEXT_FORMAT, _TEXT_TIME))
        handler.addFilter(self._add_request_id)
        root = logging.getLogger()
        root.addHandler(handler)
        level = "DEBUG" if level == "TRACE" else level
        if level in logging.getLevelNamesMapping():
            root.setLevel(level)

    def log(self, msg: str) -> None:
        sys.stdout.write(msg)
        sys.stdout.flush()

    def log_error(self, error: ErrorObject) -> None:
        """One line, whatever the format: in the text format, parts are separated by carriage returns."""
        if self._is_json:
            timestamp = time.strftime(_JSON_TIME, time.gmtime(now_ms() / 1000))
            line = _encode_error({"timestamp": timestamp, "level": "ERROR", **error})
        else:
            line = "\r".join(_error_lines(error))
        self.log(line + "\n")

    def _add_request_id(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.request_id
        record.tenant_id = None
        return True


_TEXT_FORMAT: Final = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TEXT_TIME: Final = "%Y-%m-%dT%H:%M:%S"
_JSON_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_NOT_EXTRA: Final = frozenset(
    ["aws_request_id", "message", "tenant_id", *vars(logging.makeLogRecord({}))]
)  # the others among a record's members were given as `extra`


class _LogHandler(logging.Handler):
    def __init__(self, sink: Logging) -> None:
        super().__init__()
        self.log_sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        self.log_sink.log(self.format(record))


class _JsonFormatter(logging.Formatter):
    """One object per line, with AWS's members."""

    _encode = staticmethod(json.JSONEncoder(ensure_ascii=False, default=str).encode)

    def __init__(self) -> None:
        super().__init__(datefmt=_JSON_TIME)

    def format(self, record: logging.LogRecord) -> str:
        kind, error, trace = record.exc_info or (None, None, None)
        level = min(50, max(0, record.levelno)) // 10 * 10
        values = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": logging.getLevelName(level),
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
            "stackTrace": traceback.format_tb(trace) if kind else None,
            "errorType": kind.__name__ if kind else None,
            "errorMessage": str(error) if kind else None,
            "requestId": getattr(record, "aws_request_id", None),
            "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if kind else None,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _NOT_EXTRA and name not in values}
        return self._encode({name: value for name, value in (values | extra).items() if value is not None}) + "\n"


def _error_lines(error: ErrorObject) -> list[str]:
    """As AWS writes them: the indentation is of no-break spaces, so that viewers keep it."""
    head = "[ERROR]"
    if error.get("errorType"):
        head += f" {error['errorType']}"
    if error.get("errorMessage"):
        head += f"{':' if error.get('errorType') else ''} {error['errorMessage']}"
    lines = [head]
    if "stackTrace" in error:
        lines.append("Traceback (most recent call last):")
        for frame in error["stackTrace"]:
            for line in frame.splitlines() or [""]:
                text = line.lstrip(" ")
                lines.append("\u00a0" * (len(line) - len(text)) + text)
    return lines
