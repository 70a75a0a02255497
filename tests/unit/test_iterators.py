"""Shard iterators and list tokens: read back as they were made, and made by nobody else."""

from __future__ import annotations

import pybase64
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.names import SHARD_INDEX_MAX, StreamId
from streamkit.streams.iterators import Position, Tokens

TOKENS = Tokens(b"s" * 32)
POSITIONS = st.builds(
    Position,
    st.binary(min_size=16, max_size=16).map(lambda raw: StreamId(raw.hex())),
    st.integers(0, SHARD_INDEX_MAX),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63),
)


@given(POSITIONS)
def test_a_token_says_what_it_was_made_of_also_after_a_restart(position: Position) -> None:
    after_restart = Tokens(b"s" * 32)
    assert after_restart.read_iterator(TOKENS.iterator(position)) == position
    assert after_restart.read_next_token(TOKENS.next_token(position)) == position


@given(POSITIONS)
def test_a_token_fits_awss_length(position: Position) -> None:
    assert len(TOKENS.iterator(position)) <= 512


@given(POSITIONS, st.integers(0, 8 * 53 - 1))
def test_a_token_with_one_bit_flipped_is_nobodys(position: Position, bit: int) -> None:
    raw = bytearray(pybase64.b64decode(TOKENS.iterator(position)))
    assert len(raw) == 53
    raw[bit // 8] ^= 1 << bit % 8
    flipped = pybase64.b64encode_as_string(bytes(raw))
    assert TOKENS.read_iterator(flipped) is None
    assert TOKENS.read_next_token(flipped) is None


@given(POSITIONS, st.integers(0, 71), st.characters())
def test_a_changed_character_never_leads_elsewhere(position: Position, at: int, character: str) -> None:
    token = TOKENS.iterator(position)
    changed = token[:at] + character + token[at + 1 :]
    assert TOKENS.read_iterator(changed) in (None, position), "base64 has a few spellings of the same bytes"


@given(POSITIONS, st.integers(0, 71))
def test_a_token_that_was_cut_is_nobodys(position: Position, length: int) -> None:
    assert TOKENS.read_iterator(TOKENS.iterator(position)[:length]) is None


@given(st.text(max_size=200))
def test_text_is_no_token(text: str) -> None:
    assert TOKENS.read_iterator(text) is None
    assert TOKENS.read_next_token(text) is None


@given(POSITIONS)
def test_iterators_and_list_tokens_do_not_stand_for_each_other(position: Position) -> None:
    assert TOKENS.read_next_token(TOKENS.iterator(position)) is None
    assert TOKENS.read_iterator(TOKENS.next_token(position)) is None


@given(POSITIONS)
def test_another_data_directorys_token_is_nobodys(position: Position) -> None:
    assert Tokens(b"t" * 32).read_iterator(TOKENS.iterator(position)) is None
