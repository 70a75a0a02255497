"""Lambda's operations on event source mappings, over `streamkit.mappings.registry`; a part of the Lambda service.

Values come checked against the service model. Rules beyond it, and their words, are in `streamkit.mappings.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamkit.api.gateway import RestAction
from streamkit.mappings import rules
from streamkit.mappings.registry import MappingRegistry
from streamkit.mappings.state import MappingState
from streamkit.model.names import MappingArn, Scope

Values = dict[str, Any]


class MappingOperations:
    """The operations by name in `actions`; and what Lambda's operations on tags ask for, which are about more than
    mappings: `owns` says which resources these are."""

    def __init__(self, registry: MappingRegistry) -> None:
        self._registry = registry

    @property
    def actions(self) -> Mapping[str, RestAction]:
        return {
            "CreateEventSourceMapping": self._create,
            "GetEventSourceMapping": self._get,
            "ListEventSourceMappings": self._list,
            "UpdateEventSourceMapping": self._update,
            "DeleteEventSourceMapping": self._delete,
        }

    async def _create(self, scope: Scope, given: Values) -> Values:
        return configuration(await self._registry.create(scope, given))

    async def _get(self, scope: Scope, given: Values) -> Values:
        return configuration(self._registry.get(scope, given["UUID"]))

    async def _list(self, scope: Scope, given: Values) -> Values:
        page = self._registry.list(
            scope,
            function=given.get("FunctionName"),
            source_arn=given.get("EventSourceArn"),
            marker=given.get("Marker") or None,
            items_max=given.get("MaxItems"),
        )
        return {"EventSourceMappings": [configuration(each) for each in page.states], "NextMarker": page.next_marker}

    async def _update(self, scope: Scope, given: Values) -> Values:
        return configuration(await self._registry.update(scope, given["UUID"], given))

    async def _delete(self, scope: Scope, given: Values) -> Values:
        return configuration(await self._registry.delete(scope, given["UUID"]))

    # -- tags --------------------------------------------------------------------------------------------------------

    def owns(self, resource: str) -> bool:
        """Whether a resource's ARN is one of a mapping, there or not."""
        return MappingArn.parse(resource) is not None

    def tags(self, resource: str) -> Mapping[str, str]:
        """Raises ResourceNotFound, as the others do."""
        return self._registry.tags(_arn(resource))

    async def tag(self, resource: str, tags: Mapping[str, str]) -> None:
        await self._registry.tag(_arn(resource), tags)

    async def untag(self, resource: str, keys: Sequence[str]) -> None:
        await self._registry.untag(_arn(resource), keys)


def _arn(resource: str) -> MappingArn:
    arn = MappingArn.parse(resource)
    if arn is None:
        raise rules.arn_not_found(resource)
    return arn


def configuration(state: MappingState) -> Values:
    """AWS's EventSourceMappingConfiguration of a stream's mapping: the values in effect, not those pending. What has a
    default is always there; filters, metrics, a key and a timestamp only where they were given."""
    settings = state.settings
    return {
        "UUID": state.id,
        "StartingPosition": state.starting_position,
        "StartingPositionTimestamp": state.starting_at_ms,
        "BatchSize": settings.batch_records_max,
        "MaximumBatchingWindowInSeconds": settings.batching_window_s,
        "ParallelizationFactor": settings.parallelization_factor,
        "EventSourceArn": state.source_arn,
        "FilterCriteria": {"Filters": [{"Pattern": each} for each in settings.filters]} if settings.filters else None,
        "KMSKeyArn": settings.kms_key_arn,
        "MetricsConfig": {"Metrics": settings.metrics} if settings.metrics else None,
        "FunctionArn": settings.function_arn,
        "LastModified": state.modified_at_ms,
        "LastProcessingResult": state.last_result,
        "State": state.status,
        "StateTransitionReason": state.transition_reason,
        "DestinationConfig": {"OnFailure": {"Destination": settings.on_failure_arn}},
        "MaximumRecordAgeInSeconds": settings.record_age_s_max,
        "BisectBatchOnFunctionError": settings.bisects,
        "MaximumRetryAttempts": settings.retries_max,
        "TumblingWindowInSeconds": settings.tumbling_window_s,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if settings.reports_item_failures else [],
        "EventSourceMappingArn": str(state.arn),
    }
