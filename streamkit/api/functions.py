"""Lambda's operations on functions, versions and aliases, over `streamkit.functions.registry`; with those of
`functions_settings` and `functions_layers` a part of the Lambda service.

Values come checked against the service model. Rules beyond it, and their words, are in `streamkit.functions.rules`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from streamkit.api import functions_layers, functions_settings
from streamkit.api.functions_common import (
    CODE_PATH,
    Action,
    Context,
    Operation,
    Table,
    TagOwner,
    Values,
    arn_of,
    code_of,
    name_of,
    page_of,
    time_text,
)
from streamkit.api.gateway import Route
from streamkit.api.http import Request, Response
from streamkit.functions import rules
from streamkit.functions.code import aws_hash
from streamkit.functions.registry import Registry
from streamkit.functions.state import LATEST, AliasState, Configuration, FunctionState, LoggingState, VersionState
from streamkit.model.errors import InvalidParameterValue, ResourceNotFound
from streamkit.model.names import Scope

_OPERATIONS: Final = Table()

# In the model, and of no use on one machine without containers: refused, so that nobody believes they work.
_UNSUPPORTED: Final = (
    "FileSystemConfigs",
    "ImageConfig",
    "CodeSigningConfigArn",
    "TenancyConfig",
    "CapacityProviderConfig",
    "DurableConfig",
    "RuntimeConfig",
    "AcceleratorConfig",
    "PublishTo",
)
_NO_CODE_HASH: Final = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # of nothing: a library function has no package
_CREATING: Final = "The function is being created."


class Functions:
    """The operations by name in `actions`; `prefix_routes` serve what their answers link to."""

    def __init__(self, registry: Registry, *, endpoint: Callable[[], str], tag_owners: Sequence[TagOwner] = ()) -> None:
        self._context = Context(registry, endpoint, tag_owners)

    @property
    def actions(self) -> Mapping[str, Action]:
        tables = _OPERATIONS | functions_settings.OPERATIONS | functions_layers.OPERATIONS
        return {name: _bound(self._context, operation) for name, operation in tables.items()}

    @property
    def prefix_routes(self) -> Mapping[str, Route]:
        return {CODE_PATH: self._code}

    async def _code(self, request: Request) -> Response:
        """A package's zip: anybody who knows its hash may have it, as with AWS's signed links."""
        sha256 = request.path.removeprefix(CODE_PATH).removesuffix(".zip")
        data = await self._context.registry.code.read_zip(sha256) if request.method == "GET" else None
        if data is None:
            raise ResourceNotFound(f"There is no code at {request.path}.")
        return Response(200, data, b"application/zip")


def _bound(context: Context, operation: Operation) -> Action:
    return lambda scope, given: operation(context, scope, given)


# -- functions -------------------------------------------------------------------------------------------------------


@_OPERATIONS.operation("CreateFunction")
async def create_function(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    if given.get("PackageType") == "Image" or given["Code"].get("ImageUri") is not None:
        raise InvalidParameterValue(rules.NO_IMAGES)
    _refuse_unsupported(given)
    name = name_of(scope, given)
    rules.check_name(name)
    if not given.get("Runtime") or not given.get("Handler"):
        raise InvalidParameterValue(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    base = Configuration(given["Runtime"], given["Handler"], given["Role"])
    configuration = msgspec.structs.replace(base, **_changes(given, base))
    version = await context.registry.create(
        scope,
        name,
        configuration,
        code_of(given["Code"]),
        publish=bool(given.get("Publish")),
        tags=given.get("Tags"),
    )
    return configuration_of(context, context.registry.find(scope, name), version, None)


@_OPERATIONS.operation("GetFunction")
async def get_function(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    function, version, qualifier = _asked(context, scope, given)
    code = version.configuration.code
    reserved = function.reserved_concurrency
    return {
        "Configuration": configuration_of(context, function, version, qualifier),
        "Code": {"Location": context.code_location(code.sha256), "RepositoryType": "S3"} if code else {},
        "Tags": function.tags or None,
        "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
    }


@_OPERATIONS.operation("GetFunctionConfiguration")
async def get_function_configuration(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    return configuration_of(context, *_asked(context, scope, given))


@_OPERATIONS.operation("ListFunctions")
async def list_functions(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    """`MasterRegion` is about replicas in other regions, which are never here: one of them has no functions."""
    functions = context.registry.all(scope)
    if given.get("MasterRegion") not in (None, "ALL", scope.region):
        functions = []
    if given.get("FunctionVersion") == "ALL":
        items = [
            ((function.name, index), _listed(context, function, version, version.version))
            for function in functions
            for index, version in enumerate((function.latest, *_numbered(function)))
        ]
        page = page_of(items, given)
    else:
        page = page_of(
            [((function.name,), _listed(context, function, function.latest, None)) for function in functions], given
        )
    return {"Functions": page.items, "NextMarker": page.next_marker}


@_OPERATIONS.operation("UpdateFunctionCode")
async def update_function_code(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    if given.get("PublishTo") is not None:
        _refuse_unsupported(given)
    context.registry.find(scope, name)
    if given.get("ImageUri") is not None:
        raise InvalidParameterValue("Please don't provide ImageUri when updating a function with packageType Zip.")
    version = await context.registry.update_code(
        scope,
        name,
        code_of(given),
        architectures=given.get("Architectures"),
        publish=bool(given.get("Publish")),
        dry_run=bool(given.get("DryRun")),
        revision_id=given.get("RevisionId"),
    )
    shown = None if version.version == LATEST else version.version
    return configuration_of(context, context.registry.find(scope, name), version, shown)


@_OPERATIONS.operation("UpdateFunctionConfiguration")
async def update_function_configuration(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    _refuse_unsupported(given)
    function = context.registry.find(scope, name)
    version = await context.registry.update_configuration(
        scope, name, _changes(given, function.latest.configuration), revision_id=given.get("RevisionId")
    )
    return configuration_of(context, context.registry.find(scope, name), version, None)


@_OPERATIONS.operation("DeleteFunction")
async def delete_function(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = arn_of(scope, given)
    await context.registry.delete(scope, arn.name, arn.qualifier)
    return {"StatusCode": 204}


# -- versions --------------------------------------------------------------------------------------------------------


@_OPERATIONS.operation("PublishVersion")
async def publish_version(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    if given.get("PublishTo") is not None:
        _refuse_unsupported(given)
    name = name_of(scope, given)
    version = await context.registry.publish_version(
        scope,
        name,
        description=given.get("Description"),
        code_sha256=given.get("CodeSha256"),
        revision_id=given.get("RevisionId"),
    )
    return configuration_of(context, context.registry.find(scope, name), version, version.version)


@_OPERATIONS.operation("ListVersionsByFunction")
async def list_versions_by_function(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    function = context.registry.find(scope, arn_of(scope, given).name)
    items = [
        ((0 if version.version == LATEST else int(version.version),), version)
        for version in (function.latest, *_numbered(function))
    ]
    page = page_of(items, given)
    return {
        "Versions": [_listed(context, function, version, version.version) for version in page.items],
        "NextMarker": page.next_marker,
    }


# -- aliases ---------------------------------------------------------------------------------------------------------


@_OPERATIONS.operation("CreateAlias")
async def create_alias(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    alias = await context.registry.aliases.create(
        scope,
        name,
        given["Name"],
        given["FunctionVersion"],
        description=given.get("Description", ""),
        weights=_weights(given),
    )
    return _alias_of(context.registry.find(scope, name), alias)


@_OPERATIONS.operation("GetAlias")
async def get_alias(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    alias = context.registry.aliases.get(scope, name, given["Name"])
    return _alias_of(context.registry.find(scope, name), alias)


@_OPERATIONS.operation("ListAliases")
async def list_aliases(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    aliases = context.registry.aliases.all(scope, name, given.get("FunctionVersion"))
    page = page_of([((alias.name,), alias) for alias in aliases], given)
    function = context.registry.find(scope, name)
    return {"Aliases": [_alias_of(function, alias) for alias in page.items], "NextMarker": page.next_marker}


@_OPERATIONS.operation("UpdateAlias")
async def update_alias(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    name = name_of(scope, given)
    alias = await context.registry.aliases.update(
        scope,
        name,
        given["Name"],
        version=given.get("FunctionVersion"),
        description=given.get("Description"),
        weights=_weights(given),
        revision_id=given.get("RevisionId"),
    )
    return _alias_of(context.registry.find(scope, name), alias)


@_OPERATIONS.operation("DeleteAlias")
async def delete_alias(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.aliases.delete(scope, name_of(scope, given), given["Name"])
    return {}


# -- the account -----------------------------------------------------------------------------------------------------


@_OPERATIONS.operation("GetAccountSettings")
async def get_account_settings(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    return functions_settings.account_of(context, scope)


# -- requests to states ----------------------------------------------------------------------------------------------


def _asked(context: Context, scope: Scope, given: Values) -> tuple[FunctionState, VersionState, str | None]:
    """A function, the version of it that is meant, and the qualifier that was asked for, as AWS repeats it."""
    arn = arn_of(scope, given)
    function = context.registry.find(*arn)
    return function, context.registry.version(function, arn.qualifier), arn.qualifier


def _refuse_unsupported(given: Values) -> None:
    for name in _UNSUPPORTED:
        if given.get(name):
            raise InvalidParameterValue(f"streamkit does not support {name}: leave it out.")
    network = given.get("VpcConfig") or {}
    if network.get("SubnetIds") or network.get("SecurityGroupIds"):
        raise InvalidParameterValue("streamkit has no VPCs, functions use this machine's network: leave VpcConfig out.")


def _changes(given: Values, before: Configuration) -> dict[str, Any]:
    """Fields of a configuration that a request sets. A member that is absent leaves its field alone; an empty one
    empties it."""
    members = {
        "Runtime": "runtime",
        "Handler": "handler",
        "Role": "role",
        "Description": "description",
        "Timeout": "timeout_s",
        "MemorySize": "memory_mib",
        "Layers": "layers",
        "Architectures": "architectures",
    }
    changes: dict[str, Any] = {field: given[name] for name, field in members.items() if given.get(name) is not None}
    if given.get("Environment") is not None:
        changes["variables"] = given["Environment"].get("Variables") or {}
    if given.get("DeadLetterConfig") is not None:
        changes["dead_letter_arn"] = given["DeadLetterConfig"].get("TargetArn") or None
    if given.get("KMSKeyArn") is not None:
        changes["kms_key_arn"] = given["KMSKeyArn"] or None
    if given.get("TracingConfig", {}).get("Mode") is not None:
        changes["tracing"] = given["TracingConfig"]["Mode"]
    if given.get("EphemeralStorage") is not None:
        changes["tmp_mib"] = given["EphemeralStorage"]["Size"]
    if given.get("SnapStart", {}).get("ApplyOn") is not None:
        changes["snap_start"] = given["SnapStart"]["ApplyOn"]
    if given.get("LoggingConfig") is not None:
        changes["logging"] = _logging(given["LoggingConfig"], before.logging)
    return changes


def _logging(given: Values, before: LoggingState) -> LoggingState:
    """Levels are for JSON alone: it has INFO where none is given, and Text forgets them."""
    log_format = given.get("LogFormat") or before.format
    group = given.get("LogGroup") or before.group
    levels = (given.get("ApplicationLogLevel"), given.get("SystemLogLevel"))
    if log_format == "Text":
        if any(levels):
            raise InvalidParameterValue(
                "Log levels are for the log format JSON: set LogFormat to JSON, or leave them out."
            )
        return LoggingState("Text", group=group)
    application, system = levels
    return LoggingState(
        "JSON", application or before.application_level or "INFO", system or before.system_level or "INFO", group
    )


def _weights(given: Values) -> Mapping[str, float] | None:
    routing = given.get("RoutingConfig")
    return None if routing is None else routing.get("AdditionalVersionWeights") or {}


# -- states to answers -----------------------------------------------------------------------------------------------


def configuration_of(context: Context, function: FunctionState, version: VersionState, qualifier: str | None) -> Values:
    """AWS's FunctionConfiguration. Its ARN has the qualifier that was asked for, if any."""
    answer = _listed(context, function, version, qualifier)
    runtime = f"{version.configuration.runtime}/{','.join(version.configuration.architectures)}"
    runtime_hash = hashlib.sha256(runtime.encode()).hexdigest()
    answer["RuntimeVersionConfig"] = {"RuntimeVersionArn": f"arn:aws:lambda:{function.region}::runtime:{runtime_hash}"}
    status = None if version.settling is None else version.settling.status
    if status == "Pending":
        return {**answer, "State": "Pending", "StateReason": _CREATING, "StateReasonCode": "Creating"}
    if status == "InProgress":
        return {
            **answer,
            "State": "Active",
            "LastUpdateStatus": "InProgress",
            "LastUpdateStatusReason": _CREATING,
            "LastUpdateStatusReasonCode": "Creating",
        }
    return {**answer, "State": "Active", "LastUpdateStatus": "Successful"}


def _listed(context: Context, function: FunctionState, version: VersionState, qualifier: str | None) -> Values:
    """The same as lists have it: without states and the runtime's version."""
    configuration = version.configuration
    code, logging = configuration.code, configuration.logging
    snaps = configuration.snap_start == "PublishedVersions" and version.version != LATEST
    dead_letter = configuration.dead_letter_arn
    return {
        "FunctionName": function.name,
        "FunctionArn": str(function.arn._replace(qualifier=qualifier)),
        "Runtime": configuration.runtime,
        "Role": configuration.role,
        "Handler": configuration.handler,
        "CodeSize": 0 if code is None else code.zip_bytes,
        "Description": configuration.description,
        "Timeout": configuration.timeout_s,
        "MemorySize": configuration.memory_mib,
        "LastModified": time_text(version.modified_at_ms),
        "CodeSha256": _NO_CODE_HASH if code is None else aws_hash(code),
        "Version": version.version,
        "DeadLetterConfig": None if dead_letter is None else {"TargetArn": dead_letter},
        "Environment": {"Variables": configuration.variables} if configuration.variables else None,
        "KMSKeyArn": configuration.kms_key_arn,
        "TracingConfig": {"Mode": configuration.tracing},
        "RevisionId": version.revision_id,
        "Layers": [
            {"Arn": arn, "CodeSize": context.registry.layers.code_of(arn, may_be_deleted=True).zip_bytes}
            for arn in configuration.layers
        ]
        or None,
        "PackageType": "Zip",
        "Architectures": configuration.architectures,
        "EphemeralStorage": {"Size": configuration.tmp_mib},
        "SnapStart": {"ApplyOn": configuration.snap_start, "OptimizationStatus": "On" if snaps else "Off"},
        "LoggingConfig": {
            "LogFormat": logging.format,
            "ApplicationLogLevel": logging.application_level,
            "SystemLogLevel": logging.system_level,
            "LogGroup": logging.group or f"/aws/lambda/{function.name}",
        },
    }


def _alias_of(function: FunctionState, alias: AliasState) -> Values:
    return {
        "AliasArn": str(function.arn._replace(qualifier=alias.name)),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RoutingConfig": {"AdditionalVersionWeights": alias.weights} if alias.weights else None,
        "RevisionId": alias.revision_id,
    }


def _numbered(function: FunctionState) -> list[VersionState]:
    return sorted(function.versions.values(), key=lambda version: int(version.version))
