"""What Lambda accepts, and its words for what it does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.api.service_model import ServiceModel
from streamkit.functions import policies, rules
from streamkit.functions.state import (
    LATEST,
    AliasState,
    CodeState,
    Configuration,
    FunctionState,
    PolicyState,
    Settling,
    VersionState,
)
from streamkit.model.errors import (
    InvalidParameterValue,
    PolicyLengthExceeded,
    PreconditionFailed,
    RequestError,
    ResourceConflict,
    ResourceNotFound,
    ValidationError,
)
from streamkit.model.limits import CODE_UNPACKED_BYTES_MAX
from streamkit.model.names import Scope

SCOPE = Scope("000000000000", "us-east-1")
BASE = Configuration("python3.12", "app.handler", "arn:aws:iam::000000000000:role/r")
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:"


def configured(**fields: Any) -> Configuration:
    return msgspec.structs.replace(BASE, **fields)


def function(name: str = "f", **fields: Any) -> FunctionState:
    """With versions 1 to 3; the third has another role, the second another dead letter queue."""
    versions = {
        "1": VersionState("1", BASE, "r1", 1),
        "2": VersionState("2", configured(dead_letter_arn="arn:aws:sqs:us-east-1:000000000000:q"), "r2", 1),
        "3": VersionState("3", configured(role="arn:aws:iam::000000000000:role/other"), "r3", 1),
        "4": VersionState("4", BASE, "r4", 1),
    }
    latest = VersionState(LATEST, BASE, "r", 1)
    state = FunctionState("1" * 32, *SCOPE, name, 1, latest, versions=versions, next_version=5)
    return msgspec.structs.replace(state, **fields)


def text_of(error: type[RequestError], call: Any, *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    assert type(caught.value) is error
    return caught.value.message


# -- configurations --------------------------------------------------------------------------------------------------


def test_every_runtime_of_the_model_is_known() -> None:
    """Deprecated ones included; `custom` is of container images alone."""
    model = ServiceModel.load("lambda", "2015-03-31")
    assert set(model.shapes["Runtime"].enum) - {"custom"} <= set(rules.RUNTIMES)
    for runtime in rules.RUNTIMES:
        rules.check_configuration(configured(runtime=runtime), SCOPE)


@pytest.mark.parametrize("runtime", ["python4", "PYTHON3.12", "", "python3.99"])
def test_an_unknown_runtime_is_refused_with_those_there_are(runtime: str) -> None:
    """In AWS's words, which differ from those of other constraints."""
    text = text_of(InvalidParameterValue, rules.check_configuration, configured(runtime=runtime), SCOPE)
    assert text.startswith(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs, "
    )
    assert text.endswith("] or be a valid ARN")


def test_only_python_runs_in_this_process() -> None:
    """The inline environment is for the interpreter that is running."""
    rules.check_configuration(configured(environment="inline"), SCOPE)
    text = text_of(
        InvalidParameterValue,
        rules.check_configuration,
        configured(environment="inline", runtime="nodejs22.x"),
        SCOPE,
    )
    assert "nodejs22.x cannot run in this process" in text


@pytest.mark.parametrize(
    ("field", "member", "low", "high"),
    [
        ("timeout_s", "timeout", 1, 900),
        ("memory_mib", "memorySize", 128, 10_240),
        ("tmp_mib", "ephemeralStorage.size", 512, 10_240),
    ],
)
def test_sizes_have_bounds(field: str, member: str, low: int, high: int) -> None:
    """Both ends are inside."""
    for inside in (low, high):
        rules.check_configuration(configured(**{field: inside}), SCOPE)
    start = "1 validation error detected: Value '{}' at '{}' failed to satisfy constraint: Member must have value "
    for value, bound in ((low - 1, f"greater than or equal to {low}"), (high + 1, f"less than or equal to {high}")):
        text = text_of(ValidationError, rules.check_configuration, configured(**{field: value}), SCOPE)
        assert text == start.format(value, member) + bound


@given(st.dictionaries(st.from_regex(r"[A-Z]{2,9}", fullmatch=True), st.text(max_size=1500)))
def test_variables_are_measured_as_json(variables: dict[str, str]) -> None:
    """4 KiB of compact JSON in UTF-8, exactly."""
    try:
        measured = msgspec.json.encode(variables)
    except UnicodeEncodeError:
        return
    if len(measured) <= 4096:
        rules.check_variables(variables)
    else:
        text = text_of(InvalidParameterValue, rules.check_variables, variables)
        assert text.endswith("exceeded the 4KB limit. String measured: " + measured.decode())


@pytest.mark.parametrize("name", sorted(rules.RESERVED_VARIABLES))
def test_variables_that_lambda_sets_cannot_be_set(name: str) -> None:
    """The text names those of the request."""
    text = text_of(InvalidParameterValue, rules.check_variables, {"OK": "1", name: "1"})
    assert text.endswith(f"Reserved keys used in this request: {name}")


@pytest.mark.parametrize(
    ("arns", "text"),
    [
        ([f"{LAYER}{name}:1" for name in "abcdef"], "Cannot reference more than 5 layers."),
        (
            [f"{LAYER}a:1", f"{LAYER}b:1", f"{LAYER}a:2"],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}a:1 and {LAYER}a:2 are versions of the same layer.",
        ),
        (
            [f"{LAYER}a:1", f"{LAYER}a:1"],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}a:1 and {LAYER}a:1 are versions of the same layer.",
        ),
        (
            [f"{LAYER}a:1".replace("us-east-1", "eu-west-1")],
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
        ([f"{LAYER}a"], f"Layer version {LAYER}a does not exist."),
    ],
)
def test_layers_of_a_function_have_rules(arns: list[str], text: str) -> None:
    """Five at most, of one region, one version of each."""
    assert text_of(InvalidParameterValue, rules.check_layer_arns, [str(arn) for arn in arns], SCOPE) == text


def test_code_and_layers_count_together() -> None:
    """250 MiB unpacked."""
    half = CodeState("0", 1, CODE_UNPACKED_BYTES_MAX // 2)
    rules.check_unpacked([half, half])
    text = text_of(InvalidParameterValue, rules.check_unpacked, [half, half, CodeState("1", 1, 1)])
    assert text.endswith(f"{CODE_UNPACKED_BYTES_MAX} bytes. The actual size is {CODE_UNPACKED_BYTES_MAX + 1} bytes.")


def test_names_have_64_characters_at_most() -> None:
    """Of letters, digits, hyphens and underscores."""
    for name in ("f", "a" * 64, "A-b_9"):
        rules.check_name(name)
    for name in ("a" * 65, "a.b", "a b", ""):
        assert "at 'functionName'" in text_of(InvalidParameterValue, rules.check_name, name)


def test_a_change_under_way_keeps_others_out() -> None:
    """Pending and InProgress have different texts."""
    arn = function().arn
    version = VersionState(LATEST, BASE, "r", 1)
    rules.check_settled(version, arn)
    pending = msgspec.structs.replace(version, settling=Settling(1, "Pending", "r"))
    assert text_of(ResourceConflict, rules.check_settled, pending, arn).endswith("in the following state: Pending")
    updating = msgspec.structs.replace(version, settling=Settling(1, "InProgress", "r"))
    text = text_of(ResourceConflict, rules.check_settled, updating, arn)
    assert text == (f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}")


def test_revisions_are_compared_where_one_is_given() -> None:
    """None matches everything."""
    rules.check_revision(None, "a")
    rules.check_revision("a", "a")
    assert text_of(PreconditionFailed, rules.check_revision, "", "a").endswith(
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )


# -- aliases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "weights", "error", "text"),
    [
        ("1", {}, None, ""),
        (LATEST, {}, None, ""),
        ("1", {"4": 0.5}, None, ""),
        ("1", {"4": 0.0}, None, ""),
        ("10", {}, ResourceNotFound, f"Function not found: {ARN}:10"),
        ("1", {"10": 0.5}, ResourceNotFound, f"Function not found: {ARN}:10"),
        (
            "1",
            {"2": 0.1, "4": 0.1},
            InvalidParameterValue,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            "1",
            {"1": 0.5},
            InvalidParameterValue,
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            LATEST,
            {"1": 0.5},
            InvalidParameterValue,
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
        (
            "1",
            {"4": 2.0},
            ValidationError,
            "1 validation error detected: Value '{4=2.0}' at 'routingConfig.additionalVersionWeights' failed to "
            "satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to "
            "1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
        ),
        (
            "1",
            {"3": 0.5},
            InvalidParameterValue,
            "Versions 1 and 3 have different execution roles; an alias routes between versions that have the same one.",
        ),
        (
            "1",
            {"2": 0.5},
            InvalidParameterValue,
            "Versions 1 and 2 have different dead letter queue configurations; an alias routes between versions that "
            "have the same one, or none.",
        ),
    ],
)
def test_an_alias_routes_to_one_version_or_two_that_are_alike(
    version: str, weights: dict[str, float], error: type[RequestError] | None, text: str
) -> None:
    """Both published, with the same role and the same dead-letter configuration."""
    if error is None:
        rules.check_routing(function(), version, weights)
    else:
        assert text_of(error, rules.check_routing, function(), version, weights) == text


def test_an_alias_is_no_number() -> None:
    """It would be taken for a version."""
    rules.check_alias_name("2024-01-02")
    assert text_of(ValidationError, rules.check_alias_name, "2024") == (
        "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"
    )


@given(st.lists(st.sampled_from([LATEST, "1", "2", "10", "dev", "live"]), unique=True))
def test_qualifiers_have_an_order(qualifiers: list[str]) -> None:
    """$LATEST, versions by number, aliases by name."""
    wanted = [each for each in (LATEST, "1", "2", "10", "dev", "live") if each in qualifiers]
    assert sorted(qualifiers, key=rules.qualifier_rank) == wanted


# -- concurrency -----------------------------------------------------------------------------------------------------

BELOW = "decreases account's UnreservedConcurrentExecution below its minimum value of [100]."


def test_a_hundred_stay_unreserved() -> None:
    """Whatever other functions reserve or have provisioned without a reservation."""
    others = [function("a", reserved_concurrency=300), function("b", provisioned={"1": 100})]
    rules.check_reserved(function(), others, 500)
    text = text_of(InvalidParameterValue, rules.check_reserved, function(), others, 501)
    assert text == f"Specified ReservedConcurrentExecutions for function {BELOW}"
    provisioned = function(provisioned={"1": 1, "4": 1})
    assert text_of(InvalidParameterValue, rules.check_reserved, provisioned, [], 1) == (
        " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    )


@pytest.mark.parametrize(
    ("fields", "qualifier", "count", "error", "text"),
    [
        ({}, "1", 900, None, ""),
        ({"reserved_concurrency": 5}, "1", 5, None, ""),
        ({"provisioned": {"1": 5}, "reserved_concurrency": 5}, "1", 5, None, ""),
        ({}, LATEST, 1, InvalidParameterValue, rules.UNPUBLISHED),
        ({}, "10", 1, ResourceNotFound, f"Function not found: {ARN}:10"),
        ({}, "none", 1, ResourceNotFound, f"Cannot find alias arn: {ARN}:none"),
        (
            {"provisioned": {"4": 5}, "reserved_concurrency": 9},
            "1",
            5,
            InvalidParameterValue,
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
        ),
        (
            {},
            "1",
            1001,
            InvalidParameterValue,
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
        ),
        ({}, "1", 901, InvalidParameterValue, f"Specified ConcurrentExecutions for function {BELOW}"),
        (
            {"provisioned": {"1": 1}, "aliases": {"live": AliasState("live", "1", "r")}},
            "live",
            1,
            ResourceConflict,
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
        ),
        (
            {"provisioned": {"live": 1}, "aliases": {"live": AliasState("live", "1", "r")}},
            "1",
            1,
            ResourceConflict,
            "Version is pointed by a Provisioned Concurrency alias",
        ),
        (
            {"aliases": {"live": AliasState("live", LATEST, "r")}},
            "live",
            1,
            InvalidParameterValue,
            rules.UNPUBLISHED,
        ),
    ],
)
def test_environments_are_provisioned_for_what_is_published(
    fields: dict[str, Any], qualifier: str, count: int, error: type[RequestError] | None, text: str
) -> None:
    """Within the function's reservation, or what the account has left; once for a version and its aliases."""
    state = function(**fields)
    if error is None:
        rules.check_provisioned(state, [], qualifier, count)
    else:
        assert text_of(error, rules.check_provisioned, state, [], qualifier, count) == text


def test_a_function_is_no_destination_of_itself() -> None:
    """Under any of its qualifiers; and what the check of destinations says counts."""
    refused: list[str] = []
    rules.check_destinations(function(), "", None, refused.append)
    rules.check_destinations(function(), f"{ARN}2", "arn:x", refused.append)
    assert refused == [f"{ARN}2", "arn:x"]
    for arn in (ARN, f"{ARN}:live"):
        text = text_of(InvalidParameterValue, rules.check_destinations, function(), None, arn, refused.append)
        assert text == "You can't specify the function as a destination for itself."


# -- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_principal", "shown"),
    [
        ("*", "*"),
        ("000000000000", {"AWS": "arn:aws:iam::000000000000:root"}),
        ("arn:aws:iam::000000000000:user/u", {"AWS": "arn:aws:iam::000000000000:user/u"}),
        ("s3.amazonaws.com", {"Service": "s3.amazonaws.com"}),
    ],
)
def test_principals_are_named_as_in_policies(given_principal: str, shown: object) -> None:
    """Accounts become their root."""
    assert policies.principal_of(given_principal) == shown


@pytest.mark.parametrize("given_principal", ["", "x", "s3.example.com", "arn:aws:s3:::bucket", "123"])
def test_what_is_no_principal_is_refused(given_principal: str) -> None:
    """In AWS's words."""
    assert text_of(InvalidParameterValue, policies.principal_of, given_principal) == (
        "The provided principal was invalid. Please check the principal and try again."
    )


def test_conditions_come_in_their_order() -> None:
    """StringEquals before ArnLike, each only where it has something to say."""
    made = policies.statement(
        "s",
        "*",
        "lambda:InvokeFunction",
        ARN,
        source_arn="arn:x",
        source_account="1",
        organization_id="o",
        event_source_token="t",
        url_auth="NONE",
        via_url=True,
    )
    assert policies.text(made["Condition"]) == (
        '{"StringEquals":{"AWS:SourceAccount":"1","aws:PrincipalOrgID":"o","lambda:EventSourceToken":"t",'
        '"lambda:FunctionUrlAuthType":"NONE"},"ArnLike":{"AWS:SourceArn":"arn:x"},'
        '"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}'
    )
    assert "Condition" not in policies.statement("s", "*", "lambda:InvokeFunction", ARN)


def test_a_policy_has_each_statement_once_and_20_kib() -> None:
    """And says which statement is there already, or is not."""
    one = policies.statement("s", "*", "lambda:InvokeFunction", ARN)
    statements = policies.with_statement([], one)
    assert text_of(ResourceConflict, policies.with_statement, statements, one) == (
        "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing "
        "statement."
    )
    assert policies.without_statement(statements, "s") == []
    assert text_of(ResourceNotFound, policies.without_statement, statements, "t") == (
        "Statement t is not found in resource policy."
    )
    fits = policies.statement("t", "*", "lambda:InvokeFunction", "x")
    room = 20_480 - len(policies.policy_text(PolicyState([fits], ""))) + 1
    policies.with_statement([], {**fits, "Resource": "x" * room})
    text = text_of(PolicyLengthExceeded, policies.with_statement, [], {**fits, "Resource": "x" * (room + 1)})
    assert text == "The final policy size (20481) is bigger than the limit (20480)."
