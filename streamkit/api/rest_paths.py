"""From a method and a path to the operation of a REST service: the templates of all services in one tree.

A template's segments are literal (`functions`), a label (`{FunctionName}`: one segment) or a greedy label
(`{Key+}`: one segment or more, slashes and all). A query behind it (`?find=LayerVersion`) is a condition. A path is
split first and decoded after, so that a label may hold an encoded slash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

Target = TypeVar("Target")


class Match(NamedTuple, Generic[Target]):
    target: Target
    labels: Mapping[str, str]  # decoded


class _Leaf(NamedTuple, Generic[Target]):
    target: Target
    labels: Sequence[str]
    query: frozenset[tuple[str, str]]


class _Node(Generic[Target]):
    __slots__ = ("greedy", "label", "leaves", "literals")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.label: _Node[Target] | None = None
        self.greedy: _Node[Target] | None = None  # what follows a greedy label
        self.leaves: dict[str, list[_Leaf[Target]]] = {}  # by method, those with most conditions first


class PathTree(Generic[Target]):
    """Looks a path up segment by segment: literals win over labels, labels over greedy ones, conditions over none."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()

    def add(self, method: str, template: str, target: Target) -> None:
        """Two templates that match the same requests are a mistake of the caller."""
        path, _, query = template.partition("?")
        labels = []
        node = self._root
        for segment in _segments(path):
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment, _Node())
                continue
            labels.append(segment.strip("{}+"))
            if segment.endswith("+}"):
                node.greedy = node = node.greedy or _Node()
            else:
                node.label = node = node.label or _Node()
        leaves = node.leaves.setdefault(method, [])
        leaf = _Leaf(target, labels, frozenset(parse_qsl(query, keep_blank_values=True)))
        assert all(leaf.query != other.query for other in leaves), f"{method} {template} is there twice"
        leaves.append(leaf)
        leaves.sort(key=lambda each: -len(each.query))

    def find(self, method: str, path: str, query: Iterable[tuple[str, str]] = ()) -> Match[Target] | None:
        """The most specific target of a request, `query` being its decoded pairs. A slash at the path's end is
        ignored: AWS's own models have had some templates with it and some without."""
        segments = _segments(path)
        pairs = frozenset(query)
        values: list[str] = []
        leaf = _find(self._root, method, segments, 0, pairs, values)
        return None if leaf is None else Match(leaf.target, dict(zip(leaf.labels, values, strict=True)))

    def knows(self, path: str) -> bool:
        """Whether any template begins with this path's first segment."""
        segments = _segments(path)
        return bool(segments) and unquote(segments[0]) in self._root.literals


def _segments(path: str) -> list[str]:
    segments = path.split("/")[1:]
    if segments and not segments[-1]:
        segments.pop()
    return segments


def _find(
    node: _Node[Target],
    method: str,
    segments: Sequence[str],
    position: int,
    pairs: frozenset[tuple[str, str]],
    values: list[str],
) -> _Leaf[Target] | None:
    """Depth first; `values` is what the labels on the way to the found leaf hold."""
    if position == len(segments):
        return next((leaf for leaf in node.leaves.get(method, ()) if leaf.query <= pairs), None)
    segment = unquote(segments[position])
    literal = node.literals.get(segment)
    if literal is not None:
        leaf = _find(literal, method, segments, position + 1, pairs, values)
        if leaf is not None:
            return leaf
    if node.label is not None and segment:
        values.append(segment)
        leaf = _find(node.label, method, segments, position + 1, pairs, values)
        if leaf is not None:
            return leaf
        values.pop()
    if node.greedy is not None:
        for end in range(position + 1, len(segments) + 1):  # what follows in a template is more specific than nothing
            values.append(unquote("/".join(segments[position:end])))
            leaf = _find(node.greedy, method, segments, end, pairs, values)
            if leaf is not None:
                return leaf
            values.pop()
    return None
