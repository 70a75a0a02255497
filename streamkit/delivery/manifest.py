"""What a seal's objects are listed in, where a plan asks for a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from streamkit.delivery.state import SealedState


def manifest_document(delivery_stream: str, objects: Iterable[SealedState], sealed_at_ms: int) -> bytes:
    """JSON that Redshift's `COPY ... MANIFEST` reads: of its members it wants `url`, and for Parquet and ORC also
    `meta.content_length`; `record_count` is what its UNLOAD writes there; it passes over others, such as ours ("Using a
    manifest to specify data files" in its guide). `mandatory`: COPY fails rather than pass over an object that is gone.
    The same arguments give the same bytes, entries in the order of the objects."""
    document = {
        "deliveryStream": delivery_stream,
        "sealedAt": _time_text(sealed_at_ms),
        "entries": [
            {
                "url": object_url(each.target.options, each.key),
                "mandatory": True,
                "meta": {"content_length": each.size_bytes, "record_count": each.records_count},
                "ranges": [{"shard": part.shard, "first": part.first, "last": part.last} for part in each.ranges],
            }
            for each in objects
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def object_url(options: Mapping[str, Any], key: str) -> str:
    """Where readers find an object of a destination: `s3://bucket/key`, or the path of a file."""
    bucket, place = options.get("bucket"), str(options.get("path") or options.get("url") or "")
    if bucket:  # a prefix is a folder there, and there are no empty names
        names = [name for name in f"{options.get('prefix') or ''}/{key}".split("/") if name]
        return "/".join((f"s3://{bucket}", *names))
    return f"{place.rstrip('/')}/{key}" if place else key


def _time_text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
