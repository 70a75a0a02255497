"""Metrics: counters and histograms, printed as Prometheus text at /metrics.

A metric is declared where it is counted, with its help text. Labels are names of streams, shards, operations and the
like, never partition keys. CloudWatch's name, where there is one, stands in the help text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

SERIES_MAX: Final = 10_000  # per metric; beyond it new label values are counted together under "other"

_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class _Metric:
    kind = "untyped"

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels

    def _labelled(self, values: tuple[str, ...], *more: str) -> str:
        pairs = [f'{label}="{_escape(value)}"' for label, value in zip(self.labels, values, strict=True)]
        pairs.extend(more)
        return "{" + ",".join(pairs) + "}" if pairs else ""

    def lines(self) -> Iterator[str]:
        raise NotImplementedError

    def forget(self, label: str, value: str) -> None:
        """Drops the series that have this value of this label; a metric without the label keeps all of its own."""
        if label in self.labels:
            place = self.labels.index(label)
            self._drop(lambda labels: labels[place] == value)

    def _drop(self, is_gone: Callable[[tuple[str, ...]], bool]) -> None:
        raise NotImplementedError


M = TypeVar("M", bound=_Metric)


class Counter(_Metric):
    kind = "counter"

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(name, help_text, labels)
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, amount: float, *labels: str) -> None:
        labels = self._series(labels)
        self._values[labels] = self._values.get(labels, 0) + amount

    def set(self, amount: float, *labels: str) -> None:
        """For what is counted elsewhere."""
        self._values[self._series(labels)] = amount

    def _series(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        values = self._values
        return labels if labels in values or len(values) < SERIES_MAX else ("other",) * len(self.labels)

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0)

    def _drop(self, is_gone: Callable[[tuple[str, ...]], bool]) -> None:
        for labels in [each for each in self._values if is_gone(each)]:
            del self._values[labels]

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.items()):
            yield (
                f"{self.name}{self._labelled(labels)} {value:g}"
                if value % 1
                else (f"{self.name}{self._labelled(labels)} {int(value)}")
            )


class Gauge(Counter):
    kind = "gauge"


class Histogram(_Metric):
    """Durations in seconds."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(name, help_text, labels)
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        buckets = self._buckets.get(labels)
        if buckets is None:
            if len(self._buckets) >= SERIES_MAX:
                labels = ("other",) * len(self.labels)
            buckets = self._buckets.setdefault(labels, [0] * (len(_SECONDS) + 1))
        buckets[bisect_left(_SECONDS, seconds)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + seconds

    def _drop(self, is_gone: Callable[[tuple[str, ...]], bool]) -> None:
        for labels in [each for each in self._buckets if is_gone(each)]:
            del self._buckets[labels], self._sums[labels]

    def lines(self) -> Iterator[str]:
        for labels, buckets in sorted(self._buckets.items()):
            running = 0
            for bound, count in zip((*_SECONDS, "+Inf"), buckets, strict=True):
                running += count
                edge = f'le="{bound}"'
                yield f"{self.name}_bucket{self._labelled(labels, edge)} {running}"
            yield f"{self.name}_sum{self._labelled(labels)} {self._sums[labels]:.6f}"
            yield f"{self.name}_count{self._labelled(labels)} {running}"


class Registry:
    """The metrics of one server. Declaring a name again gives the metric that is there."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return self._declare(Counter(name, help_text, labels))

    def gauge(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return self._declare(Gauge(name, help_text, labels))

    def histogram(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Histogram:
        return self._declare(Histogram(name, help_text, labels))

    def _declare(self, metric: M) -> M:
        known = self._metrics.setdefault(metric.name, metric)
        assert isinstance(known, type(metric)), f"{metric.name} was declared as a {known.kind}"
        return known

    def forget(self, label: str, value: str) -> None:
        """What it names is gone: its series leave every metric. Whoever counts it after that begins at 0 again, as
        Prometheus' `rate` expects of counters that were reset."""
        for metric in self._metrics.values():
            metric.forget(label, value)

    def text(self) -> str:
        lines: list[str] = []
        for name, metric in sorted(self._metrics.items()):
            lines += [f"# HELP {name} {metric.help_text}", f"# TYPE {name} {metric.kind}", *metric.lines()]
        return "\n".join(lines) + "\n"
