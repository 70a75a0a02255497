"""What execution environments cost: `.venv/bin/python tests/bench/environments.py [--quick] [--kinds fork ric]`.

Cold starts are counted from `start()` to its end; the first one also starts the zygote. CPU is read from the kernel:
the server's is this process's, all in; the workers' is that of the environments. Handlers do nothing, and events are
built beforehand: the figures are what the environments add. Invocations run one after the other in each environment,
and in several at once. Memory is proportional (pages shared by n processes count one n-th for each), of the
environments and of what they were forked from. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from streamkit.clock import SystemClock
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.functions.environments.port import Buffer, Environment, Environments, Spec
from streamkit.functions.environments.ric import RicEnvironments
from streamkit.testing.environment_contract import invocation_of, make_spec

PLAIN: Final = "def handler(event, context): return None"
WITH_SDK: Final = "import boto3\ndef handler(event, context): return None"
IDLE_COUNT: Final = 40


def spec_of(directory: Path, source: str) -> Spec:
    directory.mkdir()
    (directory / "handler.py").write_text(source)
    return make_spec(directory, memory_mib=512)


def cpu_s(pid: int | None) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def proportional_mib(pid: int | None) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024


def parent_of(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kinesis_event(records: int, rng: random.Random) -> list[Buffer]:
    """As event source mappings make it: JSON, a piece for each record."""
    number = "49" + "1" * 54
    pieces: list[Buffer] = [b'{"Records":[']
    for index in range(records):
        data = base64.b64encode(rng.randbytes(100)).decode()
        text = (
            f'{"," if index else ""}{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"key-{index}",'
            f'"sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":1700000000.123}},'
            f'"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000000:{number}",'
            '"eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::000000000000:role/r",'
            '"awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s"}'
        )
        pieces.append(text.encode())
    return [*pieces, b"]}"]


async def cold_starts(environments: Environments, spec: Spec, count: int) -> str:
    took_ms = []
    for _ in range(count):
        environment = environments.make(spec, lambda text: None)
        began_s = time.perf_counter()
        init = await environment.start()
        took_ms.append((time.perf_counter() - began_s) * 1000)
        assert init.error is None, init.error
        await environment.stop()
    took_ms.sort()
    return f"p50 {took_ms[count // 2]:.1f} ms, p90 {took_ms[count * 9 // 10]:.1f} ms"


async def started(environments: Environments, spec: Spec, count: int) -> list[Environment]:
    made = [environments.make(spec, lambda text: None) for _ in range(count)]
    await asyncio.gather(*(each.start() for each in made))
    return made


async def invocations(
    environments: Environments, spec: Spec, payload: Sequence[Buffer], *, at_once: int, count: int
) -> str:
    made = await started(environments, spec, at_once)

    async def work(environment: Environment, count: int) -> None:
        for _ in range(count):
            answer = await environment.invoke(invocation_of(spec, *payload))
            assert answer.ending == "answered", answer

    async def work_all(count: int) -> None:
        await asyncio.gather(*(work(each, count // at_once) for each in made))

    await work_all(10 * at_once)
    workers_s, server_s, began_s = sum(cpu_s(each.pid) for each in made), time.process_time(), time.perf_counter()
    await work_all(count)
    took_s, server_s = time.perf_counter() - began_s, time.process_time() - server_s
    workers_s = sum(cpu_s(each.pid) for each in made) - workers_s
    for each in made:
        await each.stop()
    return (
        f"{count / took_s:8,.0f}/s, CPU each: server {server_s / count * 1e6:6.1f} us, "
        f"worker {workers_s / count * 1e6:6.1f} us"
    )


async def idle_memory(environments: Environments, spec: Spec, payload: Sequence[Buffer]) -> str:
    made = await started(environments, spec, IDLE_COUNT)
    for each in made:
        await each.invoke(invocation_of(spec, *payload))
    parents = {parent_of(each.pid) for each in made} - {os.getpid()}
    own = sum(proportional_mib(each.pid) for each in made)
    shared = sum(proportional_mib(pid) for pid in parents)
    for each in made:
        await each.stop()
    return f"{own:.0f} MiB, and {shared:.0f} MiB of the process they were forked from"


async def measure(kind: str, environments: Environments, directory: Path, scale: int) -> None:
    rng = random.Random(1)
    plain, with_sdk = spec_of(directory / f"{kind}-plain", PLAIN), spec_of(directory / f"{kind}-sdk", WITH_SDK)
    one, hundred = kinesis_event(1, rng), kinesis_event(100, rng)
    print(f"{kind}: the first cold start       {await cold_starts(environments, plain, 1)}")
    print(f"{kind}: cold starts                {await cold_starts(environments, plain, 10 * scale)}")
    print(f"{kind}: the first one with boto3   {await cold_starts(environments, with_sdk, 1)}")
    if isinstance(environments, ForkEnvironments):
        await environments.settled()
    print(f"{kind}: cold starts with boto3     {await cold_starts(environments, with_sdk, 6 * scale)}")
    for name, event, count in (("1 record", one, 2_000 * scale), ("100 records", hundred, 400 * scale)):
        for at_once in (1, 4):
            took = await invocations(environments, plain, event, at_once=at_once, count=count)
            print(f"{kind}: {name:11} of 100 B, {at_once} at once {took}")
    print(f"{kind}: {IDLE_COUNT} idle environments       {await idle_memory(environments, plain, one)}")


async def main(kinds: Sequence[str], scale: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for kind in kinds:
            environments = RicEnvironments(SystemClock()) if kind == "ric" else ForkEnvironments(SystemClock())
            try:
                await measure(kind, environments, Path(directory), scale if kind == "fork" else 1)
            finally:
                await environments.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--kinds", nargs="+", choices=["fork", "ric"], default=["fork"])
    options = parser.parse_args()
    uvloop.run(main(options.kinds, 2 if options.quick else 10))
