"""Metrics: Prometheus text that stays true and bounded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.metrics import SERIES_MAX, Registry


def value_of(text: str, series: str) -> float:
    (line,) = [line for line in text.splitlines() if line.rpartition(" ")[0] == series]
    return float(line.rpartition(" ")[2])


def test_a_counter_prints_help_type_and_value() -> None:
    registry = Registry()
    registry.counter("streamkit_records_total", "Records put.", ("stream",)).add(3, "orders")
    registry.counter("streamkit_records_total", "Records put.", ("stream",)).add(0.5, "orders")
    assert registry.text() == (
        "# HELP streamkit_records_total Records put.\n"
        "# TYPE streamkit_records_total counter\n"
        'streamkit_records_total{stream="orders"} 3.5\n'
    )


def test_metrics_without_labels_and_without_values_print() -> None:
    registry = Registry()
    registry.gauge("open", "Open now.").set(2)
    registry.counter("never_total", "Never counted.")
    assert registry.text().splitlines() == [
        "# HELP never_total Never counted.",
        "# TYPE never_total counter",
        "# HELP open Open now.",
        "# TYPE open gauge",
        "open 2",
    ]


@given(st.lists(st.integers(0, 10**12), max_size=20))
def test_large_counts_are_printed_exactly(amounts: list[int]) -> None:
    registry = Registry()
    counter = registry.counter("bytes_total", "Bytes.")
    for amount in amounts:
        counter.add(amount)
    if amounts:
        assert f"\nbytes_total {sum(amounts)}\n" in registry.text()
    assert counter.value() == sum(amounts)


@given(st.text())
def test_any_label_value_stays_on_its_line_and_in_its_quotes(value: str) -> None:
    registry = Registry()
    registry.counter("c_total", "C.", ("stream",)).add(1, value)
    *_, line, end = registry.text().split("\n")
    assert end == ""
    match = re.fullmatch(r'c_total\{stream="((?:[^"\\\n]|\\["\\n])*)"\} 1', line, re.DOTALL)
    assert match is not None
    unescaped = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], match[1])
    assert unescaped == value


@given(st.lists(st.floats(0, 20), min_size=1, max_size=50))
def test_histogram_buckets_add_up(durations: list[float]) -> None:
    registry = Registry()
    histogram = registry.histogram("put_seconds", "Puts.", ("stream",))
    for duration in durations:
        histogram.observe(duration, "s")
    text = registry.text()
    bounds = re.findall(r'le="([^"]+)"', text)
    assert bounds == sorted(bounds, key=float)
    for bound in bounds:
        below = sum(duration <= float(bound) for duration in durations)
        assert value_of(text, f'put_seconds_bucket{{stream="s",le="{bound}"}}') == below
    assert value_of(text, 'put_seconds_count{stream="s"}') == len(durations)
    assert value_of(text, 'put_seconds_sum{stream="s"}') == pytest.approx(sum(durations), abs=1e-5)


def test_the_number_of_series_is_bounded() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "C.", ("stream",))
    gauge = registry.gauge("g", "G.", ("stream",))
    histogram = registry.histogram("h_seconds", "H.", ("stream",))
    for each in range(SERIES_MAX + 10):
        counter.add(1, str(each))
        gauge.set(1, str(each))
        histogram.observe(1, str(each))
    assert counter.value("other") == 10
    for prefix in ("c_total{", "g{", "h_seconds_count{"):
        series = [line for line in registry.text().splitlines() if line.startswith(prefix)]
        assert len(series) == SERIES_MAX + 1


def test_a_name_cannot_be_two_kinds_of_metric() -> None:
    registry = Registry()
    registry.counter("x", "X.")
    with pytest.raises(AssertionError, match="x was declared as a counter"):
        registry.gauge("x", "X.")
