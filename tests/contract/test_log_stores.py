"""Every log store of ours keeps the port's promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.model.limits import KIB
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.log import LogSettings
from streamkit.shards.memory import MemoryLogStore
from streamkit.testing.files import SimulatedFiles
from streamkit.testing.log_store_contract import DurableLogStoreContract, LogStoreContract, MakeStore
from streamkit.testing.runner import InlineRunner


class TestOnDisk(DurableLogStoreContract):
    @pytest.fixture(params=["fsync", "interval", "none"])
    def make_store(self, tmp_path: Path, request: pytest.FixtureRequest) -> MakeStore:
        return lambda clock: DiskLogStore(tmp_path, clock=clock, durability=request.param)


class TestOnDiskWithTinySegments(DurableLogStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        settings = LogSettings(segment_bytes_max=KIB // 2)
        return lambda clock: DiskLogStore(tmp_path, clock=clock, settings=settings)


class TestOnSimulatedFiles(DurableLogStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        files = SimulatedFiles()
        return lambda clock: DiskLogStore(Path("/data"), clock=clock, files=files, runner=InlineRunner())


class TestInMemory(LogStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        return lambda clock: MemoryLogStore(clock=clock)
