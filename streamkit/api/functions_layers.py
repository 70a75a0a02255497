"""Lambda's operations on layers: see `streamkit.functions.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamkit.api.functions_common import Context, Table, Values, code_of, page_of, time_text
from streamkit.functions import policies
from streamkit.functions.code import aws_hash
from streamkit.functions.state import LayerVersionState
from streamkit.model.errors import InvalidParameterValue, ResourceNotFound
from streamkit.model.names import LayerArn, Scope

OPERATIONS: Final = Table()


@OPERATIONS.operation("PublishLayerVersion")
async def publish_layer_version(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = _layer(scope, given)
    code = code_of(given["Content"])
    if code is None:
        raise InvalidParameterValue("Please provide a source for layer content.")
    version = await context.registry.layers.publish(
        arn.scope,
        arn.name,
        code,
        description=given.get("Description", ""),
        license=given.get("LicenseInfo", ""),
        runtimes=given.get("CompatibleRuntimes", ()),
        architectures=given.get("CompatibleArchitectures", ()),
    )
    return _version_of(context, arn, version)


@OPERATIONS.operation("GetLayerVersion")
async def get_layer_version(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = _version(scope, given)
    return _version_of(context, arn, context.registry.layers.find(arn))


@OPERATIONS.operation("GetLayerVersionByArn")
async def get_layer_version_by_arn(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = LayerArn.parse(given["Arn"])
    if arn is None or arn.version is None:
        raise ResourceNotFound("The resource you requested does not exist.")
    return _version_of(context, arn, context.registry.layers.find(arn))


@OPERATIONS.operation("ListLayers")
async def list_layers(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    layers = []
    for layer in context.registry.layers.all(scope):
        matching = _matching(context, layer.arn, given)
        if matching:
            layers.append((layer, matching[0]))
    page = page_of([((layer.name,), (layer, version)) for layer, version in layers], given)
    return {
        "Layers": [
            {
                "LayerName": layer.name,
                "LayerArn": str(layer.arn),
                "LatestMatchingVersion": _listed(layer.arn, version),
            }
            for layer, version in page.items
        ],
        "NextMarker": page.next_marker,
    }


@OPERATIONS.operation("ListLayerVersions")
async def list_layer_versions(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = _layer(scope, given)
    page = page_of([((-version.version,), version) for version in _matching(context, arn, given)], given)
    return {"LayerVersions": [_listed(arn, version) for version in page.items], "NextMarker": page.next_marker}


@OPERATIONS.operation("DeleteLayerVersion")
async def delete_layer_version(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    await context.registry.delete_layer_version(_version(scope, given))
    return {}


@OPERATIONS.operation("AddLayerVersionPermission")
async def add_layer_version_permission(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    statement, revision_id = await context.registry.layers.add_permission(
        _version(scope, given),
        statement_id=given["StatementId"],
        action=given["Action"],
        principal=given["Principal"],
        organization_id=given.get("OrganizationId"),
        revision_id=given.get("RevisionId"),
    )
    return {"Statement": statement, "RevisionId": revision_id}


@OPERATIONS.operation("RemoveLayerVersionPermission")
async def remove_layer_version_permission(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = _version(scope, given)
    await context.registry.layers.remove_permission(arn, given["StatementId"], given.get("RevisionId"))
    return {}


@OPERATIONS.operation("GetLayerVersionPolicy")
async def get_layer_version_policy(context: Context, scope: Scope, given: Values) -> Mapping[str, Any]:
    policy = context.registry.layers.policy(_version(scope, given))
    return {"Policy": policies.policy_text(policy), "RevisionId": policy.revision_id}


def _layer(scope: Scope, given: Values) -> LayerArn:
    """The layer that a request names, by name or ARN, there or not."""
    return LayerArn.parse(given["LayerName"]) or LayerArn(scope, given["LayerName"], None)


def _version(scope: Scope, given: Values) -> LayerArn:
    return _layer(scope, given)._replace(version=given["VersionNumber"])


def _matching(context: Context, arn: LayerArn, given: Values) -> list[LayerVersionState]:
    return context.registry.layers.versions(
        arn, runtime=given.get("CompatibleRuntime"), architecture=given.get("CompatibleArchitecture")
    )


def _listed(arn: LayerArn, version: LayerVersionState) -> Values:
    return {
        "LayerVersionArn": str(arn._replace(version=version.version)),
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": time_text(version.created_at_ms),
        "CompatibleArchitectures": version.architectures or None,
        "CompatibleRuntimes": version.runtimes or None,
        "LicenseInfo": version.license or None,
    }


def _version_of(context: Context, arn: LayerArn, version: LayerVersionState) -> Values:
    code = version.code
    return {
        **_listed(arn, version),
        "LayerArn": str(arn._replace(version=None)),
        "Content": {
            "Location": context.code_location(code.sha256),
            "CodeSha256": aws_hash(code),
            "CodeSize": code.zip_bytes,
        },
    }
