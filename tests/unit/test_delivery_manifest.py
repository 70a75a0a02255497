"""Manifests name the objects of a seal, for COPY and for people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamkit.delivery.destination import Range
from streamkit.delivery.manifest import manifest_document, object_url
from streamkit.delivery.state import SealedState, Target
from streamkit.testing.clock import START_MS


def sealed(number: int, key: str, options: dict[str, Any]) -> SealedState:
    ranges = [Range(0, 10 * number, 10 * number + 9), Range(2, 0, 0)]
    identity = f"00000000-0000-0000-0000-{number:012d}"
    target = Target("s3", options)
    return SealedState(number, identity, key, "main", target, 10, 1_000, 500 + number, ranges, START_MS, START_MS)


def test_a_manifest_lists_objects_as_redshift_reads_them() -> None:
    """Its members `entries`, `url`, `mandatory` and `meta.content_length`; those beside them are ours."""
    objects = [sealed(1, "2023/a.parquet", {"bucket": "lake"}), sealed(2, "2023/ü b.parquet", {"bucket": "lake"})]
    text = manifest_document("clicks", objects, START_MS)
    assert json.loads(text) == {
        "deliveryStream": "clicks",
        "sealedAt": "2023-11-14T22:13:20.000Z",
        "entries": [
            {
                "url": url,
                "mandatory": True,
                "meta": {"content_length": 500 + number, "record_count": 10},
                "ranges": [
                    {"shard": 0, "first": 10 * number, "last": 10 * number + 9},
                    {"shard": 2, "first": 0, "last": 0},
                ],
            }
            for number, url in ((1, "s3://lake/2023/a.parquet"), (2, "s3://lake/2023/ü b.parquet"))
        ],
    }
    assert text == manifest_document("clicks", objects, START_MS), "after a crash it is the same object again"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"bucket": "lake"}, "s3://lake/a/b"),
        ({"bucket": "lake", "prefix": "top/"}, "s3://lake/top/a/b"),
        ({"bucket": "lake", "prefix": "top"}, "s3://lake/top/a/b"),
        ({"path": "/data/lake/"}, "/data/lake/a/b"),
        ({"path": "/data/lake"}, "/data/lake/a/b"),
        ({}, "a/b"),
    ],
)
def test_the_url_of_an_object_is_where_its_destination_put_it(options: dict[str, Any], url: str) -> None:
    assert object_url(options, "a/b") == url
