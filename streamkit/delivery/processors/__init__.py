"""What happens to records before they are partitioned, in Firehose's order.

KPL de-aggregation ─▶ decompression ─▶ de-aggregation ─▶ function ─▶ partition keys ─▶ delimiter

The developer guide has "Deaggregation → Data Transformation via Lambda → Partitioning Keys"; that the messages of a
decompressed record are split again is what users of both processors find.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

from streamkit.clock import Clock

if TYPE_CHECKING:
    from streamkit.delivery.plan import DeliveryPlan
    from streamkit.delivery.processor import Offload, Step


class Invoked(Protocol):
    """What a function answered. `function_error` is AWS's X-Amz-Function-Error, None where the handler returned."""

    @property
    def payload(self) -> bytes: ...

    @property
    def function_error(self) -> str | None: ...


Invoke = Callable[[str, Sequence[bytes]], Awaitable[Invoked]]
"""Calls a function (its ARN) with an event, JSON in pieces, and waits for its answer. Raises StreamkitError where it
could not be called: AccessDenied, ResourceNotFound, TooManyRequests, RequestTooLarge."""


def make_steps(
    plan: DeliveryPlan, *, invoke: Invoke, clock: Clock, random: Random, region: str, offload: Offload
) -> list[Step]:
    """A step for each processor of the plan, in its order. `random` makes the ids of invocations. Raises
    InvalidArgument for a query that `check_query` refuses."""
    from streamkit.delivery import plan as plans
    from streamkit.delivery.processors.deaggregate import SplitAggregates, SplitRecords
    from streamkit.delivery.processors.decompress import Decompress
    from streamkit.delivery.processors.delimiter import AppendDelimiter
    from streamkit.delivery.processors.metadata import ExtractMetadata
    from streamkit.delivery.processors.transform import Transform
    from streamkit.delivery.processors.validate import Validate

    def step(processor: plans.Processor) -> Step:
        match processor:
            case plans.Validation():
                return Validate(processor, offload=offload)
            case plans.Deaggregation(kind="KPL"):
                return SplitAggregates(offload=offload)
            case plans.Deaggregation():
                return SplitRecords(processor, offload=offload)
            case plans.Decompression():
                return Decompress(processor, offload=offload)
            case plans.Transform():
                return Transform(
                    processor, plan, invoke=invoke, clock=clock, random=random, region=region, offload=offload
                )
            case plans.MetadataExtraction():
                return ExtractMetadata(processor, offload=offload)
            case plans.AppendDelimiter():
                return AppendDelimiter(processor)

    return [step(processor) for processor in plan.processors]
