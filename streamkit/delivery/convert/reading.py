"""How the records of a stream write their values: found in samples, and what a strict reader is told to expect."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from streamkit.delivery.convert.exact import Bad, Float, decode, documents
from streamkit.delivery.convert.shapes import Leaf, ListOf, MapOf, Member, Rules, Shape, StructOf

_USUAL: Final = {
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "decimal": "number",
    "text": "text",
    "binary": "text",
    "date": "text",
    "timestamp": "text",
}


class Reading:
    """What is expected of records now. `is_open`: they have members that no column is for. `has_several`: some have
    several documents."""

    def __init__(self, root: StructOf, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self.is_open = False
        self.has_several = False
        self.spellings: dict[str, str] = {}  # by key: as records write it
        self._kinds: dict[Shape, str] = {}
        self._arrange()

    schema: pa.Schema
    """What is read strictly, by the spelling of keys."""
    strict: list[int]
    """Columns that `schema` has, in its order."""
    exact: list[int]
    """Columns that are read value by value: maps, text that is written as objects, and such."""

    def learn(self, sample: Iterable[bytes]) -> bool:
        """From what most of some records do. Tells whether anything is expected now that was not before; a kind of
        value that the sample does not have stays as it was."""
        seen = _Seen(self._rules)
        for record in sample:
            try:
                found = documents(record)
                self.has_several = self.has_several or len(found) > 1
                for document in found:
                    seen.members(self._root, document)
            except (Bad, RecursionError):
                continue
        before = (self.schema, self.is_open, self.strict, self.spellings.copy())
        self.is_open = self.is_open or seen.has_unknown
        for key, spellings in seen.spellings.items():
            self.spellings[key] = spellings.most_common(1)[0][0]
        for shape, kinds in seen.kinds.items():
            self._kinds[shape] = _merged(kinds)
        self._arrange()
        return before != (self.schema, self.is_open, self.strict, self.spellings)

    def spelling(self, key: str) -> str:
        return self.spellings.get(key, key)

    def _arrange(self) -> None:
        fields: list[pa.Field] = []
        self.strict, self.exact = [], []
        taken: set[str] = set()
        for place, member in enumerate(self._root.members):
            type_ = None if member.key in taken else self._type(member.shape)
            if type_ is None:
                self.exact.append(place)
                continue
            taken.add(member.key)
            self.strict.append(place)
            fields.append(pa.field(self.spelling(member.key), type_))
        self.schema = pa.schema(fields)

    def _type(self, shape: Shape) -> pa.DataType | None:
        """None: read value by value."""
        kind = self._kinds.get(shape)
        match shape:
            case MapOf():
                return None
            case ListOf(_, item):
                inner = self._type(item) if kind in (None, "array") else None
                return None if inner is None else pa.list_(inner)
            case StructOf(_, members):
                return self._struct(members) if kind in (None, "object") else None
            case Leaf():
                return self._leaf(shape, kind or _USUAL[shape.kind])

    def _struct(self, members: tuple[Member, ...]) -> pa.DataType | None:
        types = [self._type(member.shape) for member in members]
        if not members or None in types or len({member.key for member in members}) != len(members):
            return None
        return pa.struct([pa.field(self.spelling(each.key), type_) for each, type_ in zip(members, types, strict=True)])

    def _leaf(self, leaf: Leaf, kind: str) -> pa.DataType | None:
        if kind == "text":
            return pa.string()
        if kind == "boolean" and leaf.kind in ("boolean", "text"):
            return pa.bool_()
        if kind in ("integer", "number") and leaf.kind == "floating":
            return pa.float64()
        if kind == "integer" and leaf.kind in ("integer", "decimal", "text", "timestamp"):
            return pa.int64()
        if kind == "number" and leaf.kind == "decimal" and leaf.type.scale <= _SCALE_MAX:
            # Not as decimals: where those overflow, Arrow's reader gives other numbers and no error.
            return pa.float64()
        if kind == "number" and leaf.kind == "timestamp" and not self._rules.stamps.is_hive:
            return pa.float64()
        return None


def _merged(kinds: Counter[str]) -> str:
    """What most values are; numbers count together, and some with a fraction make all of them numbers with one."""
    if kinds["number"]:
        kinds["number"] += kinds.pop("integer", 0)
    return kinds.most_common(1)[0][0]


class _Seen:
    """Counts, of a sample."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.spellings: dict[str, Counter[str]] = {}
        self.kinds: dict[Shape, Counter[str]] = {}
        self.has_unknown = False

    def members(self, shape: StructOf, value: Any) -> None:
        if type(value) is not dict:
            return
        members = {member.key: member for member in shape.members}
        for name, each in value.items():
            key = self._rules.key_of(name)
            member = members.get(key)
            if member is None:
                self.has_unknown = True
                continue
            self.spellings.setdefault(key, Counter())[name] += 1
            self._value(member.shape, each)

    def _value(self, shape: Shape, value: Any) -> None:
        if value is None:
            return
        self.kinds.setdefault(shape, Counter())[_KINDS[type(value)]] += 1
        if isinstance(shape, ListOf) and type(value) is list:
            for each in value:
                self._value(shape.item, each)
        elif isinstance(shape, StructOf):
            self.members(shape, value)


_SCALE_MAX: Final = 9  # of decimals whose digits most doubles hold

_NOT_PLAIN: Final = re.compile(r'["\\\x00-\x1f]')
_KINDS: Final = {
    bool: "boolean",
    int: "integer",
    Float: "number",
    str: "text",
    list: "array",
    dict: "object",
}


class Pruned:
    """Decodes some members of records that are known to be one object each, by their keys as they are written."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys
        self._names = [f"member_{place}" for place in range(len(keys))]
        self._decoder: msgspec.json.Decoder[Any] | None = None
        if not any(_NOT_PLAIN.search(key) for key in keys):  # msgspec has no names for those
            kind = msgspec.defstruct(
                "Members",
                [(name, Any, None) for name in self._names],
                rename=dict(zip(self._names, keys, strict=True)),
                gc=False,
            )
            self._decoder = msgspec.json.Decoder(kind, float_hook=Float)

    def values(self, record: bytes) -> Iterator[Any]:
        """Of each key, None where it is missing."""
        if self._decoder is None:
            document = decode(record)
            return (document.get(key) for key in self._keys)
        found = self._decoder.decode(record)
        return (getattr(found, name) for name in self._names)
