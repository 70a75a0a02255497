"""What objects are called, and which prefixes are refused with which of AWS's texts."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.naming import Namer, check_file_names, check_prefixes, object_id, random_text, too_long
from streamkit.delivery.plan import Naming
from streamkit.model.errors import InvalidArgument

AUGUST_27: Final = int(datetime(2018, 8, 27, 10, 30, 5, tzinfo=UTC).timestamp() * 1000)
ID: Final = "3f2b4a10-7d0c-5a5e-9b0a-0c0d0e0f1011"
ERRORS: Final = "errors/!{firehose:error-output-type}/"
CONSTRAINT: Final = "The supplied prefix(es) do not satisfy the following constraint: "


def key(
    prefix: str = "",
    error_prefix: str = "",
    *,
    zone: str = "UTC",
    at_ms: int = AUGUST_27,
    extension: str | None = None,
    own: str = "",
    partition: dict[str, str] | None = None,
    error_type: str | None = None,
    is_key: bool = False,
) -> str:
    naming = Naming(prefix, error_prefix, zone, extension, is_key)
    return Namer(naming, stream="flights", version=3).key(
        arrived_at_ms=at_ms,
        id=ID,
        extension=own,
        partition=partition or {},
        error_type=error_type,
        random_text=random_text(ID),
    )


def prefix_of(prefix: str, error_prefix: str = ERRORS, **how: Any) -> str:
    """What a prefix comes to."""
    name = key(prefix, error_prefix, **how)
    return name[: name.index("flights-3-")]


def formatted(pattern: str, zone: str, at_ms: int) -> str:
    return prefix_of(f"!{{timestamp:{pattern}}}", zone=zone, at_ms=at_ms)


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_name_without_a_prefix_begins_with_the_hour() -> None:
    """Of the oldest record's arrival; behind it stand stream, version, second and a UUID."""
    assert key() == f"2018/08/27/10/flights-3-2018-08-27-10-30-05-{ID}"


def test_a_prefix_without_expressions_gets_the_hour_and_no_slash() -> None:
    """`legacy` becomes `legacy2018/...`, as AWS does it and others do not."""
    assert prefix_of("legacy") == "legacy2018/08/27/10/"
    assert prefix_of("logs/") == "logs/2018/08/27/10/"


@pytest.mark.parametrize(
    ("prefix", "evaluated"),
    [
        ("a/!{timestamp:yyyy}/", "a/2018/"),
        ("a/!{timestamp:yyyy/MM/dd}x!{timestamp:HH}", "a/2018/08/27x10"),
        ("!{timestamp:'year='yyyy'/month='MM'/day='dd'/hour='HH}/", "year=2018/month=08/day=27/hour=10/"),
        ("plain/!{partitionKeyFromQuery:k}", "plain/v"),
    ],
)
def test_nothing_is_appended_to_a_prefix_with_an_expression(prefix: str, evaluated: str) -> None:
    """Whatever the expression is: partition keys count, too."""
    assert prefix_of(prefix, partition={"partitionKeyFromQuery:k": "v"}) == evaluated


def test_random_strings_are_fresh_each_time_and_the_same_after_a_crash() -> None:
    """Eleven letters and digits; they come of the object's id alone."""
    drawn = prefix_of("!{firehose:random-string}/!{firehose:random-string}/")
    first, second, rest = drawn.split("/")
    assert re.fullmatch("[0-9A-Za-z]{11}", first)
    assert re.fullmatch("[0-9A-Za-z]{11}", second)
    assert first != second
    assert not rest
    assert drawn == prefix_of("!{firehose:random-string}/!{firehose:random-string}/")
    assert random_text(ID)() != random_text(object_id("0" * 32, 1))()


def test_the_time_zone_rules_prefix_and_suffix() -> None:
    """10:30 UTC is half past seven in the evening in Tokyo."""
    name = key("!{timestamp:HH}/", ERRORS, zone="Asia/Tokyo")
    assert name == f"19/flights-3-2018-08-27-19-30-05-{ID}"
    assert key(zone="Asia/Tokyo").startswith("2018/08/27/19/")


@pytest.mark.parametrize(
    ("given", "own", "expected"),
    [(None, ".gz", ".gz"), (".log", ".gz", ".log"), ("", ".gz", ".gz"), (None, "", "")],
)
def test_a_file_extension_replaces_the_formats(given: str | None, own: str, expected: str) -> None:
    """An empty one is none at all."""
    assert key(extension=given, own=own).removeprefix(key()) == expected


def test_error_objects_keep_the_extension_of_what_they_are() -> None:
    """They are lines of JSON, whatever the delivered objects are called."""
    assert key("", "", extension=".parquet", error_type="processing-failed").endswith(ID)


@pytest.mark.parametrize(
    ("prefix", "error_prefix", "evaluated"),
    [
        ("p/", "e/!{firehose:error-output-type}/!{timestamp:yyyy}/", "e/processing-failed/2018/"),
        (
            "p/!{timestamp:yyyy}/",
            "!{firehose:error-output-type}!{firehose:error-output-type}/",
            "processing-failed" * 2,
        ),
        ("p/", "", "p/processing-failed/2018/08/27/10/"),
        ("", "", "processing-failed/2018/08/27/10/"),
        ("p/", "retries/", "retries/processing-failed/2018/08/27/10/"),
    ],
)
def test_errors_go_where_the_error_prefix_says(prefix: str, error_prefix: str, evaluated: str) -> None:
    """Where it says nothing of their type, that is put between it and the hour."""
    assert prefix_of(prefix, error_prefix, error_type="processing-failed").rstrip("/") == evaluated.rstrip("/")


def test_a_key_of_a_channel_has_nothing_of_firehose_in_it() -> None:
    """But for the id, which stands before the extension; an empty extension is none."""
    assert key("c/!{timestamp:HH}", is_key=True, own=".gz") == f"c/10-{ID}.gz"
    assert key("c/x", is_key=True, own=".gz", extension="") == f"c/x-{ID}"
    errors = key("c/!{timestamp:HH}", "dead/", is_key=True, error_type="invalid-record")
    assert errors == f"dead/invalid-record/2018/08/27/10/flights-3-2018-08-27-10-30-05-{ID}"


def test_ids_come_of_the_delivery_stream_and_a_number() -> None:
    """The same again and again, and others for another number or another incarnation."""
    ids = {object_id(stream, number) for stream in ("0" * 32, "f" * 32) for number in (1, 2, 11)}
    assert len(ids) == 6
    assert object_id("0" * 32, 1) in ids
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ids)


def test_keys_are_counted_in_bytes() -> None:
    """S3 takes 1,024 of UTF-8."""
    assert not too_long("a" * 1_024)
    assert too_long("a" * 1_025)
    assert too_long("ä" * 513)


# -- partition values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "evaluated"),
    [
        ("2024/05", "2024/05"),
        ("..", "%2E%2E"),
        ("../../etc", "%2E%2E/%2E%2E/etc"),
        ("a/./b", "a/%2E/b"),
        ("...", "..."),
        ("a.b..c", "a.b..c"),
        ("a\0b\nc", "a%00b%0Ac"),
        ("/etc", "%2Fetc"),
        ("a//b/", "a/%2Fb%2F"),
        ("Zürich 100%", "Zürich 100%"),
    ],
)
def test_a_partition_value_stays_below_its_prefix(value: str, evaluated: str) -> None:
    """And is otherwise taken as it is, slashes too."""
    partition = {"partitionKeyFromLambda:x": value}
    assert prefix_of("p/!{partitionKeyFromLambda:x}/", partition=partition) == f"p/{evaluated}/"


def test_dots_that_are_part_of_a_longer_name_stay() -> None:
    """`x=..` is a name like any other; two values that make `..` together are not."""
    partition = {"partitionKeyFromLambda:x": "..", "partitionKeyFromLambda:y": "."}
    assert prefix_of("p/x=!{partitionKeyFromLambda:x}/", partition=partition) == "p/x=../"
    both = "p/!{partitionKeyFromLambda:y}!{partitionKeyFromLambda:y}/"
    assert prefix_of(both, partition=partition) == "p/%2E%2E/"


@settings(deadline=None)
@given(
    values=st.lists(
        st.text(min_size=1).map(lambda text: text.encode(errors="replace").decode()), min_size=2, max_size=2
    )
)
def test_no_partition_value_leads_out_of_the_bucket(values: list[str]) -> None:
    """No segment is empty or means another folder, wherever the values stand."""
    partition = {"partitionKeyFromQuery:a": values[0], "partitionKeyFromQuery:b": values[1]}
    name = key("!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:b}/", ERRORS, partition=partition)
    assert not {"", ".", ".."} & set(name.split("/"))
    assert not re.search(r"[\x00-\x1f\x7f]", name)


# -- times ------------------------------------------------------------------------------------------------------------

# What Java 17 itself writes, in the locale en-US: zone, epoch milliseconds, pattern, text.
WRITTEN_BY_JAVA: Final = [
    (
        "America/New_York",
        1720353600123,
        "'year='yyyy'/month='MM'/day='dd'/hour='HH",
        "year=2024/month=07/day=07/hour=08",
    ),
    ("UTC", 1735603199999, "yy-M-d", "24-12-30"),
    ("Europe/London", 1609459200000, "uuuuu", "02021"),
    ("Pacific/Chatham", 1767182400500, "MMM MMMM MMMMM L LLL", "Jan January J 1 Jan"),
    ("Asia/Calcutta", 1704033000007, "E EE EEEE EEEEE", "Sun Sun Sunday S"),
    ("UTC", 1709164800000, "e ee eee c ccccc", "5 05 Thu 5 T"),
    ("America/New_York", 1720353600123, "e ee eee c ccccc", "1 01 Sun 1 S"),
    ("UTC", 1735603199999, "D DDD", "365 365"),
    ("UTC", 1709164800000, "h hh K KK k kk H", "12 12 0 00 24 24 0"),
    ("Asia/Calcutta", 1704033000007, "a B BBBBB", "PM in the evening in the evening"),
    ("Europe/London", 1609459200000, "a B BBBBB", "AM midnight mi"),
    ("Pacific/Chatham", 1767182400500, "m mm s ss", "45 45 0 00"),
    ("Asia/Calcutta", 1704033000007, "S SSS SSSSSSSSS n nnnnnnnnn", "0 007 007000000 7000000 007000000"),
    ("America/New_York", 1720353600123, "A N", "28800123 28800123000000"),
    ("UTC", 1735603199999, "Q QQ QQQ QQQQ q", "4 04 Q4 4th quarter 4"),
    ("America/New_York", 1720353600123, "Y-w ww W F", "2024-28 28 2 7"),
    ("UTC", 1709164800000, "Y-w ww W F", "2024-9 09 5 1"),
    ("Asia/Calcutta", 1704033000007, "g", "60309"),
    ("Pacific/Chatham", 1767182400500, "G GGGG GGGGG", "AD Anno Domini A"),
    ("Europe/London", 1609459200000, "X XX XXX XXXX", "Z Z Z Z"),
    ("Asia/Calcutta", 1704033000007, "X XX XXX XXXX", "+0530 +0530 +05:30 +0530"),
    ("America/New_York", 1720353600123, "X x xx xxx", "-04 -04 -0400 -04:00"),
    ("UTC", 1709164800000, "x xx xxx", "+00 +0000 +00:00"),
    ("UTC", 1735603199999, "Z ZZZZ ZZZZZ", "+0000 GMT Z"),
    ("America/New_York", 1720353600123, "O OOOO", "GMT-4 GMT-04:00"),
    ("Asia/Calcutta", 1704033000007, "O OOOO", "GMT+5:30 GMT+05:30"),
    ("Asia/Calcutta", 1704033000007, "VV z", "Asia/Calcutta IST"),
    ("UTC", 1709164800000, "z zzzz v VV", "UTC Coordinated Universal Time UTC UTC"),
    ("Pacific/Chatham", 1767182400500, "yyyy''MM[dd]", "2026'0101"),
    ("Europe/London", 1609459200000, "''''", "'"),
]


@pytest.mark.parametrize(("zone", "at_ms", "pattern", "text"), WRITTEN_BY_JAVA)
def test_patterns_are_written_as_java_writes_them(zone: str, at_ms: int, pattern: str, text: str) -> None:
    """Every letter there is, in its numeric and textual widths."""
    assert formatted(pattern, zone, at_ms) == text


INSTANTS: Final = st.integers(0, 4_102_444_799_999)  # 1970 to 2099
ZONES: Final = st.sampled_from(
    ["UTC", "Asia/Tokyo", "America/St_Johns", "Europe/Lisbon", "Pacific/Kiritimati", "Australia/Lord_Howe"]
)


@settings(deadline=None)
@given(at_ms=INSTANTS, zone=ZONES)
def test_fields_agree_with_another_reckoning(at_ms: int, zone: str) -> None:
    """The C library's, for what it knows of a date."""
    at = datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone))
    pattern = "yyyy-MM-dd HH:mm:ss hh a DDD EEE EEEE MMM MMMM yy Z XXX"
    offset = at.strftime("%z")
    iso = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    expected = at.strftime(f"%Y-%m-%d %H:%M:%S %I %p %j %a %A %b %B %y %z {iso}")
    assert formatted(pattern, zone, at_ms) == expected
    assert formatted("SSS", zone, at_ms) == f"{at_ms % 1000:03}"


@settings(deadline=None)
@given(day=st.dates(date(1970, 1, 1), date(2099, 12, 31)))
def test_weeks_begin_on_sunday_and_the_first_has_new_years_day(day: date) -> None:
    """Counted out, from the Sunday on or before the first of January."""

    def sunday_before(first: date) -> date:
        return max(first - timedelta(days=back) for back in range(7) if (first - timedelta(days=back)).weekday() == 6)

    year = day.year + (day >= sunday_before(date(day.year, 12, 31)) and date(day.year, 12, 31).weekday() != 5)
    week = (day - sunday_before(date(year, 1, 1))).days // 7 + 1
    of_month = (day - sunday_before(day.replace(day=1))).days // 7 + 1
    at_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    assert formatted("Y w W Q e", "UTC", at_ms) == (
        f"{year} {week} {of_month} {(day.month + 2) // 3} {(day.weekday() + 1) % 7 + 1}"
    )


@settings(deadline=None)
@given(at_ms=INSTANTS, zone=ZONES)
def test_all_times_of_a_name_are_one_instant(at_ms: int, zone: str) -> None:
    """However often a prefix asks, and in the suffix as well."""
    second = "!{timestamp:yyyy-MM-dd-HH-mm-ss}"
    first, again, suffix = key(f"{second}/{second}/", ERRORS, zone=zone, at_ms=at_ms).split("/")
    assert first == again
    assert suffix == f"flights-3-{first}-{ID}"


# -- what is refused --------------------------------------------------------------------------------------------------


def refusal(prefix: str, error_prefix: str = "", *, keys: tuple[str, ...] | None = None, zone: str = "UTC") -> str:
    with pytest.raises(InvalidArgument) as raised:
        check_prefixes(Naming(prefix, error_prefix, zone), is_partitioned=keys is not None, keys=keys or ())
    return raised.value.message


@pytest.mark.parametrize(
    ("prefix", "error_prefix", "constraint"),
    [
        ("my!{prefix/", "", "Invalid expression usage: my!{prefix/.Must be of the form !{<namespace>:<value>}"),
        ("!{timestamp}", "", "Invalid expression usage: !{timestamp}.Must be of the form !{<namespace>:<value>}"),
        ("a/!{bogus:yyyy}/", "", "Namespace to the left of colon (bogus) is an invalid keyword!"),
        ("a/!{timestamp:yyyy}/", "", "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions"),
        (
            "a/!{firehose:error-output-type}/",
            ERRORS,
            "Prefix must not contain any occurrence of !{firehose:error-output-type}",
        ),
        (
            "",
            "e/!{timestamp:yyyy}/",
            "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}",
        ),
        ("x" * 601, "", "Length of evaluated prefix cannot be greater than 512"),
        ("", "x" * 513, "Length of evaluated ErrorOutputPrefix cannot be greater than 512"),
    ],
)
def test_prefixes_are_refused_with_the_texts_of_aws(prefix: str, error_prefix: str, constraint: str) -> None:
    """As it answered in 2026."""
    assert refusal(prefix, error_prefix) == CONSTRAINT + constraint


@pytest.mark.parametrize(
    "value",
    [
        *(f"timestamp:{letter}" for letter in "CIJPRTUVbfijloprt"),
        *("timestamp:yyyy/bbb", "timestamp:ddd", "timestamp:HHH", "timestamp:MMMMMM", "timestamp:cc", "timestamp:OO"),
        *("timestamp:'open", "timestamp:yyyy]", "timestamp:#", "timestamp:SSSSSSSSSS", "timestamp:" + "y" * 20),
        "firehose:bogus",
    ],
)
def test_values_are_refused_with_the_text_of_aws(value: str) -> None:
    """Seventeen letters alone are no patterns, and Java refuses some counts of the others."""
    text = "Invalid conversion character used in the value of the expression in "
    assert refusal(f"a/!{{{value}}}/", ERRORS) == f"{CONSTRAINT}{text}Prefix"
    assert refusal("", f"{ERRORS}!{{{value}}}/") == f"{CONSTRAINT}{text}ErrorOutputPrefix"


@pytest.mark.parametrize("letter", "ABDEFGHKLMNOQSWXYZacdeghkmnqsuvwxyz")
def test_all_letters_that_aws_takes_are_taken(letter: str) -> None:
    """The other 35, each alone."""
    check_prefixes(Naming(f"!{{timestamp:{letter}}}/", ERRORS), is_partitioned=False, keys=())
    assert prefix_of(f"!{{timestamp:{letter}}}/").rstrip("/")


@pytest.mark.parametrize(
    ("prefix", "keys", "text"),
    [
        (
            "!{partitionKeyFromQuery:a}/",
            None,
            "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is "
            "enabled.",
        ),
        (
            "data/!{timestamp:yyyy}/",
            ("partitionKeyFromQuery:a",),
            "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled",
        ),
        (
            "!{partitionKeyFromQuery:a}/",
            (),
            "Processing Configuration is not enabled when DataPartitioning is enabled",
        ),
        (
            "!{partitionKeyFromQuery:a}/",
            ("partitionKeyFromLambda:*",),
            "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace.",
        ),
        (
            "!{partitionKeyFromLambda:a}/!{partitionKeyFromQuery:a}/",
            ("partitionKeyFromQuery:a",),
            "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace",
        ),
        (
            "!{partitionKeyFromQuery:a}/",
            ("partitionKeyFromQuery:a", "partitionKeyFromQuery:b"),
            "MetaDataExtraction JQ Query can't contain keys that are not present in the S3 Prefix expression",
        ),
    ],
)
def test_partition_keys_are_refused_with_the_texts_of_aws(prefix: str, keys: tuple[str, ...] | None, text: str) -> None:
    """Where keys, prefix and processors do not go together."""
    assert refusal(prefix, ERRORS, keys=keys) == text


def test_partition_keys_are_no_part_of_an_error_prefix() -> None:
    """AWS's text again."""
    text = "Dynamic Partitioning Namespaces can't be part of an error prefix expression"
    assert refusal("", "!{partitionKeyFromQuery:a}/!{firehose:error-output-type}/") == text


@pytest.mark.parametrize("zone", ["EST", "Asia", "Mars/Olympus", "../etc/passwd", "GMT"])
def test_time_zones_are_utc_or_places(zone: str) -> None:
    """AWS's text for the others."""
    assert refusal("", "", zone=zone).startswith("Provided custom time zone is not supported.")


def test_names_of_zones_that_are_not_known_are_refused_beforehand() -> None:
    """AWS would take them; a key that says something else would be worse."""
    assert "use z, VV or XXX" in refusal("!{timestamp:zzzz}/", ERRORS, zone="Asia/Tokyo")


@pytest.mark.parametrize(
    ("prefix", "error_prefix", "keys"),
    [
        ("", "", None),
        ("plain/", "", None),
        ("!{timestamp:yyyy}/", "plain errors/", None),
        ("!{firehose:random-string}/", ERRORS, None),
        ("!{partitionKeyFromLambda:anything}/", ERRORS, ("partitionKeyFromLambda:*",)),
        (
            "!{partitionKeyFromLambda:x}/!{partitionKeyFromQuery:a}/",
            ERRORS,
            ("partitionKeyFromLambda:*", "partitionKeyFromQuery:a"),
        ),
        ("x" * 512, "", None),
        ("odd !} {brackets} !", "", None),
    ],
)
def test_good_prefixes_are_taken(prefix: str, error_prefix: str, keys: tuple[str, ...] | None) -> None:
    """A function's partition keys are not known before it is called."""
    check_prefixes(Naming(prefix, error_prefix), is_partitioned=keys is not None, keys=keys or ())


@pytest.mark.parametrize("prefix", ["../", "a/../b/", "./", "a//b/", "/a/", "a\0/", "!{timestamp:yyyy}/../"])
def test_a_prefix_under_which_no_file_can_be_is_refused_where_objects_are_files(prefix: str) -> None:
    """Its records could never be delivered, nor their failure records."""
    with pytest.raises(InvalidArgument, match="inside a folder"):
        check_file_names(Naming(prefix))
    with pytest.raises(InvalidArgument, match="inside a folder"):
        check_file_names(Naming("", prefix))


@pytest.mark.parametrize("prefix", ["", "a/", "a/b", "..a/b/", "year=!{timestamp:yyyy}/!{firehose:random-string}"])
def test_other_prefixes_are_taken_for_files(prefix: str) -> None:
    """Dots inside a name are a name."""
    check_file_names(Naming(prefix, prefix))
