"""AWS REST-JSON: a request's members from its path, query, headers and body, and an answer's to status, headers and
body.

Where a member is on the wire says the service's model. Values are the same plain ones as everywhere, whatever place
they come from, and are checked by the same checks: see `streamkit.api.codec`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import orjson
import pybase64

from streamkit.api import eventstream
from streamkit.api.codec import (
    Checkers,
    Member,
    Read,
    Readers,
    Shape,
    Shapes,
    Violations,
    Writers,
    format_timestamp,
    parse_object,
    parse_timestamp,
    timestamp_format,
)
from streamkit.api.errors import rest_error_answer
from streamkit.api.http import Body, Request
from streamkit.api.service_model import Operation, ServiceModel
from streamkit.model.errors import SerializationError

_JSON: Final = b"application/json"
_BROKEN: Final = "Could not parse request body into json."
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """What an action may return in place of its output alone.

    `request_id` is answered as x-amzn-RequestId instead of one of the gateway's, `status` instead of the model's, and
    `headers` besides those of the output's members.
    """

    output: Mapping[str, Any]
    request_id: str | None = None
    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()


class Encoded(NamedTuple):
    """An answer but for the headers that all answers have. `headers` are lines, each ended by CRLF."""

    status: int
    content_type: bytes
    headers: bytes
    body: Body


def rest_operations(model: ServiceModel) -> Mapping[str, RestOperation]:
    """A service's operations in REST-JSON. They are compiled when they are first used."""
    codecs = _Codecs(model.shapes)
    return {name: RestOperation(operation, codecs) for name, operation in model.operations.items()}


def encode_refusal(error: BaseException, errors: Mapping[str, Shape]) -> Encoded:
    """The answer that tells of an error, by the model's shapes of errors; of what is our own fault it tells nothing:
    log it before."""
    answer = rest_error_answer(error, errors)
    members = {} if answer.shape is None else answer.shape.members
    lines = [_header_line("x-amzn-ErrorType", answer.code)]
    body = {}
    for name, value in answer.members.items():
        member = members.get(name)
        if member is not None and member.location == "header":
            lines.append(_header_line(member.location_name or name, str(value)))
        else:
            body[name if member is None else member.location_name or name] = value
    return Encoded(answer.status, _JSON, b"".join(lines), orjson.dumps(body))


class _Codecs:
    """What the operations of a service share."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.readers = Readers(shapes)
        self.checkers = Checkers(shapes)
        self.writers = Writers(shapes)


class RestOperation:
    """One action of a service: its requests to values, its output to answers."""

    def __init__(self, operation: Operation, codecs: _Codecs) -> None:
        self.name = operation.name
        self._operation = operation
        self._codecs = codecs

    def decode(self, request: Request, labels: Mapping[str, str], query: Pairs) -> dict[str, Any]:
        """A request to its values by member name; raises SerializationError or ValidationError, nothing else.

        `labels` and `query` are the request's, decoded. An empty body has no members, and unknown ones are ignored.
        """
        return {} if self._input is None else self._input.decode(request, labels, query)

    def encode(self, answer: Mapping[str, Any] | RestAnswer) -> Encoded:
        """An action's output to its answer. Members that are None or absent are left out."""
        if isinstance(answer, RestAnswer):
            encoded = self._encode(answer.output)
            return encoded._replace(
                status=answer.status or encoded.status,
                headers=encoded.headers + b"".join([b"%b: %b\r\n" % header for header in answer.headers]),
            )
        return self._encode(answer)

    def _encode(self, output: Mapping[str, Any]) -> Encoded:
        if self._output is None:
            assert not output, f"{self.name} has no output"
            return Encoded(self._operation.http.response_code, _JSON, b"", b"")
        return self._output.encode(output)

    @functools.cached_property
    def _input(self) -> _Input | None:
        name = self._operation.input_shape
        return None if name is None else _Input(name, self._codecs)

    @functools.cached_property
    def _output(self) -> _Output | None:
        name = self._operation.output_shape
        return None if name is None else _Output(name, self._operation, self._codecs)


def query_pairs(query: str) -> list[tuple[str, str]]:
    """A query's names and values, decoded, in their order. A plus is a plus: AWS's clients encode blanks as %20."""
    pairs = []
    for part in query.split("&") if query else ():
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote(name), unquote(value)))
    return pairs


# -- requests to values ----------------------------------------------------------------------------------------------


class _Input:
    """Reads the requests of one operation."""

    def __init__(self, name: str, codecs: _Codecs) -> None:
        shape = codecs.shapes[name]
        self._check = codecs.checkers[name].inside
        self._labels: list[tuple[str, str, Callable[[str], Any]]] = []
        self._query: list[tuple[str, str, bool, Callable[[str], Any]]] = []
        self._query_maps: list[tuple[str, bool]] = []
        self._headers: list[tuple[bytes, str, Callable[[str], Any]]] = []
        self._header_maps: list[tuple[bytes, str]] = []
        for member_name, member in shape.members.items():
            self._place(member_name, member, codecs.shapes)
        self._payload = shape.payload
        self._read_payload = None if shape.payload is None else _payload_reader(shape.members[shape.payload], codecs)
        in_body = {each: member for each, member in shape.members.items() if member.location is None}
        self._read_body = codecs.readers.structure(in_body) if in_body and shape.payload is None else None

    def _place(self, name: str, member: Member, shapes: Shapes) -> None:
        wire_name = member.location_name or name
        shape = shapes[member.shape]
        if member.location == "uri":
            self._labels.append((wire_name, name, _text_reader(member, shapes)))
        elif member.location == "querystring" and shape.type == "map":
            assert shape.value is not None
            self._query_maps.append((name, shapes[shape.value.shape].type == "list"))
        elif member.location == "querystring":
            is_list = shape.member is not None
            self._query.append((wire_name, name, is_list, _text_reader(shape.member or member, shapes)))
        elif member.location == "headers":
            self._header_maps.append((wire_name.lower().encode(), name))
        elif member.location == "header":
            read = _header_list_reader(shape.member, shapes) if shape.member else _text_reader(member, shapes)
            self._headers.append((wire_name.lower().encode(), name, read))

    def decode(self, request: Request, labels: Mapping[str, str], query: Pairs) -> dict[str, Any]:
        values = {name: read(labels[label]) for label, name, read in self._labels if label in labels}
        if query:
            self._read_query(query, values)
        headers = request.headers
        for header, name, read in self._headers:
            text = headers.get(header)
            if text is not None:
                values[name] = read(text.decode("utf-8", "replace"))
        for prefix, name in self._header_maps:
            values[name] = {
                header[len(prefix) :].decode("utf-8", "replace"): value.decode("utf-8", "replace")
                for header, value in headers.items()
                if header.startswith(prefix)
            }
        if request.body:
            if self._read_payload is not None:
                assert self._payload is not None
                values[self._payload] = self._read_payload(request.body)
            elif self._read_body is not None:
                values.update(self._read_body(parse_object(request.body, _BROKEN)))
        if self._check is not None:
            violations = Violations()
            self._check(values, "", violations)
            violations.finish()
        return values

    def _read_query(self, query: Pairs, values: dict[str, Any]) -> None:
        """Of a name that takes one value the first counts; a map takes what no other member does."""
        given: dict[str, list[str]] = {}
        for name, text in query:
            given.setdefault(name, []).append(text)
        for wire_name, name, is_list, read in self._query:
            texts = given.pop(wire_name, None)
            if texts is not None:
                values[name] = [read(text) for text in texts] if is_list else read(texts[0])
        for name, of_lists in self._query_maps:
            values[name] = given if of_lists else {each: texts[0] for each, texts in given.items()}


def _payload_reader(member: Member, codecs: _Codecs) -> Callable[[bytes | bytearray], Any]:
    kind = codecs.shapes[member.shape].type
    if kind == "blob":
        return bytes
    if kind == "string":
        return lambda body: body.decode("utf-8", "replace")
    read: Read = codecs.readers[member.shape]
    return lambda body: read(parse_object(body, _BROKEN))


def _text_reader(member: Member, shapes: Shapes) -> Callable[[str], Any]:
    """What reads a value that is written as text. As in JSON, a number that does not fit becomes the nearest that does,
    and is for the checks to refuse."""
    kind = shapes[member.shape].type
    if member.jsonvalue:
        return _read_json_value
    if kind == "string":
        return str
    return _TEXT_READERS[kind]


def _header_list_reader(member: Member, shapes: Shapes) -> Callable[[str], Any]:
    read = _text_reader(member, shapes)
    item = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')  # botocore quotes items that hold a comma

    def read_list(text: str) -> list[Any]:
        items = []
        position = 0
        while position < len(text) and (match := item.match(text, position)):
            quoted, plain = match.groups()
            items.append(read(plain.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
            position = match.end()
        return items

    return read_list


def _unreadable(text: str, target: str) -> SerializationError:
    return SerializationError(f"'{text[:100]}' can not be converted to {target}")


def _read_integer(low: int, high: int, target: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,40}", text):
            raise _unreadable(text, target)
        return max(low, min(high, int(text)))

    return read


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unreadable(text, "a Double") from None


def _read_boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise _unreadable(text, "a Boolean")
    return text.lower() == "true"


def _read_blob(text: str) -> bytes:
    try:
        blob: bytes = pybase64.b64decode(text, validate=True)
    except ValueError:
        raise _unreadable(text, "a Blob") from None
    return blob


def _read_json_value(text: str) -> Any:
    try:
        return orjson.loads(_read_blob(text))
    except orjson.JSONDecodeError:
        raise _unreadable(text, "a JSON value") from None


_TEXT_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "integer": _read_integer(-(1 << 31), (1 << 31) - 1, "an Integer"),
    "long": _read_integer(-(1 << 63), (1 << 63) - 1, "a Long"),
    "float": _read_float,
    "double": _read_float,
    "boolean": _read_boolean,
    "blob": _read_blob,
    "timestamp": parse_timestamp,
}


# -- values to answers -----------------------------------------------------------------------------------------------


class _Output:
    """Writes the answers of one operation.

    A payload of a blob is given as bytes, as buffers, or as an asynchronous iterator of bytes, and is sent as it is, as
    JSON, which is what Lambda's are. An event stream is given as an asynchronous iterator of events.
    """

    def __init__(self, name: str, operation: Operation, codecs: _Codecs) -> None:
        shape = codecs.shapes[name]
        self._name = name
        self._shapes = codecs.shapes
        self._members = shape.members
        self._status = operation.http.response_code
        self._payload = shape.payload
        self._in_body = frozenset(each for each, member in shape.members.items() if member.location is None)
        self._write_body = codecs.writers[name]
        self._write_payload: Callable[[Any], Body] | None = None
        self._content_type = _JSON
        if shape.payload is not None:
            held = shape.members[shape.payload].shape
            self._write_payload = _payload_writer(codecs.shapes[held], held, operation, codecs)
            if codecs.shapes[held].eventstream:
                self._content_type = eventstream.CONTENT_TYPE

    def encode(self, output: Mapping[str, Any]) -> Encoded:
        status = self._status
        content_type = self._content_type
        lines = []
        body: dict[str, Any] = {}
        payload: Any = None
        for name, value in output.items():
            assert name in self._members, f"{self._name} has no member {name}"
            if value is None:
                continue
            location = self._members[name].location
            if location is None:
                if name == self._payload:
                    payload = value
                else:
                    body[name] = value
            elif location == "statusCode":
                status = value
            else:
                for header, text in self._headers(name, value):
                    if header.lower() == "content-type":
                        content_type = _printable(text)
                    else:
                        lines.append(_header_line(header, text))
        return Encoded(status, content_type, b"".join(lines), self._body(body, payload))

    def _body(self, values: Mapping[str, Any], payload: Any) -> Body:
        if self._payload is not None:
            assert self._write_payload is not None
            return b"" if payload is None else self._write_payload(payload)
        if not self._in_body:
            return b""
        assert self._write_body is not None
        return orjson.dumps(self._write_body(values))

    def _headers(self, name: str, value: Any) -> Iterable[tuple[str, str]]:
        member = self._members[name]
        wire_name = member.location_name or name
        if member.location == "headers":
            return [(wire_name + key, text) for key, text in value.items()]
        shape = self._shapes[member.shape]
        if shape.member is not None:
            return [(wire_name, ", ".join(_text(item, shape.member, self._shapes) for item in value))]
        return [(wire_name, _text(value, member, self._shapes))]


def _payload_writer(shape: Shape, name: str, operation: Operation, codecs: _Codecs) -> Callable[[Any], Body]:
    if shape.eventstream:
        return operation.events(_JSON.decode()).encode_all
    if shape.type == "blob":
        return _as_it_is
    if shape.type == "string":
        return str.encode
    write = codecs.writers[name]
    assert write is not None
    return lambda values: orjson.dumps(write(values))


def _as_it_is(payload: Body) -> Body:
    assert isinstance(payload, bytes | Sequence | AsyncIterator)
    return payload


def _text(value: Any, member: Member, shapes: Shapes) -> str:
    """A value as a header has it."""
    shape = shapes[member.shape]
    if member.jsonvalue:
        encoded: str = pybase64.b64encode_as_string(orjson.dumps(value))
        return encoded
    if shape.type == "timestamp":
        return format_timestamp(value, timestamp_format(member, shape, "rfc822"))
    if shape.type == "boolean":
        return "true" if value else "false"
    if shape.type == "blob":
        blob: str = pybase64.b64encode_as_string(value)
        return blob
    return str(value)


def _header_line(name: str, text: str) -> bytes:
    return b"%b: %b\r\n" % (_printable(name), _printable(text))


def _printable(text: str) -> bytes:
    """A header's value cannot hold a line end, wherever it comes from: what follows would be read as another header."""
    return _UNPRINTABLE.sub(" ", text).encode()
