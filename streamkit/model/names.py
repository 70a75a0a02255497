"""Who owns a thing and what it is called: scopes, names, ARNs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, NewType

from streamkit.model.limits import SHARD_IDS_CACHED_MAX

StreamId = NewType("StreamId", str)
"""One incarnation of a stream: 32 hex digits. A stream deleted and created again under its name gets another."""

SHARD_INDEX_MAX: Final = 2**31 - 1
STREAM_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_STREAM_ARN: Final = re.compile(r"arn:aws[^:]*:kinesis:([^:]*):([0-9]{12}):stream/([a-zA-Z0-9_.-]{1,128})")
_CONSUMER_ARN: Final = re.compile(
    r"(arn:aws[^:]*:kinesis:[^:]*:\d{12}:stream/[a-zA-Z0-9_.-]{1,128})/consumer/([a-zA-Z0-9_.-]{1,128}):(\d+)"
)

FUNCTION_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_FUNCTION_ARN: Final = re.compile(
    r"(?:(?:arn:aws[^:]*:lambda:([^:]+):)?([0-9]{12}):(?:function:)?|function:)?"
    r"([a-zA-Z0-9_-]{1,64})(?::(\$LATEST|[a-zA-Z0-9_-]{1,128}))?"
)
_LAYER_ARN: Final = re.compile(r"arn:aws[^:]*:lambda:([^:]+):([0-9]{12}):layer:([a-zA-Z0-9_-]{1,140})(?::([0-9]+))?")
DELIVERY_STREAM_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_DELIVERY_ARN: Final = re.compile(r"arn:aws[^:]*:firehose:([^:]+):([0-9]{12}):deliverystream/([a-zA-Z0-9_.-]{1,64})")
_MAPPING_ARN: Final = re.compile(r"arn:aws[^:]*:lambda:([^:]+):([0-9]{12}):event-source-mapping:([0-9a-f-]{36})")


class Scope(NamedTuple):
    """What keeps two users apart: an account in a region. A stream's name is unique within one."""

    account: str
    region: str


class StreamArn(NamedTuple):
    scope: Scope
    name: str

    def __str__(self) -> str:
        return f"arn:aws:kinesis:{self.scope.region}:{self.scope.account}:stream/{self.name}"

    @classmethod
    def parse(cls, text: str) -> StreamArn | None:
        """Returns None where the text is no stream ARN; the caller knows which error that is."""
        match = _STREAM_ARN.fullmatch(text)
        return cls(Scope(match[2], match[1]), match[3]) if match else None


class ConsumerArn(NamedTuple):
    stream: StreamArn
    name: str
    created_s: int

    def __str__(self) -> str:
        return f"{self.stream}/consumer/{self.name}:{self.created_s}"

    @classmethod
    def parse(cls, text: str) -> ConsumerArn | None:
        match = _CONSUMER_ARN.fullmatch(text)
        if not match:
            return None
        stream = StreamArn.parse(match[1])
        return cls(stream, match[2], int(match[3])) if stream else None


class FunctionArn(NamedTuple):
    """`qualifier` is a version's number, an alias's name, $LATEST, or None."""

    scope: Scope
    name: str
    qualifier: str | None

    def __str__(self) -> str:
        arn = f"arn:aws:lambda:{self.scope.region}:{self.scope.account}:function:{self.name}"
        return arn if self.qualifier is None else f"{arn}:{self.qualifier}"

    @classmethod
    def parse(cls, text: str, scope: Scope | None = None) -> FunctionArn | None:
        """A full ARN; with a scope also what AWS takes for one: a name, or `account:function:name`, each with or
        without a qualifier. None where the text is none of these."""
        match = _FUNCTION_ARN.fullmatch(text)
        if match is None:
            return None
        region, account, name, qualifier = match.groups()
        if region is None or account is None:
            if scope is None:
                return None
            region, account = region or scope.region, account or scope.account
        return cls(Scope(account, region), name, qualifier)


class LayerArn(NamedTuple):
    """Of a layer, or of one of its versions."""

    scope: Scope
    name: str
    version: int | None

    def __str__(self) -> str:
        arn = f"arn:aws:lambda:{self.scope.region}:{self.scope.account}:layer:{self.name}"
        return arn if self.version is None else f"{arn}:{self.version}"

    @classmethod
    def parse(cls, text: str) -> LayerArn | None:
        match = _LAYER_ARN.fullmatch(text)
        return cls(Scope(match[2], match[1]), match[3], int(match[4]) if match[4] else None) if match else None


class DeliveryStreamArn(NamedTuple):
    scope: Scope
    name: str

    def __str__(self) -> str:
        return f"arn:aws:firehose:{self.scope.region}:{self.scope.account}:deliverystream/{self.name}"

    @classmethod
    def parse(cls, text: str) -> DeliveryStreamArn | None:
        match = _DELIVERY_ARN.fullmatch(text)
        return cls(Scope(match[2], match[1]), match[3]) if match else None


class MappingArn(NamedTuple):
    scope: Scope
    uuid: str

    def __str__(self) -> str:
        return f"arn:aws:lambda:{self.scope.region}:{self.scope.account}:event-source-mapping:{self.uuid}"

    @classmethod
    def parse(cls, text: str) -> MappingArn | None:
        match = _MAPPING_ARN.fullmatch(text)
        return cls(Scope(match[2], match[1]), match[3]) if match else None


@lru_cache(maxsize=SHARD_IDS_CACHED_MAX)
def shard_id(index: int) -> str:
    """`shardId-` and twelve digits, as AWS writes it."""
    return f"shardId-{index:012d}"


def shard_index(text: str) -> int | None:
    """The number of a shard id, or None. AWS reads what follows the first hyphen: `shardId-5` and `5` mean the same."""
    digits = text.partition("-")[2] or text
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 12:
        return None
    index = int(digits)
    return index if index <= SHARD_INDEX_MAX else None
