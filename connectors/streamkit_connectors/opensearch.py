"""OpenSearch and Elasticsearch, through bulk requests ("Understand data delivery in Amazon Data Firehose" and "Handle
data delivery failures", Amazon Data Firehose developer guide; checked against OpenSearch 2.19).

Exactly once with `id_format` FIREHOSE_DEFAULT, the default: a document's id is the sealed object's id and its row, so
it is the same at every try, and it is created, not indexed: one that is there stays as it is, also where somebody has
changed it since. A document that was deleted meanwhile comes back. At least once with NO_DOCUMENT_ID: a request whose
answer was lost is sent again, and its documents are there twice under ids of the cluster's making; nothing tells them
apart. Documents that were acknowledged are not sent again by this process.

The options, as AWS's members say: `url` (ClusterEndpoint), `index`, `rotation` (NoRotation, OneHour, OneDay, OneWeek,
OneMonth), `type_name` (for clusters that have types; empty: none), `id_format`; ours: `user` and `password`, since
AWS's signatures are for AWS's domains, and `ca_file`.

A record is a JSON object. One that has line feeds between its members is put on one line; AWS asks for that before.
What the cluster refuses for what is in the record (400) goes to the error output with the status and the cluster's own
error, as AWS has it there. Not known of AWS: its ids and operations; its codes of failures to reach the cluster, which
here begin with `OS.` as those that are known do.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    ECHO_CHARACTERS_MAX,
    OPENSEARCH_ANSWER_BYTES_MAX,
    OPENSEARCH_BODY_BYTES_MAX,
    OPENSEARCH_RECORDS_MAX,
    OPENSEARCH_RETRY_MS_MIN,
    OPENSEARCH_TIMEOUT_MS,
    OPENSEARCH_TRIES_MAX,
)
from streamkit_connectors.records import (
    Answer,
    Body,
    Client,
    Kind,
    Known,
    Memory,
    Part,
    Unanswered,
    cut,
    header_value,
    known_options,
    slices,
    text_option,
    url_of,
)

_OPTIONS: Final = ("ca_file", "id_format", "index", "password", "rotation", "type_name", "url", "user")
_HOUR_MS: Final = 3_600_000
_ROTATIONS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "NoRotation": lambda at: "",
    "OneHour": lambda at: f"-{at:%Y-%m-%d-%H}",
    "OneDay": lambda at: f"-{at:%Y-%m-%d}",
    "OneWeek": lambda at: week_suffix(at),
    "OneMonth": lambda at: f"-{at:%Y-%m}",
}

# Not the record's fault, so that it may be taken later: access, a missing index that may not be made, a busy cluster.
_PASSING: Final = frozenset({401, 403, 404, 408, 429})
_PASSING_TYPES: Final = frozenset(
    {
        "cluster_block_exception",
        "index_closed_exception",
        "invalid_index_name_exception",
        "unavailable_shards_exception",
    }
)
_UNANSWERED: Final[Mapping[Kind, str]] = {
    "timeout": "OS.RequestTimeout",
    "too_large": "OS.ServiceException",
    "invalid": "OS.ServiceException",
}
_CONFLICT: Final = "version_conflict_engine_exception"
_NOT_ONE_LINE: Final = (
    "400",
    "The record has line feeds, and is no valid JSON document that could be put on one line.",
)


class _Error(msgspec.Struct):
    type: str = ""


class _Outcome(msgspec.Struct):
    status: int
    error: msgspec.Raw = msgspec.Raw(b"")


class _Reply(msgspec.Struct):
    items: list[dict[str, _Outcome]]


class Documents(NamedTuple):
    """Rows of the sealed file, and what stands in a bulk request for each: the operation and the record, each with a
    line feed."""

    rows: list[int]
    lines: list[bytes]

    def only(self, places: Sequence[int]) -> Documents:
        return Documents([self.rows[at] for at in places], [self.lines[at] for at in places])

    def slice(self, start: int, stop: int) -> Documents:
        return Documents(self.rows[start:stop], self.lines[start:stop])


class OpenSearch:
    """See `streamkit.delivery.destination.Destination`, and the module."""

    takes: Takes = "records"
    is_ordered = False
    failed_output_type = "AmazonOpenSearchService-failed"
    metric = "AmazonOpenSearchService"

    def __init__(
        self, spec: DestinationSpec, surroundings: Surroundings, *, body_bytes_max: int = OPENSEARCH_BODY_BYTES_MAX
    ) -> None:
        options = spec.options
        known_options(options, _OPTIONS, "opensearch")
        url = url_of(options, "opensearch")
        query = "filter_path=errors,items.*.status,items.*.error"
        self._target = f"{url.path.rstrip('/')}/_bulk?{f'{url.query}&' if url.query else ''}{query}"
        self._naming = Naming.of(options)
        self._headers = {"Content-Type": "application/x-ndjson", **_authorization(options)}
        self._clock = surroundings.clock
        self._client = Client(url, clock=surroundings.clock, ca_file=options.get("ca_file"))
        self._memory = Memory()
        self._body_bytes_max = body_bytes_max

    async def schema(self) -> pa.Schema | None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """One bulk request after the other; documents the cluster is too busy for are tried again a few times. Refuses
        what the cluster refuses for what is in it."""
        known = self._memory.of(sealed)
        parts = await self._client.run(lambda: list(self._parts(sealed)))
        try:
            for part in parts:
                if not known.has(part):
                    await self._send(sealed, part, known)
        except DeliveryFailed as failure:
            failure.delivered = known.delivered()
            raise
        self._memory.forget(sealed)
        return known.refusals()

    def error_members(self, sealed: Sealed, rows: Sequence[int]) -> Mapping[str, Sequence[Any]]:
        """See `streamkit.delivery.destination.TellsMore`; as the guide has them in its example."""
        return self._naming.intended(sealed, rows)

    async def close(self) -> None:
        await self._client.close()

    def _parts(self, sealed: Sealed) -> Iterator[Part]:
        overhead = self._naming.action_bytes_max(sealed)
        return cut(
            sealed.path,
            lambda batch: pc.add(pc.binary_length(batch.column(0)).cast(pa.int64()), overhead),
            bytes_max=self._body_bytes_max,
            records_max=OPENSEARCH_RECORDS_MAX,
        )

    async def _send(self, sealed: Sealed, part: Part, known: Known) -> None:
        documents, bad = await self._client.run(lambda: self._naming.documents(sealed, part))
        for each in bad:
            known.refused[each.row] = each
            known.settled[each.row] = 1
        documents = documents.only([at for at, row in enumerate(documents.rows) if not known.settled[row]])
        wait_ms = OPENSEARCH_RETRY_MS_MIN
        for attempt in range(1, OPENSEARCH_TRIES_MAX + 1):
            documents, failure = await self._bulk(documents, known)
            if failure is None:
                return
            if attempt == OPENSEARCH_TRIES_MAX:
                raise failure
            await self._clock.sleep(wait_ms)
            wait_ms *= 2

    async def _bulk(self, documents: Documents, known: Known) -> tuple[Documents, DeliveryFailed | None]:
        """The documents that have to be tried again, and why. Raises DeliveryFailed where the whole request failed."""
        if not documents.rows:
            return documents, None
        answer = await self._post(documents.lines)
        if answer.status == 413:
            return await self._halves(documents, known, answer)
        if answer.status != 200:
            raise _whole_failure(answer)
        outcomes = _outcomes(answer, len(documents.rows))
        left: list[int] = []
        failure = None
        for at, (row, outcome) in enumerate(zip(documents.rows, outcomes, strict=True)):
            error = _error_type(outcome)
            if outcome.status < 300 or (outcome.status == 409 and error == _CONFLICT):
                known.settled[row] = 1
            elif outcome.status in _PASSING or outcome.status >= 500 or error in _PASSING_TYPES:
                left.append(at)
                failure = DeliveryFailed(_code(outcome.status), f"{outcome.status}: {_text(outcome)}")
            else:
                known.refused[row] = Refused(row, str(outcome.status), _text(outcome))
                known.settled[row] = 1
        return documents.only(left), failure

    async def _halves(
        self, documents: Documents, known: Known, answer: Answer
    ) -> tuple[Documents, DeliveryFailed | None]:
        """What is too large together may be small enough apart; what is too large alone is refused."""
        count = len(documents.rows)
        if count == 1:
            (row,) = documents.rows
            known.refused[row] = Refused(row, "413", answer.excerpt or "Request Entity Too Large")
            known.settled[row] = 1
            return documents.only(()), None
        first, failure = await self._bulk(documents.slice(0, count // 2), known)
        second, other = await self._bulk(documents.slice(count // 2, count), known)
        return Documents(first.rows + second.rows, first.lines + second.lines), failure or other

    async def _post(self, lines: Sequence[bytes]) -> Answer:
        try:
            return await self._client.post(
                self._target,
                self._headers,
                lambda: Body([b"".join(lines)], sum(map(len, lines))),
                answer_bytes_max=OPENSEARCH_ANSWER_BYTES_MAX,
                timeout_ms=OPENSEARCH_TIMEOUT_MS,
            )
        except Unanswered as error:
            raise DeliveryFailed(_UNANSWERED.get(error.kind, "OS.ConnectionFailed"), error.message) from error


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> OpenSearch:
    """The entry point. Raises UsageError for options that cannot be right."""
    return OpenSearch(spec, surroundings)


# -- requests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Naming:
    """What stands in the operations of bulk requests."""

    index: str
    rotation: str
    type_name: str
    has_ids: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Naming:
        """Raises UsageError."""
        index = text_option(options, "index")
        if not index:
            raise UsageError("opensearch needs the option index")
        rotation = text_option(options, "rotation", "OneDay")
        if rotation not in _ROTATIONS:
            raise UsageError(f"the option rotation must be one of {', '.join(_ROTATIONS)}, not {rotation!r}")
        ids = text_option(options, "id_format", "FIREHOSE_DEFAULT")
        if ids not in ("FIREHOSE_DEFAULT", "NO_DOCUMENT_ID"):
            raise UsageError(f"the option id_format must be FIREHOSE_DEFAULT or NO_DOCUMENT_ID, not {ids!r}")
        return cls(index, rotation, text_option(options, "type_name"), ids == "FIREHOSE_DEFAULT")

    def index_at(self, at_ms: int) -> str:
        """Of a record that arrived then."""
        return self.index + _ROTATIONS[self.rotation](datetime.fromtimestamp(at_ms // 1000, UTC))

    def documents(self, sealed: Sealed, part: Part) -> tuple[Documents, list[Refused]]:
        """With the records that cannot be put on one line. Blocking."""
        found = Documents([], [])
        bad: list[Refused] = []
        row = part.first
        for batch in slices(sealed.path, part):
            sources = batch.column(0).to_pylist()
            for place, data in _with_line_feeds(batch.column(0)):
                sources[place] = one_line(data)
                if sources[place] is None:
                    bad.append(Refused(row + place, *_NOT_ONE_LINE))
            for start, stop, index in self._indexes(batch.column(1)):
                rows = range(row + start, row + stop)
                found.lines.extend(self._lines(sealed, index, rows, sources[start:stop]))
            rows = range(row, row + batch.num_rows)
            found.rows.extend([each for each, source in zip(rows, sources, strict=True) if source is not None])
            row = rows.stop
        return found, bad

    def intended(self, sealed: Sealed, rows: Sequence[int]) -> Mapping[str, Sequence[str]]:
        """Where documents were to go, in the members of AWS's error documents. Blocking."""
        batches = slices(sealed.path, Part(0, sealed.records_count, 0))
        arrived_ms = [each for batch in batches for each in batch.column(1).to_pylist()]
        ids = {"esDocumentId": [f"{sealed.id}.{row}" for row in rows]} if self.has_ids else {}
        return {
            **ids,
            "esIndexName": [self.index_at(arrived_ms[row]) for row in rows],
            "esTypeName": [self.type_name] * len(rows),
        }

    def action_bytes_max(self, sealed: Sealed) -> int:
        """Of an operation and both line feeds."""
        return len(
            self._lines(sealed, self.index_at(0), range(sealed.records_count, sealed.records_count + 1), [b""])[0]
        )

    def _indexes(self, arrived_ms: pa.Int64Array) -> Iterator[tuple[int, int, str]]:
        """Neighbours mostly go to the same."""
        hours = pc.run_end_encode(pc.divide(arrived_ms, _HOUR_MS))
        start = 0
        for stop, hour in zip(hours.run_ends.to_pylist(), hours.values.to_pylist(), strict=True):
            yield start, stop, self.index_at(hour * _HOUR_MS)
            start = stop

    def _lines(self, sealed: Sealed, index: str, rows: range, sources: Sequence[bytes | None]) -> list[bytes]:
        """An operation without id is `index` on clusters with types: those create nothing without one."""
        target: dict[str, str] = {"_index": index}
        if self.type_name:
            target["_type"] = self.type_name
        if not self.has_ids:
            action = orjson.dumps({"index" if self.type_name else "create": target})
            return [b"%b\n%b\n" % (action, source) for source in sources if source is not None]
        before = orjson.dumps({"create": target}).removesuffix(b"}}") + b',"_id":"%b.' % sealed.id.encode()
        return [
            b'%b%d"}}\n%b\n' % (before, row, source)
            for row, source in zip(rows, sources, strict=True)
            if source is not None
        ]


def _with_line_feeds(data: pa.BinaryArray) -> Iterator[tuple[int, bytes]]:
    places = pc.indices_nonzero(pc.match_substring(data, b"\n"))
    return zip(places.to_pylist(), data.take(places).to_pylist(), strict=True)


_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode


def one_line(data: bytes) -> bytes | None:
    """The same document without line feeds; None where that is not possible: outside of a valid document a line feed
    may be part of what was meant. In a valid one none is in a string."""
    line = data.strip(b"\n\r ")
    if b"\n" not in line:
        return line
    try:
        _raw(line)
    except (ValueError, RecursionError):
        return None
    return line.replace(b"\n", b" ")


def week_suffix(at: datetime) -> str:
    """`-2016-w08`. AWS's text says that weeks begin on Sunday, and that the first of a year is the first that has a
    Saturday in it; its example, w08 for 2016-02-25, says that the week from 2016-01-03 is the first, which that text
    makes the second. Here the example counts: the first week is the first that begins in the year; the days before
    are in week 00."""
    return f"-{at:%Y}-w{at:%U}"


def _authorization(options: Mapping[str, Any]) -> dict[str, str]:
    user, password = text_option(options, "user"), text_option(options, "password")
    if not user and not password:
        return {}
    header_value(user.replace(":", "\n"), "user")  # what ends at a colon cannot hold one
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# -- answers ----------------------------------------------------------------------------------------------------------


def _outcomes(answer: Answer, count: int) -> list[_Outcome]:
    """One for each document, in order. Raises DeliveryFailed."""
    try:
        items = msgspec.json.decode(answer.body, type=_Reply).items
    except (ValueError, RecursionError) as error:
        raise DeliveryFailed("OS.ServiceException", f"the answer is no bulk response: {error}") from error
    outcomes = list(chain.from_iterable(item.values() for item in items))
    if len(outcomes) != count:
        raise DeliveryFailed(
            "OS.ServiceException", f"the answer is of {len(outcomes)} documents, and {count} were sent"
        )
    return outcomes


def _error_type(outcome: _Outcome) -> str:
    if not bytes(outcome.error):
        return ""
    try:
        return msgspec.json.decode(outcome.error, type=_Error).type
    except ValueError:
        return ""


def _text(outcome: _Outcome) -> str:
    text = bytes(outcome.error)[:ECHO_CHARACTERS_MAX].decode(errors="replace")
    return text or "the cluster gave no reason"


def _whole_failure(answer: Answer) -> DeliveryFailed:
    return DeliveryFailed(_code(answer.status), f"{answer.status}: {answer.excerpt}")


def _code(status: int) -> str:
    """AccessDenied and ResourceNotFound are AWS's."""
    return {401: "OS.AccessDenied", 403: "OS.AccessDenied", 404: "OS.ResourceNotFound"}.get(
        status, "OS.ServiceException"
    )
