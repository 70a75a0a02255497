"""The AWS CLI from end to end. Each call starts it anew and costs a second, so it is one story."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.wire.clients import ACCOUNT, REGION

FIRST = "shardId-000000000000"


def test_the_aws_cli_creates_puts_reads_splits_and_deletes(streamkit_endpoint: str, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_PAGER": "",
    }

    def aws(*arguments: str) -> Any:
        command = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", streamkit_endpoint, "--output", "json"]
        done = subprocess.run(
            [*command, "kinesis", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    aws("create-stream", "--stream-name", "s", "--shard-count", "1")
    put = aws("put-record", "--stream-name", "s", "--partition-key", "k", "--data", "hello")
    assert put["ShardId"] == FIRST
    iterator = aws(
        "get-shard-iterator", "--stream-name", "s", "--shard-id", FIRST, "--shard-iterator-type", "TRIM_HORIZON"
    )["ShardIterator"]
    aws("split-shard", "--stream-name", "s", "--shard-to-split", FIRST, "--new-starting-hash-key", str(2**127))
    read = aws("get-records", "--shard-iterator", iterator)
    assert [base64.b64decode(record["Data"]) for record in read["Records"]] == [b"hello"]
    assert read["Records"][0]["SequenceNumber"] == put["SequenceNumber"]
    assert [child["ParentShards"] for child in read["ChildShards"]] == [[FIRST]] * 2
    described = aws("describe-stream", "--stream-name", "s")["StreamDescription"]
    assert [shard.get("ParentShardId") for shard in described["Shards"]] == [None, FIRST, FIRST]
    aws("delete-stream", "--stream-name", "s")
    assert aws("list-streams")["StreamNames"] == []
