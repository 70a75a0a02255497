"""Puts a delivery stream's worker together from its plan. Imported when the first one starts: it brings Arrow."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from streamkit import plugins
from streamkit.clock import Clock
from streamkit.delivery.buffers import Role
from streamkit.delivery.deliverer import Deliverer
from streamkit.delivery.destination import Destination, Surroundings
from streamkit.delivery.formats import Encoder
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.line import Line, Schemas
from streamkit.delivery.metering import Meter
from streamkit.delivery.naming import Namer, check_file_names, random_text, too_long
from streamkit.delivery.plan import (
    DeliveryPlan,
    DestinationSpec,
    Format,
    Naming,
    OrcFormat,
    ParquetFormat,
    RecordsFormat,
    TextFormat,
)
from streamkit.delivery.processor import Offload, Step
from streamkit.delivery.processors import Invoke, make_steps
from streamkit.delivery.records_format import RecordsEncoder
from streamkit.delivery.stage import Stage
from streamkit.delivery.state import DeliveryState, Target
from streamkit.delivery.store import DeliveryStore
from streamkit.delivery.text import TextEncoder
from streamkit.delivery.worker import DeliveryWorker, Job, Outlet
from streamkit.model.limits import OBJECT_FILE_NAME_BYTES_MAX
from streamkit.sources.source import Source

_LONGEST_EXTENSION: Final = ".parquet"
_ROOM: Final = "." * 24  # what times are written with is not always as long as at the epoch

DESTINATIONS = "streamkit.destinations"
FORMATS = "streamkit.formats"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all delivery streams of a server share."""

    directory: Path
    store: DeliveryStore
    surroundings: Surroundings
    invoke: Invoke
    clock: Clock
    random: random.Random
    offload: Offload

    def stage(self, state: DeliveryState) -> Stage:
        return Stage(self.directory / state.id)

    def make(
        self,
        state: DeliveryState,
        plan: DeliveryPlan,
        source: Source,
        first_positions: Mapping[int, int],
        schemas: Schemas,
        meter: Meter,
        *,
        first_incarnation: str = "",
    ) -> DeliveryWorker:
        """A worker that goes on where the ledger is. Blocks shortly: it looks through the stage."""
        ledger = Ledger(self.store, state.id)
        stage = self.stage(state)
        stage.open({each.number for each in ledger.progress.sealed}, ledger.spools)
        worker: DeliveryWorker
        deliverer = Deliverer(
            state,
            ledger,
            stage,
            self._open,
            clock=self.clock,
            random_source=self.random,
            offload=self.offload,
            meter=meter,
            on_change=lambda: worker.wake(),
        )
        outlets = _outlets(plan)
        table = self._open(outlets["main"].target)  # asked for its columns only: deliveries open their own

        async def table_schema() -> pa.Schema | None:
            return await table.schema()

        line = Line(
            plan,
            self._steps(state, plan),
            schemas=schemas,
            table_schema=table_schema,
            active=lambda: worker.active_partitions(),
            fits=_fits(outlets["main"], are_files=self._are_files(plan.destination)),
            clock=self.clock,
            offload=self.offload,
        )
        worker = DeliveryWorker(
            Job(
                state=state,
                plan=plan,
                source=source,
                first_positions=first_positions,
                line=line,
                outlets=outlets,
                ledger=ledger,
                stage=stage,
                deliverer=deliverer,
                clock=self.clock,
                offload=self.offload,
                meter=meter,
                metric=table.metric,
                first_incarnation=first_incarnation,
            )
        )
        return worker

    def check(self, state: DeliveryState, plan: DeliveryPlan) -> None:
        """That a worker can be made of it. Raises InvalidArgument for what it cannot do, NotImplementedHere, and
        UsageError for what is not installed."""
        for outlet in _outlets(plan).values():
            self._open(outlet.target)
        if self._are_files(plan.destination):
            check_file_names(plan.naming)
        self._steps(state, plan)

    def _steps(self, state: DeliveryState, plan: DeliveryPlan) -> list[Step]:
        return make_steps(
            plan,
            invoke=self.invoke,
            clock=self.clock,
            random=self.random,
            region=state.region,
            offload=self.offload,
        )

    def _are_files(self, spec: DestinationSpec) -> bool:
        """Whether names of objects are names of files."""
        is_remote = self.surroundings.object_store or spec.options.get("endpoint")
        return spec.service == "files" or (spec.service == "s3" and not is_remote)

    def _open(self, target: Target) -> Destination:
        return open_destination(target, self.surroundings)


def open_destination(target: Target, surroundings: Surroundings) -> Destination:
    """UsageError where there is no such destination, or its options cannot be right."""
    made: Destination = plugins.load(DESTINATIONS, target.service)(
        DestinationSpec(target.service, target.options), surroundings
    )
    return made


def make_encoder(format: Format) -> Encoder:
    if isinstance(format, TextFormat):
        return TextEncoder(format)
    if isinstance(format, RecordsFormat):
        return RecordsEncoder()
    name = {ParquetFormat: "parquet", OrcFormat: "orc"}[type(format)]
    made: Encoder = plugins.load(FORMATS, name)(format)
    return made


def _outlets(plan: DeliveryPlan) -> dict[Role, Outlet]:
    text = plan.format if isinstance(plan.format, TextFormat) else TextFormat()
    if plan.backup is not None:
        text = plan.backup.format
    main_namer, errors = _namer(plan, plan.naming), _target(plan, plan.error_destination, plan.naming, text)
    outlets: dict[Role, Outlet] = {
        "main": Outlet(
            main_namer,
            make_encoder(plan.format),
            _target(plan, plan.destination, plan.naming, text),
            plan.retry_ms,
            errors,
        ),
        "error": Outlet(main_namer, TextEncoder(text), errors),
    }
    backup = plan.backup
    if backup is not None and backup.mode == "all":
        outlets["backup"] = Outlet(
            _namer(plan, backup.naming),
            TextEncoder(backup.format),
            _target(plan, backup.destination, backup.naming, backup.format),
        )
    return outlets


def _fits(outlet: Outlet, *, are_files: bool) -> Callable[[Mapping[str, str]], bool]:
    """Whether objects with these partition values can have their names, with room for names of months and the like."""
    below = f"{outlet.target.options.get('prefix') or ''}/"
    longest_id = str(uuid.UUID(int=0))

    def fits(partition: Mapping[str, str]) -> bool:
        key = outlet.namer.key(
            arrived_at_ms=0,
            id=longest_id,
            extension=_LONGEST_EXTENSION,
            partition=partition,
            error_type=None,
            random_text=random_text(longest_id),
        )
        longest = max(map(len, (key + _ROOM).encode().split(b"/")))
        return not too_long(below + key + _ROOM) and not (are_files and longest > OBJECT_FILE_NAME_BYTES_MAX)

    return fits


def _namer(plan: DeliveryPlan, naming: Naming) -> Namer:
    return Namer(naming, stream=plan.name, version=plan.version)


def _target(plan: DeliveryPlan, spec: DestinationSpec, naming: Naming, text: TextFormat) -> Target:
    options = dict(spec.options)
    if spec.service == "http":
        options["source_arn"] = plan.arn  # a header of its requests
    return Target(
        spec.service,
        options,
        naming.prefix,
        naming.error_prefix,
        naming.time_zone,
        naming.extension,
        naming.is_key,
        text.compression,
    )
