"""Lambda's operations on functions, versions, aliases, layers and their settings, as boto3 sees them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.lambda_registry import (
    ACCOUNT,
    ARN,
    CODE,
    REGION,
    ROLE,
    LambdaServer,
    body,
    connected,
    create,
    refusal,
    status,
    zip_of,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LambdaServer]:
    with LambdaServer(tmp_path) as made:
        yield made


@pytest.fixture
def client(server: LambdaServer) -> Iterator[Any]:
    with connected(server.endpoint) as made:
        yield made


def test_a_function_is_created_with_every_default_of_aws(client: Any) -> None:
    """CreateFunction answers Pending, and GetFunction Active."""
    answer = create(client)
    assert status(answer) == 201
    made = body(answer)
    assert made == {
        "FunctionName": "f",
        "FunctionArn": ARN,
        "Runtime": "python3.12",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(CODE),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "LastModified": made["LastModified"],
        "CodeSha256": base64.b64encode(hashlib.sha256(CODE).digest()).decode(),
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": made["RevisionId"],
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": made["RuntimeVersionConfig"],
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"},
    }
    client.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0})
    found = client.get_function(FunctionName="f")
    assert set(body(found)) == {"Configuration", "Code"}
    assert found["Configuration"]["State"] == "Active"
    assert found["Configuration"]["LastUpdateStatus"] == "Successful"
    assert found["Configuration"]["RevisionId"] != made["RevisionId"]


def test_each_change_of_a_function_is_waited_for(tmp_path: Path) -> None:
    """With a transition delay boto3's waiters see Pending and InProgress pass, and a change meanwhile is refused."""
    with LambdaServer(tmp_path, transition_delay_ms=600) as server, connected(server.endpoint) as client:
        create(client)
        assert client.get_function(FunctionName="f")["Configuration"]["State"] == "Pending"
        code, error, text = refusal(client.update_function_configuration, FunctionName="f", Timeout=5)
        assert (code, error) == (409, "ResourceConflictException")
        assert text.endswith("The function is currently in the following state: Pending")
        for waiter in ("function_active_v2", "function_active"):
            client.get_waiter(waiter).wait(FunctionName="f", WaiterConfig={"Delay": 0.05, "MaxAttempts": 100})
        answer = client.update_function_configuration(FunctionName="f", Timeout=5)
        assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "InProgress")
        assert answer["LastUpdateStatusReason"] == "The function is being created."
        assert refusal(client.update_function_code, FunctionName="f", ZipFile=CODE) == (
            409,
            "ResourceConflictException",
            f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}",
        )
        for waiter in ("function_updated_v2", "function_updated"):
            client.get_waiter(waiter).wait(FunctionName="f", WaiterConfig={"Delay": 0.05, "MaxAttempts": 100})
        found = client.get_function_configuration(FunctionName="f")
        assert (found["Timeout"], found["LastUpdateStatus"]) == (5, "Successful")
        assert found["RevisionId"] != answer["RevisionId"]


def test_everything_that_can_be_set_comes_back(client: Any) -> None:
    """Members of CreateFunction are in GetFunction, with tags and reserved concurrency beside the configuration."""
    layer = client.publish_layer_version(LayerName="l", Content={"ZipFile": zip_of(name="python/l.py")})
    given: dict[str, Any] = {
        "Description": "d",
        "Timeout": 900,
        "MemorySize": 10240,
        "Environment": {"Variables": {"AB": "1"}},
        "DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"},
        "TracingConfig": {"Mode": "Active"},
        "KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 10240},
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "LoggingConfig": {"LogFormat": "JSON", "LogGroup": "g"},
    }
    create(client, **given, Layers=[layer["LayerVersionArn"]], Tags={"k": "v"})
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=7)
    found = client.get_function(FunctionName="f")
    given["SnapStart"] = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    given["LoggingConfig"] = {
        "LogFormat": "JSON",
        "LogGroup": "g",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
    }
    given["Layers"] = [{"Arn": layer["LayerVersionArn"], "CodeSize": layer["Content"]["CodeSize"]}]
    assert {name: found["Configuration"][name] for name in given} == given
    assert found["Tags"] == {"k": "v"}
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert found["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(found["Code"]["Location"]) as zipped:
        assert zipped.read() == CODE
    version = client.publish_version(FunctionName="f")
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}


def test_absent_members_are_kept_and_empty_ones_emptied(client: Any) -> None:
    """UpdateFunctionConfiguration changes what it is given, and clears what it is given empty."""
    layer = client.publish_layer_version(LayerName="l", Content={"ZipFile": zip_of(name="python/l.py")})
    create(
        client,
        Description="d",
        Environment={"Variables": {"AB": "1"}},
        DeadLetterConfig={"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"},
        KMSKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
        Layers=[layer["LayerVersionArn"]],
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"},
    )
    before = client.get_function_configuration(FunctionName="f")
    after = body(client.update_function_configuration(FunctionName="f", Handler="app.other"))
    changing = {"Handler", "RevisionId", "LastModified", "LastUpdateStatus"}
    changing |= {"LastUpdateStatusReason", "LastUpdateStatusReasonCode"}
    assert after["Handler"] == "app.other"
    assert {name: value for name, value in after.items() if name not in changing} == {
        name: value for name, value in body(before).items() if name not in changing
    }
    emptied = client.update_function_configuration(
        FunctionName="f",
        Description="",
        Environment={"Variables": {}},
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        Layers=[],
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
    )
    assert {"Environment", "DeadLetterConfig", "KMSKeyArn", "Layers"}.isdisjoint(emptied)
    assert emptied["Description"] == ""
    assert emptied["LoggingConfig"]["ApplicationLogLevel"] == "DEBUG"
    named = client.update_function_configuration(FunctionName="f", LoggingConfig={"LogGroup": "g"})["LoggingConfig"]
    assert (named["LogFormat"], named["ApplicationLogLevel"], named["LogGroup"]) == ("JSON", "DEBUG", "g")
    plain = client.update_function_configuration(FunctionName="f", LoggingConfig={"LogFormat": "Text"})
    assert plain["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "g"}


def test_new_code_is_published_as_a_version(client: Any) -> None:
    """UpdateFunctionCode with Publish answers with the version, Pending; a dry run changes nothing."""
    create(client)
    new = zip_of("other")
    dry = client.update_function_code(FunctionName="f", ZipFile=new, DryRun=True)
    assert status(dry) == 200
    assert client.get_function_configuration(FunctionName="f")["CodeSize"] == len(CODE)
    published = client.update_function_code(FunctionName="f", ZipFile=new, Publish=True, Architectures=["arm64"])
    assert (published["FunctionArn"], published["Version"]) == (f"{ARN}:1", "1")
    assert (published["State"], published["StateReasonCode"]) == ("Pending", "Creating")
    assert "LastUpdateStatus" not in published
    client.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="1", WaiterConfig={"Delay": 0})
    latest = client.get_function_configuration(FunctionName="f")
    assert latest["CodeSha256"] == published["CodeSha256"] == base64.b64encode(hashlib.sha256(new).digest()).decode()
    assert latest["Architectures"] == ["arm64"]
    at_once = create(client, "g", Publish=True)
    assert (at_once["Version"], at_once["FunctionArn"]) == ("1", ARN[:-1] + "g")


def test_a_local_directory_is_code(client: Any, tmp_path: Path) -> None:
    """The bucket `hot-reload` stands for this machine; what the directory holds later is not the function's."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "app.py").write_text("one")
    create(client, Code={"S3Bucket": "hot-reload", "S3Key": str(directory)})
    (directory / "app.py").write_text("two")
    location = client.get_function(FunctionName="f")["Code"]["Location"]
    with urllib.request.urlopen(location) as zipped, zipfile.ZipFile(io.BytesIO(zipped.read())) as package:
        assert package.read("app.py") == b"one"
    client.update_function_code(FunctionName="f", S3Bucket="file", S3Key=str(directory))
    assert client.get_function(FunctionName="f")["Code"]["Location"] != location


def test_versions_are_what_latest_was(client: Any) -> None:
    """PublishVersion: a version that later changes of $LATEST leave alone; the same one again if nothing changed."""
    create(client, Description="one")
    before = client.get_function_configuration(FunctionName="f")["RevisionId"]
    first = client.publish_version(FunctionName="f", Description="first")
    assert status(first) == 201
    assert (first["Version"], first["Description"], first["FunctionArn"]) == ("1", "first", f"{ARN}:1")
    assert (first["State"], first["LastUpdateStatus"]) == ("Active", "Successful")
    assert client.get_function_configuration(FunctionName="f")["RevisionId"] != before
    again = client.publish_version(FunctionName="f", Description="again")
    assert body(again) == body(first)
    client.update_function_configuration(FunctionName="f", Timeout=9)
    second = client.publish_version(FunctionName="f", CodeSha256=first["CodeSha256"])
    assert (second["Version"], second["Timeout"], second["Description"]) == ("2", 9, "one")
    assert client.get_function_configuration(FunctionName="f", Qualifier="1")["Timeout"] == 3
    listed = client.list_versions_by_function(FunctionName="f")["Versions"]
    assert [each["FunctionArn"] for each in listed] == [f"{ARN}:$LATEST", f"{ARN}:1", f"{ARN}:2"]
    assert all({"State", "LastUpdateStatus", "RuntimeVersionConfig"}.isdisjoint(each) for each in listed)
    assert status(client.delete_function(FunctionName="f", Qualifier="1")) == 204
    assert status(client.delete_function(FunctionName="f", Qualifier="1")) == 204
    assert [each["Version"] for each in client.list_versions_by_function(FunctionName="f")["Versions"]] == [
        "$LATEST",
        "2",
    ]


def test_answers_name_the_qualifier_that_was_asked_for(client: Any) -> None:
    """The ARN of a configuration ends in the qualifier of the request, however it was given."""
    create(client, Publish=True)
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    for qualifier, version in (("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")):
        for given in (
            {"FunctionName": "f", "Qualifier": qualifier},
            {"FunctionName": f"f:{qualifier}"},
            {"FunctionName": f"{ARN}:{qualifier}"},
            {"FunctionName": f"{ACCOUNT}:function:f:{qualifier}"},
        ):
            found = client.get_function(**given)["Configuration"]
            assert (found["FunctionArn"], found["Version"]) == (f"{ARN}:{qualifier}", version)
    assert client.get_function(FunctionName=ARN)["Configuration"]["FunctionArn"] == ARN


def test_aliases_point_to_one_version_or_two(client: Any) -> None:
    """All of an alias's operations."""
    create(client, Publish=True)
    client.update_function_configuration(FunctionName="f", Timeout=9)
    client.publish_version(FunctionName="f")
    made = client.create_alias(
        FunctionName="f",
        Name="live",
        FunctionVersion="1",
        Description="d",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    assert status(made) == 201
    assert body(made) == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "d",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}},
        "RevisionId": made["RevisionId"],
    }
    assert body(client.get_alias(FunctionName="f", Name="live")) == body(made)
    changed = client.update_alias(FunctionName="f", Name="live", FunctionVersion="2", RoutingConfig={})
    assert "RoutingConfig" not in changed
    assert (changed["FunctionVersion"], changed["Description"]) == ("2", "d")
    assert changed["RevisionId"] != made["RevisionId"]
    client.create_alias(FunctionName="f", Name="dev", FunctionVersion="$LATEST")
    assert [each["Name"] for each in client.list_aliases(FunctionName="f")["Aliases"]] == ["dev", "live"]
    assert [each["Name"] for each in client.list_aliases(FunctionName="f", FunctionVersion="2")["Aliases"]] == ["live"]
    assert status(client.delete_alias(FunctionName="f", Name="live")) == 204
    assert status(client.delete_alias(FunctionName="f", Name="live")) == 204


def test_lists_go_on_where_their_marker_says(client: Any) -> None:
    """Every list, page by page, has everything once."""
    for name in ("a", "b", "c"):
        create(client, name, Publish=True)
        client.create_alias(FunctionName="a", Name=name, FunctionVersion="1")
        client.publish_layer_version(LayerName=name, Content={"ZipFile": CODE})
        client.publish_layer_version(LayerName="a", Content={"ZipFile": CODE})
        client.put_function_event_invoke_config(FunctionName="a", Qualifier=name, MaximumRetryAttempts=1)
        client.create_function_url_config(FunctionName="a", Qualifier=name, AuthType="NONE")
    cases = {
        "list_functions": ({}, "Functions"),
        "list_aliases": ({"FunctionName": "a"}, "Aliases"),
        "list_versions_by_function": ({"FunctionName": "a"}, "Versions"),
        "list_layers": ({}, "Layers"),
        "list_layer_versions": ({"LayerName": "a"}, "LayerVersions"),
        "list_function_event_invoke_configs": ({"FunctionName": "a"}, "FunctionEventInvokeConfigs"),
        "list_function_url_configs": ({"FunctionName": "a"}, "FunctionUrlConfigs"),
    }
    for operation, (given, member) in cases.items():
        everything = getattr(client, operation)(**given)[member]
        pages = client.get_paginator(operation).paginate(**given, PaginationConfig={"PageSize": 1})
        paged = [page[member] for page in pages]
        assert [item for page in paged for item in page] == everything, operation
        assert max(map(len, paged)) == 1
        assert len(everything) >= 2
    all_versions = client.list_functions(FunctionVersion="ALL", MaxItems=5)
    assert [each["FunctionArn"].rsplit(":", 2)[1:] for each in all_versions["Functions"]] == [
        ["a", "$LATEST"],
        ["a", "1"],
        ["b", "$LATEST"],
        ["b", "1"],
        ["c", "$LATEST"],
    ]
    rest = client.list_functions(FunctionVersion="ALL", Marker=all_versions["NextMarker"])
    assert [each["Version"] for each in rest["Functions"]] == ["1"]
    assert client.list_functions(MasterRegion="eu-west-1")["Functions"] == []
    assert refusal(client.list_functions, Marker="?")[:2] == (400, "InvalidParameterValueException")
    assert refusal(client.list_functions, Marker=rest.get("NextMarker") or "e30=")[0] == 400


def test_concurrency_is_reserved_and_provisioned(client: Any) -> None:
    """Operations on reserved and provisioned concurrency, and what they leave of the account's."""
    create(client, Publish=True)
    assert body(client.get_function_concurrency(FunctionName="f")) == {}
    put = client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=100)
    assert (status(put), put["ReservedConcurrentExecutions"]) == (200, 100)
    assert client.get_function_concurrency(FunctionName=ARN)["ReservedConcurrentExecutions"] == 100
    settings = client.get_account_settings()
    assert settings["AccountLimit"] == {
        "TotalCodeSize": 80530636800,
        "CodeSizeUnzipped": 262144000,
        "CodeSizeZipped": 52428800,
        "ConcurrentExecutions": 1000,
        "UnreservedConcurrentExecutions": 900,
    }
    assert settings["AccountUsage"] == {"TotalCodeSize": 2 * len(CODE), "FunctionCount": 1}
    provisioned = client.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=5
    )
    assert status(provisioned) == 202
    assert body(provisioned) == {
        "RequestedProvisionedConcurrentExecutions": 5,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": provisioned["LastModified"],
    }
    ready = body(client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1"))
    assert (ready["Status"], ready["AllocatedProvisionedConcurrentExecutions"]) == ("READY", 5)
    listed = client.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
    assert listed == [{**ready, "FunctionArn": f"{ARN}:1"}]
    for _ in range(2):
        assert status(client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")) == 204
        assert status(client.delete_function_concurrency(FunctionName="f")) == 204
    assert body(client.get_function_concurrency(FunctionName="f")) == {}


def test_a_function_has_urls(client: Any) -> None:
    """All operations on function URLs."""
    create(client, Publish=True)
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    made = client.create_function_url_config(FunctionName="f", AuthType="NONE")
    assert status(made) == 201
    assert set(body(made)) == {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"}
    cors = {"AllowOrigins": ["*"], "MaxAge": 5}
    aliased = client.create_function_url_config(
        FunctionName="f", Qualifier="live", AuthType="AWS_IAM", Cors=cors, InvokeMode="RESPONSE_STREAM"
    )
    assert (aliased["FunctionArn"], aliased["Cors"]) == (f"{ARN}:live", cors)
    assert aliased["FunctionUrl"] != made["FunctionUrl"]
    found = client.get_function_url_config(FunctionName="f")
    assert (found["InvokeMode"], found["FunctionUrl"]) == ("BUFFERED", made["FunctionUrl"])
    listed = client.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"]
    assert [each["FunctionArn"] for each in listed] == [ARN, f"{ARN}:live"]
    updated = client.update_function_url_config(FunctionName="f", AuthType="AWS_IAM")
    assert updated["AuthType"] == "AWS_IAM"
    assert "InvokeMode" not in updated
    assert status(client.delete_function_url_config(FunctionName="f")) == 204
    gone = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
    assert refusal(client.get_function_url_config, FunctionName="f") == gone
    assert refusal(client.delete_function_url_config, FunctionName="f") == gone


def test_asynchronous_invocation_is_configured(client: Any) -> None:
    """Put replaces, update merges; ARNs are always qualified."""
    create(client, Publish=True)
    other = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other"
    put = client.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": other}}
    )
    assert body(put) == {
        "FunctionArn": f"{ARN}:$LATEST",
        "LastModified": put["LastModified"],
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": other}},
    }
    merged = client.update_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=60)
    assert (merged["MaximumRetryAttempts"], merged["MaximumEventAgeInSeconds"]) == (0, 60)
    replaced = client.put_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=70)
    assert "MaximumRetryAttempts" not in replaced
    assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    assert body(client.get_function_event_invoke_config(FunctionName="f")) == body(replaced)
    client.put_function_event_invoke_config(FunctionName="f", Qualifier="1", MaximumRetryAttempts=1)
    listed = client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
    assert [each["FunctionArn"] for each in listed] == [f"{ARN}:$LATEST", f"{ARN}:1"]
    assert status(client.delete_function_event_invoke_config(FunctionName="f")) == 204
    assert refusal(client.get_function_event_invoke_config, FunctionName="f") == (
        404,
        "ResourceNotFoundException",
        f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig",
    )


def test_permissions_make_a_policy(client: Any) -> None:
    """Statements are AWS's, to the order of their members, and each policy belongs to a qualifier."""
    create(client, Publish=True)
    added = client.add_permission(
        FunctionName="f",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::bucket",
        SourceAccount=ACCOUNT,
    )
    assert status(added) == 201
    assert added["Statement"] == (
        '{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction",'
        f'"Resource":"{ARN}","Condition":{{"StringEquals":{{"AWS:SourceAccount":"{ACCOUNT}"}},'
        '"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}'
    )
    client.add_permission(
        FunctionName="f",
        Qualifier="1",
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    policy = client.get_policy(FunctionName="f")
    assert policy["Policy"] == f'{{"Version":"2012-10-17","Id":"default","Statement":[{added["Statement"]}]}}'
    assert policy["RevisionId"] == client.get_function_configuration(FunctionName="f")["RevisionId"]
    of_version = json.loads(client.get_policy(FunctionName="f", Qualifier="1")["Policy"])["Statement"][0]
    assert (of_version["Resource"], of_version["Principal"]) == (f"{ARN}:1", "*")
    stale = (
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    )
    assert refusal(client.remove_permission, FunctionName="f", StatementId="s3", RevisionId="x") == stale
    removed = client.remove_permission(FunctionName="f", StatementId="s3", RevisionId=policy["RevisionId"])
    assert status(removed) == 204
    assert refusal(client.get_policy, FunctionName="f") == (
        404,
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


def test_functions_have_tags(client: Any) -> None:
    """TagResource, UntagResource and ListTags; a tag makes a new revision."""
    create(client, Tags={"a": "1"})
    before = client.get_function_configuration(FunctionName="f")["RevisionId"]
    assert status(client.tag_resource(Resource=ARN, Tags={"b": "2"})) == 204
    assert client.list_tags(Resource=ARN)["Tags"] == {"a": "1", "b": "2"}
    assert client.get_function_configuration(FunctionName="f")["RevisionId"] != before
    for _ in range(2):
        assert status(client.untag_resource(Resource=ARN, TagKeys=["a", "z"])) == 204
    assert client.list_tags(Resource=ARN)["Tags"] == {"b": "2"}
    assert client.get_function(FunctionName="f")["Tags"] == {"b": "2"}


def test_layers_are_published_listed_and_deleted(client: Any) -> None:
    """All operations on layers: numbers are not given again, and functions keep what was deleted."""
    content = {"ZipFile": zip_of(name="python/l.py")}
    first = client.publish_layer_version(
        LayerName="l",
        Content=content,
        Description="d",
        CompatibleRuntimes=["python3.12"],
        CompatibleArchitectures=["x86_64"],
        LicenseInfo="MIT",
    )
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l"
    assert status(first) == 201
    assert body(first) == {
        "Content": first["Content"],
        "LayerArn": arn,
        "LayerVersionArn": f"{arn}:1",
        "Description": "d",
        "CreatedDate": first["CreatedDate"],
        "Version": 1,
        "CompatibleRuntimes": ["python3.12"],
        "CompatibleArchitectures": ["x86_64"],
        "LicenseInfo": "MIT",
    }
    with urllib.request.urlopen(first["Content"]["Location"]) as zipped:
        assert zipped.read() == content["ZipFile"]
    client.publish_layer_version(LayerName=arn, Content=content)
    listed = client.list_layer_versions(LayerName="l")["LayerVersions"]
    assert [each["Version"] for each in listed] == [2, 1]
    only = client.list_layer_versions(LayerName="l", CompatibleRuntime="python3.12", CompatibleArchitecture="x86_64")
    assert [each["Version"] for each in only["LayerVersions"]] == [1]
    assert [each["LatestMatchingVersion"]["Version"] for each in client.list_layers()["Layers"]] == [2]
    matching = client.list_layers(CompatibleRuntime="python3.12")["Layers"]
    assert [(each["LayerName"], each["LatestMatchingVersion"]["Version"]) for each in matching] == [("l", 1)]
    assert client.list_layers(CompatibleRuntime="ruby3.4")["Layers"] == []
    by_arn = client.get_layer_version_by_arn(Arn=f"{arn}:1")
    assert body(by_arn) == body(client.get_layer_version(LayerName="l", VersionNumber=1)) == body(first)

    create(client, Layers=[f"{arn}:2"])
    for _ in range(2):
        assert status(client.delete_layer_version(LayerName="l", VersionNumber=2)) == 204
    kept = client.get_function_configuration(FunctionName="f")["Layers"]
    assert kept == [{"Arn": f"{arn}:2", "CodeSize": len(content["ZipFile"])}]
    missing = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
    assert refusal(client.get_layer_version, LayerName="l", VersionNumber=2) == missing
    assert refusal(client.get_layer_version_by_arn, Arn=f"{arn}:2") == missing
    assert client.publish_layer_version(LayerName="l", Content=content)["Version"] == 3
    assert client.list_layer_versions(LayerName="none")["LayerVersions"] == []


def test_a_layer_version_has_a_policy(client: Any) -> None:
    """Operations on a layer version's policy, with their errors."""
    client.publish_layer_version(LayerName="l", Content={"ZipFile": CODE})
    target = {"LayerName": "l", "VersionNumber": 1}
    allowed = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": ACCOUNT}
    none = (404, "ResourceNotFoundException", "No policy is associated with the given resource.")
    assert refusal(client.get_layer_version_policy, **target) == none
    assert refusal(client.remove_layer_version_permission, **target, StatementId="s") == none
    added = client.add_layer_version_permission(**target, **allowed)
    assert status(added) == 201
    assert json.loads(added["Statement"]) == {
        "Sid": "s",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "lambda:GetLayerVersion",
        "Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l:1",
    }
    policy = client.get_layer_version_policy(**target)
    assert policy["RevisionId"] == added["RevisionId"]
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(added["Statement"])]
    assert refusal(client.add_layer_version_permission, **target, **allowed)[0] == 409
    assert refusal(client.remove_layer_version_permission, **target, StatementId="t") == (
        404,
        "ResourceNotFoundException",
        "Statement t is not found in resource policy.",
    )
    code, error, text = refusal(client.remove_layer_version_permission, **target, StatementId="s", RevisionId="x")
    assert (code, error) == (412, "PreconditionFailedException")
    assert text.endswith("Call the GetLayerPolicy API to retrieve the latest Revision Id")
    assert status(client.remove_layer_version_permission(**target, StatementId="s")) == 204
    assert refusal(client.get_layer_version_policy, **target) == none
    assert refusal(client.get_layer_version_policy, LayerName="l", VersionNumber=9) == (
        404,
        "ResourceNotFoundException",
        "Layer version ARN does not exist.",
    )
    assert refusal(client.get_layer_version, LayerName="l", VersionNumber=0) == (
        400,
        "InvalidParameterValueException",
        "Layer Version Cannot be less than 1",
    )


def test_what_only_aws_acts_on_is_remembered(client: Any) -> None:
    """Recursion and runtime management; and that no function has a code signing configuration."""
    create(client)
    assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    assert client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"
    updates = client.get_runtime_management_config(FunctionName="f")
    assert (updates["UpdateRuntimeOn"], updates["FunctionArn"]) == ("Auto", f"{ARN}:$LATEST")
    client.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="FunctionUpdate")
    assert client.get_runtime_management_config(FunctionName="f")["UpdateRuntimeOn"] == "FunctionUpdate"
    assert refusal(client.put_runtime_management_config, FunctionName="f", UpdateRuntimeOn="Manual")[0] == 400
    assert body(client.get_function_code_signing_config(FunctionName="f")) == {}
    assert status(client.delete_function_code_signing_config(FunctionName="f")) == 204


def test_a_restarted_server_answers_the_same(tmp_path: Path) -> None:
    """Everything that was answered is on disk."""

    def answers(client: Any) -> list[Any]:
        calls = [
            client.get_function(FunctionName="f")["Configuration"],
            client.get_function(FunctionName="f", Qualifier="live")["Configuration"],
            client.list_versions_by_function(FunctionName="f"),
            client.list_aliases(FunctionName="f"),
            client.get_policy(FunctionName="f"),
            client.list_tags(Resource=ARN),
            client.get_function_event_invoke_config(FunctionName="f"),
            client.get_function_concurrency(FunctionName="f"),
            client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1"),
            client.get_layer_version(LayerName="l", VersionNumber=1)["Content"]["CodeSha256"],
            client.get_function_url_config(FunctionName="f")["CreationTime"],
        ]
        return [body(each) if isinstance(each, dict) else each for each in calls]

    with LambdaServer(tmp_path) as server, connected(server.endpoint) as client:
        layer = client.publish_layer_version(LayerName="l", Content={"ZipFile": zip_of(name="python/l.py")})
        create(client, Publish=True, Layers=[layer["LayerVersionArn"]], Tags={"a": "b"})
        client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
        client.add_permission(FunctionName="f", StatementId="s", Action="lambda:InvokeFunction", Principal="*")
        client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=10)
        client.put_provisioned_concurrency_config(FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=2)
        client.create_function_url_config(FunctionName="f", AuthType="NONE")
        before = answers(client)
    with LambdaServer(tmp_path) as server, connected(server.endpoint) as client:
        assert answers(client) == before
        with urllib.request.urlopen(client.get_function(FunctionName="f")["Code"]["Location"]) as zipped:
            assert zipped.read() == CODE


def test_there_is_no_code_where_there_is_no_package(server: LambdaServer) -> None:
    """The link of GetFunction leads to packages alone."""
    for name in ("0" * 64 + ".zip", "../control.sqlite", "new-1-1/zip"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.endpoint}/_streamkit/code/{name}")
