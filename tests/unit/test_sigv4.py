"""SigV4, checked against botocore's own signer and AWS's texts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from streamkit.api import sigv4
from streamkit.api.http import Request
from streamkit.api.sigv4 import Authenticator, Credential, Mode, parse_authorization, parse_query, scope_of
from streamkit.clock import Timer
from streamkit.model.errors import (
    IncompleteSignature,
    MissingAuthentication,
    RequestError,
    SignatureMismatch,
    UnrecognizedClient,
)
from streamkit.model.names import Scope

KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNED_AT = datetime(2026, 11, 23, 13, 34, 45, tzinfo=UTC)
SIGNED_AT_MS = int(SIGNED_AT.timestamp() * 1000)
CREDENTIAL = Credential(KEY, "20261123", "eu-central-1", "kinesis")
GOOD = (
    b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/kinesis/aws4_request, "
    b"SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" + b"ab" * 32
)
SKEW_MS = sigv4.CLOCK_SKEW_S_MAX * 1000


class SetClock:
    """A clock that stands where it was set."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, delay_ms: float) -> None:
        raise AssertionError("nobody waits here")

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        raise AssertionError("nobody waits here")


@pytest.fixture(autouse=True)
def _signing_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore asks the machine for the time; here it is always SIGNED_AT."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: SIGNED_AT)


def authenticator(mode: Mode = "verified", at_ms: int = SIGNED_AT_MS) -> Authenticator:
    return Authenticator(mode, {KEY: SECRET}, SetClock(at_ms))


def request_of(signed: AWSRequest) -> Request:
    """What the server sees of a request that botocore signed."""
    prepared = signed.prepare()
    url = urlsplit(prepared.url)
    headers = {name.lower().encode(): value for name, value in prepared.headers.items()}
    fields = {name: value if isinstance(value, bytes) else value.encode() for name, value in headers.items()}
    fields[b"host"] = url.netloc.encode()
    target = (url.path or "/") + ("?" + url.query if url.query else "")
    return Request(prepared.method, target, fields, prepared.body or b"")


def signed_request(
    url: str = "http://localhost:4566/",
    body: bytes = b'{"StreamName":"orders"}',
    method: str = "POST",
    secret: str = SECRET,
    headers: dict[str, str] | None = None,
) -> Request:
    request = AWSRequest(method, url, headers or {"X-Amz-Target": "Kinesis_20131202.PutRecord"}, body)
    SigV4Auth(Credentials(KEY, secret), "kinesis", "eu-central-1").add_auth(request)
    return request_of(request)


def presigned_request(expires_s: int = 3600) -> Request:
    request = AWSRequest("GET", "http://localhost:4566/?Action=List%20Streams&b=%2F&a=1")
    SigV4QueryAuth(Credentials(KEY, SECRET), "kinesis", "eu-central-1", expires=expires_s).add_auth(request)
    return request_of(request)


def refused(request: Request, mode: Mode = "verified", at_ms: int = SIGNED_AT_MS) -> RequestError:
    with pytest.raises(RequestError) as caught:
        authenticator(mode, at_ms).authenticate(request)
    return caught.value


# -- parsing ---------------------------------------------------------------------------------------------------------


def test_a_header_gives_its_credential_signed_headers_and_signature() -> None:
    assert parse_authorization(GOOD) == (CREDENTIAL, "content-type;host;x-amz-date;x-amz-target", "ab" * 32)


def test_a_header_seen_before_gives_the_same_with_its_own_signature() -> None:
    first = parse_authorization(GOOD)
    second = parse_authorization(GOOD.replace(b"ab" * 32, b"cd" * 32))
    assert second.credential is first.credential
    assert second.signature == "cd" * 32


@pytest.mark.parametrize("blank", [b",", b", ", b" , ", b" "])
def test_parameters_may_be_parted_by_commas_or_blanks_and_stand_in_any_order(blank: bytes) -> None:
    parts = [b"Signature=aa", b"SignedHeaders=host", b"Credential=K/20261123/r/kinesis/aws4_request"]
    authorization = parse_authorization(b"AWS4-HMAC-SHA256 " + blank.join(parts))
    assert authorization == (Credential("K", "20261123", "r", "kinesis"), "host", "aa")


def test_a_credential_behind_the_signature_is_not_remembered_for_another_client() -> None:
    start = b"AWS4-HMAC-SHA256 SignedHeaders=host, Signature="
    for key in ("ONE", "TWO"):
        header = start + f"aa, Credential={key}/20261123/r/kinesis/aws4_request".encode()
        assert parse_authorization(header).credential.access_key == key
    with pytest.raises(IncompleteSignature):
        parse_authorization(start + b"aa")


def test_the_memory_of_clients_is_bounded() -> None:
    for index in range(sigv4.CLIENTS_CACHED_MAX * 2):
        parse_authorization(GOOD.replace(b"AKIDEXAMPLE", b"KEY%d" % index))
    parse_authorization(GOOD.replace(b"SignedHeaders=", b"SignedHeaders=" + b"x;" * 2000))
    assert len(sigv4._signers) <= sigv4.CLIENTS_CACHED_MAX
    assert max(map(len, sigv4._signers)) <= sigv4.CLIENT_BYTES_CACHED_MAX


def test_everything_missing_is_told_at_once_in_the_words_of_aws() -> None:
    with pytest.raises(IncompleteSignature) as caught:
        parse_authorization(b"X", has_date=False)
    assert caught.value.message == (
        "Authorization header requires 'Credential' parameter. "
        "Authorization header requires 'Signature' parameter. "
        "Authorization header requires 'SignedHeaders' parameter. "
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
        "Authorization=X"
    )


@pytest.mark.parametrize("header", [b"AWS4- Signature=b Credential=a", b"AWS4- Signature=b,Credential=a"])
def test_one_missing_parameter_is_told_alone(header: bytes) -> None:
    with pytest.raises(IncompleteSignature) as caught:
        parse_authorization(header)
    expected = f"Authorization header requires 'SignedHeaders' parameter. Authorization={header.decode()}"
    assert caught.value.message == expected


def test_a_credential_of_other_than_five_parts_is_refused() -> None:
    with pytest.raises(IncompleteSignature) as caught:
        parse_authorization(GOOD.replace(b"/aws4_request", b""))
    assert caught.value.message == (
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
        "got 'AKIDEXAMPLE/20261123/eu-central-1/kinesis'"
    )


def test_a_region_that_could_not_stand_in_an_arn_is_refused() -> None:
    with pytest.raises(SignatureMismatch, match=r"Credential should be scoped to a valid region, not 'eu:central'"):
        parse_authorization(GOOD.replace(b"eu-central-1", b"eu:central"))


def test_another_terminator_algorithm_or_a_host_that_is_not_signed_is_refused() -> None:
    with pytest.raises(SignatureMismatch, match="valid terminator: 'aws4_request', not 'aws5_request'"):
        parse_authorization(GOOD.replace(b"aws4_request", b"aws5_request"))
    with pytest.raises(IncompleteSignature, match="Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA512'"):
        parse_authorization(GOOD.replace(b"SHA256", b"SHA512"))
    with pytest.raises(SignatureMismatch, match="'Host' must be a 'SignedHeader' in the AWS Authorization"):
        parse_authorization(GOOD.replace(b";host;", b";"))


def test_a_query_without_its_parameters_names_each_of_them() -> None:
    with pytest.raises(IncompleteSignature) as caught:
        parse_query("X-Amz-Algorithm")
    assert caught.value.message == (
        "AWS query-string parameters must include 'X-Amz-Algorithm'. "
        "AWS query-string parameters must include 'X-Amz-Credential'. "
        "AWS query-string parameters must include 'X-Amz-Signature'. "
        "AWS query-string parameters must include 'X-Amz-SignedHeaders'. "
        "AWS query-string parameters must include 'X-Amz-Date'. "
        "Re-examine the query-string parameters."
    )


# -- scope -----------------------------------------------------------------------------------------------------------


def test_an_access_key_of_twelve_digits_is_the_account() -> None:
    credential = CREDENTIAL._replace(access_key="123456789012")
    assert scope_of(credential, "000000000000", "us-east-1") == Scope("123456789012", "eu-central-1")


@pytest.mark.parametrize("access_key", [KEY, "12345678901", "1234567890123", "١٢٣٤٥٦٧٨٩٠١٢"])
def test_any_other_access_key_means_the_default_account(access_key: str) -> None:
    credential = CREDENTIAL._replace(access_key=access_key)
    assert scope_of(credential, "000000000000", "us-east-1") == Scope("000000000000", "eu-central-1")


def test_without_a_credential_account_and_region_are_the_defaults() -> None:
    assert scope_of(None, "000000000000", "us-east-1") == Scope("000000000000", "us-east-1")


# -- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, b"", b"X", b"Bearer abc", GOOD.replace(b"eu-central-1", b"..")])
def test_off_lets_everything_through_and_knows_nobody_without_a_good_header(header: bytes | None) -> None:
    headers = {} if header is None else {b"authorization": header}
    assert authenticator("off").authenticate(Request("POST", "/", headers)) is None


def test_off_still_uses_a_good_header() -> None:
    request = Request("POST", "/", {b"authorization": GOOD, b"x-amz-date": b"20261123T133445Z"})
    assert authenticator("off").authenticate(request) == CREDENTIAL


@pytest.mark.parametrize("mode", ["presence", "verified"])
def test_a_request_without_a_signature_misses_its_token(mode: Mode) -> None:
    error = refused(Request("POST", "/?X-Amz-Credential=a&X-Amz-Signature=b", {}), mode)
    assert isinstance(error, MissingAuthentication)
    assert error.message == "Missing Authentication Token"


def test_a_signature_in_header_and_query_at_once_is_refused() -> None:
    error = refused(Request("POST", "/?X-Amz-Algorithm", {b"authorization": b"X"}), "presence")
    assert isinstance(error, SignatureMismatch)
    assert error.message == ("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")


def test_presence_believes_a_well_formed_signature_of_any_key_and_age() -> None:
    request = Request("POST", "/", {b"authorization": GOOD, b"date": b"long ago"})
    assert authenticator("presence").authenticate(request) == CREDENTIAL


def test_presence_wants_a_date() -> None:
    error = refused(Request("POST", "/", {b"authorization": GOOD}), "presence")
    assert error.message.startswith("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date'")


# -- verified, against botocore --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:4566/",
        "http://localhost:4566",
        "https://kinesis.eu-central-1.amazonaws.com/",
        "http://localhost:4566/2015-03-31/functions/arn%3Aaws%3Alambda%3Ax%3A1%3Afunction%3Af/invocations",
        "http://localhost:4566/a//b/./c/../d/",
        "http://localhost:4566/a%20b/~-._?b=2&a=1&a=0&empty=&z=%2F%20~",
    ],
)
def test_a_request_signed_by_botocore_is_let_through(url: str) -> None:
    assert authenticator().authenticate(signed_request(url)) == CREDENTIAL


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff" * 5000])
def test_method_and_body_are_part_of_what_is_verified(method: str, body: bytes) -> None:
    request = signed_request(method=method, body=body)
    assert authenticator().authenticate(request) == CREDENTIAL
    request.body = bytearray(body)
    assert authenticator().authenticate(request) == CREDENTIAL
    request.body = body + b" "
    assert isinstance(refused(request), SignatureMismatch)


def test_blanks_inside_a_signed_header_are_counted_as_one() -> None:
    request = signed_request(headers={"X-Amz-Target": "  a   b  "})
    assert authenticator().authenticate(request) == CREDENTIAL


@pytest.mark.parametrize("name", [b"host", b"x-amz-target", b"x-amz-date"])
def test_a_changed_signed_header_is_refused(name: bytes) -> None:
    request = signed_request()
    value = request.headers[name]
    request.headers[name] = value[:-2] + (b"6Z" if value.endswith(b"5Z") else b"??")
    error = refused(request)
    assert isinstance(error, SignatureMismatch)
    assert error.message.startswith("The request signature we calculated does not match the signature you provided.")


def test_a_changed_path_or_query_is_refused() -> None:
    request = signed_request("http://localhost:4566/a?b=1")
    request.path = "/b"
    assert isinstance(refused(request), SignatureMismatch)
    request = signed_request("http://localhost:4566/a?b=1")
    request.query = "b=2"
    assert isinstance(refused(request), SignatureMismatch)


def test_another_secret_is_refused_as_a_wrong_signature() -> None:
    assert isinstance(refused(signed_request(secret="other")), SignatureMismatch)


def test_a_key_that_is_not_configured_is_an_unrecognized_client() -> None:
    request = signed_request()
    request.headers[b"authorization"] = request.headers[b"authorization"].replace(KEY.encode(), b"AKIDOTHER")
    error = refused(request)
    assert isinstance(error, UnrecognizedClient)
    assert error.message == "The security token included in the request is invalid."


def test_a_signature_holds_for_five_minutes_and_not_a_second_longer() -> None:
    request = signed_request()
    for at_ms in (SIGNED_AT_MS - SKEW_MS, SIGNED_AT_MS, SIGNED_AT_MS + SKEW_MS):
        assert authenticator(at_ms=at_ms).authenticate(request) == CREDENTIAL
    error = refused(request, at_ms=SIGNED_AT_MS + SKEW_MS + 1000)
    assert isinstance(error, SignatureMismatch)
    assert error.message == (
        "Signature expired: 20261123T133445Z is now earlier than 20261123T133446Z (20261123T133946Z - 5 min.)"
    )


def test_a_signature_from_the_future_is_not_yet_current() -> None:
    error = refused(signed_request(), at_ms=SIGNED_AT_MS - SKEW_MS - 1000)
    assert isinstance(error, SignatureMismatch)
    assert error.message == (
        "Signature not yet current: 20261123T133445Z is still later than 20261123T133444Z (20261123T132944Z + 5 min.)"
    )


@pytest.mark.parametrize("date", [b"", b"201", b"20261399T000000Z", b"20261123T133445", b"\xff"])
def test_a_date_that_is_none_is_refused(date: bytes) -> None:
    request = signed_request()
    request.headers[b"x-amz-date"] = date
    error = refused(request)
    assert isinstance(error, IncompleteSignature)
    assert error.message.startswith("Date must be in ISO-8601 'basic format'. Got '")


def test_the_date_header_serves_where_there_is_no_x_amz_date() -> None:
    request = signed_request(headers={"Date": "Mon, 23 Nov 2026 13:34:45 GMT"})
    assert b"x-amz-date" not in request.headers
    assert authenticator().authenticate(request) == CREDENTIAL


def test_a_scope_of_another_day_than_the_date_is_refused() -> None:
    request = signed_request()
    request.headers[b"authorization"] = request.headers[b"authorization"].replace(b"/20261123/", b"/20261122/")
    assert refused(request).message == (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        "'20261122' != '20261123', from '20261123T133445Z'."
    )


def test_a_presigned_request_is_let_through_until_it_expires() -> None:
    request = presigned_request(expires_s=3600)
    assert authenticator().authenticate(request) == CREDENTIAL
    assert authenticator(at_ms=SIGNED_AT_MS + 3600_000).authenticate(request) == CREDENTIAL
    assert "Signature expired" in refused(request, at_ms=SIGNED_AT_MS + 3601_000).message


def test_a_presigned_request_that_was_changed_is_refused() -> None:
    request = presigned_request()
    request.query = request.query.replace("a=1", "a=2")
    assert isinstance(refused(request), SignatureMismatch)


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "x", "9" * 40])
def test_a_presigned_request_must_expire_within_a_week(expires: str) -> None:
    request = presigned_request()
    request.query = request.query.replace("X-Amz-Expires=3600", f"X-Amz-Expires={expires}")
    assert isinstance(refused(request), IncompleteSignature)
