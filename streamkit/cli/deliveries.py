"""List delivery streams and what they did, show one, flush, delete and put to them.

A delivery stream is made by `streamkit deliver`, `streamkit up`, or any AWS tool for Firehose. Figures are counted by
name since the server was started. FRESHNESS is the age of the oldest record that is not delivered, FAILED counts
records that went to the error output, PENDING is what is on disk to be delivered, beside what is still being gathered.

example:
  streamkit deliveries
  streamkit deliveries clicks-to-lake --json | jq .delivered_records
  streamkit deliveries --flush clicks-to-lake
  streamkit deliveries --delete clicks-to-lake --flush --yes
  streamkit deliveries --put audit
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streamkit.cli.common import (
    add_endpoint,
    count_of,
    endpoint_of,
    is_meant,
    print_json,
    print_table,
    say,
    scope_of,
    size_text,
    standard_input,
    time_text,
    whole_lines,
)
from streamkit.config import Config, boolean
from streamkit.delivery import documents
from streamkit.kit.delivery import keys_of
from streamkit.kit.delivery_client import DeliveryClient, Figures, source_of
from streamkit.model.errors import UsageError
from streamkit.model.limits import FIREHOSE_RECORD_BYTES_MAX, MIB

Given = Mapping[str, Any]

_BLOCK_BYTES: Final = 1 * MIB
_ALL: Final = ""
_BUCKET_KINDS: Final = ("ExtendedS3", "S3", "Redshift")
_PLACES: Final = {  # member of a description with where it goes to
    "Redshift": "ClusterJDBCURL",
    "Elasticsearch": "ClusterEndpoint",
    "Amazonopensearchservice": "ClusterEndpoint",
    "AmazonOpenSearchServerless": "CollectionEndpoint",
    "Splunk": "HECEndpoint",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="show this one (default: list all)")
    add("--flush", nargs="?", const=_ALL, metavar="NAME", help="deliver what is put so far, of one or of all, and wait")
    add("--delete", metavar="NAME", help="delete it, and what it did not deliver; with --flush delivers that before")
    add("--yes", action="store_true", help="do not ask")
    add("--put", metavar="NAME", help="put each line of standard input; for one that takes direct puts")
    add("--json", action="store_true", default=None, help="print JSON, one object a line")
    add_endpoint(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    if options.put is not None and (options.delete is not None or options.name is not None):
        raise UsageError("--put NAME goes with --flush alone")
    if options.delete is not None and options.name is not None:
        raise UsageError("--delete says the name already: leave out the other")

    async def do() -> int:
        async with DeliveryClient(endpoint_of(options, config), scope_of(options, config)) as deliveries:
            if options.put is not None:
                await _put(deliveries, options.put)
            if options.flush is not None:
                await _flush(deliveries, options.flush or options.delete or options.name or options.put or None)
            if options.delete is not None:
                return await _delete(deliveries, options)
            if options.put is None and (options.flush is None or options.name is not None):
                await _show(deliveries, options.name, as_json=config.value("json", options.json, boolean, False))
            return 0

    return asyncio.run(do())


# -- doing -----------------------------------------------------------------------------------------------------------


async def _put(deliveries: DeliveryClient, name: str) -> None:
    if source_of(await deliveries.describe(name)) is not None:
        raise UsageError(f"delivery {name} reads a stream: put to that, with `streamkit put`")
    if sys.stdin.isatty():
        say("one record a line; end with Ctrl-D")
    count = 0
    for lines in _lines():
        count += await deliveries.put_batch(name, lines)
    say(f"{count_of(count, 'record')} put to {name}")


def _lines() -> Iterator[list[bytes]]:
    for block in whole_lines(standard_input(), _BLOCK_BYTES, FIREHOSE_RECORD_BYTES_MAX):
        yield [line for line in block.replace(b"\r\n", b"\n").split(b"\n") if line]


async def _flush(deliveries: DeliveryClient, name: str | None) -> None:
    await deliveries.flush(name)
    say(f"{name or 'every delivery'} has delivered everything that was put before")


async def _delete(deliveries: DeliveryClient, options: argparse.Namespace) -> int:
    name = options.delete
    await deliveries.describe(name)
    what = f"delivery {name}" if options.flush is not None else f"delivery {name}, and what it did not deliver yet"
    if sys.stdin.isatty() and not options.yes and not is_meant(what):
        say("nothing was deleted")
        return 1
    await deliveries.delete(name)
    say(f"delivery {name} is deleted; what it delivered is left alone")
    return 0


# -- looking ---------------------------------------------------------------------------------------------------------


async def _show(deliveries: DeliveryClient, name: str | None, *, as_json: bool) -> None:
    found = await deliveries.all() if name is None else [await deliveries.describe(name)]
    figures = await deliveries.figures() if found else {}
    described = [_fields(each, figures.get(each["DeliveryStreamName"], Figures())) for each in found]
    if as_json:
        for fields in described:
            print_json(fields)
    elif name is not None:
        _print_one(described[0])
    elif described:
        _print_all(described)
    else:
        say("no deliveries; `streamkit deliver STREAM --to ./lake` makes one")


def _fields(found: Given, figures: Figures) -> dict[str, Any]:
    source = source_of(found)
    updated_at_s = found.get("LastUpdateTimestamp")
    return {
        "name": found["DeliveryStreamName"],
        "arn": found["DeliveryStreamARN"],
        "source": "direct puts" if source is None else source.partition("/")[2],
        **_destination(found["Destinations"][0]),
        "status": found["DeliveryStreamStatus"],
        "version": int(found["VersionId"]),
        "created_at": time_text(round(found["CreateTimestamp"] * 1000)),
        "updated_at": None if updated_at_s is None else time_text(round(updated_at_s * 1000)),
        **figures._asdict(),
    }


def _destination(destination: Given) -> dict[str, Any]:
    """Where it goes to, in which format, and the rest of what it was told."""
    own = destination.get("StreamkitDestinationDescription")
    if own is not None:
        return {key: value for key, value in keys_of(own).items() if value not in (None, {}, False)}
    kind, description = next(
        (
            (member.removesuffix("DestinationDescription"), value)
            for member, value in sorted(destination.items())
            if member.endswith("DestinationDescription") and isinstance(value, Mapping)
        ),
        ("nothing", {}),
    )
    return {"to": _place(kind, description), "format": _format(kind, description), "destination": description}


def _place(kind: str, description: Given) -> str:
    """As a URL, as far as there is one."""
    if kind == "HttpEndpoint":
        return str(description["EndpointConfiguration"]["Url"])
    if kind in ("S3", "ExtendedS3"):
        prefix = description.get("Prefix") or ""
        return f"s3://{description['BucketARN'].rpartition(':::')[2]}/{prefix.partition('!{')[0]}"
    if kind == "Iceberg":
        tables = description.get("DestinationTableConfigurationList") or [{}]
        return f"iceberg {tables[0].get('DestinationDatabaseName', '')}.{tables[0].get('DestinationTableName', '')}"
    return str(description.get(_PLACES.get(kind, ""), kind))


def _format(kind: str, description: Given) -> str:
    if documents.converts(description):
        serializer = description["DataFormatConversionConfiguration"]["OutputFormatConfiguration"]["Serializer"]
        return "parquet" if serializer.get("ParquetSerDe") is not None else "orc"
    if kind == "Iceberg":
        return "parquet"
    if kind not in _BUCKET_KINDS:
        return "-"
    bucket = description.get("S3DestinationDescription", description)
    compression = bucket.get("CompressionFormat", "UNCOMPRESSED")
    return "records" if compression == "UNCOMPRESSED" else f"records, {compression}"


def _print_one(fields: Given) -> None:
    for key, value in fields.items():
        if value is not None:
            shown = json.dumps(value) if isinstance(value, bool | dict | list) else value
            print(f"{key:<22}{shown}")


def _print_all(described: list[dict[str, Any]]) -> None:
    rows = [
        (
            fields["name"],
            fields["source"],
            fields["to"],
            fields["format"],
            fields["status"],
            f"{fields['delivered_records']:,}",
            _age_text(fields["freshness_s"]),
            f"{fields['failed_records']:,}",
            size_text(fields["pending_bytes"]),
        )
        for fields in described
    ]
    print_table(("NAME", "SOURCE", "TO", "FORMAT", "STATUS", "DELIVERED", "FRESHNESS", "FAILED", "PENDING"), rows)


def _age_text(age_s: float) -> str:
    if age_s < 1:
        return "-" if age_s == 0 else "< 1 s"
    return f"{age_s:,.0f} s" if age_s < 600 else f"{age_s / 60:,.0f} min"
