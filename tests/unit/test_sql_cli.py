"""`streamkit sql run FILE`: a script from the command line, with no server and no data directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamkit.cli.main import main

ORDERS = """
CREATE TABLE orders (
  id BIGINT, who STRING, amount DECIMAL(10, 2), `at` TIMESTAMP(3), tags ARRAY<STRING>,
  WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');
"""
ROWS = [
    {"id": 9007199254740993, "who": "a", "amount": 1.5, "at": "2026-01-01 00:00:00.5", "tags": ["x", "é"]},
    {"id": 2, "who": "b", "amount": 2.25, "at": "2026-01-01 00:00:07", "tags": None},
    {"id": 3, "who": "a", "amount": 3, "at": "2026-01-01 00:00:12", "tags": []},
]


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return ORDERS.format(path=tmp_path / "orders.json")


def printed(text: str, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    Path("script.sql").write_text(text, encoding="utf-8")
    assert main(["sql", "run", *options, "script.sql"]) == 0
    return capfd.readouterr().out


def test_a_select_prints_a_json_object_a_row_as_flinks_json_format_writes_it(
    orders: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = printed(orders + "SELECT * FROM orders", capfd, "--json").splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert '"id":9007199254740993,' in lines[0]
    assert {each.name for each in Path().iterdir()} == {"orders.json", "script.sql"}, "nothing else was made"


def test_of_a_result_that_changes_the_final_rows_are_printed(orders: str, capfd: pytest.CaptureFixture[str]) -> None:
    lines = printed(orders + "SELECT who, SUM(amount) AS total FROM orders GROUP BY who", capfd, "--json").splitlines()
    assert sorted(map(json.loads, lines), key=str) == [{"who": "a", "total": 4.5}, {"who": "b", "total": 2.25}]


def test_selects_are_printed_in_their_order_each_under_its_names(
    orders: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert printed(
        orders + "SELECT id FROM orders WHERE id < 3; SELECT who, id AS n FROM orders WHERE id = 3", capfd
    ) == ("id\n2\nwho  n\na    3\n")


def test_a_script_writes_first_and_then_its_selects_read(orders: str, capfd: pytest.CaptureFixture[str]) -> None:
    sink = "CREATE TABLE kept (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'kept', 'format' = 'json');"
    text = f"{orders}{sink} INSERT INTO kept SELECT id FROM orders WHERE amount > 2; SELECT * FROM kept;"
    assert printed(text, capfd, "--json").splitlines() == ['{"id":2}', '{"id":3}']


def test_an_error_has_its_place(orders: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("script.sql").write_text("SELECT 1;\nSELECT FROM orders", encoding="utf-8")
    assert main(["sql", "run", "script.sql", "--json"]) != 0
    assert "line 2" in capfd.readouterr().err


def test_a_value_that_stops_the_query_is_told_with_status_1(orders: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("script.sql").write_text(orders + "SELECT 1 / (id - id) FROM orders", encoding="utf-8")
    assert main(["sql", "run", "script.sql"]) == 1
    assert "a value stops the query" in capfd.readouterr().err


def test_no_more_rows_are_printed_than_were_asked_for(orders: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(orders + "SELECT id FROM orders", capfd, "--json", "--limit", "2").count("\n") == 2


@pytest.mark.parametrize("words", [["explain", "SELECT 1 AS n"], ["--explain", "SELECT 1 AS n"]])
def test_explain_is_a_word_and_an_option(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", *words]) == 0
    assert capfd.readouterr().out.strip()


def test_a_script_of_data_analytics_is_printed_as_flinks_sql(capfd: pytest.CaptureFixture[str]) -> None:
    legacy = Path(__file__).parents[2] / "sql" / "examples" / "legacy" / "couriers.sql"
    assert main(["sql", "translate", str(legacy)]) == 0
    out = capfd.readouterr().out
    assert "CREATE TABLE" in out
    assert "'connector' = 'kinesis'" in out
    assert "INSERT INTO" in out
