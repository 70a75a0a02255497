"""The HTTP endpoint destination against a real server: AWS's protocol to the letter, and what endpoints do wrong."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import random
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.destination import DeliveryFailed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.delivery.records_format import RecordsEncoder, read_records
from streamkit.delivery.rows import IPC_SCHEMA
from streamkit.model.errors import UsageError
from streamkit.model.limits import ENDPOINT_CONNECTIONS_MAX, MIB
from streamkit.testing.clock import START_MS, ManualClock
from streamkit_connectors.http import HttpEndpoint, body_chunks, cost
from streamkit_connectors.records import cut, slices
from tests.wire.record_endpoints import (
    Act,
    FirehoseEndpoint,
    answers,
    changes,
    decoded,
    drips,
    floods,
    hangs_up,
    loses_the_answer,
    says,
    seal,
    stalls,
)

SOURCE_ARN: Final = "arn:aws:firehose:us-east-1:000000000000:deliverystream/tested"
SURROUNDINGS: Final = Surroundings(ManualClock(), Path("buckets"))


@pytest.fixture
def server() -> Iterator[FirehoseEndpoint]:
    with FirehoseEndpoint() as server:
        yield server


def opened(url: str, *, body_bytes_max: int = 64 * MIB, timeout_ms: int = 200, **options: Any) -> HttpEndpoint:
    spec = DestinationSpec("http", {"url": url, **options})
    return HttpEndpoint(spec, SURROUNDINGS, body_bytes_max=body_bytes_max, timeout_ms=timeout_ms)


async def failure_of(destination: HttpEndpoint, sealed: Any) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await destination.deliver(sealed, may_be_there=False)
    return caught.value


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_a_request_is_what_aws_specifies(server: FirehoseEndpoint, tmp_path: Path) -> None:
    """ "Request format", every header and the body, byte for byte."""
    sealed = seal(tmp_path, [b"hello", b"", b"hello world", bytes(range(256))])

    async def main() -> None:
        destination = opened(
            f"{server.url}/a%20path?q=1&r",
            access_key='{"api_key":"k"}',
            common_attributes={"deployment -context": "pre-prod-gamma", "device-types": "", "ort": "Köln 🎈"},
            source_arn=SOURCE_ARN,
            name="mine",
            timeout_ms=5_000,
        )
        assert await destination.deliver(sealed, may_be_there=False) == []
        await destination.close()

    asyncio.run(main())
    (request,) = server.requests
    assert request.path == "/a%20path?q=1&r"
    assert request.headers == {
        "host": server.url.removeprefix("http://"),
        "x-amz-firehose-protocol-version": "1.0",
        "x-amz-firehose-request-id": sealed.id,
        "x-amz-firehose-source-arn": SOURCE_ARN,
        "x-amz-firehose-access-key": '{"api_key":"k"}',
        "x-amz-firehose-common-attributes": '{"commonAttributes":{"deployment -context":"pre-prod-gamma",'
        '"device-types":"","ort":"K\\u00f6ln \\ud83c\\udf88"}}',
        "content-type": "application/json",
        "content-length": str(len(request.body)),
        "accept-encoding": "identity",
        "user-agent": "streamkit",
    }
    assert request.body.startswith(
        b'{"requestId":"%s","timestamp":%d,"records":[{"data":"aGVsbG8="},{"data":""},{"data":"aGVsbG8gd29ybGQ="},'
        % (sealed.id.encode(), START_MS)
    )
    assert set(decoded(request)) == {"requestId", "timestamp", "records"}
    assert server.records == [b"hello", b"", b"hello world", bytes(range(256))]


def test_gzip_is_told_and_what_is_in_it_is_the_same(server: FirehoseEndpoint, tmp_path: Path) -> None:
    """Content-Encoding is gzip then, and absent otherwise."""
    records = [b'{"number":%d}' % number for number in range(5_000)]

    async def main() -> None:
        destination = opened(server.url, content_encoding="GZIP", timeout_ms=5_000)
        await destination.deliver(seal(tmp_path, records), may_be_there=False)
        await destination.close()

    asyncio.run(main())
    (request,) = server.requests
    assert request.path == "/"
    assert request.headers["content-encoding"] == "gzip"
    assert len(request.body) < sum(map(len, records)) / 3
    assert server.records == records


def test_an_object_too_large_for_a_request_becomes_several_with_ids_that_stay(
    server: FirehoseEndpoint, tmp_path: Path
) -> None:
    """10,000 records at most, and so many bytes; at each try, of any process, the same requests with the same ids."""
    records = [b"%d" % number for number in range(25_000)]
    sealed = seal(tmp_path, records)

    async def main() -> None:
        for _ in range(2):
            destination = opened(server.url, timeout_ms=5_000)
            await destination.deliver(sealed, may_be_there=True)
            await destination.close()
        destination = opened(server.url, body_bytes_max=100_000, timeout_ms=5_000)
        await destination.deliver(sealed, may_be_there=True)
        await destination.close()

    asyncio.run(main())
    ids = [request.headers["x-amz-firehose-request-id"] for request in server.requests]
    assert ids[:3] == ids[3:6]
    assert len(set(ids)) == len(ids) - 3  # bounds that changed mean other requests, which have other ids
    assert sealed.id not in ids
    assert all(str(uuid.UUID(each)) == each for each in ids)
    assert [len(decoded(request)["records"]) for request in server.requests[:3]] == [10_000, 10_000, 5_000]
    assert all(90_000 < len(request.body) <= 100_000 for request in server.requests[6:-1])
    assert server.records == 2 * records


@given(
    lengths=st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6),
    bytes_max=st.integers(1, 200),
    records_max=st.integers(1, 9),
)
@settings(deadline=None, max_examples=100)
def test_requests_cover_every_record_once_in_order_and_keep_to_both_bounds(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], bytes_max: int, records_max: int
) -> None:
    """A record that is larger than a request alone has one of its own; no request could have taken the next record."""
    path = tmp_path_factory.mktemp("cut") / "sealed"
    pieces = [_batch([b"x" * length for length in piece]) for piece in lengths]
    with pa.ipc.new_file(path, IPC_SCHEMA) as writer:
        for piece in pieces:
            writer.write_batch(piece)
    parts = list(cut(path, cost, bytes_max=bytes_max, records_max=records_max))
    flat = [length for piece in lengths for length in piece]
    costs = [12 + 4 * ((length + 2) // 3) for length in flat]
    assert [part.first for part in parts] == [sum(part.count for part in parts[:at]) for at in range(len(parts))]
    assert sum(part.count for part in parts) == len(flat)
    for part in parts:
        assert part.cost_bytes == sum(costs[part.first : part.first + part.count])
        assert 1 <= part.count <= records_max
        assert part.cost_bytes <= bytes_max or part.count == 1
        after = part.first + part.count
        assert after == len(flat) or part.count == records_max or part.cost_bytes + costs[after] > bytes_max
        rows = [data for batch in slices(path, part) for data in batch.column(0).to_pylist()]
        assert list(map(len, rows)) == flat[part.first : after]
        body = b"".join(body_chunks(b"[", (batch.column(0) for batch in slices(path, part))))
        assert len(body) == 1 + 9 + part.cost_bytes - 12 + 4


def _batch(records: list[bytes]) -> pa.RecordBatch:
    count = len(records)
    columns = [records, [1] * count, [0] * count, [1] * count, list(range(count)), [0] * count, [None] * count]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, IPC_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=IPC_SCHEMA)


# -- sealed files -----------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.binary(max_size=30), max_size=5), max_size=20))
@settings(deadline=None, max_examples=50)
def test_what_is_sealed_is_read_back_in_order_however_it_came(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[bytes]]
) -> None:
    """Many small pieces become few batches; a file that is there is replaced."""
    path = tmp_path_factory.mktemp("sealed") / "1"
    path.write_bytes(b"left by a crash" * 1_000)
    written = RecordsEncoder().write(map(_batch, pieces), path)
    assert written == (path.stat().st_size, "")
    batches = list(read_records(path))
    assert len(batches) <= 1
    assert [data for batch in batches for data in batch.column(0).to_pylist()] == [
        each for one in pieces for each in one
    ]


def test_a_sealed_file_that_was_cut_off_is_seen_to_be(tmp_path: Path) -> None:
    sealed = seal(tmp_path, [b"record"] * 100)
    whole = sealed.path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        sealed.path.write_bytes(whole[:length])
        with pytest.raises(OSError, match="not a whole file"):
            list(read_records(sealed.path))


# -- what counts as an answer -----------------------------------------------------------------------------------------

JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

FAILURES: Final[Mapping[str, tuple[Act, str]]] = {
    "500": (answers(500, b'{"errorMessage":"oh no"}'), "DestinationException"),
    "503 without a body": (answers(503), "DestinationException"),
    "429": (answers(429), "DestinationException"),
    "401": (answers(401), "DestinationException"),
    "another 2xx": (changes(lambda reply: reply._replace(status=202)), "DestinationException"),
    "a redirect, which is not followed": (
        answers(307, Location="/elsewhere", Content_Type="text/html"),
        "DestinationException",
    ),
    "garbage": (changes(lambda reply: reply._replace(body=b"<html>")), "InvalidResponseFromDestination"),
    "no body": (changes(lambda reply: reply._replace(body=b"")), "InvalidResponseFromDestination"),
    "deep JSON": (changes(lambda reply: reply._replace(body=b"[" * 100_000)), "InvalidResponseFromDestination"),
    "another request's id": (
        changes(
            lambda reply: reply._replace(body=b'{"requestId":"%s","timestamp":1}' % str(uuid.UUID(int=5)).encode())
        ),
        "InvalidResponseFromDestination",
    ),
    "no id": (changes(lambda reply: reply._replace(body=b'{"timestamp":1}')), "InvalidResponseFromDestination"),
    "a null id": (
        changes(lambda reply: reply._replace(body=b'{"requestId":null,"timestamp":1}')),
        "InvalidResponseFromDestination",
    ),
    "no timestamp": (
        changes(lambda reply: reply._replace(body=reply.body.replace(b"timestamp", b"time"))),
        "InvalidResponseFromDestination",
    ),
    "a timestamp that is text": (
        changes(lambda reply: reply._replace(body=reply.body.replace(b"%d" % START_MS, b'"%d"' % START_MS))),
        "InvalidResponseFromDestination",
    ),
    "no content type": (
        changes(lambda reply: reply._replace(headers={"Server": "x"})),
        "InvalidResponseFromDestination",
    ),
    "another content type": (
        changes(lambda reply: reply._replace(headers={"Content-Type": "text/plain"})),
        "InvalidResponseFromDestination",
    ),
    "an encoded answer": (
        changes(lambda reply: reply._replace(headers={**reply.headers, "Content-Encoding": "gzip"})),
        "InvalidResponseFromDestination",
    ),
    "no content length": (says(JSON_HEAD + b"\r\n{}"), "InvalidResponseFromDestination"),
    "no HTTP": (says(b"220 smtp.example.com ESMTP\r\n"), "InvalidResponseFromDestination"),
    "chunks that are none": (
        says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
        "ConnectionReset",
    ),
    "an answer that is cut off": (says(JSON_HEAD + b'Content-Length: 100\r\n\r\n{"requestId":'), "ConnectionReset"),
    "chunks that are cut off": (
        says(JSON_HEAD + b'Transfer-Encoding: chunked\r\n\r\nff\r\n{"requestId":'),
        "ConnectionReset",
    ),
    "nothing, for ever": (stalls, "RequestTimeout"),
    "headers, drop by drop": (drips(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), "RequestTimeout"),
    "a body, drop by drop": (drips(JSON_HEAD + b"Content-Length: 100000\r\n\r\n", b" "), "RequestTimeout"),
    "a body without length, drop by drop": (drips(JSON_HEAD + b"Connection: close\r\n\r\n", b" "), "RequestTimeout"),
    "interim answers, for ever": (drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "RequestTimeout"),
    "a body without end": (floods(JSON_HEAD + b"\r\n", b"x" * 65_536), "ResponseTooLarge"),
    "chunks without end": (
        floods(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\nxxxxxxxx\r\n" * 4_096),
        "ResponseTooLarge",
    ),
    "a header without end": (floods(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65_536), "InvalidResponseFromDestination"),
    "headers without end": (floods(b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n" * 4_096), "InvalidResponseFromDestination"),
    "a body as large as none": (
        says(JSON_HEAD + b"Content-Length: 99999999999\r\n\r\n" + b"x" * (MIB + 1)),
        "ResponseTooLarge",
    ),
    "a connection that breaks": (hangs_up, "ConnectionReset"),
    "an answer that is lost": (loses_the_answer, "ConnectionReset"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_anything_but_a_whole_right_answer_is_a_failure_that_may_pass(
    server: FirehoseEndpoint, tmp_path: Path, name: str
) -> None:
    """With AWS's code, soon, and whatever the other side does; the next try has the same id and so delivers once."""
    act, code = FAILURES[name]
    server.script.append(act)
    sealed = seal(tmp_path, [b"one", b"two"])

    async def main() -> None:
        destination = opened(server.url)
        began_s = time.monotonic()
        failure = await failure_of(destination, sealed)
        assert time.monotonic() - began_s < 3
        assert failure.error_code == f"HttpEndpoint.{code}"
        assert not failure.is_final
        assert len(failure.message) < 6_000
        assert await destination.deliver(sealed, may_be_there=True) == []
        await destination.close()

    asyncio.run(main())
    assert server.records == [b"one", b"two"]
    assert {request.headers["x-amz-firehose-request-id"] for request in server.requests} == {sealed.id}
    assert {request.path for request in server.requests} == {"/"}


def test_what_the_endpoint_says_is_told(server: FirehoseEndpoint, tmp_path: Path) -> None:
    server.script.append(answers(503, b'{"requestId":"x","timestamp":1,"errorMessage":"come back later"}'))

    async def main() -> None:
        destination = opened(server.url)
        failure = await failure_of(destination, seal(tmp_path, [b"one"]))
        assert failure.message == (
            "The following response was received from the endpoint destination. "
            '503: {"requestId":"x","timestamp":1,"errorMessage":"come back later"}'
        )
        await destination.close()

    asyncio.run(main())


def test_requests_that_are_too_large_for_the_endpoint_are_refused_and_the_others_go_on(
    server: FirehoseEndpoint, tmp_path: Path
) -> None:
    """413 is AWS's only permanent failure. The endpoint may answer, and hang up, before it has read the request."""
    server.script += [changes(lambda reply: reply), answers(413, b'{"errorMessage":"Payload too large"}')]
    records = [b"%d" % number for number in range(25_000)]

    async def main() -> None:
        destination = opened(server.url, timeout_ms=5_000)
        refused = await destination.deliver(seal(tmp_path, records), may_be_there=False)
        assert [each.row for each in refused] == list(range(10_000, 20_000))
        assert {each.code for each in refused} == {"HttpEndpoint.DestinationException"}
        assert "413" in refused[0].message
        await destination.close()

    asyncio.run(main())
    assert server.records == records[:10_000] + records[20_000:]


def test_an_answer_that_comes_before_the_request_was_read_is_heard(tmp_path: Path) -> None:
    """As servers do with requests that are too large for them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()

        async def main() -> None:
            destination = opened(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_ms=5_000)
            refused = await destination.deliver(seal(tmp_path, [b"x" * MIB] * 8), may_be_there=False)
            assert len(refused) == 8
            await destination.close()

        asyncio.run(main())
        thread.join(5)


def test_what_was_acknowledged_is_not_sent_again_and_is_told_when_the_rest_fails(
    server: FirehoseEndpoint, tmp_path: Path
) -> None:
    """So that only the rest goes to the error output when time is over."""
    records = [b"%d" % number for number in range(25_000)]
    sealed = seal(tmp_path, records)
    server.script += [changes(lambda reply: reply), answers(500), answers(500)]

    async def main() -> None:
        destination = opened(server.url, timeout_ms=5_000)
        for _ in range(2):
            assert (await failure_of(destination, sealed)).delivered == [range(10_000)]
        assert await destination.deliver(sealed, may_be_there=True) == []
        await destination.close()

    asyncio.run(main())
    assert server.records == records
    assert len(server.requests) == 5


def test_without_memory_of_ids_a_lost_answer_means_twice(tmp_path: Path) -> None:
    """The one case in which an endpoint gets records again; the request id tells it."""
    with FirehoseEndpoint(remembers=False) as server:
        server.script.append(loses_the_answer)
        sealed = seal(tmp_path, [b"one"])

        async def main() -> None:
            destination = opened(server.url)
            await failure_of(destination, sealed)
            await destination.deliver(sealed, may_be_there=True)
            await destination.close()

        asyncio.run(main())
        assert server.records == [b"one", b"one"]
        assert [each.headers["x-amz-firehose-request-id"] for each in server.requests] == [sealed.id, sealed.id]


# -- connections ------------------------------------------------------------------------------------------------------


def test_nobody_there_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    """No server on the port; no such host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def main() -> None:
        for url in (f"http://127.0.0.1:{port}", f"http://[::1]:{port}", "https://no-such-host.invalid"):
            destination = opened(url, timeout_ms=20_000)
            failure = await failure_of(destination, seal(tmp_path, [b"one"]))
            assert (failure.error_code, failure.is_final) == ("HttpEndpoint.ConnectionFailed", False)
            await destination.close()

    asyncio.run(main())


def test_connections_are_kept_and_few(server: FirehoseEndpoint, tmp_path: Path) -> None:
    """One for requests one after the other; no more than the bound for any number at once."""

    async def main() -> None:
        destination = opened(server.url, timeout_ms=10_000)
        for number in range(10):
            await destination.deliver(seal(tmp_path, [b"one"], number=number), may_be_there=False)
        assert server.connections == 1
        sealed = [seal(tmp_path, [b"one"], number=number) for number in range(10, 60)]
        await asyncio.gather(*(destination.deliver(each, may_be_there=False) for each in sealed))
        assert server.connections <= ENDPOINT_CONNECTIONS_MAX
        await destination.close()

    asyncio.run(main())
    assert len(server.records) == 60


def test_a_kept_connection_that_the_endpoint_closed_is_not_used(server: FirehoseEndpoint, tmp_path: Path) -> None:
    """An endpoint that closes idle connections is no failure."""
    server.script.append(changes(lambda reply: reply._replace(headers={**reply.headers, "Server": "closes"})))

    def closes(endpoint: Any, request: Any, handler: Any) -> None:
        handler.reply(endpoint.accept(request))
        handler.close_connection = True  # without having said so

    server.script.append(closes)

    async def main() -> None:
        destination = opened(server.url, timeout_ms=5_000)
        for number in range(4):
            await destination.deliver(seal(tmp_path, [b"one"], number=number), may_be_there=False)
            await asyncio.sleep(0.05)
        await destination.close()

    asyncio.run(main())
    assert (len(server.requests), server.connections) == (4, 2)


@pytest.mark.parametrize("act", [stalls, drips(JSON_HEAD + b"Connection: close\r\n\r\n", b" ")])
def test_a_cancelled_try_leaves_nothing_running(server: FirehoseEndpoint, tmp_path: Path, act: Act) -> None:
    """Neither a thread nor a connection, though the endpoint goes on."""
    server.script.append(act)
    before = set(threading.enumerate())

    async def main() -> None:
        destination = opened(server.url, timeout_ms=60_000)
        trying = asyncio.ensure_future(destination.deliver(seal(tmp_path, [b"one"]), may_be_there=False))
        await seen(lambda: bool(server.requests))
        await asyncio.sleep(0.05)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        assert trying.cancelled()
        await destination.close()
        await seen(lambda: not _of_the_client(before))

    asyncio.run(main())


async def seen(what: Callable[[], bool]) -> None:
    """Looks for it, for two seconds at most."""
    for _ in range(200):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never was")


def _of_the_client(before: set[threading.Thread]) -> list[threading.Thread]:
    return [each for each in set(threading.enumerate()) - before if each.name.startswith("streamkit-endpoint")]


def test_closing_stops_what_is_under_way(server: FirehoseEndpoint, tmp_path: Path) -> None:
    server.script.append(stalls)

    async def main() -> None:
        destination = opened(server.url, timeout_ms=60_000)
        trying = asyncio.ensure_future(failure_of(destination, seal(tmp_path, [b"one"])))
        await seen(lambda: bool(server.requests))
        await destination.close()
        await asyncio.wait_for(trying, 2)

    asyncio.run(main())


# -- TLS --------------------------------------------------------------------------------------------------------------


def _certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tested")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(random.Random(7).getrandbits(60))
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_named(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "certificate.pem", directory / "key.pem"


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.mark.parametrize(
    ("names", "is_trusted", "code"),
    [
        (("localhost",), True, None),
        (("localhost",), False, "HttpEndpoint.SSLHandshakeFailure"),
        (("elsewhere.example.com",), True, "HttpEndpoint.SSLHandshakeFailure"),
    ],
)
def test_who_the_endpoint_is_has_to_be_proved(
    tmp_path: Path, names: tuple[str, ...], is_trusted: bool, code: str | None
) -> None:
    """By a certificate for the URL's host that the machine, or the option `ca_file`, trusts."""
    certificate, key = _certificate(tmp_path, *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FirehoseEndpoint(context) as server:

        async def main() -> None:
            options: dict[str, Any] = {"ca_file": str(certificate)} if is_trusted else {}
            destination = opened(server.url, timeout_ms=5_000, **options)
            for number in range(2):
                sealed = seal(tmp_path, [b"secret" * 100_000], number=number)
                if code is None:
                    await destination.deliver(sealed, may_be_there=False)
                else:
                    assert (await failure_of(destination, sealed)).error_code == code
            await destination.close()

        asyncio.run(main())
        assert len(server.records) == (2 if code is None else 0)
        assert server.connections == (1 if code is None else 2)


def test_a_handshake_that_never_ends_is_bounded_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main() -> None:
            destination = opened(f"https://127.0.0.1:{listener.getsockname()[1]}", timeout_ms=300)
            failure = await asyncio.wait_for(failure_of(destination, seal(tmp_path, [b"one"])), 2)
            assert failure.error_code == "HttpEndpoint.RequestTimeout"
            await destination.close()

        asyncio.run(main())


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": ""},
        {"url": "ftp://example.com"},
        {"url": "https://"},
        {"url": "https://example.com:99999/"},
        {"url": "https://user:secret@example.com/"},
        {"url": "https://example.com/#part"},
        {"url": "https://example.com/a b"},
        {"url": "https://example.com/\r\nX-Injected: 1"},
        {"url": "https://example.com/" + "a" * 1_000},
        {"url": "http://example.com/"},
        {"url": "http://localhost.example.com/"},
        {"url": "https://example.com/", "content_encoding": "gzip"},
        {"url": "https://example.com/", "access_key": "k" * 4_097},
        {"url": "https://example.com/", "access_key": "k\r\nX-Injected: 1"},
        {"url": "https://example.com/", "access_key": 5},
        {"url": "https://example.com/", "common_attributes": ["a"]},
        {"url": "https://example.com/", "common_attributes": {"a": 1}},
        {"url": "https://example.com/", "common_attributes": {str(number): "" for number in range(51)}},
        {"url": "https://example.com/", "acces_key": "k"},
    ],
)
def test_options_that_cannot_be_right_are_told_before_anything_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        HttpEndpoint(DestinationSpec("http", options), SURROUNDINGS)


def test_a_sealed_file_that_is_gone_is_no_failure_of_the_endpoint(tmp_path: Path) -> None:
    sealed = seal(tmp_path, [b"one"])
    sealed.path.unlink()

    async def main() -> None:
        destination = opened("http://127.0.0.1:9")
        with pytest.raises(OSError, match="sealed"):
            await destination.deliver(sealed, may_be_there=False)
        await destination.close()

    asyncio.run(main())
