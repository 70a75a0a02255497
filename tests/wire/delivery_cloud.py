"""A server that delivers to an object store, with boto3's clients for both, and the few calls that tests of it make."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamkit.testing.server import Option, ServerProcess
from tests.wire.clients import ACCOUNT, REGION
from tests.wire.cloud import ROLE, Cloud, eventually, stream_arn
from tests.wire.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, object_store

# Of the whole run: what is in the store outlives a test, and even a server of it.
_BUCKETS: Final = itertools.count(1)
_NAME: Final = re.compile(
    r"(?P<prefix>(?:.*/)?.*?)(?P<stream>(?:from|direct)-\d+)-(?P<version>\d+)-(?P<at>\d{4}(?:-\d\d){5})-"
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?P<extension>.*)"
)


class Key(NamedTuple):
    """An object's name in its parts; `at` is in the prefix's time zone."""

    prefix: str
    stream: str
    version: int
    at: datetime
    id: str
    extension: str

    @classmethod
    def of(cls, text: str) -> Key:
        match = _NAME.fullmatch(text)
        assert match is not None, f"{text} is no name that Firehose gives"
        date, time = match["at"][:10], match["at"][11:].replace("-", ":")
        at = datetime.fromisoformat(f"{date}T{time}")
        return cls(match["prefix"], match["stream"], int(match["version"]), at, match["id"], match["extension"])


def processors(*each: Mapping[str, Any]) -> dict[str, Any]:
    """The member ProcessingConfiguration."""
    return {"ProcessingConfiguration": {"Enabled": True, "Processors": list(each)}}


def processor(kind: str, **parameters: str) -> dict[str, Any]:
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": named}


NEWLINES: Final = processors(processor("AppendDelimiterToRecord"))


def extraction(query: str) -> dict[str, Any]:
    return processor("MetadataExtraction", MetadataExtractionQuery=query, JsonParsingEngine="JQ-1.6")


class DeliveryCloud(Cloud):
    """boto3 for a server, and for the store that it delivers to. Names of delivery streams, streams, buckets and tables
    are new ones each time, so that tests share a server and none waits for another."""

    def __init__(self, server: ServerProcess, store: ObjectStore) -> None:
        super().__init__(server.endpoint)
        self.server = server
        self.store = store
        self._names = itertools.count(1)
        self.firehose = _client("firehose", server.endpoint)
        self.glue = _client("glue", server.endpoint)

    def close(self) -> None:
        super().close()
        self.firehose.close()
        self.glue.close()

    # -- making ------------------------------------------------------------------------------------------------------

    def bucket(self) -> str:
        name = f"delivered-{next(_BUCKETS)}"
        self.store.make_bucket(name)
        return name

    def source(self, shards: int = 1) -> str:
        """A stream of its own; returns its name."""
        name = f"source-{next(self._names)}"
        self.stream(name, shards)
        return name

    def to_s3(
        self, bucket: str, *, source: str | None = None, mib: int = 5, interval_s: int = 900, **members: Any
    ) -> str:
        """A delivery stream to a bucket, of direct puts unless a stream is named; returns its name."""
        return self.deliver(
            "ExtendedS3",
            {
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "RoleARN": ROLE,
                "BufferingHints": {"SizeInMBs": mib, "IntervalInSeconds": interval_s},
                **members,
            },
            source,
        )

    def deliver(self, kind: str, configuration: Mapping[str, Any], source: str | None = None) -> str:
        """A delivery stream to a destination of this kind, as AWS's members begin; returns its name."""
        name, from_stream = self._source_members(source)
        self.firehose.create_delivery_stream(
            DeliveryStreamName=name, **from_stream, **{f"{kind}DestinationConfiguration": configuration}
        )
        assert self.describe(name)["DeliveryStreamStatus"] == "ACTIVE"
        return name

    def to_url(self, url: str, *, source: str | None = None, **members: Any) -> str:
        """A delivery stream to a place by its URL: AWS's clients do not know that kind, and cannot send it."""
        name, from_stream = self._source_members(source)
        self.raw(
            "CreateDeliveryStream",
            DeliveryStreamName=name,
            StreamkitDestinationConfiguration={"Url": url, **members},
            **from_stream,
        )
        return name

    def _source_members(self, source: str | None) -> tuple[str, dict[str, Any]]:
        if source is None:
            return f"direct-{next(self._names)}", {"DeliveryStreamType": "DirectPut"}
        return f"from-{next(self._names)}", {
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": stream_arn(source), "RoleARN": ROLE},
        }

    def raw(self, operation: str, **members: Any) -> Any:
        """An operation of Firehose, without any client."""
        request = urllib.request.Request(
            self.endpoint,
            json.dumps(members).encode(),
            {
                "X-Amz-Target": f"Firehose_20150804.{operation}",
                "X-Amz-Date": "20260101T000000Z",
                "Content-Type": "application/x-amz-json-1.1",
                "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/firehose/aws4_request, "
                "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64,
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def table(self, columns: Sequence[tuple[str, str]], database: str = "lake") -> str:
        """A table of the catalog, in a database that is made where it is missing; returns the table's name."""
        name = f"table_{next(self._names)}"
        try:
            self.glue.create_database(DatabaseInput={"Name": database})
        except self.glue.exceptions.AlreadyExistsException:
            pass
        self.glue.create_table(DatabaseName=database, TableInput=table_input(name, columns))
        return name

    # -- asking ------------------------------------------------------------------------------------------------------

    def describe(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.firehose.describe_delivery_stream(DeliveryStreamName=name)
        described: dict[str, Any] = told["DeliveryStreamDescription"]
        return described

    def send(self, name: str, *records: bytes) -> list[str]:
        """Puts records directly, in their order; returns their ids."""
        ids = []
        for start in range(0, len(records), 500):
            batch = [{"Data": each} for each in records[start : start + 500]]
            answer = self.firehose.put_record_batch(DeliveryStreamName=name, Records=batch)
            assert answer["FailedPutCount"] == 0
            ids += [each["RecordId"] for each in answer["RequestResponses"]]
        return ids

    def flush(self, name: str) -> None:
        """Returns when everything that is in its source now is where it belongs."""
        asked = urllib.request.Request(f"{self.endpoint}/_streamkit/deliveries/flush/{name}", method="POST")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 200

    def wait_until_read(self, name: str) -> None:
        """Until it has something that it has not delivered."""
        eventually(lambda: self.metric("streamkit_delivery_freshness_seconds", delivery_stream=name) > 0)

    def redirect(self, name: str, kind: str = "ExtendedS3", **members: Any) -> None:
        """Changes these members of the destination."""
        described = self.describe(name)
        self.firehose.update_destination(
            DeliveryStreamName=name,
            CurrentDeliveryStreamVersionId=described["VersionId"],
            DestinationId=described["Destinations"][0]["DestinationId"],
            **{f"{kind}DestinationUpdate": members},
        )

    # -- what is there -----------------------------------------------------------------------------------------------

    def keys(self, bucket: str) -> list[str]:
        with self.store.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def objects(self, bucket: str, below: str = "") -> dict[str, bytes]:
        """As boto3 reads them, by name; each was written once."""
        assert set(self.store.versions(bucket).values()) <= {1}
        with self.store.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
            return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def content(self, bucket: str, below: str = "") -> bytes:
        """Of the one object that is there."""
        (body,) = self.objects(bucket, below).values()
        return body

    def lines(self, bucket: str, below: str = "") -> list[bytes]:
        """Of all objects, one after the other; GZIP or not."""
        return [line for body in self.objects(bucket, below).values() for line in unpacked(body).splitlines()]

    def documents_in(self, bucket: str, below: str = "") -> list[Any]:
        return [json.loads(line) for line in self.lines(bucket, below)]


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def table_input(name: str, columns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    described = [{"Name": column, "Type": kind} for column, kind in columns]
    return {"Name": name, "StorageDescriptor": {"Columns": described}}


def _client(service: str, endpoint: str) -> Any:
    """As everybody has it, but for tries: what is seen is the server's first answer."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )


def certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """One for this machine's name, in a file for those who are to trust it, and what its server serves with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, secret = directory / "certificate.pem", directory / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, secret)
    return public, context


class ServerWithVariables(ServerProcess):
    """Its environment has these each time it starts."""

    variables: Mapping[str, str]

    def start(self, **options: Option) -> None:
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            super().start(**options)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def delivery_cloud(
    data: Path, variables: Mapping[str, str] | None = None, **options: Option
) -> Iterator[DeliveryCloud]:
    """A server with a store. `variables`: of its environment."""
    with object_store() as store:
        server = ServerWithVariables(
            data, s3_endpoint=store.endpoint, s3_access_key=f"{ACCESS_KEY}:{SECRET_KEY}", **options
        )
        server.variables = variables or {}
        server.start()
        cloud = DeliveryCloud(server, store)
        try:
            yield cloud
        finally:
            cloud.close()
            server.kill()
