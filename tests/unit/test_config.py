"""Settings: flag, then environment, then file, then default."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.config import Config, boolean, one_of
from streamkit.model.errors import UsageError


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default() -> None:
    file, environment = {"port": 3}, {"STREAMKIT_PORT": "2"}
    assert Config(environment, file).value("port", 1, int, 4) == 1
    assert Config(environment, file).value("port", None, int, 4) == 2
    assert Config({}, file).value("port", None, int, 4) == 3
    assert Config({}, {}).value("port", None, int, 4) == 4


def test_a_flag_that_is_false_or_zero_was_given_all_the_same() -> None:
    assert Config({"STREAMKIT_PORT": "2"}, {}).value("port", 0, int, 4) == 0


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("TRUE", True), ("on", True), ("no", False), ("", False)])
def test_truth_is_written_in_several_ways(text: str, expected: bool) -> None:
    assert Config({"STREAMKIT_TLS": text}, {}).value("tls", None, boolean, not expected) is expected


def test_a_file_has_real_booleans_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "streamkit.toml").write_text("tls = true\nport = 5\ndurability = 'none'\n")
    config = Config.load({}, tmp_path)
    assert config.value("tls", None, boolean, False) is True
    assert config.value("port", None, int, 4) == 5
    assert config.value("durability", None, one_of("fsync", "none"), "fsync") == "none"


def test_a_value_that_will_not_do_is_told_with_where_it_stands_and_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"STREAMKIT_AUTH is 'x', which will not do: one of off, presence"):
        Config({"STREAMKIT_AUTH": "x"}, {}).value("auth", None, one_of("off", "presence"), "off")
    (tmp_path / "streamkit.toml").write_text("tls = 'perhaps'")
    with pytest.raises(UsageError, match=r"tls in .*streamkit\.toml is 'perhaps', which will not do: true or false"):
        Config.load({}, tmp_path).value("tls", None, boolean, False)


def test_a_file_that_is_named_must_be_there_and_another_need_not(tmp_path: Path) -> None:
    assert Config.load({}, tmp_path).value("port", None, int, 4) == 4
    with pytest.raises(UsageError, match="cannot be read"):
        Config.load({"STREAMKIT_CONFIG": str(tmp_path / "gone.toml")}, tmp_path)
    (tmp_path / "other.toml").write_text("port = 7")
    named = Config.load({"STREAMKIT_CONFIG": str(tmp_path / "other.toml")}, tmp_path)
    assert named.value("port", None, int, 4) == 7


def test_a_file_that_is_no_toml_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "streamkit.toml").write_text("port = ")
    with pytest.raises(UsageError, match=r"streamkit\.toml is not valid TOML"):
        Config.load({}, tmp_path)
