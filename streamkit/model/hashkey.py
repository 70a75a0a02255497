"""Hash keys: the 128-bit number that decides which shard a record belongs to.

A partition key's hash key is the MD5 digest of its UTF-8 bytes, read as a big-endian unsigned number; an explicit
hash key overrides it (PutRecord, Kinesis API reference). Digests are kept as 16 bytes wherever they are only
compared: byte order is number order, and no 128-bit integer is made per record.
"""

from __future__ import annotations

from typing import Final, NamedTuple

try:  # a third of the cost of hashlib's, which looks its implementation up in OpenSSL each time
    from _md5 import md5 as _md5  # type: ignore[import-not-found]
except ImportError:  # a build without it, or with MD5 switched off
    from hashlib import md5 as _md5

md5: Final = _md5  # for loops that cannot afford a call of `digest_of`
HASH_KEYS_COUNT: Final = 1 << 128
HASH_KEY_MAX: Final = HASH_KEYS_COUNT - 1


class HashKeyRange(NamedTuple):
    """First and last hash key of a shard, both inclusive."""

    first: int
    last: int


def digest_of(partition_key: bytes) -> bytes:
    """The hash key of a partition key, as 16 big-endian bytes."""
    digest: bytes = md5(partition_key).digest()
    return digest


def digest_of_explicit(text: str) -> bytes | None:
    """The 16 bytes of an explicit hash key, or None where the decimal number does not fit into 128 bits."""
    if len(text) > 39:
        return None
    number = int(text)
    return number.to_bytes(16, "big") if number <= HASH_KEY_MAX else None


def uniform_ranges(shards_count: int) -> list[HashKeyRange]:
    """Equal ranges for a new stream; what the division leaves over goes to the last shard, as AWS has it."""
    width = HASH_KEYS_COUNT // shards_count
    return [
        HashKeyRange(index * width, HASH_KEY_MAX if index == shards_count - 1 else (index + 1) * width - 1)
        for index in range(shards_count)
    ]
