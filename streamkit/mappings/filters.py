"""Filters of a mapping: which records a function gets to see.

The language is EventBridge's event patterns, as far as AWS Lambda's developer guide documents them ("Control which
events Lambda sends to your function"), and a few operators more (`EXTENSIONS`). A pattern is parsed strictly, once,
into closures; records are tested column by column, with as little made of each as the pattern asks for.

What the sources leave open, or say differently from one another, is decided so:

- Numbers are equal by value: 300 matches 300.0 and 3e2. The guide says they differ, as text; EventBridge's own engine
  (aws/event-ruler compares the value beside the text) and answers recorded from AWS (LocalStack's validated pattern
  `number_comparison_float`) say they match. Values are doubles where they are not 64-bit integers.
- `numeric` and numbers in `anything-but` are limited to -5e9 ... 5e9 as in the engine: beyond it a pattern is refused,
  and a value in a record is in no range.
- A field is a value at a path: string, number, true, false, null, or one of these in an array. An object or an empty
  array is no value, so that `exists: true` does not hold for it and `exists: false` does.
- An array stands for its elements, at any depth; what a pattern asks below an array must hold in one and the same
  element. `exists: false` below an array means that element where the pattern asks for something else of it, too, and
  all elements where it does not.
- `anything-but` holds for a value of another type (null, too), not for a missing field.
- A dot in a key is a dot. The engine also takes it for a step of the path and warns not to rely on that.
- Ignoring case is Unicode's case folding.
- Data that orjson refuses is not JSON: also NaN, numbers beyond a double, lone surrogates, more than 1,024 levels.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson

from streamkit.model.batch import RecordBatch
from streamkit.model.errors import UsageError

PATTERN_CHARACTERS_MAX: Final = 4096  # AWS, of one filter's pattern
PATTERN_DEPTH_MAX: Final = 64  # ours: objects in objects; bounds the recursion of a test
PATTERN_BRANCHES_MAX: Final = 1000  # ours: the combinations that the `$or`s of one pattern may have
NUMBER_MAX: Final = 5e9  # the engine's; see above

EXTENSIONS: Final = frozenset(
    {
        "anything-but: number",
        "anything-but: {prefix}",
        "anything-but: {suffix}",
        "anything-but: {equals-ignore-case}",
        "anything-but: {wildcard}",
        "cidr",
        "prefix: {equals-ignore-case}",
        "suffix: {equals-ignore-case}",
        "wildcard",
    }
)
"""EventBridge's operators that Lambda's table does not list. AWS may refuse a mapping that uses one; this does not."""

CONSTANTS: Final = {
    "eventSource": "aws:kinesis",
    "eventName": "aws:kinesis:record",
    "eventVersion": "1.0",
    "kinesisSchemaVersion": "1.0",
}
"""Metadata that every record of a stream shares, whatever its stream."""

_OR: Final = "$or"
_OPERATORS: Final = frozenset(
    {"anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix", "wildcard"}
)
_NEEDLES_MAX: Final = 8  # one pass over the data for each; past that, parsing costs less
_UNWRITTEN: Final = frozenset('"\\') | {chr(code) for code in range(0x20)}  # JSON writes these with a backslash
_MISSING: Final = object()  # the value of a field that is not there

Json = Any  # what orjson.loads gives
Test = Callable[[Json], int]
"""Whether a pattern holds for a value: falsy if not, `_ABSENT` if only because nothing is there, else `_HELD` or True.

Only patterns with `exists: false` tell the last two apart; the others' tests give booleans.
"""
_ABSENT: Final = 1
_HELD: Final = 2


class InvalidFilter(UsageError):
    """A pattern that is not one. `where` is a path into it, or the place of a JSON fault."""

    def __init__(self, where: str, why: str, index: int = 0) -> None:
        super().__init__(f"filter {index + 1}, at {where}: {why}")
        self.where = where
        self.why = why
        self.index = index

    def in_filter(self, index: int) -> InvalidFilter:
        return InvalidFilter(self.where, self.why, index)


class FilterCriteria:
    """The filters of one mapping. A record passes if one of them matches; without any, every record passes.

    Immutable, and nothing in it depends on the records seen, so it may be shared by shards and threads.
    """

    __slots__ = ("_branches", "_patterns")

    def __init__(self, patterns: tuple[str, ...], branches: tuple[_Branch, ...]) -> None:
        self._patterns = patterns
        self._branches = branches

    @classmethod
    def parse(cls, patterns: Sequence[str], *, document_keys: Sequence[str] = ("data",)) -> FilterCriteria:
        """Raises InvalidFilter for the first pattern that is none.

        `document_keys` are the keys under which the source has a JSON document: a pattern for one must be an object.
        Lambda refuses a pattern for plain text on a stream, and takes it on a queue, which passes ().
        """
        assert not isinstance(patterns, str)
        branches: list[_Branch] = []
        for index, pattern in enumerate(patterns):
            try:
                nodes = _parse(pattern, frozenset(document_keys))
            except InvalidFilter as error:
                raise error.in_filter(index) from None
            branches += [_Branch(node) for node in nodes]
        return cls(tuple(patterns), tuple(branches))

    @property
    def patterns(self) -> tuple[str, ...]:
        return self._patterns

    def matches(self, document: Mapping[str, Json]) -> bool:
        """Whether one event passes: a mapping of plain JSON values, as a JSON parser makes them."""
        return not self._branches or any(branch.test(document) for branch in self._branches)

    def matches_batch(self, batch: RecordBatch, context: Mapping[str, str] | None = None) -> list[int] | None:
        """The indices, in the batch's window, of the records that pass, in order; None where all do.

        A record is seen as its metadata by name, and its data, parsed, under `data`. `context` adds metadata that all
        records share (`eventSourceARN`, `awsRegion`, `invokeIdentityArn`). Data that is not JSON matches no pattern
        that asks for data. The batch is only read.
        """
        count = len(batch)
        if not self._branches or not count:
            return None
        window = _Window(batch, {**CONSTANTS, **(context or {})})
        if len(self._branches) == 1:
            branch = self._branches[0]
            rows: Sequence[int] = branch.rows(window)
            if branch.data is not None:
                rows = window.rows_with_data(rows, branch.data)
        else:
            rows = self._rows_of_any(window)
        return None if len(rows) == count else list(rows)

    def _rows_of_any(self, window: _Window) -> list[int]:
        """Rows that pass one branch or another. Data is parsed at most once a row, and not kept: it may be large."""
        passed: set[int] = set()
        asked: dict[int, list[Test]] = {}
        for branch in self._branches:
            if branch.data is None:
                passed.update(branch.rows(window))
                if len(passed) == window.count:
                    break
        else:
            for branch in self._branches:
                if branch.data is not None:
                    for row in branch.rows(window):
                        if row not in passed:
                            asked.setdefault(row, []).append(branch.data)
        for row, tests in asked.items():
            document = window.document(row)
            if document is not _MISSING and any(test(document) for test in tests):
                passed.add(row)
        return sorted(passed)


# -- what a pattern says ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Leaf:
    """The values allowed for one field: the array at the end of a path. One of them has to match.

    `needles`, if any, are byte strings of which JSON text must have one for this leaf to hold, or else a backslash.
    """

    strings: set[str] = field(default_factory=set)
    string_tests: list[Callable[[str], bool]] = field(default_factory=list)
    numbers: set[float] = field(default_factory=set)
    number_tests: list[Callable[[float], bool]] = field(default_factory=list)
    literals: set[bool | None] = field(default_factory=set)
    absent: bool = False
    needles: list[bytes] | None = field(default_factory=list)
    prefix: str | None = None  # if that is all
    suffix: str | None = None

    @property
    def only_strings(self) -> bool:
        return not (self.string_tests or self.numbers or self.number_tests or self.literals or self.absent)

    def add_needle(self, opening: str, text: str, closing: str) -> None:
        if self.needles is None:
            return
        if _UNWRITTEN.isdisjoint(text):
            self.needles.append(f"{opening}{text}{closing}".encode())
        # Otherwise JSON cannot write the value without a backslash, and a record with one is looked at in any case.

    def add_anything(self) -> None:
        """Any value at all."""
        self.string_tests.append(_always)
        self.number_tests.append(_always)
        self.literals |= {True, False, None}
        self.needles = None


@dataclass(slots=True)
class _Node:
    """What one branch of a pattern asks at one path: every leaf (`$or` may add some) and every child. Never changed."""

    leaves: tuple[_Leaf, ...] = ()
    children: dict[str, _Node] = field(default_factory=dict)

    def merged(self, other: _Node) -> _Node:
        children = dict(self.children)
        for key, node in other.children.items():
            children[key] = children[key].merged(node) if key in children else node
        return _Node(self.leaves + other.leaves, children)

    def all_leaves(self) -> Iterator[_Leaf]:
        yield from self.leaves
        for node in self.children.values():
            yield from node.all_leaves()


def _parse(pattern: str, document_keys: frozenset[str]) -> list[_Node]:
    """The branches of one pattern: it matches where one of them does.

    `$or` is multiplied out, as the engine does, because array consistency holds over the whole of a branch.
    """
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise InvalidFilter("$", f"the pattern has {len(pattern)} characters; {PATTERN_CHARACTERS_MAX} are allowed")
    try:
        # orjson, as for the data: so both have the same idea of a number. Of equal keys the last one stands.
        parsed = orjson.loads(pattern)
    except orjson.JSONDecodeError as error:
        raise InvalidFilter(f"line {error.lineno} column {error.colno}", f"not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise InvalidFilter("$", "a pattern is a JSON object")
    return _parse_object(parsed, "$", 1, document_keys)


def _parse_object(value: dict[str, Json], where: str, depth: int, document_keys: frozenset[str]) -> list[_Node]:
    if not value:
        raise InvalidFilter(where, "an empty object asks for nothing; name a field")
    if depth > PATTERN_DEPTH_MAX:
        raise InvalidFilter(where, f"objects are nested more than {PATTERN_DEPTH_MAX} deep")
    branches = [_Node()]
    for key, inner in value.items():
        place = f"{where}.{key}"
        alternatives: list[_Node]
        if key == _OR:
            alternatives = _parse_or(inner, place, depth, document_keys)
        elif isinstance(inner, dict):
            alternatives = [_Node(children={key: node}) for node in _parse_object(inner, place, depth + 1, frozenset())]
        elif key in document_keys:
            raise InvalidFilter(place, "a pattern for data is an object: this source filters data as JSON only")
        elif isinstance(inner, list):
            alternatives = [_Node(children={key: _Node((_parse_leaf(inner, place),))})]
        else:
            raise InvalidFilter(place, f"must be an object or an array of values, not {_kind(inner)}")
        if len(branches) * len(alternatives) > PATTERN_BRANCHES_MAX:
            raise InvalidFilter(place, f"the combinations of $or are more than {PATTERN_BRANCHES_MAX}")
        branches = [a.merged(b) for a in branches for b in alternatives]
    return branches


def _parse_or(value: Json, where: str, depth: int, document_keys: frozenset[str]) -> list[_Node]:
    if not isinstance(value, list) or len(value) < 2:
        raise InvalidFilter(where, "$or takes an array of two or more objects")
    branches: list[_Node] = []
    for index, inner in enumerate(value):
        place = f"{where}[{index}]"
        if not isinstance(inner, dict):
            raise InvalidFilter(place, f"$or takes objects, not {_kind(inner)}")
        if reserved := _OPERATORS.intersection(inner):
            raise InvalidFilter(place, f"{min(reserved)} is an operator and cannot be a field inside $or")
        branches += _parse_object(inner, place, depth + 1, document_keys)
        if len(branches) > PATTERN_BRANCHES_MAX:
            raise InvalidFilter(where, f"the combinations of $or are more than {PATTERN_BRANCHES_MAX}")
    return branches


def _parse_leaf(values: list[Json], where: str) -> _Leaf:
    if not values:
        raise InvalidFilter(where, "an empty array allows no value")
    leaf = _Leaf()
    for index, value in enumerate(values):
        place = f"{where}[{index}]"
        if isinstance(value, str):
            leaf.strings.add(value)
            leaf.add_needle('"', value, '"')
        elif value is None or isinstance(value, bool):
            leaf.literals.add(value)
            leaf.needles = None
        elif isinstance(value, int | float):
            leaf.numbers.add(value)
            leaf.needles = None
        elif isinstance(value, dict):
            if len(value) != 1:
                raise InvalidFilter(place, "a comparison is an object with one key, its operator")
            [(operator, operand)] = value.items()
            parse = _PARSERS.get(operator)
            if parse is None:
                raise InvalidFilter(f"{place}.{operator}", "there is no such operator; have " + ", ".join(_PARSERS))
            parse(leaf, operand, f"{place}.{operator}", alone=len(values) == 1)
        else:
            raise InvalidFilter(place, f"must be a string, number, true, false, null or comparison, not {_kind(value)}")
    return leaf


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


# -- operators -------------------------------------------------------------------------------------------------------


def _always(_: object) -> bool:
    return True


def _text(operand: Json, where: str) -> str:
    if not isinstance(operand, str):
        raise InvalidFilter(where, f"takes a string, not {_kind(operand)}")
    return operand


def _parse_affix(leaf: _Leaf, operand: Json, where: str, *, at_end: bool, alone: bool) -> None:
    if isinstance(operand, dict):
        if list(operand) != ["equals-ignore-case"]:
            raise InvalidFilter(where, "takes a string, or an object with the key equals-ignore-case")
        folded = _text(operand["equals-ignore-case"], f"{where}.equals-ignore-case").casefold()
        leaf.string_tests.append(
            (lambda value: value.casefold().endswith(folded))
            if at_end
            else (lambda value: value.casefold().startswith(folded))
        )
        leaf.needles = None
        return
    affix = _text(operand, where)
    leaf.string_tests.append(_affix_test(affix, at_end=at_end))
    if at_end:
        leaf.add_needle("", affix, '"')
        leaf.suffix = affix if alone else None
    else:
        leaf.add_needle('"', affix, "")
        leaf.prefix = affix if alone else None


def _affix_test(affix: str | tuple[str, ...], *, at_end: bool) -> Callable[[str], bool]:
    return (lambda value: value.endswith(affix)) if at_end else (lambda value: value.startswith(affix))


def _parse_prefix(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    _parse_affix(leaf, operand, where, at_end=False, alone=alone)


def _parse_suffix(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    _parse_affix(leaf, operand, where, at_end=True, alone=alone)


def _parse_ignore_case(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    folded = _text(operand, where).casefold()
    leaf.string_tests.append(lambda value: value.casefold() == folded)
    leaf.needles = None


def _parse_wildcard(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    leaf.string_tests.append(_wildcard_test(_text(operand, where), where))
    leaf.needles = None


def _wildcard_test(pattern: str, where: str) -> Callable[[str], bool]:
    r"""`*` stands for any run of characters; `\*` and `\\` for themselves.

    The parts between stars are looked for from left to right, each as early as it can be: that never needs to go back,
    so the time is that of the searches, however many stars there are.
    """
    parts = [""]
    characters = iter(pattern)
    starred = False
    for character in characters:
        if character == "*":
            if starred:
                raise InvalidFilter(where, "two wildcards follow each other; one does the same")
            parts.append("")
        elif character == "\\":
            escaped = next(characters, "")
            if escaped not in {"*", "\\"}:
                raise InvalidFilter(where, r"a backslash stands only before * and \ ")
            parts[-1] += escaped
        else:
            parts[-1] += character
        starred = character == "*"
    if len(parts) == 1:
        return lambda value: value == parts[0]
    first, *middle, last = parts
    shortest = len(first) + len(last)

    def test(value: str) -> bool:
        if len(value) < shortest or not value.startswith(first) or not value.endswith(last):
            return False
        position, end = len(first), len(value) - len(last)
        for part in middle:
            position = value.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True

    return test


def _number(operand: Json, where: str) -> float:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise InvalidFilter(where, f"takes a number, not {_kind(operand)}")
    if not -NUMBER_MAX <= operand <= NUMBER_MAX:
        raise InvalidFilter(where, "numbers are compared between -5e9 and 5e9 only")
    return operand


def _parse_numeric(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    """`["=", x]`, `["<", x]` (or another bound), or a lower bound and an upper one in this order."""
    leaf.needles = None
    if not isinstance(operand, list) or len(operand) not in {2, 4}:
        raise InvalidFilter(where, "takes an array of a sign and a number, or of a lower and an upper bound")
    signs = operand[::2]
    numbers = [_number(each, f"{where}[{2 * index + 1}]") for index, each in enumerate(operand[1::2])]
    allowed_signs = [["=", "<", "<=", ">", ">="]] if len(signs) == 1 else [[">", ">="], ["<", "<="]]
    for index, (sign, allowed) in enumerate(zip(signs, allowed_signs, strict=True)):
        if sign not in allowed:
            raise InvalidFilter(f"{where}[{2 * index}]", f"must be one of {' '.join(allowed)}")
    if signs == ["="]:
        leaf.numbers.add(numbers[0])
        return
    low, high = -NUMBER_MAX, NUMBER_MAX
    low_is_open = high_is_open = False
    for sign, number in zip(signs, numbers, strict=True):
        if sign[0] == ">":
            low, low_is_open = number, sign == ">"
        else:
            high, high_is_open = number, sign == "<"
    if len(signs) == 2 and low >= high:
        raise InvalidFilter(where, "the lower bound must be less than the upper one")
    leaf.number_tests.append(_range_test(low, high, low_is_open=low_is_open, high_is_open=high_is_open))


def _range_test(low: float, high: float, *, low_is_open: bool, high_is_open: bool) -> Callable[[float], bool]:
    if low_is_open:
        return (lambda value: low < value < high) if high_is_open else (lambda value: low < value <= high)
    return (lambda value: low <= value < high) if high_is_open else (lambda value: low <= value <= high)


def _parse_exists(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    if operand is True:
        leaf.add_anything()
    elif operand is False:
        leaf.absent = True
        leaf.needles = None
    else:
        raise InvalidFilter(where, f"takes true or false, not {_kind(operand)}")


def _parse_cidr(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    import ipaddress  # costs milliseconds, and few mappings need it

    text = _text(operand, where)
    try:
        if "%" in text or "/" not in text or not text.rpartition("/")[2].isdigit():
            raise ValueError("an address, a slash, and the count of leading bits")
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidFilter(where, f"takes an address range as in 10.0.0.0/24: {error}") from None

    def test(value: str) -> bool:
        if "%" in value:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    leaf.string_tests.append(test)
    leaf.needles = None


def _parse_anything_but(leaf: _Leaf, operand: Json, where: str, *, alone: bool) -> None:
    """Holds for every value but the ones named: for values of other types, too."""
    leaf.needles = None
    leaf.literals |= {True, False, None}
    if isinstance(operand, dict):
        if len(operand) != 1 or (operator := next(iter(operand))) not in _UNLESS:
            raise InvalidFilter(where, "takes values, or an object with one of the keys " + ", ".join(_UNLESS))
        place = f"{where}.{operator}"
        inner = operand[operator]
        texts = [_text(each, place) for each in (inner if isinstance(inner, list) else [inner])]
        if not texts:
            raise InvalidFilter(place, "takes a string, or an array of strings that is not empty")
        leaf.number_tests.append(_always)
        leaf.string_tests.append(_UNLESS[operator](texts, place))
        return
    values = operand if isinstance(operand, list) else [operand]
    if values and all(isinstance(value, str) for value in values):
        strings = frozenset(values)
        leaf.string_tests.append(lambda value: value not in strings)
        leaf.number_tests.append(_always)
    elif values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = frozenset(_number(value, where) for value in values)
        leaf.number_tests.append(lambda value: value not in numbers)
        leaf.string_tests.append(_always)
    else:
        raise InvalidFilter(where, "takes a string, a number, or an array of only strings or only numbers")


def _unless_affix(texts: list[str], where: str, *, at_end: bool) -> Callable[[str], bool]:
    if "" in texts:
        raise InvalidFilter(where, "an empty string is in every value; nothing would match")
    found = _affix_test(tuple(texts), at_end=at_end)
    return lambda value: not found(value)


def _unless_equal(texts: list[str], where: str) -> Callable[[str], bool]:
    folded = frozenset(text.casefold() for text in texts)
    return lambda value: value.casefold() not in folded


def _unless_wildcard(texts: list[str], where: str) -> Callable[[str], bool]:
    tests = [_wildcard_test(text, where) for text in texts]
    return lambda value: not any(test(value) for test in tests)


_UNLESS: Final[dict[str, Callable[[list[str], str], Callable[[str], bool]]]] = {
    "prefix": lambda texts, where: _unless_affix(texts, where, at_end=False),
    "suffix": lambda texts, where: _unless_affix(texts, where, at_end=True),
    "equals-ignore-case": _unless_equal,
    "wildcard": _unless_wildcard,
}

_PARSERS: Final[dict[str, Callable[..., None]]] = {
    "prefix": _parse_prefix,
    "suffix": _parse_suffix,
    "equals-ignore-case": _parse_ignore_case,
    "wildcard": _parse_wildcard,
    "anything-but": _parse_anything_but,
    "numeric": _parse_numeric,
    "exists": _parse_exists,
    "cidr": _parse_cidr,
}


# -- tests of values -------------------------------------------------------------------------------------------------


def _flat(values: list[Json]) -> Iterator[Json]:
    """The elements of an array and of arrays in it. Not recursive: a record may nest deeper than Python's stack."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if value.__class__ is list:
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def _scalar_test(leaf: _Leaf) -> Callable[[Json], bool]:
    """A test of one value that is no array. Objects and `_MISSING` fail it."""
    strings, numbers, literals = frozenset(leaf.strings), frozenset(leaf.numbers), frozenset(leaf.literals)
    string_tests, number_tests = tuple(leaf.string_tests), tuple(leaf.number_tests)
    if leaf.only_strings:
        return lambda value: value.__class__ is str and value in strings
    if not (numbers or number_tests or literals or strings) and len(string_tests) == 1:
        [string_test] = string_tests
        return lambda value: value.__class__ is str and string_test(value)
    if not (strings or string_tests or literals or numbers) and len(number_tests) == 1:
        [number_test] = number_tests
        return lambda value: (value.__class__ is int or value.__class__ is float) and number_test(value)

    def test(value: Json) -> bool:
        kind = value.__class__
        if kind is str:
            return value in strings or any(each(value) for each in string_tests)
        if kind is int or kind is float:
            return value in numbers or any(each(value) for each in number_tests)
        # By class before by value: True equals 1, and is not the number 1.
        return (kind is bool or value is None) and value in literals

    return test


def _leaf_test(leaf: _Leaf) -> Test:
    """A test of whatever is at a path, `_MISSING` included."""
    scalar = _scalar_test(leaf)
    if not leaf.absent:
        if leaf.only_strings and len(leaf.strings) == 1:
            # The commonest pattern there is. Equality with a string is false for all else, of any type.
            [wanted] = leaf.strings

            def equals(value: Json) -> bool:
                return value == wanted if value.__class__ is not list else any(each == wanted for each in _flat(value))

            return equals

        def holds(value: Json) -> bool:
            return scalar(value) if value.__class__ is not list else any(scalar(each) for each in _flat(value))

        return holds

    def holds_or_absent(value: Json) -> int:
        found = True  # a value is there
        if value.__class__ is list:
            found = False
            for each in _flat(value):
                if scalar(each):
                    return _HELD
                found = found or each.__class__ is not dict
        elif scalar(value):
            return _HELD
        elif value is _MISSING or isinstance(value, dict):
            found = False
        return 0 if found else _ABSENT

    return holds_or_absent


def _node_test(node: _Node) -> Test:
    parts = [_leaf_test(leaf) for leaf in node.leaves]
    if node.children:
        parts.append(_object_test({key: _node_test(child) for key, child in node.children.items()}))
    if len(parts) == 1:
        return parts[0]
    return lambda value: _worst(part(value) for part in parts)


def _worst(results: Iterator[int]) -> int:
    """All have to hold; one that holds for a value makes the whole more than absent."""
    held = _ABSENT
    for result in results:
        if not result:
            return 0
        if result is True or result == _HELD:
            held = _HELD
    return held


def _object_test(tests: dict[str, Test]) -> Test:
    """A test of the fields of an object, or of one element of an array of objects."""
    fields = tuple(tests.items())
    if_missing = _worst(test(_MISSING) for test in tests.values())
    if any(test(_MISSING) for test in tests.values()):
        return _optional_object_test(fields, if_missing)
    if len(fields) == 1:
        [(key, test)] = fields

        def one_field(value: Json) -> int:
            if value.__class__ is dict:
                return test(value.get(key, _MISSING))
            if value.__class__ is list:
                return any(test(each.get(key, _MISSING)) for each in _flat(value) if each.__class__ is dict)
            return False

        return one_field

    def in_object(value: dict[str, Json]) -> bool:
        for key, test in fields:  # noqa: SIM110 - a loop costs less than a generator for each record
            if not test(value.get(key, _MISSING)):
                return False
        return True

    def all_fields(value: Json) -> bool:
        if value.__class__ is dict:
            return in_object(value)
        return value.__class__ is list and any(in_object(each) for each in _flat(value) if each.__class__ is dict)

    return all_fields


def _optional_object_test(fields: tuple[tuple[str, Test], ...], if_missing: int) -> Test:
    def in_object(value: dict[str, Json]) -> int:
        return _worst(test(value.get(key, _MISSING)) for key, test in fields)

    def all_fields(value: Json) -> int:
        if value.__class__ is dict:
            return in_object(value)
        if value.__class__ is not list:
            return if_missing
        result = if_missing
        for each in _flat(value):
            in_element = in_object(each) if each.__class__ is dict else if_missing
            if in_element > _ABSENT:
                return _HELD
            if not in_element:
                result = 0
        return result

    return all_fields


# -- records ---------------------------------------------------------------------------------------------------------


class _Branch:
    """One branch of one filter, cut into what it asks of the metadata and of the data."""

    __slots__ = ("_key_leaf", "_metadata", "_needles", "_test", "data")

    def __init__(self, node: _Node) -> None:
        self._test: Test = _node_test(node)
        metadata = dict(node.children)
        data = metadata.pop("data", None)
        self.data = _node_test(data) if data is not None else None
        self._needles = _best_needles(data) if data is not None else None
        self._metadata = {name: _node_test(child) for name, child in metadata.items()}
        # The leaf for the partition key, where bytes can answer it.
        key = metadata.get("partitionKey")
        self._key_leaf: _Leaf | None = None
        if key is not None and not key.children and len(key.leaves) == 1:
            [leaf] = key.leaves
            if (leaf.strings and not leaf.string_tests) or leaf.prefix is not None or leaf.suffix is not None:
                self._key_leaf = leaf

    def test(self, document: Mapping[str, Json]) -> bool:
        return bool(self._test(document if document.__class__ is dict else dict(document)))

    def rows(self, window: _Window) -> Sequence[int]:
        """The rows whose metadata pass, and whose data may."""
        for name, test in self._metadata.items():
            if name not in _COLUMNS and not test(window.constants.get(name, _MISSING)):
                return ()
        rows: Sequence[int] = range(window.count)
        for name, test in self._metadata.items():
            if name == "partitionKey" and self._key_leaf is not None:
                found = window.rows_with_key(self._key_leaf)
                rows = found if len(rows) == window.count else sorted(set(rows).intersection(found))
            elif name in _COLUMNS:
                column = window.column(name)
                rows = [row for row in rows if test(column[row])]
        if self._needles is not None and rows:
            found = window.rows_with_bytes(self._needles)
            rows = found if len(rows) == window.count else sorted(set(rows).intersection(found))
        return rows


def _best_needles(data: _Node) -> tuple[bytes, ...] | None:
    """The bytes to look for before data is parsed: of the leaves that have to hold, those of the most telling one."""
    offers = [leaf.needles for leaf in data.all_leaves() if leaf.needles and len(leaf.needles) <= _NEEDLES_MAX]
    if not offers:
        return None
    # JSON text writes a string as it is or with a backslash; so data without needle and backslash cannot match.
    return (*max(offers, key=lambda needles: min(map(len, needles))), b"\\")


_COLUMNS: Final = frozenset({"partitionKey", "sequenceNumber", "approximateArrivalTimestamp", "eventID"})


class _Window:
    """A batch while it is filtered; each column is made when a pattern asks for it, once."""

    def __init__(self, batch: RecordBatch, constants: Mapping[str, str]) -> None:
        self._batch = batch
        self._columns: dict[str, Sequence[Json]] = {}
        self.count = len(batch)
        self.constants = constants

    @cached_property
    def _keys(self) -> tuple[bytes, list[int]]:
        return self._bytes(self._batch.keys, self._batch.key_offsets)

    @cached_property
    def _data(self) -> tuple[bytes, list[int]]:
        return self._bytes(self._batch.data, self._batch.data_offsets)

    def _bytes(self, values: memoryview, offsets: memoryview) -> tuple[bytes, list[int]]:
        """The window's part of a column, copied to one piece that can be searched; and its bounds there."""
        bounds: list[int] = offsets[self._batch.start : self._batch.stop + 1].tolist()
        base = bounds[0]
        text = bytes(values[base : bounds[-1]])
        return text, [bound - base for bound in bounds] if base else bounds

    def column(self, name: str) -> Sequence[Json]:
        """One metadata value for each record, by its name in the event."""
        if name not in self._columns:
            batch = self._batch
            match name:
                case "partitionKey":
                    self._columns[name] = batch.partition_keys()
                case "sequenceNumber":
                    self._columns[name] = batch.sequence_numbers()
                case "eventID":
                    self._columns[name] = [f"{batch.shard_id}:{number}" for number in self.column("sequenceNumber")]
                case _:
                    assert name == "approximateArrivalTimestamp"
                    self._columns[name] = [arrived_at_ms / 1000 for arrived_at_ms in batch.arrivals()]
        return self._columns[name]

    def rows_with_key(self, leaf: _Leaf) -> list[int]:
        """Rows by their partition key's bytes: UTF-8 keeps equality, beginnings and ends as they are in text."""
        text, bounds = self._keys
        pairs = enumerate(itertools.pairwise(bounds))
        if leaf.prefix is not None:
            prefix = leaf.prefix.encode()
            return [row for row, (start, stop) in pairs if text.startswith(prefix, start, stop)]
        if leaf.suffix is not None:
            suffix = leaf.suffix.encode()
            return [row for row, (start, stop) in pairs if text.endswith(suffix, start, stop)]
        wanted = {each.encode() for each in leaf.strings}
        return [row for row, (start, stop) in pairs if text[start:stop] in wanted]

    def rows_with_bytes(self, needles: Sequence[bytes]) -> list[int]:
        """Rows in whose data one of `needles` begins; it may end in the next record, which the parsing finds out.

        One search goes over many records at once.
        """
        text, bounds = self._data
        found: list[list[int]] = []
        for needle in needles:
            rows: list[int] = []
            position = text.find(needle)
            while position >= 0:
                row = bisect_right(bounds, position) - 1
                rows.append(row)
                position = text.find(needle, bounds[row + 1])
            if rows:
                found.append(rows)
        return found[0] if len(found) == 1 else sorted(set().union(*found))

    def rows_with_data(self, rows: Sequence[int], test: Test) -> list[int]:
        text, bounds = self._data
        loads = orjson.loads
        passed = []
        for row in rows:
            try:
                document = loads(text[bounds[row] : bounds[row + 1]])
            except orjson.JSONDecodeError:
                continue
            if test(document):
                passed.append(row)
        return passed

    def document(self, row: int) -> Json:
        """The data of one record, parsed; `_MISSING` where it is not JSON."""
        text, bounds = self._data
        try:
            return orjson.loads(text[bounds[row] : bounds[row + 1]])
        except orjson.JSONDecodeError:
            return _MISSING
