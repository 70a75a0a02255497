"""Objects in S3, or in any store that speaks its protocol: the destination `s3`.

Options: `bucket`; `prefix`, a folder in it; `endpoint`, `region`, `access_key_id`, `secret_access_key` and
`session_token` where they differ from the process's own (`Surroundings.object_store`); `timeout_ms` for a request,
beside the time that its bytes take. Where there is neither an endpoint nor a key, a bucket is a folder of
`Surroundings.buckets`, and `files` does the rest. Keys without an endpoint mean AWS; an endpoint without keys is asked
unsigned, unless it is AWS's: then credentials are looked for where AWS's own tools do (environment, role).

Exactly once: an object is put only where its name is free (`If-None-Match: *`), and carries the sealed object's id as
metadata `streamkit-object`, so that a try whose answer was lost is told from somebody else's object. Two cases are
weaker, and check for the name before they put: objects of more than 256 MiB, which go up in parts (S3 takes the
condition with the last request of an upload, obstore does not send it there), and stores that do not know the
condition, of which a line is logged. There another writer's object of the very same moment may be replaced; our own
is never doubled.

A key cannot have empty segments, because object stores' paths here have none: `a//b` is put as `a/b`, `/a` as `a`.

Errors have S3's codes: `S3.NoSuchBucket`, `S3.AccessDenied`, `S3.SlowDown`. All but those of a key are worth another
try, as AWS sees it: somebody may create the bucket or change its policy (developer guide, "Handle data delivery
failures").
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn
from urllib.parse import unquote, urlsplit

from streamkit.delivery.destination import DeliveryFailed, Destination, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.log import ERROR_CODE, PATH
from streamkit.model.errors import UsageError
from streamkit_connectors.files import Entry, FilesPlace, ObjectDestination, ObjectPlace, path_of

if TYPE_CHECKING:
    from obstore.store import S3Store

_LOG: Final = logging.getLogger(__name__)

KEY_BYTES_MAX: Final = 1_024  # S3: "Naming Amazon S3 objects"
SINGLE_PUT_BYTES_MAX: Final = 256 * 1024 * 1024  # in one request; S3 takes 5 GiB, and a buffer holds 128 MiB
PART_BYTES: Final = 16 * 1024 * 1024  # S3 takes 10,000 parts: 156 GiB
PARTS_AT_ONCE: Final = 2
TIMEOUT_MS: Final = 30_000  # of a request without a body to speak of
BYTES_PER_MS_MIN: Final = 256  # of a line; a body is given this much time more
CONNECT_TIMEOUT_S: Final = 5
READ_BYTES: Final = 4 * 1024 * 1024  # handed on at once

OBJECT_ID: Final = "streamkit-object"  # x-amz-meta-streamkit-object
CONTENT_TYPE: Final = "application/octet-stream"  # whatever is in them, as Firehose's objects

_SETTINGS: Final = frozenset({"endpoint", "region", "access_key_id", "secret_access_key", "session_token"})
_OPTIONS: Final = _SETTINGS | {"bucket", "prefix", "timeout_ms"}
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.\-_]{1,62}")  # with what older buckets and other stores allow
_Outcome = Literal["put", "taken", "no conditions"]
_FINAL_CODES: Final = frozenset({"InvalidKey", "KeyTooLongError", "InvalidURI", "EntityTooLarge", "AlreadyExists"})
_CODES_OF_STATUS: Final = {
    "400": "InvalidRequest",
    "401": "AccessDenied",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "409": "OperationAborted",
    "412": "PreconditionFailed",
    "429": "SlowDown",
    "500": "InternalError",
    "501": "NotImplemented",
    "503": "ServiceUnavailable",
}


class S3Place:
    """See `streamkit_connectors.files.ObjectPlace`: a bucket, or a folder of one."""

    def __init__(self, store: S3Store, url: str, prefix: str, timeout_ms: int) -> None:
        self._store = store
        self._url = url
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout_ms = timeout_ms
        self._has_conditions = True  # until the store says otherwise

    async def list(self, prefix: str = "") -> Sequence[Entry]:
        # The store lists by whole segments.
        folder = (self._prefix + prefix).rpartition("/")[0]
        found = []
        async with self._errors("listed", prefix):
            stream = self._store.list(folder or None, chunk_size=1_000)
            while True:
                async with asyncio.timeout(self._timeout_ms / 1000):
                    metas = await anext(stream, None)
                if metas is None:
                    break
                for meta in metas:
                    key = meta["path"].removeprefix(self._prefix)
                    if key.startswith(prefix):
                        found.append(Entry(key, meta["size"], int(meta["last_modified"].timestamp() * 1000)))
        return sorted(found)

    async def get_to_file(self, key: str, path: Path) -> None:
        async with self._errors("read", key):
            async with asyncio.timeout(self._timeout_ms / 1000):
                answer = await self._store.get_async(self._key(key))
            chunks = answer.stream(READ_BYTES)
            with path.open("wb") as file:
                while True:
                    async with asyncio.timeout(self._timeout_ms / 1000):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    await asyncio.to_thread(file.write, chunk)

    async def put_from_file(
        self, key: str, path: Path, *, id: str = "", create: bool = True, may_be_there: bool = False
    ) -> None:
        name = self._key(key)
        async with self._errors("written", name):
            body = await asyncio.to_thread(_Body, path)
        outcome: _Outcome = "no conditions"
        if not create:
            await self._put(name, body, id, is_conditional=False)
            return
        if self._has_conditions and not body.is_in_parts:
            outcome = await self._put(name, body, id, is_conditional=True)
        if outcome == "no conditions":
            outcome = "taken" if await self._is_taken(name) else await self._put(name, body, id, is_conditional=False)
        if outcome == "taken":
            await self._accept(name, body.size, id)

    async def delete(self, key: str) -> None:
        name = self._key(key)
        async with self._errors("deleted", name), asyncio.timeout(self._timeout_ms / 1000):
            try:
                await self._store.delete_async(name)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise

    async def close(self) -> None:
        pass

    # -- putting -----------------------------------------------------------------------------------------------------

    async def _put(self, name: str, body: _Body, id: str, *, is_conditional: bool) -> _Outcome:
        """With a condition: tells whether the name is taken. Without one: replaces."""
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        attributes: dict[str, str] = {"Content-Type": CONTENT_TYPE} | ({OBJECT_ID: id} if id else {})
        mode: Any = "create" if is_conditional else "overwrite"
        timeout_ms = self._timeout_ms + body.size / BYTES_PER_MS_MIN
        async with self._errors("written", name):
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._store.put_async(
                        name,
                        body.content,
                        attributes=attributes,
                        mode=mode,
                        use_multipart=body.is_in_parts,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARTS_AT_ONCE,
                    )
            except AlreadyExistsError as error:
                if _code_of(error) == "ConditionalRequestConflict":
                    raise  # another write of the name is under way, and may fail (S3: "How to prevent overwrites")
                return "taken"
            except Exception as error:
                is_unknown = isinstance(error, NotSupportedError) or _code_of(error) == "NotImplemented"
                if not is_conditional or not is_unknown:
                    raise
                self._lose_conditions(_text_of(error))
                return "no conditions"
        return "put"

    def _lose_conditions(self, why: str) -> None:
        if self._has_conditions:
            self._has_conditions = False
            _LOG.warning(
                "the object store takes no conditions: names are checked before they are put",
                extra={PATH: self._url, ERROR_CODE: why[:200]},
            )

    async def _is_taken(self, name: str) -> bool:
        async with self._errors("looked for", name), asyncio.timeout(self._timeout_ms / 1000):
            try:
                await self._store.head_async(name)
            except FileNotFoundError:
                return False  # a bucket that is missing looks the same; the put will tell
        return True

    async def _accept(self, name: str, size: int, id: str) -> None:
        """The name is taken: by this very object, or the try ends here."""
        async with self._errors("looked for", name), asyncio.timeout(self._timeout_ms / 1000):
            found = await self._store.get_async(name, options={"head": True})
        theirs = dict(found.attributes).get(OBJECT_ID)
        if found.meta["size"] != size or not id or theirs != id:
            owner = f"the delivered object {theirs}" if theirs else "an object of another writer"
            message = f"{self._url}/{name} is {owner}, of {found.meta['size']} bytes; it is left as it is"
            raise DeliveryFailed("S3.AlreadyExists", message, is_final=True)

    def _key(self, key: str) -> str:
        """The key in the bucket. Raises DeliveryFailed for one that a bucket cannot hold."""
        parts = [part for part in (self._prefix + key).split("/") if part]
        name = "/".join(parts)
        if not key.strip("/"):
            _refuse(key, "InvalidKey", "it is empty")
        if {".", ".."} & set(parts):
            _refuse(key, "InvalidKey", "`.` and `..` are not names")
        if any(ord(character) < 32 or ord(character) == 127 for character in key):
            _refuse(key, "InvalidKey", "it has control characters")
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            _refuse(key, "InvalidKey", "it has half of a surrogate pair")
        if size > KEY_BYTES_MAX:
            _refuse(key, "KeyTooLongError", f"it has {size} bytes, and a key may have {KEY_BYTES_MAX}")
        return name

    @asynccontextmanager
    async def _errors(self, done: str, name: str) -> AsyncIterator[None]:
        """Whatever a client can raise becomes DeliveryFailed, with S3's code where there is one."""
        from obstore.exceptions import BaseError

        try:
            yield
        except DeliveryFailed:
            raise
        except (TimeoutError, BaseError, OSError, ValueError) as error:
            message = f"{self._url}/{name} was not {done}: {_text_of(error)}"
            code = _code_of(error)
            raise DeliveryFailed(f"S3.{code}", message, is_final=code in _FINAL_CODES) from error


class _Body:
    """What is put. A file that goes in one request is mapped: the pages are the kernel's, and nothing is copied."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.is_in_parts = self.size > SINGLE_PUT_BYTES_MAX
        self.content: Any = path
        if not self.size:
            self.content = b""
        elif not self.is_in_parts:
            with path.open("rb") as file:
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


# -- errors: obstore tells them as text ------------------------------------------------------------------------------


def _code_of(error: Exception) -> str:
    """S3's code, as the answer had it; or what comes nearest to its status, or to what happened to the request."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return "RequestTimeout"
    if isinstance(error, OSError) and error.errno is not None:
        return "InputOutput"  # of a local file
    if found := re.search(r"<Code>\s*(\w+)\s*</Code>", text):
        return found[1]
    if found := re.search(r"status code: (\d{3})", text):
        return _CODES_OF_STATUS.get(found[1], f"Http{found[1]}")
    if isinstance(error, ValueError):
        return "InvalidKey"
    if re.search(r"kind: Timeout|timed out", text):
        return "RequestTimeout"
    return "ConnectionFailed"


def _text_of(error: Exception) -> str:
    """For people: without the XML, without the client's inner state."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error).partition("\n\nDebug source:")[0]
    message = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    status = re.search(r"status code: ([^:]*):", text)
    if status:
        return f"{status[1].strip()}: {message[1].strip()}" if message else status[1].strip()
    return text.rpartition(" - ")[2].strip() or type(error).__name__


def _refuse(key: str, code: str, why: str) -> NoReturn:
    shown = key if len(key) <= 256 else f"{key[:256]}..."
    raise DeliveryFailed(f"S3.{code}", f"{shown!r} cannot be the key of an object: {why}", is_final=True)


# -- opening ---------------------------------------------------------------------------------------------------------


class _FolderPlace(FilesPlace):
    """A bucket that is a folder: keys as S3 takes them, without what the file system does not know."""

    def _path(self, key: str) -> Path:
        return super()._path("/".join(part for part in key.split("/") if part))


def open_place(where: str | DestinationSpec, surroundings: Surroundings) -> ObjectPlace:
    """The place that a URL (`s3://bucket/folder`, `file:///directory`), a path or a destination of `s3` or `files`
    names. No I/O; raises UsageError."""
    spec = where if isinstance(where, DestinationSpec) else _spec_of(where)
    if spec.service == "files":
        return FilesPlace(path_of(spec))
    if spec.service != "s3":
        raise UsageError(f"objects are in directories and buckets; the destination {spec.service!r} is neither")
    options = _checked(spec.options)
    bucket, prefix = options["bucket"], str(options.get("prefix") or "").strip("/")
    settings = {**surroundings.object_store, **{name: options[name] for name in _SETTINGS if options.get(name)}}
    if not settings.get("endpoint") and not settings.get("access_key_id"):
        root = surroundings.buckets / bucket
        return _FolderPlace(root / prefix if prefix else root)
    region = settings.get("region") or surroundings.region
    timeout_ms = options.get("timeout_ms", TIMEOUT_MS)
    return S3Place(_open_store(bucket, region, settings), f"s3://{bucket}", prefix, timeout_ms)


def _spec_of(where: str) -> DestinationSpec:
    if where.startswith("s3://"):
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        return DestinationSpec("s3", {"bucket": bucket, "prefix": prefix})
    if where.startswith("file://"):
        return DestinationSpec("files", {"path": unquote(urlsplit(where).path)})
    if "://" in where:
        raise UsageError(f"{where} is neither a path nor a URL of `s3:` or `file:`")
    return DestinationSpec("files", {"path": where})


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    bucket = options.get("bucket")
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise UsageError(f"the destination `s3` needs the option `bucket`, the name of one; {bucket!r} is none")
    if unknown := sorted(options.keys() - _OPTIONS):
        known = ", ".join(sorted(_OPTIONS))
        raise UsageError(f"the destination `s3` has no option {unknown[0]!r}; it has {known}")
    if {".", ".."} & set(str(options.get("prefix") or "").split("/")):
        raise UsageError(f"the prefix {options['prefix']!r} has `.` or `..`, which are not names")
    timeout_ms = options.get("timeout_ms", TIMEOUT_MS)
    if not isinstance(timeout_ms, int) or timeout_ms <= 0:
        raise UsageError(f"`timeout_ms` is a number of milliseconds; {timeout_ms!r} is none")
    return options


def _open_store(bucket: str, region: str, settings: Mapping[str, str]) -> S3Store:
    from obstore.store import S3Store

    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    endpoint = settings.get("endpoint") or f"https://s3.{region}.{suffix}"
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"the endpoint of a bucket is a URL of `http:` or `https:`; {endpoint!r} is none")
    given: dict[str, Any] = {}
    if settings.get("access_key_id"):
        # Not as options, which variables of the environment would be mixed with: a session token of other keys, say.
        credential: Any = {
            "access_key_id": settings["access_key_id"],
            "secret_access_key": settings.get("secret_access_key", ""),
            "token": settings.get("session_token"),
            "expires_at": None,
        }
        given["credential_provider"] = lambda: credential
    elif not url.hostname.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        given["skip_signature"] = True
    try:
        return S3Store(
            bucket,
            # Both always said, for variables of the environment may lead to streamkit's own address.
            endpoint=endpoint,
            aws_endpoint_url_s3=endpoint,
            region=region,
            virtual_hosted_style_request=False,
            # Bounded here, by a request's size; the client's own bound would be one for all.
            client_options={
                "allow_http": True,
                "timeout": timedelta(hours=6),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            },
            retry_config={"max_retries": 0},  # who delivers tries again
            **given,
        )
    except Exception as error:
        raise UsageError(f"the bucket {bucket!r} cannot be reached like this: {error}") from error


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Destination:
    return ObjectDestination(open_place(spec, surroundings), "S3")
