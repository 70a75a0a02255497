"""AWS's rules about streams that are not in the service model, with AWS's words. Pure: they look and raise.

The texts are AWS's answers, recorded by people who test against it; where none is known, the text keeps their form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from streamkit.model import sequence
from streamkit.model.errors import InvalidArgument, LimitExceeded, ResourceInUse, ResourceNotFound, ValidationError
from streamkit.model.hashkey import digest_of_explicit
from streamkit.model.limits import (
    MIB,
    PUT_RECORDS_BYTES_MAX,
    RETENTION_HOURS_MAX,
    RETENTION_HOURS_MIN,
    SHARD_COUNT_UPDATES_PER_DAY_MAX,
    SHARDS_PER_STREAM_UPDATE_MAX,
    TAGS_PER_STREAM_MAX,
)
from streamkit.model.names import Scope, shard_id, shard_index
from streamkit.streams.state import ShardState, StreamState

_TAG_CHARACTERS: Final = re.compile(r"[\w ./=+\-%@:]*")
_LIMITS_PAGE: Final = "http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html"
DAY_MS: Final = 86_400_000


# -- streams and shards ----------------------------------------------------------------------------------------------


def stream_not_found(scope: Scope, name: str) -> ResourceNotFound:
    return ResourceNotFound(f"Stream {name} under account {scope.account} not found.")


def require_active(state: StreamState) -> None:
    if state.status != "ACTIVE":
        raise ResourceInUse(
            f"Stream {state.name} under account {state.account} not ACTIVE, instead in state {state.status}"
        )


def require_active_or_updating(state: StreamState) -> None:
    if state.status not in ("ACTIVE", "UPDATING"):
        raise ResourceInUse(
            f"Stream {state.name} under account {state.account} not ACTIVE or UPDATING, instead in state {state.status}"
        )


def require_provisioned(state: StreamState) -> None:
    if state.mode == "ON_DEMAND":
        raise ValidationError(
            f"Request is invalid. Stream {state.name} under account {state.account} is in On-Demand mode."
        )


def parse_shard_id(text: str, scope: Scope, name: str) -> int:
    """The shard's number; AWS checks the form before it looks for the stream."""
    index = shard_index(text)
    if index is None:
        raise ResourceNotFound(f"Could not find shard {text} in stream {name} under account {scope.account}.")
    return index


def require_shard(shard: ShardState | None, index: int, state: StreamState) -> ShardState:
    if shard is None:
        raise ResourceNotFound(
            f"Could not find shard {shard_id(index)} in stream {state.name} under account {state.account}."
        )
    return shard


def shard_does_not_exist(index: int, scope: Scope, name: str) -> ResourceNotFound:
    return ResourceNotFound(f"Shard {shard_id(index)} in stream {name} under account {scope.account} does not exist")


def require_open(shard: ShardState, state: StreamState) -> None:
    if not shard.is_open:
        raise InvalidArgument(
            f"Shard {shard.shard_id} in stream {state.name} under account {state.account} has already been merged or "
            "split, and thus is not eligible for merging or splitting."
        )


def require_splittable(shard: ShardState, new_starting_hash_key: str, state: StreamState) -> int:
    """AWS leaves each half at least two hash keys: the first legal key is the shard's first plus two."""
    key = int(new_starting_hash_key)
    if not shard.hash_keys.first + 1 < key < shard.hash_keys.last:
        raise InvalidArgument(
            f"NewStartingHashKey {new_starting_hash_key} used in SplitShard() on shard {shard.shard_id} in stream "
            f"{state.name} under account {state.account} is not both greater than one plus the shard's StartingHashKey "
            f"{shard.first_hash_key} and less than the shard's EndingHashKey {shard.last_hash_key}."
        )
    return key


def not_mergeable(lower: ShardState, upper: ShardState, state: StreamState) -> InvalidArgument:
    return InvalidArgument(
        f"Shards {lower.shard_id} and {upper.shard_id} in stream {state.name} under account {state.account} are not an "
        "adjacent pair of shards eligible for merging"
    )


def require_room_for_shards(scope: Scope, open_count: int, more: int, shards_max: int) -> None:
    if open_count + more > shards_max:
        raise LimitExceeded(
            f"This request would exceed the shard limit for the account {scope.account} in {scope.region}. Current "
            f"shard count for the account: {open_count}. Limit: {shards_max}. Number of additional shards that would "
            f"have resulted from this request: {more}. Refer to the AWS Service Limits page ({_LIMITS_PAGE}) for "
            "current limits and how to request higher limits."
        )


def require_scalable(state: StreamState, target: int, account_open_count: int, shards_max: int, now_ms: int) -> None:
    current = len(state.open_shards)
    counts = f"Current open shard count: {current}, Target shard count: {target}"
    if target > 2 * current:
        raise LimitExceeded(f"UpdateShardCount cannot scale up over double your current open shard count. {counts}")
    if 2 * target < current:
        raise LimitExceeded(f"UpdateShardCount cannot scale down below half your current open shard count. {counts}")
    limit = min(shards_max, SHARDS_PER_STREAM_UPDATE_MAX)
    if account_open_count - current + target > limit:
        raise LimitExceeded(f"Target shard count or number of open shards cannot be greater than {limit}. {counts}")
    if len(recent_updates(state, now_ms)) >= SHARD_COUNT_UPDATES_PER_DAY_MAX:
        raise LimitExceeded(
            f"UpdateShardCount operation limit exceeded: a stream can be scaled at most "
            f"{SHARD_COUNT_UPDATES_PER_DAY_MAX} times per rolling 24-hour period."
        )


def recent_updates(state: StreamState, now_ms: int) -> list[int]:
    return [at_ms for at_ms in state.shard_count_updates_ms if at_ms > now_ms - DAY_MS]


# -- retention -------------------------------------------------------------------------------------------------------


def require_retention(hours: int) -> None:
    if hours < RETENTION_HOURS_MIN:
        raise InvalidArgument(
            f"Minimum allowed retention period is {RETENTION_HOURS_MIN} hours. Requested retention period ({hours} "
            "hours) is too short."
        )
    if hours > RETENTION_HOURS_MAX:
        raise InvalidArgument(
            f"Maximum allowed retention period is {RETENTION_HOURS_MAX} hours. Requested retention period ({hours} "
            "hours) is too long."
        )


def require_longer(state: StreamState, hours: int) -> None:
    require_retention(hours)
    if hours < state.retention_hours:
        raise InvalidArgument(
            f"Requested retention period ({hours} hours) for stream {state.name} can not be shorter than existing "
            f"retention period ({state.retention_hours} hours). Use DecreaseRetentionPeriod API."
        )


def require_shorter(state: StreamState, hours: int) -> None:
    require_retention(hours)
    if hours > state.retention_hours:
        raise InvalidArgument(
            f"Requested retention period ({hours} hours) for stream {state.name} can not be longer than existing "
            f"retention period ({state.retention_hours} hours). Use IncreaseRetentionPeriod API."
        )


# -- records ---------------------------------------------------------------------------------------------------------


def require_hash_key(text: str) -> bytes:
    digest = digest_of_explicit(text)
    if digest is None:
        raise InvalidArgument(
            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was " + text
        )
    return digest


def require_record_sizes(state: StreamState, sizes: Iterable[tuple[str, int]]) -> None:
    """`sizes`: where a record stands in the request, and the bytes of its data."""
    limit = state.record_bytes_max
    faults = [
        f"Value at '{where}' failed to satisfy constraint: Member must have length less than or equal to {limit}"
        for where, size in sizes
        if size > limit
    ]
    if faults:
        plural = "error" if len(faults) == 1 else "errors"
        raise ValidationError(f"{len(faults)} validation {plural} detected: {'; '.join(faults)}")


def require_put_size(size_bytes: int) -> None:
    if size_bytes > PUT_RECORDS_BYTES_MAX:
        raise InvalidArgument(f"Records size exceeds {PUT_RECORDS_BYTES_MAX // MIB} MB limit")


def require_ordering_number(text: str, state: StreamState, now_ms: int) -> None:
    position = sequence.parse(text)
    if position is None or position.arrival_s > now_ms // 1000:
        raise InvalidArgument(
            f"ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {state.name} under account "
            f"{state.account} is invalid."
        )


def require_sequence_number(text: str, shard: ShardState, state: StreamState) -> int:
    """The offset a starting sequence number names, on this shard; -1 for the shard's own starting number."""
    used = (
        f"StartingSequenceNumber {text} used in GetShardIterator on shard {shard.shard_id} in stream {state.name} "
        f"under account {state.account} is invalid"
    )
    position = sequence.parse(text)
    if position is None:
        raise InvalidArgument(f"{used}.")
    if position.shard_index != shard.index:
        raise InvalidArgument(
            f"Invalid StartingSequenceNumber. It encodes {shard_id(position.shard_index)}, while it was used in a call "
            f"to a shard with {shard.shard_id}"
        )
    if position.shard_created_s != shard.created_s:
        raise InvalidArgument(f"{used} because it did not come from this stream.")
    return position.offset


# -- tags ------------------------------------------------------------------------------------------------------------


def require_tag_characters(texts: Collection[str], verb: str, name: str, account: str) -> None:
    """`verb` is "add" or "remove". AWS names the percent sign as allowed in one text, and refuses it with another."""
    if not all(map(_TAG_CHARACTERS.fullmatch, texts)):
        raise InvalidArgument(
            "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, "
            "_ . / = + - % @ :."
        )
    if any("%" in text for text in texts):
        preposition = "to" if verb == "add" else "from"
        raise InvalidArgument(
            f"Failed to {verb} tags {preposition} stream {name} under account {account} because some tags contained "
            "illegal characters. The allowed characters are Unicode letters, white-spaces, "
            "'_',',','/','=','+','-','@',':'."
        )


def with_tags(known: Mapping[str, str], more: Mapping[str, str], name: str, account: str) -> dict[str, str]:
    """The tags with more added or changed."""
    require_tag_characters([*more, *more.values()], "add", name, account)
    if any(key.lower().startswith("aws:") for key in more):
        raise InvalidArgument("Tag keys starting with aws: are reserved for system use.")
    tags = {**known, **more}
    if len(tags) > TAGS_PER_STREAM_MAX:
        raise InvalidArgument(
            f"Failed to add tags to stream {name} under account {account} because a given stream cannot have more than "
            f"{TAGS_PER_STREAM_MAX} tags associated with it."
        )
    return tags
