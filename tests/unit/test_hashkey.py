"""Hash keys: MD5 as a number, and ranges that leave nothing out."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.hashkey import HASH_KEY_MAX, HASH_KEYS_COUNT, digest_of, digest_of_explicit, uniform_ranges


@pytest.mark.parametrize(
    ("partition_key", "digest"),
    [  # RFC 1321, appendix A.5
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b"a", "0cc175b9c0f1b6a831c399e269772661"),
        (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ],
)
def test_a_partition_key_hashes_by_md5(partition_key: bytes, digest: str) -> None:
    assert digest_of(partition_key).hex() == digest


@given(st.text(max_size=256))
def test_the_hash_key_is_that_of_the_utf8_bytes(text: str) -> None:
    assert digest_of(text.encode()) == hashlib.md5(text.encode()).digest()


@given(st.integers(0, HASH_KEY_MAX), st.integers(0, HASH_KEY_MAX))
def test_digests_sort_as_their_numbers_do(one: int, other: int) -> None:
    first, second = digest_of_explicit(str(one)), digest_of_explicit(str(other))
    assert first is not None
    assert second is not None
    assert (first < second) == (one < other)
    assert int.from_bytes(first, "big") == one


def test_explicit_hash_keys_end_at_128_bits() -> None:
    assert digest_of_explicit("0") == bytes(16)
    assert digest_of_explicit(str(HASH_KEY_MAX)) == b"\xff" * 16
    assert digest_of_explicit(str(HASH_KEYS_COUNT)) is None
    assert digest_of_explicit("9" * 39) is None
    assert digest_of_explicit("1" + "0" * 5000) is None  # more digits than Python turns into a number


@given(st.integers(1, 10_000))
def test_uniform_ranges_cover_the_space_without_gaps(shards_count: int) -> None:
    ranges = uniform_ranges(shards_count)
    assert len(ranges) == shards_count
    assert (ranges[0].first, ranges[-1].last) == (0, HASH_KEY_MAX)
    assert all(one.last + 1 == other.first for one, other in pairwise(ranges))
    widths = [last - first + 1 for first, last in ranges]
    assert len(set(widths[:-1])) <= 1
    assert 0 <= widths[-1] - widths[0] < shards_count


def test_two_shards_are_divided_as_aws_divides_them() -> None:
    half = 170141183460469231731687303715884105728
    assert uniform_ranges(2) == [(0, half - 1), (half, HASH_KEY_MAX)]
