"""What Lambda's operations on functions refuse, and AWS's words for it, as boto3 sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.lambda_registry import (
    ACCOUNT,
    ARN,
    CODE,
    INVALID,
    REGION,
    ROLE,
    LambdaServer,
    connected,
    create,
    refusal,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LambdaServer]:
    with LambdaServer(tmp_path) as made:
        yield made


@pytest.fixture
def client(server: LambdaServer) -> Iterator[Any]:
    with connected(server.endpoint) as made:
        yield made


NOT_FOUND = (404, "ResourceNotFoundException", f"Function not found: {ARN[:-1]}none")


@pytest.mark.parametrize(
    ("operation", "given", "answer"),
    [
        ("get_function", {}, NOT_FOUND),
        ("get_function", {"Qualifier": "1"}, (*NOT_FOUND[:2], NOT_FOUND[2] + ":1")),
        ("get_function_configuration", {}, NOT_FOUND),
        ("delete_function", {}, NOT_FOUND),
        ("delete_function", {"Qualifier": "1"}, NOT_FOUND),
        ("update_function_code", {"ZipFile": CODE}, NOT_FOUND),
        ("update_function_configuration", {}, NOT_FOUND),
        ("publish_version", {}, NOT_FOUND),
        ("list_versions_by_function", {}, NOT_FOUND),
        ("list_aliases", {}, NOT_FOUND),
        ("create_alias", {"Name": "a", "FunctionVersion": "1"}, (*NOT_FOUND[:2], NOT_FOUND[2] + ":1")),
        (
            "get_alias",
            {"Name": "a"},
            (*NOT_FOUND[:2], f"Cannot find alias arn: {ARN[:-1]}none:a"),
        ),
        ("update_alias", {"Name": "a"}, (*NOT_FOUND[:2], f"Alias not found: {ARN[:-1]}none:a")),
        ("get_function_concurrency", {}, NOT_FOUND),
        (
            "put_function_concurrency",
            {"ReservedConcurrentExecutions": 1},
            (*NOT_FOUND[:2], NOT_FOUND[2] + ":$LATEST"),
        ),
        (
            "add_permission",
            {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"},
            NOT_FOUND,
        ),
        (
            "remove_permission",
            {"StatementId": "s"},
            (*NOT_FOUND[:2], f"No policy found for: {ARN[:-1]}none"),
        ),
        ("create_function_url_config", {"AuthType": "NONE"}, (*NOT_FOUND[:2], "Function does not exist")),
        ("list_function_url_configs", {}, (*NOT_FOUND[:2], "Function does not exist")),
        ("get_function_url_config", {}, (*NOT_FOUND[:2], "The resource you requested does not exist.")),
        (
            "put_function_event_invoke_config",
            {"MaximumRetryAttempts": 1},
            (*NOT_FOUND[:2], "The function doesn't exist."),
        ),
        ("list_function_event_invoke_configs", {}, (*NOT_FOUND[:2], "The function doesn't exist.")),
        (
            "delete_function_event_invoke_config",
            {},
            (*NOT_FOUND[:2], f"The function {ARN[:-1]}none:$LATEST doesn't have an EventInvokeConfig"),
        ),
    ],
)
def test_each_operation_says_in_its_words_that_there_is_no_function(
    client: Any, operation: str, given: dict[str, Any], answer: tuple[int, str, str]
) -> None:
    """AWS's texts differ from one operation to the next."""
    assert refusal(getattr(client, operation), FunctionName="none", **given) == answer


@pytest.mark.parametrize(
    ("given", "code", "error", "text"),
    [
        ({"FunctionName": "f"}, 409, "ResourceConflictException", "Function already exist: f"),
        (
            {"Role": "r1"},
            400,
            "ValidationException",
            "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy "
            r"regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
        ),
        (
            {"FunctionName": "a" * 65},
            400,
            INVALID,
            f"1 validation error detected: Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: "
            "Member must have length less than or equal to 64",
        ),
        (
            {"Timeout": 901},
            400,
            "ValidationException",
            "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: "
            "Member must have value less than or equal to 900",
        ),
        (
            {"MemorySize": 10241},
            400,
            "ValidationException",
            "1 validation error detected: Value '10241' at 'memorySize' failed to satisfy constraint: "
            "Member must have value less than or equal to 10240",
        ),
        (
            {"Handler": None},
            400,
            INVALID,
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ),
        ({"Code": {}}, 400, INVALID, "Please provide a source for function code."),
        ({"Code": {"ZipFile": b""}}, 400, INVALID, "Uploaded file must be a non-empty zip"),
        (
            {"Code": {"ZipFile": b"no zip"}},
            400,
            INVALID,
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (
            {"Layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1"]},
            400,
            INVALID,
            f"Layer version arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1 does not exist.",
        ),
        ({"Tags": {str(index): "" for index in range(51)}}, 400, INVALID, "Number of tags exceeds resource tag limit."),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x", "LAMBDA_TASK_ROOT": "y"}}},
            400,
            INVALID,
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            "Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT",
        ),
        (
            {"Environment": {"Variables": {"AB": "x" * 4088}}},
            400,
            INVALID,
            "Lambda was unable to configure your environment variables because the environment variables you have "
            'provided exceeded the 4KB limit. String measured: {"AB":"' + "x" * 4088 + '"}',
        ),
    ],
)
def test_what_aws_refuses_of_a_new_function_is_refused_in_its_words(
    client: Any, given: dict[str, Any], code: int, error: str, text: str
) -> None:
    """CreateFunction's errors: code, class and text."""
    create(client)
    base = {"FunctionName": "g", "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler"}
    request = {**base, "Code": {"ZipFile": CODE}, **given}
    wanted = {name: value for name, value in request.items() if value is not None}
    assert refusal(client.create_function, **wanted) == (code, error, text)
    assert [each["FunctionName"] for each in client.list_functions()["Functions"]] == ["f"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PackageType": "Image", "Code": {"ImageUri": "i"}}, ["container images", "zip", "directory"]),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, ["NoSuchBucket", "hot-reload"]),
        ({"Code": {"S3Bucket": "hot-reload", "S3Key": "relative"}}, ["absolute"]),
        ({"Code": {"S3Bucket": "hot-reload", "S3Key": "/nowhere/at/all"}}, ["/nowhere/at/all"]),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, ["VpcConfig"]),
        ({"ImageConfig": {"Command": ["x"]}}, ["ImageConfig"]),
        ({"Runtime": "python9"}, ["Value python9 at 'runtime'", "python3.12", "or be a valid ARN"]),
        ({"LoggingConfig": {"LogFormat": "Text", "ApplicationLogLevel": "INFO"}}, ["JSON"]),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_what_to_do(
    client: Any, given: dict[str, Any], words: list[str]
) -> None:
    """Nothing is accepted only to be ignored."""
    base = {"FunctionName": "g", "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler"}
    code, error, text = refusal(client.create_function, **{**base, "Code": {"ZipFile": CODE}, **given})
    assert (code, error) == (400, INVALID)
    assert all(word in text for word in words), text


def test_a_request_names_functions_of_its_region_and_account_and_one_qualifier(client: Any) -> None:
    """Other regions, other accounts and qualifiers that differ are refused in AWS's words."""
    create(client, Publish=True)
    assert refusal(client.get_function, FunctionName=ARN.replace(REGION, "eu-west-1")) == (
        404,
        "ResourceNotFoundException",
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
    )
    other = refusal(client.get_function, FunctionName=ARN.replace(ACCOUNT, "123456789012"))
    assert other[:2] == (403, "AccessDeniedException")
    assert refusal(client.get_function, FunctionName="f:1", Qualifier="$LATEST") == (
        400,
        INVALID,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )
    assert refusal(client.get_function_concurrency, FunctionName="f:1")[1:] == (
        INVALID,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )
    assert refusal(client.get_function, FunctionName="a" * 65)[:2] == (404, "ResourceNotFoundException")
    assert refusal(client.delete_function, FunctionName="f", Qualifier="$LATEST")[2] == (
        "$LATEST version cannot be deleted without deleting the function."
    )
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    assert refusal(client.delete_function, FunctionName="f", Qualifier="live")[2] == (
        "Deletion of aliases is not currently supported."
    )
    assert refusal(client.delete_function, FunctionName="f", Qualifier="1") == (
        409,
        "ResourceConflictException",
        f"Version 1 of function {ARN} cannot be deleted because it is used by the following aliases: [live]",
    )
    assert refusal(client.list_tags, Resource=f"{ARN}:1")[2] == (
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )
    assert refusal(client.update_function_code, FunctionName="f", ImageUri="i")[2] == (
        "Please don't provide ImageUri when updating a function with packageType Zip."
    )


def test_a_stale_revision_changes_nothing(client: Any) -> None:
    """Conditions on the revision and on the code, of every operation that takes them."""
    create(client)
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="$LATEST")
    stale = (
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
    assert refusal(client.update_function_code, FunctionName="f", ZipFile=CODE, RevisionId="x") == stale
    assert refusal(client.update_function_configuration, FunctionName="f", Timeout=4, RevisionId="x") == stale
    assert refusal(client.publish_version, FunctionName="f", RevisionId="x") == stale
    assert refusal(client.update_alias, FunctionName="f", Name="live", RevisionId="x") == stale
    real = client.get_function_configuration(FunctionName="f")["CodeSha256"]
    assert refusal(client.publish_version, FunctionName="f", CodeSha256="x")[1:] == (
        INVALID,
        f"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({real}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    revision = client.get_function_configuration(FunctionName="f")["RevisionId"]
    client.update_function_configuration(FunctionName="f", Timeout=4, RevisionId=revision)
    assert client.get_function_configuration(FunctionName="f")["Timeout"] == 4
