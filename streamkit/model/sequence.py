"""Sequence numbers: a pure function of where a record stands.

AWS's numbers have 56 decimal digits; in hexadecimal there are 47:

    digits   1   9                       1              16              2      9                8            1
    field    2   shard creation second   shard nibble   sequence index  byte   arrival second   shard index  2

The record's offset in its shard, plus one, is the sequence index. So a number needs no index to be found again, grows
along a shard, and sorts after all of the parent's numbers, because a child's creation second is later than its
parent's. The index starts at one so that a shard's starting number (index 0) lies before its first record.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

SequenceNumber = NewType("SequenceNumber", str)

_TOP: Final = 2 << 184
_CREATED_SHIFT: Final = 148
_NIBBLE_SHIFT: Final = 144
_INDEX_SHIFT: Final = 80
_SECOND_SHIFT: Final = 36
_SHARD_SHIFT: Final = 4
_VERSION: Final = 2
_SECONDS_MASK: Final = (1 << 36) - 1

OFFSET_STEP: Final = 1 << _INDEX_SHIFT
"""The distance between two neighbours of the same second."""


class Position(NamedTuple):
    """What a sequence number says. `offset` is -1 for a shard's starting number."""

    shard_created_s: int
    shard_index: int
    offset: int
    arrival_s: int


def number_of(shard_created_s: int, shard_index: int, offset: int, arrival_ms: int) -> int:
    """The sequence number as an integer; neighbours of the same arrival second are `OFFSET_STEP` apart."""
    return (
        _TOP
        | shard_created_s << _CREATED_SHIFT
        | (shard_index & 0xF) << _NIBBLE_SHIFT
        | (offset + 1) << _INDEX_SHIFT
        | (arrival_ms // 1000) << _SECOND_SHIFT
        | shard_index << _SHARD_SHIFT
        | _VERSION
    )


def sequence_number(shard_created_s: int, shard_index: int, offset: int, arrival_ms: int) -> SequenceNumber:
    return SequenceNumber(str(number_of(shard_created_s, shard_index, offset, arrival_ms)))


def starting_sequence_number(shard_created_s: int, shard_index: int) -> SequenceNumber:
    """The number before a shard's first record: what DescribeStream gives as its range's start."""
    return sequence_number(shard_created_s, shard_index, -1, shard_created_s * 1000)


def parse(text: str) -> Position | None:
    """Takes a number apart; None where it is not one of ours (another layout, another length, no number)."""
    if len(text) != 56 or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    if number >> 184 != 2 or number & 0xF != _VERSION:
        return None
    shard_index = number >> _SHARD_SHIFT & 0xFFFFFFFF
    if number >> _NIBBLE_SHIFT & 0xF != shard_index & 0xF or number >> 72 & 0xFF:
        return None
    return Position(
        shard_created_s=number >> _CREATED_SHIFT & _SECONDS_MASK,
        shard_index=shard_index,
        offset=(number >> _INDEX_SHIFT & 0xFFFFFFFFFFFFFFFF) - 1,
        arrival_s=number >> _SECOND_SHIFT & _SECONDS_MASK,
    )
