"""What every Destination must do, as tests: one class to inherit from.

    class TestMyDestination(DestinationContract):
        @pytest.fixture
        def harness(self, tmp_path: Path) -> Iterator[Harness]:
            with my_server(tmp_path) as server:
                yield MyHarness(server)

`DestinationContract` has what holds for all: destinations that take records, tables or objects. It looks at documents,
each an id and a text, which are lines of JSON in an object, the `data` of records, and rows of a table.
`ObjectDestinationContract` adds what holds where an object is found again under its key.

Each test promises something that `streamkit.delivery.destination` says. Destinations run on a real event loop; each
test has one of its own, so what a harness starts lives in threads or processes. Time is real, but `clock.now_ms()`
stands still.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson
import pytest

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Destination, Range, Sealed
from streamkit.model.limits import MIB
from streamkit.testing.clock import START_MS, ManualClock

if TYPE_CHECKING:
    import pyarrow as pa

LARGE_BYTES: Final = 20 * MIB
DELIVERY_ID: Final = "0" * 31 + "1"
OTHER_DELIVERY_ID: Final = "0" * 31 + "2"
_PATIENCE_S: Final = 60.0
_CANCELLATIONS: Final = 8  # moments of a delivery, evenly spread over the time it takes
_AWKWARD_TEXTS: Final = (
    "",
    "ünïcödé ✓ 𝄞",
    "tab\tnew\nline",
    "quotes ' \" \\ $$ `",
    "\u2028",
    "null",
    "<&>",
    "a" * 70_000,
)


class Document(NamedTuple):
    """What the kit delivers and looks for. As JSON: `{"id": 1, "text": "one"}`, and a line feed."""

    id: int
    text: str

    def to_json(self) -> bytes:
        return orjson.dumps({"id": self.id, "text": self.text}, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, line: bytes | str) -> Document:
        found = orjson.loads(line)
        return cls(found["id"], found["text"])


class Harness(Protocol):
    """The place that is delivered to, and how a test looks into it. Inherit for the defaults."""

    exactly_once: bool = True
    """False where a try that is repeated may leave a document twice."""

    refused: str | None = None
    """The text of a document that the place takes under no circumstances, and says so; None: it takes everything."""

    large_bytes: int = LARGE_BYTES
    """Of the largest object that is tried."""

    def open(self, clock: Clock) -> Destination:
        """One more destination onto the same place, as after a restart. Called on the running event loop; the kit
        closes it. A `tables` destination has, or makes, a table of the columns id (int64) and text (string)."""
        ...

    async def read_back(self) -> Sequence[Document]:
        """What a reader sees now: each document as often as it is there, in any order."""
        ...

    def outage(self) -> AbstractAsyncContextManager[None]:
        """While it lasts the place cannot be reached or refuses everything, for a reason that passes. Afterwards it
        holds what it held."""
        ...


class ObjectHarness(Harness, Protocol):
    """A place where an object is found under its key."""

    impossible_keys: Sequence[str] = ()
    """Keys that the place cannot hold."""

    async def objects(self) -> Mapping[str, bytes]:
        """Every object that readers see now, by its key: one that is seen in part is given in part."""
        ...

    async def read_back(self) -> Sequence[Document]:
        found = (await self.objects()).values()
        return [Document.from_json(line) for content in found for line in content.splitlines()]


class Stage:
    """A test's own: destinations it opened, objects it sealed."""

    def __init__(self, harness: Harness, directory: Path) -> None:
        self.harness = harness
        self.clock = ManualClock()
        self._directory = directory
        self._opened: list[Destination] = []
        self._number = 0
        self._documents = 0

    def open(self) -> Destination:
        opened = self.harness.open(self.clock)
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        while self._opened:
            await self._opened.pop().close()

    def documents(self, count: int, text: str = "text") -> list[Document]:
        """With ids that no other document has."""
        self._documents += count
        return [Document(number, text) for number in range(self._documents - count, self._documents)]

    async def seal(
        self,
        destination: Destination,
        documents: Sequence[Document],
        *,
        key: str | None = None,
        delivery_id: str = DELIVERY_ID,
        number: int | None = None,
    ) -> Sealed:
        """An object of these documents, in the form that the destination takes, as the engine would have staged it."""
        if number is None:
            self._number += 1
            number = self._number
        path = self._directory / f"{delivery_id}-{number}"
        if destination.takes == "objects":
            await asyncio.to_thread(path.write_bytes, b"".join(document.to_json() for document in documents))
        elif destination.takes == "records":
            _write_records(path, documents)
        else:
            _write_table(path, documents, await destination.schema())
        return sealed_of(path, len(documents), key=key, delivery_id=delivery_id, number=number)

    async def read_back(self) -> Counter[Document]:
        return Counter(await self.harness.read_back())

    async def check(self, documents: Sequence[Document], *, tries: int = 1) -> None:
        """These documents, and no others, are there: once each, or where the place cannot do better than at least
        once, no more often than was tried."""
        found = await self.read_back()
        assert found.keys() == set(documents)
        doubled = {document.id: count for document, count in found.items() if count > 1}
        assert not doubled or (not self.harness.exactly_once and max(doubled.values()) <= tries)


def sealed_of(
    path: Path, records_count: int, *, key: str | None = None, delivery_id: str = DELIVERY_ID, number: int = 1
) -> Sealed:
    """A sealed object of what is in a file; the same arguments give the same id."""
    digest = hashlib.md5(f"{delivery_id}/{number}".encode()).hexdigest()
    return Sealed(
        delivery_id=delivery_id,
        number=number,
        id="-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:])),
        key=key if key is not None else f"2023/11/14/22/tested-1-2023-11-14-22-13-20-{digest}",
        path=path,
        records_count=records_count,
        size_bytes=path.stat().st_size,
        ranges=(Range(0, 100 * number, 100 * number + 99),),
        arrived_at_ms=START_MS,
    )


def _write_records(path: Path, documents: Sequence[Document]) -> None:
    import pyarrow as pa

    from streamkit.delivery.rows import IPC_SCHEMA

    count = len(documents)
    columns = {
        "data": [document.to_json() for document in documents],
        "arrived_ms": [START_MS] * count,
        "shard": [0] * count,
        "shard_created_s": [START_MS // 1000] * count,
        "offset": list(range(count)),
        "sub": [0] * count,
        "partition_key": [str(document.id).encode() for document in documents],
    }
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, IPC_SCHEMA) as writer:
        # In several batches, as an encoder writes one for each piece that it is given.
        writer.write_table(pa.table(columns, schema=IPC_SCHEMA), max_chunksize=5_000)


def _write_table(path: Path, documents: Sequence[Document], schema: pa.Schema | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.array([document.id for document in documents], pa.int64()),
        "text": pa.array([document.text for document in documents], pa.string()),
    }
    table = pa.table(columns)
    if schema is not None:
        table = table.select(schema.names).cast(schema)
    pq.write_table(table, path)


class DestinationContract:
    """Inherit, and override `harness`."""

    @pytest.fixture
    def harness(self) -> Any:
        raise NotImplementedError("say where your destination delivers to, and how it is read back")

    @pytest.fixture
    def run(self, harness: Harness, tmp_path: Path) -> Run:
        directory = tmp_path / "staged by the kit"
        directory.mkdir()
        return lambda scenario: _run(harness, directory, scenario)

    # -- what it says of itself --------------------------------------------------------------------------------------

    def test_it_says_what_it_takes_and_what_it_is_called(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            assert destination.takes in ("objects", "records", "tables")
            assert isinstance(destination.is_ordered, bool)
            assert destination.failed_output_type == destination.failed_output_type.lower() != ""
            assert destination.metric.isalnum()

        run(scenario)

    def test_opening_it_needs_nobody_on_the_other_side(self, run: Run) -> None:
        """A node starts, whatever its destinations are doing."""

        async def scenario(stage: Stage) -> None:
            async with stage.harness.outage():
                stage.open()
                await stage.close()

        run(scenario)

    def test_only_tables_have_a_schema(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            schema = await destination.schema()
            if destination.takes != "tables":
                assert schema is None
            elif schema is not None:
                assert {"id", "text"} <= set(schema.names)

        run(scenario)

    # -- delivering --------------------------------------------------------------------------------------------------

    def test_what_is_delivered_is_there_when_delivering_returns(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(100)
            sealed = await stage.seal(destination, documents)
            assert list(await destination.deliver(sealed, may_be_there=False)) == []
            await stage.check(documents)

        run(scenario)

    def test_objects_one_after_the_other_are_all_there(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(30)
            for start in range(0, 30, 3):
                sealed = await stage.seal(destination, documents[start : start + 3])
                await destination.deliver(sealed, may_be_there=False)
            await stage.check(documents)

        run(scenario)

    def test_many_at_once_lose_and_double_nothing(self, run: Run) -> None:
        """Where the destination is not ordered, that is, and then in any order."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(160)
            sealed = [await stage.seal(destination, documents[start : start + 4]) for start in range(0, 160, 4)]
            if destination.is_ordered:
                for each in sealed:
                    await destination.deliver(each, may_be_there=False)
            else:
                random.Random(7).shuffle(sealed)
                await asyncio.gather(*(destination.deliver(each, may_be_there=False) for each in sealed))
            await stage.check(documents)

        run(scenario)

    def test_every_text_arrives_as_it_was(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = [document for text in _AWKWARD_TEXTS for document in stage.documents(1, text)]
            await destination.deliver(await stage.seal(destination, documents), may_be_there=False)
            await stage.check(documents)

        run(scenario)

    def test_a_large_object_arrives_whole_while_other_work_goes_on(self, run: Run) -> None:
        """Nothing of a delivery may hold the event loop from its start to its end."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            text = "0123456789abcdef" * 64
            documents = stage.documents(stage.harness.large_bytes // (len(text) + 24), text)
            sealed = await stage.seal(destination, documents)
            turns = 0

            async def other_work() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0.001)
                    turns += 1

            working = asyncio.ensure_future(other_work())
            await destination.deliver(sealed, may_be_there=False)
            working.cancel()
            assert turns
            await stage.check(documents)

        run(scenario)

    def test_the_staged_file_stays_as_it_is_and_is_not_needed_afterwards(self, run: Run) -> None:
        """Only the engine removes it; then the delivered stays."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(10)
            sealed = await stage.seal(destination, documents)
            before = sealed.path.read_bytes()
            await destination.deliver(sealed, may_be_there=False)
            assert sealed.path.read_bytes() == before
            sealed.path.unlink()
            await stage.close()
            await stage.check(documents)

        run(scenario)

    def test_delivery_streams_do_not_shadow_each_other(self, run: Run) -> None:
        """Their objects have the same numbers; so have those of one that was deleted and made again."""

        async def scenario(stage: Stage) -> None:
            documents = stage.documents(4)
            ids = (DELIVERY_ID, OTHER_DELIVERY_ID)
            for number in (1, 2):
                for place, delivery_id in enumerate(ids):
                    destination = stage.open()
                    mine = documents[2 * place + number - 1 : 2 * place + number]
                    sealed = await stage.seal(destination, mine, delivery_id=delivery_id, number=number)
                    await destination.deliver(sealed, may_be_there=False)
            await stage.check(documents)

        run(scenario)

    def test_records_that_are_refused_are_told_and_the_others_are_delivered(self, run: Run) -> None:
        """By their rows in the sealed file; where nothing is ever refused, nothing is told."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(10)
            rows = [0, 4, 9] if stage.harness.refused is not None else []
            for row in rows:
                documents[row] = documents[row]._replace(text=stage.harness.refused or "")
            sealed = await stage.seal(destination, documents)
            refused = await destination.deliver(sealed, may_be_there=False)
            assert sorted(each.row for each in refused) == rows
            assert all(each.code and each.message for each in refused)
            await stage.check([document for row, document in enumerate(documents) if row not in rows])

        run(scenario)

    # -- trying again ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("is_restarted", [False, True])
    def test_the_same_object_again_changes_nothing(self, run: Run, is_restarted: bool) -> None:
        """The answer was lost, or the process died before it noted it; others may have been delivered since."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(20)
            sealed = [await stage.seal(destination, documents[:10]), await stage.seal(destination, documents[10:])]
            if destination.is_ordered:
                sealed, documents = sealed[:1], documents[:10]
            for each in sealed:
                await destination.deliver(each, may_be_there=False)
            if is_restarted:
                await stage.close()
                destination = stage.open()
            for _ in range(2):
                for each in sealed:
                    assert list(await destination.deliver(each, may_be_there=True)) == []
            await stage.check(documents, tries=3)

        run(scenario)

    def test_an_object_that_was_never_tried_may_be_said_to_have_been(self, run: Run) -> None:
        """After a crash nobody knows whether the first try began."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(5)
            await destination.deliver(await stage.seal(destination, documents), may_be_there=True)
            await stage.check(documents)

        run(scenario)

    def test_a_try_that_is_cancelled_at_any_moment_is_completed_by_the_next(self, run: Run) -> None:
        """Nothing is lost; where the place can refuse what it has, nothing is there twice either."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(2_000, "t" * 256)
            sealed = await stage.seal(destination, documents)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            await destination.deliver(sealed, may_be_there=False)
            took_s = loop.time() - began_s
            for moment in range(_CANCELLATIONS):
                more = stage.documents(2_000, "t" * 256)
                sealed = await stage.seal(destination, more)
                trying = asyncio.ensure_future(destination.deliver(sealed, may_be_there=False))
                await asyncio.sleep(took_s * moment / _CANCELLATIONS)
                trying.cancel()
                await asyncio.gather(trying, return_exceptions=True)
                if moment % 2:
                    await stage.close()
                    destination = stage.open()
                await deliver_stubbornly(destination, sealed)
                documents += more
            await stage.close()
            await stage.check(documents, tries=2)

        run(scenario)

    def test_what_an_outage_stopped_is_delivered_after_it(self, run: Run) -> None:
        """With an error in between that says what it was, and that it may pass."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(10)
            await destination.deliver(await stage.seal(destination, documents[:5]), may_be_there=False)
            sealed = await stage.seal(destination, documents[5:])
            async with stage.harness.outage():
                for may_be_there in (False, True):
                    with pytest.raises(DeliveryFailed) as caught:
                        await destination.deliver(sealed, may_be_there=may_be_there)
                    assert not caught.value.is_final
                    assert caught.value.error_code
                    assert caught.value.message
            await deliver_stubbornly(destination, sealed)
            await stage.check(documents, tries=3)

        run(scenario)

    def test_an_object_that_was_given_up_does_not_stop_the_next(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            documents = stage.documents(5)
            given_up = await stage.seal(destination, stage.documents(5))
            async with stage.harness.outage():
                with pytest.raises(DeliveryFailed):
                    await destination.deliver(given_up, may_be_there=False)
            await deliver_stubbornly(destination, await stage.seal(destination, documents))
            await stage.check(documents, tries=2)

        run(scenario)


class ObjectDestinationContract(DestinationContract):
    """Inherit where `harness` gives an ObjectHarness."""

    def test_an_object_has_its_name_and_its_bytes(self, run: Run) -> None:
        """Whatever the name is made of: spaces, what URLs escape, every alphabet."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            keys = [
                "top",
                "a/b/c/d/e/f",
                "year=2023/month=11/part 1.json.gz",
                "a+b%2Fc?d#e&f;g:h,i@j!k'l(m)n*o~p^q`r|s<t>u\"v",
                "größe/日本語/🎈.txt",
                "customer_id=$HOME/{x}/[y]/\\z",
            ]
            expected = {}
            for number, key in enumerate(keys):
                sealed = await stage.seal(destination, [], key=key)
                sealed = _with_content(sealed, bytes(range(256)) * number)
                await destination.deliver(sealed, may_be_there=False)
                expected[key] = sealed.path.read_bytes()
            assert await _objects(stage) == expected

        run(scenario)

    def test_an_object_may_be_empty(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            sealed = await stage.seal(destination, [], key="nothing")
            await destination.deliver(sealed, may_be_there=False)
            await destination.deliver(sealed, may_be_there=True)
            assert await _objects(stage) == {"nothing": b""}

        run(scenario)

    @pytest.mark.parametrize("may_be_there", [False, True])
    @pytest.mark.parametrize("is_as_long", [False, True])
    def test_another_object_of_the_name_stays_as_it_is(self, run: Run, may_be_there: bool, is_as_long: bool) -> None:
        """And no other try can go better: somebody else wrote there."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            first = _with_content(await stage.seal(destination, [], key="a/name"), b"first")
            await destination.deliver(first, may_be_there=False)
            other = await stage.seal(destination, [], key="a/name", delivery_id=OTHER_DELIVERY_ID)
            other = _with_content(other, b"other" if is_as_long else b"much longer")
            with pytest.raises(DeliveryFailed, match="a/name") as caught:
                await destination.deliver(other, may_be_there=may_be_there)
            assert caught.value.is_final
            assert await _objects(stage) == {"a/name": b"first"}

        run(scenario)

    def test_of_objects_that_race_for_a_name_one_wins_whole(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            contents = [bytes([each]) * (100_000 + each) for each in range(8)]
            racing = []
            for number, content in enumerate(contents):
                destination = stage.open()
                sealed = await stage.seal(destination, [], key="the/name", number=number + 1)
                racing.append(destination.deliver(_with_content(sealed, content), may_be_there=False))
            outcomes = await asyncio.gather(*racing, return_exceptions=True)
            (won,) = [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
            assert all(isinstance(each, DeliveryFailed) for each in outcomes[:won] + outcomes[won + 1 :])
            assert await _objects(stage) == {"the/name": contents[won]}

        run(scenario)

    def test_two_tries_of_one_object_at_once_leave_it_there_once(self, run: Run) -> None:
        """The first was cancelled, and what it had begun is still under way."""

        async def scenario(stage: Stage) -> None:
            one, other = stage.open(), stage.open()
            for number in range(10):
                sealed = await stage.seal(one, stage.documents(100), key=f"name/{number}")
                tries = [each.deliver(sealed, may_be_there=True) for each in (one, other)]
                outcomes = await asyncio.gather(*tries, return_exceptions=True)
                for outcome in outcomes:
                    assert not isinstance(outcome, DeliveryFailed) or not outcome.is_final
                await deliver_stubbornly(one, sealed)
                assert (await _objects(stage))[f"name/{number}"] == sealed.path.read_bytes()
            assert len(await _objects(stage)) == 10

        run(scenario)

    def test_readers_never_see_a_part_of_an_object(self, run: Run) -> None:
        """Neither while it is delivered nor where the delivery is cancelled."""

        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            sealed = []
            for number in range(6):
                made = await stage.seal(destination, [], key=f"{number}/whole")
                sealed.append(_with_content(made, bytes([number]) * (2 * MIB + number)))
            whole = {each.key: each.path.read_bytes() for each in sealed}
            tries = [asyncio.ensure_future(destination.deliver(each, may_be_there=False)) for each in sealed]
            looks = 0
            while not all(each.done() for each in tries):
                await asyncio.sleep(0.001)
                seen = await _objects(stage)
                assert all(content == whole.get(key) for key, content in seen.items())
                looks += 1
                if looks == 2:
                    tries[-1].cancel()
            await asyncio.gather(*tries, return_exceptions=True)
            await deliver_stubbornly(destination, sealed[-1])
            await stage.close()
            assert looks
            assert await _objects(stage) == whole

        run(scenario)

    def test_a_name_that_cannot_be_is_refused_for_good_and_leaves_nothing(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            destination = stage.open()
            harness = stage.harness
            for key in getattr(harness, "impossible_keys", ()):
                sealed = await stage.seal(destination, stage.documents(1), key=key)
                with pytest.raises(DeliveryFailed) as caught:
                    await destination.deliver(sealed, may_be_there=False)
                assert caught.value.is_final, key
            assert await _objects(stage) == {}

        run(scenario)


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


async def deliver_stubbornly(destination: Destination, sealed: Sealed) -> None:
    """As the engine does it: again and again, as long as that may help. A place that comes back, or a try that was
    cancelled and still goes on, may need a moment."""
    for _ in range(50):
        try:
            await destination.deliver(sealed, may_be_there=True)
            return
        except DeliveryFailed as error:
            if error.is_final:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError(f"{sealed.key} cannot be delivered")


def _with_content(sealed: Sealed, content: bytes) -> Sealed:
    sealed.path.write_bytes(content)
    return sealed_of(sealed.path, 1, key=sealed.key, delivery_id=sealed.delivery_id, number=sealed.number)


async def _objects(stage: Stage) -> dict[str, bytes]:
    harness: Any = stage.harness  # an ObjectHarness, whose protocol cannot be asked for at run time
    return dict(await harness.objects())


@asynccontextmanager
async def _stage(harness: Harness, directory: Path) -> AsyncIterator[Stage]:
    stage = Stage(harness, directory)
    try:
        yield stage
    finally:
        await stage.close()


def _run(harness: Harness, directory: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with _stage(harness, directory) as stage:
            await scenario(stage)

    async def bounded() -> None:
        await asyncio.wait_for(main(), _PATIENCE_S)

    asyncio.run(bounded())
