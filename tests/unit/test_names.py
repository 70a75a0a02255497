"""Names: what is printed is parsed, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.names import (
    ACCOUNT_ID,
    SHARD_INDEX_MAX,
    STREAM_NAME,
    ConsumerArn,
    Scope,
    StreamArn,
    shard_id,
    shard_index,
)

names = st.from_regex(STREAM_NAME, fullmatch=True)
accounts = st.from_regex(r"[0-9]{12}", fullmatch=True)
regions = st.sampled_from(["us-east-1", "eu-central-1", "local"])
streams = st.builds(StreamArn, st.builds(Scope, accounts, regions), names)


@given(streams)
def test_a_stream_arn_is_parsed_as_it_is_printed(arn: StreamArn) -> None:
    assert StreamArn.parse(str(arn)) == arn


@given(streams, names, st.integers(0, 2**40))
def test_a_consumer_arn_is_parsed_as_it_is_printed(stream: StreamArn, name: str, created_s: int) -> None:
    arn = ConsumerArn(stream, name, created_s)
    assert ConsumerArn.parse(str(arn)) == arn
    assert StreamArn.parse(str(arn)) is None


@given(st.one_of(st.text(), st.text("arn:aws:kinesis:/0123456789-")))
def test_arbitrary_text_is_no_arn_or_one_that_is_printed_alike(text: str) -> None:
    for kind in (StreamArn, ConsumerArn):
        arn = kind.parse(text)
        assert arn is None or kind.parse(str(arn)) == arn


def test_arns_of_other_partitions_and_services_are_told_apart() -> None:
    arn = StreamArn.parse("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/s")
    assert arn == StreamArn(Scope("123456789012", "cn-north-1"), "s")
    for text in (
        "arn:aws:firehose:us-east-1:123456789012:stream/s",
        "arn:aws:kinesis:us-east-1:12345678901:stream/s",
        "arn:aws:kinesis:us-east-1:123456789012:stream/",
        "arn:aws:kinesis:us-east-1:123456789012:stream/" + "s" * 129,
        "arn:aws:kinesis:us-east-1:123456789012:stream/s\n",
        "arn:aws:kinesis:us-east-1:123456789012:stream/s ",
    ):
        assert StreamArn.parse(text) is None


@pytest.mark.parametrize("name", ["", "a" * 129, "with space", "ümlaut", "a/b", "a\n"])
def test_names_that_aws_refuses_are_refused(name: str) -> None:
    assert STREAM_NAME.fullmatch(name) is None


def test_account_ids_are_twelve_ascii_digits() -> None:
    assert ACCOUNT_ID.fullmatch("123456789012")
    assert not ACCOUNT_ID.fullmatch("1234567890123")
    assert not ACCOUNT_ID.fullmatch("١٢٣٤٥٦٧٨٩٠١٢")
    assert StreamArn.parse("arn:aws:kinesis:us-east-1:١٢٣٤٥٦٧٨٩٠١٢:stream/s") is None


@given(st.integers(0, SHARD_INDEX_MAX))
def test_a_shard_id_is_parsed_as_it_is_printed(index: int) -> None:
    assert shard_index(shard_id(index)) == index
    assert shard_index(str(index)) == index


@given(st.one_of(st.text(), st.text("-0123456789shardI")))
def test_arbitrary_text_is_no_shard_id_or_means_one(text: str) -> None:
    index = shard_index(text)
    if index is not None:
        assert 0 <= index <= SHARD_INDEX_MAX
        assert text.endswith(str(index))


@pytest.mark.parametrize(
    "text", ["", "shardId-", "shardId-x", "shardId--1", "shardId-1234567890123", str(SHARD_INDEX_MAX + 1), "²", "１"]
)
def test_what_is_no_shard_id_is_none(text: str) -> None:
    assert shard_index(text) is None
