"""Lambda's operations on what belongs to a function beside its versions: see `streamkit.functions.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from streamkit.api.functions_common import (
    Context,
    Table,
    Values,
    arn_of,
    name_of,
    page_of,
    time_text,
    url_time_text,
)
from streamkit.functions import rules
from streamkit.functions.settings import Provisioned
from streamkit.functions.state import LATEST, EventInvokeState, RuntimeUpdates, UrlState
from streamkit.model.errors import InvalidParameterValue
from streamkit.model.limits import (
    ACCOUNT_CONCURRENCY,
    CODE_STORAGE_BYTES_MAX,
    CODE_UNPACKED_BYTES_MAX,
    CODE_ZIP_BYTES_MAX,
)
from streamkit.model.names import FunctionArn, Scope

OPERATIONS: Final = Table()


# -- concurrency -----------------------------------------------------------------------------------------------------


@OPERATIONS.operation("PutFunctionConcurrency")
async def put_function_concurrency(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    count = given["ReservedConcurrentExecutions"]
    await context.registry.settings.reserve(scope, name_of(scope, given, takes_latest=False), count)
    return {"ReservedConcurrentExecutions": count}


@OPERATIONS.operation("GetFunctionConcurrency")
async def get_function_concurrency(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    function = context.registry.find(scope, name_of(scope, given, takes_latest=False))
    return {"ReservedConcurrentExecutions": function.reserved_concurrency}


@OPERATIONS.operation("DeleteFunctionConcurrency")
async def delete_function_concurrency(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.settings.unreserve(scope, name_of(scope, given, takes_latest=False))
    return {}


@OPERATIONS.operation("PutProvisionedConcurrencyConfig")
async def put_provisioned_concurrency_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn, qualifier = _qualified(scope, given)
    count = given["ProvisionedConcurrentExecutions"]
    return _provisioned_of(await context.registry.settings.provision(scope, arn.name, qualifier, count))


@OPERATIONS.operation("GetProvisionedConcurrencyConfig")
async def get_provisioned_concurrency_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn, qualifier = _qualified(scope, given)
    return _provisioned_of(context.registry.settings.provisioned(scope, arn.name, qualifier))


@OPERATIONS.operation("ListProvisionedConcurrencyConfigs")
async def list_provisioned_concurrency_configs(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    function = context.registry.find(scope, name)
    page = page_of([((qualifier,), qualifier) for qualifier in sorted(function.provisioned)], given)
    configs = [
        {
            "FunctionArn": str(function.arn._replace(qualifier=qualifier)),
            **_provisioned_of(context.registry.settings.provisioned(scope, name, qualifier)),
        }
        for qualifier in page.items
    ]
    return {"ProvisionedConcurrencyConfigs": configs, "NextMarker": page.next_marker}


@OPERATIONS.operation("DeleteProvisionedConcurrencyConfig")
async def delete_provisioned_concurrency_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn, qualifier = _qualified(scope, given)
    await context.registry.settings.unprovision(scope, arn.name, qualifier)
    return {}


def _qualified(scope: Scope, given: Values) -> tuple[FunctionArn, str]:
    arn = arn_of(scope, given)
    assert arn.qualifier is not None, "the model requires one"
    return arn, arn.qualifier


def _provisioned_of(provisioned: Provisioned) -> Values:
    return {
        "RequestedProvisionedConcurrentExecutions": provisioned.requested,
        "AllocatedProvisionedConcurrentExecutions": provisioned.allocated,
        "AvailableProvisionedConcurrentExecutions": provisioned.available,
        "Status": provisioned.status,
        "LastModified": time_text(provisioned.modified_at_ms),
    }


def account_of(context: Context, scope: Scope) -> Values:
    """Limits and usage, as GetAccountSettings answers them."""
    usage = context.registry.usage(scope)
    return {
        "AccountLimit": {
            "TotalCodeSize": CODE_STORAGE_BYTES_MAX,
            "CodeSizeUnzipped": CODE_UNPACKED_BYTES_MAX,
            "CodeSizeZipped": CODE_ZIP_BYTES_MAX,
            "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
            "UnreservedConcurrentExecutions": context.registry.settings.unreserved(scope),
        },
        "AccountUsage": {"TotalCodeSize": usage.code_bytes, "FunctionCount": usage.functions_count},
    }


# -- function URLs ---------------------------------------------------------------------------------------------------


@OPERATIONS.operation("CreateFunctionUrlConfig")
async def create_function_url_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    url = await context.registry.settings.create_url(
        arn, given["AuthType"], invoke_mode=given.get("InvokeMode"), cors=given.get("Cors")
    )
    answer = _url_of(context, arn, url)
    del answer["LastModifiedTime"]
    answer["InvokeMode"] = given.get("InvokeMode")
    return answer


@OPERATIONS.operation("GetFunctionUrlConfig")
async def get_function_url_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    return _url_of(context, arn, context.registry.settings.url(arn))


@OPERATIONS.operation("ListFunctionUrlConfigs")
async def list_function_url_configs(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    urls = context.registry.settings.urls(arn)
    page = page_of([((qualifier,), (qualifier, url)) for qualifier, url in urls], given)
    configs = [
        _url_of(context, arn._replace(qualifier=None if qualifier == LATEST else qualifier), url)
        for qualifier, url in page.items
    ]
    return {"FunctionUrlConfigs": configs, "NextMarker": page.next_marker}


@OPERATIONS.operation("UpdateFunctionUrlConfig")
async def update_function_url_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    members = {"AuthType": "auth", "InvokeMode": "invoke_mode", "Cors": "cors"}
    changes = {field: given[name] for name, field in members.items() if given.get(name) is not None}
    answer = _url_of(context, arn, await context.registry.settings.update_url(arn, changes))
    answer["InvokeMode"] = given.get("InvokeMode")
    return answer


@OPERATIONS.operation("DeleteFunctionUrlConfig")
async def delete_function_url_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.settings.delete_url(arn_of(scope, given))
    return {}


def function_url(endpoint: str, region: str, url_id: str) -> str:
    """A host below `localhost`, which every resolver has on this machine, at the server's port; AWS's is
    `https://<id>.lambda-url.<region>.on.aws/`."""
    parts = urlsplit(endpoint)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{url_id}.lambda-url.{region}.localhost{port}/"


def _url_of(context: Context, arn: FunctionArn, url: UrlState) -> Values:
    return {
        "FunctionUrl": function_url(context.endpoint(), arn.scope.region, url.id),
        "FunctionArn": str(arn),
        "AuthType": url.auth,
        "Cors": url.cors,
        "CreationTime": url_time_text(url.created_at_ms),
        "LastModifiedTime": url_time_text(url.modified_at_ms),
        "InvokeMode": url.invoke_mode,
    }


# -- asynchronous invocation -----------------------------------------------------------------------------------------


@OPERATIONS.operation("PutFunctionEventInvokeConfig")
async def put_function_event_invoke_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    return await _set_event_invoke(context, scope, given, merges=False)


@OPERATIONS.operation("UpdateFunctionEventInvokeConfig")
async def update_function_event_invoke_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    return await _set_event_invoke(context, scope, given, merges=True)


async def _set_event_invoke(context: Context, scope: Scope, given: Values, *, merges: bool) -> Values:
    arn = arn_of(scope, given)
    members = {"MaximumRetryAttempts": "retries_max", "MaximumEventAgeInSeconds": "age_s_max"}
    values = {field: given[name] for name, field in members.items() if given.get(name) is not None}
    destinations = given.get("DestinationConfig")
    if destinations is not None:
        values["on_success_arn"] = destinations.get("OnSuccess", {}).get("Destination") or None
        values["on_failure_arn"] = destinations.get("OnFailure", {}).get("Destination") or None
    return _event_invoke_of(arn, await context.registry.settings.put_event_invoke(arn, values, merges=merges))


@OPERATIONS.operation("GetFunctionEventInvokeConfig")
async def get_function_event_invoke_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    return _event_invoke_of(arn, context.registry.settings.event_invoke(arn))


@OPERATIONS.operation("ListFunctionEventInvokeConfigs")
async def list_function_event_invoke_configs(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    configs = context.registry.settings.event_invokes(arn)
    page = page_of([(rules.qualifier_rank(each[0]), each) for each in configs], given)
    return {
        "FunctionEventInvokeConfigs": [
            _event_invoke_of(arn._replace(qualifier=qualifier), config) for qualifier, config in page.items
        ],
        "NextMarker": page.next_marker,
    }


@OPERATIONS.operation("DeleteFunctionEventInvokeConfig")
async def delete_function_event_invoke_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.settings.delete_event_invoke(arn_of(scope, given))
    return {}


def _event_invoke_of(arn: FunctionArn, config: EventInvokeState) -> Values:
    return {
        "FunctionArn": str(arn._replace(qualifier=arn.qualifier or LATEST)),
        "LastModified": config.modified_at_ms,
        "MaximumRetryAttempts": config.retries_max,
        "MaximumEventAgeInSeconds": config.age_s_max,
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success_arn},
            "OnFailure": {"Destination": config.on_failure_arn},
        },
    }


# -- policies --------------------------------------------------------------------------------------------------------


@OPERATIONS.operation("AddPermission")
async def add_permission(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    statement = await context.registry.policies.add(
        arn_of(scope, given),
        given["StatementId"],
        given["Principal"],
        given["Action"],
        revision_id=given.get("RevisionId"),
        source_arn=given.get("SourceArn"),
        source_account=given.get("SourceAccount"),
        organization_id=given.get("PrincipalOrgID"),
        event_source_token=given.get("EventSourceToken"),
        url_auth=given.get("FunctionUrlAuthType"),
        via_url=given.get("InvokedViaFunctionUrl"),
    )
    return {"Statement": statement}


@OPERATIONS.operation("RemovePermission")
async def remove_permission(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.policies.remove(arn_of(scope, given), given["StatementId"], given.get("RevisionId"))
    return {}


@OPERATIONS.operation("GetPolicy")
async def get_policy(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    policy, revision_id = context.registry.policies.get(arn_of(scope, given))
    return {"Policy": policy, "RevisionId": revision_id}


# -- tags ------------------------------------------------------------------------------------------------------------


@OPERATIONS.operation("TagResource")
async def tag_resource(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    resource, tags = given["Resource"], given["Tags"]
    for owner in context.tag_owners:
        if owner.owns(resource):
            await owner.tag(resource, tags)
            return {}
    await context.registry.settings.tag(scope, _tagged(scope, resource), tags)
    return {}


@OPERATIONS.operation("UntagResource")
async def untag_resource(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    resource, keys = given["Resource"], given["TagKeys"]
    for owner in context.tag_owners:
        if owner.owns(resource):
            await owner.untag(resource, keys)
            return {}
    await context.registry.settings.untag(scope, _tagged(scope, resource), keys)
    return {}


@OPERATIONS.operation("ListTags")
async def list_tags(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    resource = given["Resource"]
    for owner in context.tag_owners:
        if owner.owns(resource):
            return {"Tags": owner.tags(resource)}
    return {"Tags": context.registry.find(scope, _tagged(scope, resource)).tags}


def _tagged(scope: Scope, resource: str) -> str:
    """The function that a resource's ARN names."""
    if ":function:" not in resource:
        raise InvalidParameterValue(f"streamkit keeps no tags of {resource}: give the ARN of a function or a mapping.")
    arn = arn_of(scope, {"FunctionName": resource})
    if arn.qualifier is not None:
        raise InvalidParameterValue(
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    return arn.name


# -- others ----------------------------------------------------------------------------------------------------------


@OPERATIONS.operation("PutFunctionRecursionConfig")
async def put_function_recursion_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.settings.set_recursion(scope, name_of(scope, given), given["RecursiveLoop"])
    return {"RecursiveLoop": given["RecursiveLoop"]}


@OPERATIONS.operation("GetFunctionRecursionConfig")
async def get_function_recursion_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    return {"RecursiveLoop": context.registry.find(scope, name_of(scope, given)).recursive_loop}


@OPERATIONS.operation("PutRuntimeManagementConfig")
async def put_runtime_management_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    updates = RuntimeUpdates(given["UpdateRuntimeOn"], given.get("RuntimeVersionArn"))
    arn = arn_of(scope, given)
    await context.registry.settings.set_runtime_updates(arn, updates)
    return _runtime_updates_of(arn, updates)


@OPERATIONS.operation("GetRuntimeManagementConfig")
async def get_runtime_management_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    return _runtime_updates_of(arn, context.registry.settings.runtime_updates(arn))


def _runtime_updates_of(arn: FunctionArn, updates: RuntimeUpdates) -> Values:
    return {
        "UpdateRuntimeOn": updates.update_on,
        "FunctionArn": str(arn._replace(qualifier=arn.qualifier or LATEST)),
        "RuntimeVersionArn": updates.version_arn,
    }


@OPERATIONS.operation("GetFunctionCodeSigningConfig")
async def get_function_code_signing_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    """Tools that read a function's settings ask this of every function; none has one here."""
    context.registry.find(scope, name_of(scope, given))
    return {}


@OPERATIONS.operation("DeleteFunctionCodeSigningConfig")
async def delete_function_code_signing_config(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    context.registry.find(scope, name_of(scope, given))
    return {}
