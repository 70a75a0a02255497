"""Queries of a MetadataExtraction processor: their keys' names, and the common ones without libjq.

A query is a jq program that ends in an object construction: `{day: .ts | strftime("%Y-%m-%d"), id: .customer.id}`.
Firehose speaks jq 1.6 ("JsonParsingEngine: JQ-1.6"). What is compiled here are queries whose values are built of paths
(`.a.b`, `."a b"`, `.a["b"]`, `.a[0]`, `.a[0:10]`), literals, strings with `\\(...)`, `//`, `+ - * /`, `==` and `!=`,
`if`, and the functions in `_FUNCTIONS`: they decode of each record only the members that they need, and ask once for
each different value. Where jq's answer is not beyond doubt, as for numbers that a double cannot hold, they say `Unsure`
for the record, and libjq answers. All other queries are libjq's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec

from streamkit.delivery.processors.jq_syntax import (
    Call,
    Constant,
    If,
    Node,
    Parser,
    Path,
    Pipe,
    Text,
    construction,
    every_token,
    key_names,
    tokens_of,
)
from streamkit.delivery.processors.jq_values import (
    BINARY,
    NOT_JSON,
    Bad,
    Function,
    QueryError,
    Step,
    Unsupported,
    Unsure,
    as_text,
    index,
    key_text,
    negated,
    walk,
)
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import QUERY_CHARACTERS_MAX, QUERY_DEPTH_MAX

_REFUSED: Final = frozenset(
    {"debug", "env", "get_search_list", "halt", "halt_error", "import", "include", "input", "input_filename"}
    | {"input_line_number", "inputs", "modulemeta", "stderr", "$ENV", "$__prog_args"}
)
"""What looks out of the query: at the process, its input or its files. A partition key comes from its record."""


def check_query(query: str) -> list[str]:
    """The names of the keys, in order: `partitionKeyFromQuery:NAME`.

    Raises InvalidArgument for what is no jq, does not end in an object with constant keys, or asks for more than its
    record (`env`, `input` and the like). AWS's texts are not known. Queries that are not compiled here need the package
    `jq`.
    """
    if len(query) > QUERY_CHARACTERS_MAX:
        raise InvalidArgument(f"MetadataExtractionQuery has more than {QUERY_CHARACTERS_MAX} characters")
    tokens, _ = tokens_of(query)
    for token in every_token(tokens):
        if token.kind in ("name", "variable") and token.value in _REFUSED:
            raise InvalidArgument(f"MetadataExtractionQuery must not use {token.value}")
    found = list(dict.fromkeys(key_names(construction(tokens)[0])))
    if not found:
        raise InvalidArgument("MetadataExtractionQuery has no keys")
    if parse(query) is None:
        _compile_by_jq(query)
    return found


def _compile_by_jq(query: str) -> None:
    try:
        import jq
    except ImportError:
        raise InvalidArgument("MetadataExtractionQuery needs the package jq, which is not installed here") from None
    try:
        jq.compile(query)  # and runs nothing
    except ValueError as error:
        raise InvalidArgument(f"MetadataExtractionQuery is not valid: {str(error).splitlines()[0]}") from None


# -- compiling ---------------------------------------------------------------------------------------------------------

_Names = tuple[str, ...]


class _Leaf(NamedTuple):
    """A value of a record that a query is made of: a member, or a part of it. Parts are taken for the whole column, so
    that the query is asked for each different part, not for each different value."""

    names: _Names
    part: tuple[int | None, int | None] | None = None


class _Fault(NamedTuple):
    """In the place of a leaf that cannot be read: an error where it is used."""

    message: str


def _compile(node: Node, leaves: list[_Leaf] | None) -> Function:
    """A function of the value at hand; at the root (`leaves` given) of a tuple of leaves, which it adds to."""
    if isinstance(node, Constant):
        constant = node.value
        return lambda _: constant
    if isinstance(node, Path):
        return _compile_path(node, leaves)
    if isinstance(node, Call):
        if leaves is None:
            return node.function
        whole, function = _compile(Path(()), leaves), node.function
        return lambda value: function(whole(value))
    if isinstance(node, Pipe):
        first, second = _compile(node.left, leaves), _compile(node.right, None)
        return lambda value: second(first(value))
    if isinstance(node, If):
        condition, then, otherwise = (_compile(each, leaves) for each in (node.condition, node.then, node.otherwise))
        return lambda value: otherwise(value) if negated(condition(value)) else then(value)
    if isinstance(node, Text):
        parts = [_compile(each, leaves) for each in node.parts]
        return lambda value: "".join([as_text(part(value)) for part in parts])
    left, right = _compile(node.left, leaves), _compile(node.right, leaves)
    if node.operator == "//":
        return _alternative(left, right)
    combine = BINARY[node.operator]
    return lambda value: combine(left(value), right(value))


def _compile_path(node: Path, leaves: list[_Leaf] | None) -> Function:
    if leaves is None:
        steps = node.steps
        if len(steps) == 1:
            step = steps[0]
            return lambda value: index(value, step)
        return lambda value: walk(value, steps)
    named = next((place for place, step in enumerate(node.steps) if type(step) is not str), len(node.steps))
    leaf, rest = _Leaf(tuple(str(step) for step in node.steps[:named])), node.steps[named:]
    if rest and isinstance(rest[0], slice):
        leaf, rest = leaf._replace(part=(rest[0].start, rest[0].stop)), rest[1:]
    if leaf not in leaves:
        leaves.append(leaf)
    slot = leaves.index(leaf)

    def read(values: Any) -> Any:
        value = values[slot]
        if type(value) is _Fault:
            raise QueryError(value.message)
        return walk(value, rest)

    return read


def _alternative(left: Function, right: Function) -> Function:
    """jq's `//`: for null and false, not for errors."""

    def call(value: Any) -> Any:
        found = left(value)
        return right(value) if negated(found) else found

    return call


class _Key:
    """One key: where its values come from, and what is done to them."""

    def __init__(self, node: Node) -> None:
        self.leaves: list[_Leaf] = []
        self._function = _compile(node, self.leaves)

    def one(self, values: tuple[Any, ...]) -> str | Bad | None:
        """None: only libjq knows."""
        try:
            return key_text(self._function(values))
        except QueryError as error:
            return Bad(str(error))
        except Unsure:
            return None

    def column(self, columns: Sequence[Sequence[Any]]) -> list[str | Bad | None]:
        if not all(map(_is_simple, columns)):
            return [self.one(values) for values in zip(*columns, strict=True)]
        memo = _Memo(self.one)
        return list(map(memo.__getitem__, zip(*columns, strict=True)))


_NUMBERS: Final = frozenset([bool, int])
_SIMPLE: Final = frozenset([str, NoneType, *_NUMBERS])


def _is_simple(column: Sequence[Any]) -> bool:
    """Equal values are the same: unlike `1`, `1.0` and `true`, and -0.0 and 0.0."""
    kinds = set(map(type, column))
    return kinds <= _SIMPLE and len(kinds & _NUMBERS) < 2


class _Memo(dict[tuple[Any, ...], str | Bad | None]):
    """The answers to one column's values."""

    def __init__(self, answer: Callable[[tuple[Any, ...]], str | Bad | None]) -> None:
        self._answer = answer

    def __missing__(self, values: tuple[Any, ...]) -> str | Bad | None:
        found = self[values] = self._answer(values)
        return found


# -- evaluating --------------------------------------------------------------------------------------------------------


class Extraction:
    """A compiled query. Threads may share one."""

    def __init__(self, entries: dict[str, Node]) -> None:
        self.names = list(entries)
        self._keys = [_Key(node) for node in entries.values()]
        self._leaves = list(dict.fromkeys(leaf for key in self._keys for leaf in key.leaves))
        self._members = list(dict.fromkeys(leaf.names for leaf in self._leaves))
        self._pruned = _Pruned(self._members)
        self._any = msgspec.json.Decoder().decode

    def columns(self, documents: Sequence[bytes]) -> list[list[str | Bad | None]]:
        """For each key the value of each record, why it has none, or None where only libjq knows."""
        columns, broken = self._read(documents)
        members = dict(zip(self._members, columns, strict=True))
        leaves = {leaf: _part(members[leaf.names], leaf.part) for leaf in self._leaves}
        found = [
            key.column([leaves[leaf] for leaf in key.leaves]) if key.leaves else [key.one(())] * len(documents)
            for key in self._keys
        ]
        for place in broken:  # whatever the query makes of it
            for column in found:
                column[place] = Bad(NOT_JSON)
        return found

    def _read(self, documents: Sequence[bytes]) -> tuple[list[list[Any]], list[int]]:
        """The members, and the records that are no JSON."""
        decode = self._pruned.decode
        found: list[Any] = []
        odd: list[int] = []
        for document in documents:
            try:
                found.append(decode(document))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                odd.append(len(found))
                found.append(None)
        columns = self._pruned.columns(found)
        broken = [place for place in odd if not self._read_one(documents[place], place, columns)]
        return columns, broken

    def _read_one(self, document: bytes, place: int, columns: list[list[Any]]) -> bool:
        """A document that has something else where the query looks for an object. False: it is no JSON."""
        try:
            whole = self._any(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        for names, column in zip(self._members, columns, strict=True):
            column[place] = _walk_or_fault(whole, names)
        return True


def _part(column: list[Any], bounds: tuple[int | None, int | None] | None) -> list[Any]:
    if bounds is None:
        return column
    part = slice(*bounds)
    if set(map(type, column)) <= {str, NoneType}:
        return [value[part] if value else value for value in column]
    return [value if type(value) is _Fault else _walk_or_fault(value, [part]) for value in column]


_NOT_A_FIELD: Final = re.compile(r'[\x00-\x1f"\\]')  # names that msgspec has no fields for


class _Pruned:
    """Decodes of a document the members on the way to some leaves, and reads the leaves by columns."""

    def __init__(self, leaves: Sequence[_Names]) -> None:
        tree: dict[str, Any] = {}
        for leaf in leaves:
            node = tree
            for name in leaf:
                node = node.setdefault(name, {})
            node[""] = {}  # ends here: no name that JSON has can be told from this one, so such a leaf is kept whole
        kind, shape = self._shape(tree, 0)
        self._reads = [self._reader(shape, leaf) for leaf in leaves]
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode

    def _shape(self, tree: dict[str, Any], depth: int) -> tuple[Any, dict[str, Any]]:
        """A type for msgspec, and by member the same of what is below."""
        if "" in tree or depth > QUERY_DEPTH_MAX or any(map(_NOT_A_FIELD.search, tree)):
            return Any, {}
        members = {name: self._shape(below, depth + 1) for name, below in tree.items()}
        fields = [
            (f"f{place}", Any if kind is Any else kind | None, None) for place, (kind, _) in enumerate(members.values())
        ]
        struct = msgspec.defstruct(
            "Pruned", fields, rename={f"f{place}": name for place, name in enumerate(members)}, gc=False
        )
        return struct, {name: (f"f{place}", below) for place, (name, (_, below)) in enumerate(members.items())}

    @staticmethod
    def _reader(shape: dict[str, Any], leaf: _Names) -> tuple[list[str], _Names]:
        """Attributes on the way, and what remains of the leaf in the value that is kept whole."""
        attributes: list[str] = []
        for place, name in enumerate(leaf):
            if name not in shape:
                return attributes, leaf[place:]
            attribute, shape = shape[name]
            attributes.append(attribute)
        return attributes, ()

    def columns(self, found: list[Any]) -> list[list[Any]]:
        return [self._column(found, attributes, rest) for attributes, rest in self._reads]

    @staticmethod
    def _column(found: list[Any], attributes: list[str], rest: _Names) -> list[Any]:
        column = list(found)
        for attribute in attributes:
            column = [None if value is None else getattr(value, attribute) for value in column]
        return [_walk_or_fault(value, rest) for value in column] if rest else column


def _walk_or_fault(value: Any, steps: Sequence[Step]) -> Any:
    try:
        return walk(value, steps)
    except QueryError as error:
        return _Fault(str(error))


def parse(query: str) -> Extraction | None:
    """None: the query is libjq's, or nobody's (`check_query` tells)."""
    try:
        inside, is_all = construction(tokens_of(query)[0])
        return Extraction(Parser(inside).object()) if is_all else None
    except (Unsupported, InvalidArgument):
        return None
