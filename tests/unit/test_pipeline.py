"""Pipeline files: what they can say, and that every fault is told with its place before anything is done."""

from __future__ import annotations

import asyncio
import re
import string
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.cli import up
from streamkit.functions.code import CodeStore, aws_hash
from streamkit.functions.state import Configuration
from streamkit.kit.lambda_client import package_of
from streamkit.kit.pipeline import KEYS, FunctionPart, MappingPart, Pipeline, check_code, load
from streamkit.mappings import rules
from streamkit.mappings.state import MappingSettings
from streamkit.model.errors import UsageError
from streamkit.model.names import Scope

SCOPE = Scope("000000000000", "us-east-1")
HANDLER = "def handler(event, context):\n    return event\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With code of each kind."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(HANDLER)
    (tmp_path / "app.py").write_text(HANDLER)
    (tmp_path / "code.zip").write_bytes(package_of(tmp_path / "code").data)
    return tmp_path


def loaded(directory: Path, text: str) -> Pipeline:
    (directory / "pipeline.toml").write_text(text)
    return load(directory / "pipeline.toml", SCOPE)


def faults(directory: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        loaded(directory, text)
    path, first, *rest = re.split(r"(?: has \d+ faults:\n  |: )", str(caught.value), maxsplit=1)
    assert path == str(directory / "pipeline.toml")
    assert not rest
    return first.split("\n  ")


# -- what a file can say ---------------------------------------------------------------------------------------------


def test_the_file_that_help_shows_is_read_and_has_every_key(directory: Path) -> None:
    """The reference cannot fall behind the code."""
    text = (up.__doc__ or "").partition("the file:\n")[2].partition("\nEvery option")[0]
    shown = re.sub(r"^  ", "", text, flags=re.MULTILINE)
    shown = "\n".join(re.split(r"\s{3,}", line)[0] for line in shown.splitlines())
    document = tomllib.loads(shown)
    assert {kind: {key for part in parts.values() for key in part} for kind, parts in document.items()} == {
        kind: set(keys) for kind, keys in KEYS.items()
    }
    pipeline = loaded(directory, shown.replace("functions/count", "code"))
    assert [part.name for part in pipeline.streams] == ["clicks"]
    assert [part.name for part in pipeline.functions] == ["count"]
    assert [part.name for part in pipeline.mappings] == ["clicks-to-count"]


def test_the_values_that_help_shows_are_the_defaults() -> None:
    text = (up.__doc__ or "").partition("the file:\n")[2]
    for part, others in (
        (FunctionPart("f", Path("/f"), "a.b"), ("runtime", "reserved_concurrency", "variables")),
        (MappingPart("m", "s", "f"), ("filters", "on_failure")),
    ):
        kind = "function" if isinstance(part, FunctionPart) else "mapping"
        for key in set(KEYS[kind]) - {"code", "handler", "stream", "function", *others}:
            shown = re.search(rf"^  {key} = (\S+)", text, re.MULTILINE)
            assert shown is not None
            default = getattr(part, key)
            assert tomllib.loads(f"x = {shown[1]}")["x"] == (list(default) if default == () else default)


def test_what_is_left_out_of_a_mapping_or_a_function_is_as_aws_has_it() -> None:
    given = {
        member: value for each in MappingPart("m", "s", "f").settings(SCOPE).values() for member, value in each.items()
    }
    assert rules.with_changes(MappingSettings("f"), given) == MappingSettings("f")
    function, aws = FunctionPart("f", Path("/f"), "a.b"), Configuration("python3.11", "a.b", "role")
    assert (function.timeout_s, function.memory_mib) == (aws.timeout_s, aws.memory_mib)


@pytest.mark.parametrize("code", ["code", "app.py", "code.zip", "./code/"])
def test_code_is_found_beside_the_file_wherever_the_command_is_run(
    directory: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    text = f'[function.f]\ncode = "{code}"\nhandler = "app.handler"\n'
    (directory / "pipeline.toml").write_text(text)
    (part,) = load(Path(directory.name) / "pipeline.toml", SCOPE).functions
    assert part.code == directory / code


def test_variables_may_be_written_as_numbers_and_booleans(directory: Path) -> None:
    text = '[function.f]\ncode = "code"\nhandler = "app.handler"\nvariables = { AA = 1, BB = true, CC = "c", DD = 0.5 }'
    (part,) = loaded(directory, text).functions
    assert part.variables == {"AA": "1", "BB": "true", "CC": "c", "DD": "0.5"}


def test_a_filter_may_be_a_table_or_json_text_which_has_null(directory: Path) -> None:
    text = """[mapping.m]
stream = "s"
function = "f:live"
filters = [{ data = { n = [{ numeric = [">", 1] }] } }, '{"data": {"x": [null]}}']
start = 2026-01-31T09:00:00+01:00
"""
    (part,) = loaded(directory, text).mappings
    assert part.filters == ('{"data":{"n":[{"numeric":[">",1]}]}}', '{"data": {"x": [null]}}')
    assert part.start == datetime(2026, 1, 31, 8, tzinfo=UTC)


# -- faults ----------------------------------------------------------------------------------------------------------

FUNCTION = '[function.f]\ncode = "code"\nhandler = "app.handler"\n'
MAPPING = '[mapping.m]\nstream = "s"\nfunction = "f"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shards = 1", "shards stands outside of any section; sections are [stream.NAME], "),
        ("[streams.a]", "streams is no kind of section; did you mean [stream.NAME]?"),
        (
            "[table.a]",
            "table is no kind of section; they are [stream.NAME], [function.NAME], [mapping.NAME], [delivery.NAME]",
        ),
        ("[stream]\nshards = 1", "stream.shards is no section; it belongs into one, [stream.NAME]"),
        ("[stream.a]\nshard = 1", "stream.a.shard is no key of a stream; did you mean shards?"),
        ("[stream.a]\nshards = 0", "stream.a.shards is 0; it has to be a whole number from 1 to 10,000"),
        ("[stream.a]\nshards = true", "stream.a.shards is true; it has to be a whole number from 1 to 10,000"),
        ("[stream.a]\nshards = 1.0", "stream.a.shards is 1.0; it has to be a whole number from 1 to 10,000"),
        ("[stream.a]\nretention_hours = 1", "stream.a.retention_hours is 1; it has to be a whole number from 24 to "),
        ('[stream."a b"]', 'stream."a b" cannot be a stream\'s name: '),
        ("[function.f]", "function.f lacks code"),
        (f"{FUNCTION}timeout = 3", "function.f.timeout is no key of a function; did you mean timeout_s?"),
        (f"{FUNCTION}timeout_s = 901", "function.f.timeout_s is 901; it has to be a whole number from 1 to 900"),
        (f"{FUNCTION}variables = {{ AA = [1] }}", "function.f.variables.AA is [1]; it has to be a text"),
        (f"{FUNCTION}variables = {{ A = '1' }}", 'function.f.variables.A is "A"; it has to be '),
        (f"{FUNCTION}variables = {{ AWS_REGION = '1' }}", "function.f will not do: Lambda was unable to configure "),
        (f"{FUNCTION}layers = ['x']", "function.f will not do: Layer version x does not exist."),
        (f"{FUNCTION}runtime = 'perl'", "function.f will not do: Value perl at 'runtime' failed "),
        (FUNCTION.replace('"code"', '"nothing"'), "function.f.code will not do: "),
        (FUNCTION.replace("app.handler", "app"), "function.f.code will not do: handler 'app' has no dot"),
        (FUNCTION.replace("app.h", "main.h"), "function.f.code will not do: handler 'main.handler' wants main.py"),
        (FUNCTION.replace('"code"', '"pipeline.toml"'), "function.f.code will not do: "),
        ("[function.'f g']\ncode = 'code'\nhandler = 'app.handler'", 'function."f g" will not do: '),
        ("[mapping.m]\nstream = 's'", "mapping.m lacks function"),
        (f"{MAPPING}start = 2026-01-31T09:00:00", 'mapping.m.start is "2026-01-31T09:00:00"; it has to be '),
        (f"{MAPPING}start = 'latest'", 'mapping.m.start is "latest"; it has to be "TRIM_HORIZON", "LATEST"'),
        (f"{MAPPING}retries_max = -2", "mapping.m.retries_max is -2; it has to be a whole number from 0 to 10,000, or"),
        (f"{MAPPING}record_age_s_max = 59", "mapping.m.record_age_s_max is 59; it has to be a whole number from 60"),
        (f"{MAPPING}bisect = 1", "mapping.m.bisect is 1; it has to be true or false"),
        (f"{MAPPING}on_failure = 'failed'", 'mapping.m.on_failure is "failed"; it has to be a stream, like '),
        (f"{MAPPING}filters = [{{ data = {{ a = 1 }} }}]", "mapping.m.filters[0] is "),
        (f"{MAPPING}filters = ['{{']", 'mapping.m.filters[0] is "{"; it has to be a filter pattern'),
        (f"{MAPPING}filters = [{{ data = {{ a = [07:32:00] }} }}]", "mapping.m.filters[0] is "),
        (
            f"{MAPPING}parallelization_factor = 2\ntumbling_window_s = 1",
            "mapping.m will not do: ParallelizationFactor must be 1 when TumblingWindowInSeconds is set.",
        ),
        (f"{MAPPING}{MAPPING.replace('.m', '.n')}", "mapping.n is the same as mapping.m: a stream has one mapping "),
    ],
)
def test_a_fault_is_told_with_the_file_the_place_and_what_would_do(directory: Path, text: str, expected: str) -> None:
    found = faults(directory, text)
    assert found[0].startswith(expected)


def test_all_faults_of_a_file_are_told_at_once(directory: Path) -> None:
    assert len(faults(directory, "[stream.a]\nshards = 0\n[streams.a]\n[function.f]\n[mapping.m]\nbisect = 1")) == 7


def test_what_is_no_toml_or_no_file_is_told(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"is not valid TOML: .*line 1"):
        loaded(directory, "[stream.a\n")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(directory / "other.toml", SCOPE)


def test_a_fault_of_syntax_in_a_function_is_told_with_its_line(directory: Path) -> None:
    (directory / "code" / "app.py").write_text("x = 1\ndef handler(event, context)\n")
    (found,) = faults(directory, FUNCTION)
    assert found.startswith(f"function.f.code will not do: {directory / 'code' / 'app.py'}:2: ")


def test_a_handler_may_come_from_a_layer_and_other_languages_are_not_looked_into(directory: Path) -> None:
    layer = f"arn:aws:lambda:{SCOPE.region}:{SCOPE.account}:layer:l:1"
    check_code(FunctionPart("f", directory / "code", "elsewhere.handler", layers=(layer,)))
    check_code(FunctionPart("f", directory / "code", "index.handler", runtime="nodejs20.x"))
    with pytest.raises(UsageError, match=r"elsewhere\.py, which is not in"):
        check_code(FunctionPart("f", directory / "code", "elsewhere.handler"))


def test_a_handlers_module_may_be_a_package_or_lie_in_a_directory(directory: Path) -> None:
    (directory / "code" / "inner").mkdir()
    (directory / "code" / "inner" / "__init__.py").write_text(HANDLER)
    for handler in ("inner.handler", "inner/__init__.handler"):
        check_code(FunctionPart("f", directory / "code", handler))


words = st.sampled_from([*KEYS, *(key for keys in KEYS.values() for key in keys), "x", "a b"])
values = st.recursive(
    st.one_of(
        st.integers(-2, 20_000),
        st.booleans(),
        st.floats(),
        st.datetimes(),
        st.datetimes(timezones=st.just(UTC)),
        st.text(string.printable, max_size=8),
        st.sampled_from(["LATEST", "stream:s", "code", "app.handler", "s", "f:1"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(words, st.one_of(values, st.dictionaries(words, st.dictionaries(words, values)))))
def test_whatever_a_file_says_it_is_read_or_refused_in_words(document: dict[str, Any]) -> None:
    """No value of any type makes anything but a pipeline or a UsageError."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda _: document)
        try:
            pipeline = load(Path(__file__), SCOPE)
        except UsageError:
            return
    assert all(kind in KEYS for kind in document)
    assert len(pipeline.streams) == len(document.get("stream", ()))


# -- packages --------------------------------------------------------------------------------------------------------


def test_a_package_has_the_hash_that_the_server_gives_it(directory: Path, tmp_path: Path) -> None:
    """It is how `up` knows that nothing changed."""

    async def stored(path: Path) -> str:
        store = CodeStore(tmp_path / "store")
        await store.start()
        return aws_hash(await store.put_path(path))

    package = package_of(directory / "code")
    assert package.sha256 == asyncio.run(stored(directory / "code"))
    assert package_of(directory / "code.zip").sha256 == package.sha256


def test_what_an_editor_or_python_leaves_behind_changes_no_package(directory: Path) -> None:
    for name, is_file in (("code", False), ("app.py", True)):
        path = directory / name
        before = package_of(path).sha256
        file = path if is_file else path / "app.py"
        file.write_text(file.read_text())  # another time
        if not is_file:
            (path / "__pycache__").mkdir()
            (path / "__pycache__" / "app.pyc").write_bytes(b"x")
        assert package_of(path).sha256 == before
        file.write_text(HANDLER + "\n")
        assert package_of(path).sha256 != before


def test_code_too_large_for_a_request_is_named_by_its_path(directory: Path) -> None:
    small = package_of(directory / "code")
    assert set(small.values) == {"ZipFile"}
    large = small._replace(data=bytes(13 * 1024 * 1024))
    assert large.values == {"S3Bucket": "file", "S3Key": str(directory / "code")}
