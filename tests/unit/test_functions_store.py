"""The documents of functions and layers on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamkit.control import ControlFile
from streamkit.functions.state import (
    LATEST,
    AliasState,
    CodeState,
    Configuration,
    EventInvokeState,
    FunctionState,
    LayerState,
    LayerVersionState,
    PolicyState,
    Settling,
    UrlState,
    VersionState,
)
from streamkit.functions.store import FunctionStore

CODE = CodeState("0" * 64, 1, 2)
CONFIGURATION = Configuration("python3.12", "app.handler", "arn:aws:iam::000000000000:role/r", code=CODE)


def function(name: str = "f", function_id: str = "1" * 32) -> FunctionState:
    settling = Settling(5, "Pending", "r2")
    return FunctionState(
        function_id,
        "000000000000",
        "us-east-1",
        name,
        1,
        VersionState(LATEST, CONFIGURATION, "r1", 1, settling),
        versions={"1": VersionState("1", CONFIGURATION, "r", 1, digest="d")},
        aliases={"live": AliasState("live", "1", "r", weights={"2": 0.5})},
        reserved_concurrency=5,
        provisioned={"1": 2},
        event_invoke={LATEST: EventInvokeState(1, retries_max=0)},
        urls={LATEST: UrlState("u", "NONE", 1, 1, cors={"MaxAge": 1})},
        policies={LATEST: PolicyState([{"Sid": "s", "Principal": "*"}], "r")},
        tags={"a": "b"},
    )


LAYER = LayerState(
    "000000000000", "us-east-1", "l", 3, {"2": LayerVersionState(2, CODE, 1, "d", "MIT", ["python3.12"])}, {"1": CODE}
)


def test_what_was_saved_is_loaded_after_a_restart(tmp_path: Path) -> None:
    """Documents come back as they were, and the last save of each counts."""
    path = tmp_path / "control.sqlite"
    file = ControlFile(path)
    store = FunctionStore(file)
    store.save_function(function())
    changed = msgspec.structs.replace(function(), tags={})
    store.save_function(changed)
    store.save_function(function("g", "2" * 32))
    store.save_layer(LAYER)
    file.close()
    file = ControlFile(path)
    loaded = FunctionStore(file)
    assert sorted(loaded.functions(), key=lambda each: each.name) == [changed, function("g", "2" * 32)]
    assert loaded.layers() == [LAYER]
    file.close()


def test_what_was_deleted_is_gone() -> None:
    """One function alone, or everything."""
    store = FunctionStore(ControlFile(None))
    store.save_function(function())
    store.save_function(function("g", "2" * 32))
    store.save_layer(LAYER)
    store.delete_function("1" * 32)
    assert [each.name for each in store.functions()] == ["g"]
    store.delete_all()
    assert (store.functions(), store.layers()) == ([], [])


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_any_text_survives(name: str, tags: dict[str, str]) -> None:
    """Documents hold all of Unicode that JSON can."""
    store = FunctionStore(ControlFile(None))
    state = msgspec.structs.replace(function(), tags=tags, name=name)
    store.save_function(state)
    assert store.functions() == [state]
