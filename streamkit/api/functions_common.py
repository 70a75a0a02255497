"""What Lambda's operations on functions have in common: how they name functions, tell times, and make pages."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec
import pybase64

from streamkit.functions.registry import Code, Registry
from streamkit.model.errors import AccessDenied, InvalidParameterValue, ResourceNotFound
from streamkit.model.limits import LIST_FUNCTIONS_MAX
from streamkit.model.names import FunctionArn, Scope

T = TypeVar("T")

Values = dict[str, Any]
Operation = Callable[["Context", Scope, Values], Awaitable[Mapping[str, Any]]]
Action = Callable[[Scope, Values], Awaitable[Mapping[str, Any]]]

CODE_PATH: Final = "/_streamkit/code/"
LOCAL_BUCKETS: Final = ("hot-reload", "file")
UNQUALIFIED_ONLY: Final = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)
DIFFERENT_QUALIFIERS: Final = "The derived qualifier from the function name does not match the specified qualifier."

# All that the model lets through, longer names than functions can have included: these are just not found.
_NAME: Final = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:([a-z]{2}[a-z0-9-]*-\d):)?(?:(\d{12}):)?(?:function:)?"
    r"([a-zA-Z0-9-_.]+)(?::(\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)


class TagOwner(Protocol):
    """A part that has tagged resources of its own, which Lambda's operations on tags are for, too."""

    def owns(self, resource: str) -> bool: ...

    def tags(self, resource: str) -> Mapping[str, str]: ...

    async def tag(self, resource: str, tags: Mapping[str, str]) -> None: ...

    async def untag(self, resource: str, keys: Sequence[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation works on. `endpoint` is this server's, as its clients reach it, without a slash at the end."""

    registry: Registry
    endpoint: Callable[[], str]
    tag_owners: Sequence[TagOwner] = ()

    def code_location(self, sha256: str) -> str:
        return f"{self.endpoint()}{CODE_PATH}{sha256}.zip"


class Table(dict[str, Operation]):
    """Operations by name."""

    def operation(self, name: str) -> Callable[[Operation], Operation]:
        def register(function: Operation) -> Operation:
            self[name] = function
            return function

        return register


# -- names -----------------------------------------------------------------------------------------------------------


def arn_of(scope: Scope, given: Values) -> FunctionArn:
    """The function, and perhaps version or alias, that a request names, there or not."""
    match = _NAME.fullmatch(given["FunctionName"])
    if match is None:
        raise InvalidParameterValue(f"{given['FunctionName']} is not the name or the ARN of a function.")
    region, account, name, derived = match.groups()
    if region is not None and region != scope.region:
        raise ResourceNotFound(f"Functions from '{region}' are not reachable in this region ('{scope.region}')")
    if account is not None and account != scope.account:
        raise AccessDenied(f"Functions of account {account} are not reachable by account {scope.account}.")
    qualifier = given.get("Qualifier")
    if derived is not None and qualifier is not None and derived != qualifier:
        raise InvalidParameterValue(DIFFERENT_QUALIFIERS)
    return FunctionArn(scope, name, derived if qualifier is None else qualifier)


def name_of(scope: Scope, given: Values, *, takes_latest: bool = True) -> str:
    """For an operation that is about a function as a whole, or about $LATEST alone."""
    arn = arn_of(scope, given)
    if arn.qualifier is not None and not (takes_latest and arn.qualifier == "$LATEST"):
        raise InvalidParameterValue(UNQUALIFIED_ONLY)
    return arn.name


# -- code ------------------------------------------------------------------------------------------------------------


def code_of(given: Values) -> Code | None:
    """What a request gives as code; None where it gives none.

    There is no S3 here: the bucket `hot-reload`, or `file`, stands for this machine, and the key for the absolute path
    of a directory or a zip file on it. What is there at the time of the request is copied; a later change of it takes
    another request.
    """
    if given.get("ZipFile") is not None:
        return bytes(given["ZipFile"])
    bucket, key = given.get("S3Bucket"), given.get("S3Key")
    if bucket is None and key is None:
        return None
    if bucket not in LOCAL_BUCKETS:
        raise InvalidParameterValue(
            "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does "
            f"not exist. streamkit has no S3: give a zip as ZipFile, or S3Bucket {LOCAL_BUCKETS[0]} with the absolute "
            "path of a local directory or zip file as S3Key."
        )
    path = Path(key or "")
    if not path.is_absolute():
        raise InvalidParameterValue(f"S3Key {key} is not an absolute path; S3Bucket {bucket} stands for this machine.")
    return path


# -- times -----------------------------------------------------------------------------------------------------------


def time_text(at_ms: int) -> str:
    """As Lambda writes most times: 2024-03-27T09:14:35.123+0000."""
    return f"{_seconds(at_ms)}.{at_ms % 1000:03d}+0000"


def url_time_text(at_ms: int) -> str:
    """As function URLs have them: 2024-03-27T09:14:35.123456Z."""
    return f"{_seconds(at_ms)}.{at_ms % 1000:03d}000Z"


def _seconds(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms // 1000))


# -- pages -----------------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    items: list[Any]
    next_marker: str | None


def page_of(items: Iterable[tuple[Sequence[Any], T]], given: Values) -> Page:
    """A page of items that come with the keys they are ordered by. What is made or deleted between two pages neither
    hides nor repeats others."""
    marker = given.get("Marker") or None
    try:
        after = None if marker is None else msgspec.json.decode(pybase64.b64decode(marker, validate=True))
        rest = [(key, item) for key, item in items if after is None or list(key) > after]
    except (ValueError, TypeError):
        raise InvalidParameterValue(f"Marker {marker} was not given by this operation.") from None
    count = min(given.get("MaxItems") or LIST_FUNCTIONS_MAX, LIST_FUNCTIONS_MAX)
    page = rest[:count]
    next_marker = pybase64.b64encode_as_string(msgspec.json.encode(page[-1][0])) if len(page) < len(rest) else None
    return Page([item for _, item in page], next_marker)
