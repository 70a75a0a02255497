"""Signature Version 4: who asks, for which account and region, and, if wanted, whether the signature is right.

The texts are AWS's, and so is the order of the checks that tell of one fault at a time.
"""

from __future__ import annotations

import calendar
import hmac
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from streamkit.api.http import Request
from streamkit.clock import Clock
from streamkit.model.errors import (
    IncompleteSignature,
    MissingAuthentication,
    RequestError,
    SignatureMismatch,
    UnrecognizedClient,
)
from streamkit.model.names import ACCOUNT_ID, Scope

Mode = Literal["off", "presence", "verified"]

CLIENTS_CACHED_MAX: Final = 1024  # ours: client processes seen lately; a day and a region make another
CLIENT_BYTES_CACHED_MAX: Final = 1024  # ours: of one client's header; a usual one has about 150
CLOCK_SKEW_S_MAX: Final = 300  # AWS: Kinesis says "5 min." where it refuses; some other services allow 15
PRESIGNED_S_MAX: Final = 604_800  # AWS: X-Amz-Expires is at most seven days

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TERMINATOR: Final = "aws4_request"
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")  # it becomes part of ARNs, so nothing else may get in
_BASIC_DATE: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_HEADER_PARAMETERS: Final = ("Credential", "Signature", "SignedHeaders")
_QUERY_PARAMETERS: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "X-Amz-Date",
)
_NO_DATE: Final = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "


class Credential(NamedTuple):
    """The credential scope: which key signed, and for what."""

    access_key: str
    date: str
    region: str
    service: str


class Authorization(NamedTuple):
    """A well-formed Authorization header, or the same in a query. Nothing is said about the signature's being right."""

    credential: Credential
    signed_headers: str
    signature: str


class _Signer(NamedTuple):
    """What stays the same from one request of a client to the next."""

    credential: Credential
    signed_headers: str


_signers: dict[bytes, _Signer] = {}


def parse_authorization(header: bytes, has_date: bool = True) -> Authorization:
    """Takes an Authorization header apart.

    Raises IncompleteSignature or SignatureMismatch with AWS's text. `has_date` says whether the request has a date
    header, because AWS tells of everything that is missing at once. A client that was seen before costs a dictionary
    look-up: SDKs write the signature last, and everything before it repeats all day.
    """
    constant, marker, signature = header.rpartition(b"Signature=")
    signer = _signers.get(constant)
    if signer is not None and has_date and signature.isalnum():
        return Authorization(signer.credential, signer.signed_headers, signature.decode())
    authorization = _parse_header(header.decode("latin-1"), has_date)
    # Only where the signature is the last parameter does everything else depend on the constant part alone.
    if marker and signature.isalnum() and len(constant) <= CLIENT_BYTES_CACHED_MAX:
        if len(_signers) >= CLIENTS_CACHED_MAX:
            _signers.clear()
        _signers[constant] = _Signer(authorization.credential, authorization.signed_headers)
    return authorization


def _parse_header(text: str, has_date: bool) -> Authorization:
    algorithm, _, rest = text.partition(" ")
    parameters: dict[str, str] = {}
    for part in re.split("[, ]+", rest):
        name, _, value = part.partition("=")
        parameters[name] = value
    missing = "".join(
        f"Authorization header requires '{name}' parameter. " for name in _HEADER_PARAMETERS if not parameters.get(name)
    )
    if not has_date:
        missing += _NO_DATE
    if missing:
        raise IncompleteSignature(f"{missing}Authorization={text}")
    return _authorization(algorithm, parameters["Credential"], parameters["SignedHeaders"], parameters["Signature"])


def parse_query(query: str) -> Authorization:
    """The same for a presigned request, whose parameters are in its query."""
    parameters = dict(_query_pairs(query))
    missing = "".join(
        f"AWS query-string parameters must include '{name}'. " for name in _QUERY_PARAMETERS if not parameters.get(name)
    )
    if missing:
        raise IncompleteSignature(f"{missing}Re-examine the query-string parameters.")
    return _authorization(
        parameters["X-Amz-Algorithm"],
        parameters["X-Amz-Credential"],
        parameters["X-Amz-SignedHeaders"],
        parameters["X-Amz-Signature"],
    )


def _authorization(algorithm: str, credential: str, signed_headers: str, signature: str) -> Authorization:
    if "host" not in signed_headers.lower().split(";"):
        raise SignatureMismatch("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    if algorithm != _ALGORITHM:
        raise IncompleteSignature(f"Unsupported AWS 'algorithm': '{algorithm}' (only {_ALGORITHM} for now). ")
    parts = credential.rstrip("/").split("/")
    if len(parts) != 5:
        raise IncompleteSignature(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential}'"
        )
    access_key, date, region, service, terminator = parts
    wrong = []
    if not _REGION.fullmatch(region):
        wrong.append(f"Credential should be scoped to a valid region, not '{region}'. ")
    if terminator != _TERMINATOR:
        wrong.append(f"Credential should be scoped with a valid terminator: '{_TERMINATOR}', not '{terminator}'. ")
    if wrong:
        raise SignatureMismatch("".join(wrong))
    return Authorization(Credential(access_key, date, region, service), signed_headers, signature)


@lru_cache(maxsize=CLIENTS_CACHED_MAX)
def scope_of(credential: Credential | None, default_account: str, default_region: str) -> Scope:
    """Whose streams are meant: an access key of 12 digits is the account itself, any other means the default account.

    The region is the one that was signed for; without a credential both are the defaults.
    """
    if credential is None:
        return Scope(default_account, default_region)
    access_key = credential.access_key
    is_account = access_key.isascii() and ACCOUNT_ID.fullmatch(access_key)
    return Scope(access_key if is_account else default_account, credential.region)


class Authenticator:
    """Decides whether a request may pass, by one of three modes.

    `off` refuses nothing. `presence` wants a complete and well-formed signature, as every SDK sends it, and believes
    it. `verified` computes the signature again from `keys` (access key to secret) and wants a date within five
    minutes. A header that occurs more than once and is signed fails there: SDKs sign none.
    """

    def __init__(self, mode: Mode, keys: Mapping[str, str], clock: Clock) -> None:
        self._mode = mode
        self._keys = keys
        self._clock = clock

    def authenticate(self, request: Request) -> Credential | None:
        """Who asks; None only where mode `off` lets a request through that does not say so in good form.

        Raises the AWS error that belongs to what is missing or wrong.
        """
        if self._mode == "off":
            try:
                return _authorization_of(request).credential
            except RequestError:
                return None
        authorization = _authorization_of(request)
        if self._mode == "verified":
            self._verify(request, authorization)
        return authorization.credential

    def _verify(self, request: Request, authorization: Authorization) -> None:
        presigned = b"authorization" not in request.headers
        signed_at = _date_of(request, presigned)
        self._check_age(request, signed_at, presigned)
        credential = authorization.credential
        if credential.date != signed_at[:8]:
            raise SignatureMismatch(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{credential.date}' != '{signed_at[:8]}', from '{signed_at}'."
            )
        secret = self._keys.get(credential.access_key)
        if secret is None:
            raise UnrecognizedClient("The security token included in the request is invalid.")
        expected = _signature(request, authorization, secret, signed_at)
        if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
            raise SignatureMismatch(
                "The request signature we calculated does not match the signature you provided. Check your AWS "
                "Secret Access Key and signing method. Consult the service documentation for details."
            )

    def _check_age(self, request: Request, signed_at: str, presigned: bool) -> None:
        now_s = self._clock.now_ms() // 1000
        signed_s = _seconds(signed_at)
        valid_s = _expires_s(request) if presigned else CLOCK_SKEW_S_MAX
        if signed_s < now_s - valid_s:
            raise SignatureMismatch(
                f"Signature expired: {signed_at} is now earlier than {_basic(now_s - valid_s)} "
                f"({_basic(now_s)} - {valid_s // 60} min.)"
            )
        if signed_s > now_s + CLOCK_SKEW_S_MAX:
            raise SignatureMismatch(
                f"Signature not yet current: {signed_at} is still later than {_basic(now_s + CLOCK_SKEW_S_MAX)} "
                f"({_basic(now_s)} + {CLOCK_SKEW_S_MAX // 60} min.)"
            )


def _authorization_of(request: Request) -> Authorization:
    headers = request.headers
    header = headers.get(b"authorization")
    presigned = bool(request.query) and any(name == "X-Amz-Algorithm" for name, _ in _query_pairs(request.query))
    if header is None:
        if presigned:
            return parse_query(request.query)
        raise MissingAuthentication("Missing Authentication Token")
    if presigned:
        raise SignatureMismatch(
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
        )
    return parse_authorization(header, b"x-amz-date" in headers or b"date" in headers)


# -- dates -----------------------------------------------------------------------------------------------------------


def _date_of(request: Request, presigned: bool) -> str:
    """When the request says it was signed, in the form that is signed: 20260102T030405Z."""
    if presigned:
        text = dict(_query_pairs(request.query))["X-Amz-Date"]
    else:
        headers = request.headers
        text = headers.get(b"x-amz-date", headers.get(b"date", b"")).decode("latin-1")
    try:
        if _BASIC_DATE.fullmatch(text):
            _seconds(text)
            return text
        return _basic(int(parsedate_to_datetime(text).timestamp()))
    except (ValueError, OverflowError):
        raise IncompleteSignature(
            f"Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None


@lru_cache(maxsize=16)  # a busy client signs many requests within a second, and strptime is slow
def _seconds(basic: str) -> int:
    return calendar.timegm(time.strptime(basic, "%Y%m%dT%H%M%SZ"))


def _basic(epoch_s: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch_s))


def _expires_s(request: Request) -> int:
    text = dict(_query_pairs(request.query)).get("X-Amz-Expires", str(CLOCK_SKEW_S_MAX))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= PRESIGNED_S_MAX):
        raise IncompleteSignature(f"X-Amz-Expires must be a number of seconds up to {PRESIGNED_S_MAX}, got '{text}'.")
    return int(text)


# -- the signature ---------------------------------------------------------------------------------------------------


def _signature(request: Request, authorization: Authorization, secret: str, signed_at: str) -> str:
    credential = authorization.credential
    canonical = sha256(_canonical_request(request, authorization.signed_headers)).hexdigest()
    scope = f"{credential.date}/{credential.region}/{credential.service}/{_TERMINATOR}"
    key = _signing_key(secret, credential.date, credential.region, credential.service)
    return hmac.digest(key, f"{_ALGORITHM}\n{signed_at}\n{scope}\n{canonical}".encode(), "sha256").hex()


@lru_cache(maxsize=CLIENTS_CACHED_MAX)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, _TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_request(request: Request, signed_headers: str) -> bytes:
    headers = request.headers
    names = signed_headers.encode()
    return b"\n".join(
        [
            request.method.encode(),
            _canonical_path(request.path),
            _canonical_query(request.query),
            *(b"%b:%b" % (name, b" ".join(headers.get(name, b"").split())) for name in names.split(b";")),
            b"",
            names,
            sha256(request.body).hexdigest().encode(),
        ]
    )


def _canonical_path(path: str) -> bytes:
    """Dots and double slashes resolved, then encoded once more: every service but S3 signs the path encoded twice."""
    if path == "/":
        return b"/"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    slash = "/" if parts and path.endswith("/") else ""
    return quote("/" + "/".join(parts) + slash, safe="/-_.~").encode()


def _canonical_query(query: str) -> bytes:
    if not query:
        return b""
    pairs = [
        (_encoded(name), _encoded(value))
        for name, _, value in (part.partition("=") for part in query.split("&"))
        if name != "X-Amz-Signature"
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


def _encoded(part: str) -> str:
    return quote(unquote_to_bytes(part), safe="-_.~")


def _query_pairs(query: str) -> list[tuple[str, str]]:
    """Names as they are, values decoded; the names that matter here are never encoded."""
    pairs = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        pairs.append((name, unquote_to_bytes(value).decode("utf-8", "replace")))
    return pairs
