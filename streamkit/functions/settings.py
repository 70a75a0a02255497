"""What belongs to a function beside its versions: concurrency, URLs, asynchronous invocation, tags and the like.

What returns is on disk. Each operation of AWS has words of its own for what is not there; they are here.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from streamkit.functions import rules
from streamkit.functions.documents import Documents
from streamkit.functions.state import (
    LATEST,
    EventInvokeState,
    FunctionState,
    RuntimeUpdates,
    UrlState,
    VersionState,
)
from streamkit.model.errors import (
    InvalidParameterValue,
    ProvisionedNotFound,
    ResourceConflict,
    ResourceNotFound,
)
from streamkit.model.names import FunctionArn, Scope

Warm = Callable[[FunctionState, str], tuple[int, int]]
"""Of a function's qualifier: how many environments are allocated to it, and how many of these are free."""

_URL_ID_CHARACTERS: Final = 32  # as many as AWS's have
_URL_ALPHABET: Final = string.ascii_lowercase + string.digits
_MISSING: Final = "The resource you requested does not exist."
_NO_FUNCTION_FOR_URL: Final = "Function does not exist"
_NOT_PUBLISHED: Final = "The function resource provided must be an alias or a published version."

_replace: Final = msgspec.structs.replace


class Provisioned(NamedTuple):
    """`status` as AWS has it: READY once all are allocated."""

    requested: int
    allocated: int
    available: int
    modified_at_ms: int

    @property
    def status(self) -> Literal["READY", "IN_PROGRESS"]:
        return "READY" if self.allocated >= self.requested else "IN_PROGRESS"


class Settings:
    """`warm` and `check_destination` are set by who has the environments and the destinations; until then every
    environment that was asked for counts as there, and every ARN as one that can be delivered to."""

    def __init__(self, documents: Documents, random: random.Random) -> None:
        self.warm: Warm | None = None
        self.check_destination: Callable[[str], object] = lambda arn: None
        self._documents = documents
        self._random = random

    # -- concurrency -------------------------------------------------------------------------------------------------

    async def reserve(self, scope: Scope, name: str, count: int) -> None:
        function = self._documents.find(scope, name, LATEST)  # AWS's text names it
        rules.check_reserved(function, self._others(function), count)
        self._documents.change(function, reserved_concurrency=count)

    async def unreserve(self, scope: Scope, name: str) -> None:
        function = self._documents.find(scope, name)
        if function.reserved_concurrency is not None:
            self._documents.change(function, reserved_concurrency=None)

    def unreserved(self, scope: Scope) -> int:
        return rules.unreserved(self._documents.all(scope))

    async def provision(self, scope: Scope, name: str, qualifier: str, count: int) -> Provisioned:
        """Environments are made from now on: none counts as allocated yet."""
        function = self._documents.find(scope, name, qualifier)
        rules.check_provisioned(function, self._others(function), qualifier, count)
        now_ms = self._documents.now_ms()
        self._documents.change(
            function,
            provisioned={**function.provisioned, qualifier: count},
            provisioned_at_ms={**function.provisioned_at_ms, qualifier: now_ms},
        )
        return Provisioned(count, 0, 0, now_ms)

    def provisioned(self, scope: Scope, name: str, qualifier: str) -> Provisioned:
        function = self._provisionable(scope, name, qualifier)
        count = function.provisioned.get(qualifier)
        if count is None:
            raise ProvisionedNotFound("No Provisioned Concurrency Config found for this function")
        allocated, available = (count, count) if self.warm is None else self.warm(function, qualifier)
        return Provisioned(count, allocated, available, function.provisioned_at_ms[qualifier])

    async def unprovision(self, scope: Scope, name: str, qualifier: str) -> None:
        function = self._provisionable(scope, name, qualifier)
        if qualifier in function.provisioned:
            self._documents.change(
                function,
                provisioned=_without(function.provisioned, qualifier),
                provisioned_at_ms=_without(function.provisioned_at_ms, qualifier),
            )

    def _provisionable(self, scope: Scope, name: str, qualifier: str) -> FunctionState:
        if qualifier == LATEST:
            raise InvalidParameterValue(_NOT_PUBLISHED)
        function = self._documents.find(scope, name, qualifier)
        _check_exists(function, qualifier)
        return function

    def _others(self, function: FunctionState) -> list[FunctionState]:
        return [each for each in self._documents.all(function.scope) if each.id != function.id]

    # -- function URLs -----------------------------------------------------------------------------------------------

    async def create_url(
        self,
        arn: FunctionArn,
        auth: Literal["NONE", "AWS_IAM"],
        *,
        invoke_mode: Literal["BUFFERED", "RESPONSE_STREAM"] | None = None,
        cors: Mapping[str, Any] | None = None,
    ) -> UrlState:
        function = self._for_url(arn, _NO_FUNCTION_FOR_URL)
        key = arn.qualifier or LATEST
        if key in function.urls:
            raise ResourceConflict(
                f"Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig "
                "exists for this Lambda function"
            )
        now_ms = self._documents.now_ms()
        url_id = "".join(self._random.choices(_URL_ALPHABET, k=_URL_ID_CHARACTERS))
        url = UrlState(url_id, auth, now_ms, now_ms, invoke_mode or "BUFFERED", None if cors is None else dict(cors))
        self._documents.change(function, urls={**function.urls, key: url})
        return url

    def url(self, arn: FunctionArn) -> UrlState:
        function = self._documents.get(arn.scope, arn.name)
        url = function.urls.get(arn.qualifier or LATEST) if function else None
        if url is None:
            raise ResourceNotFound(_MISSING)
        return url

    def urls(self, arn: FunctionArn) -> list[tuple[str, UrlState]]:
        """Of the function, with their qualifiers: $LATEST, then aliases."""
        return sorted(self._for_url(arn._replace(qualifier=None), _NO_FUNCTION_FOR_URL).urls.items())

    def find_by_url(self, url_id: str) -> tuple[FunctionState, str] | None:
        """The function and the qualifier that a URL is of."""
        for function in self._documents:
            for qualifier, url in function.urls.items():
                if url.id == url_id:
                    return function, qualifier
        return None

    async def update_url(self, arn: FunctionArn, changes: Mapping[str, Any]) -> UrlState:
        """`changes`: fields of `UrlState`, with their new values."""
        function = self._for_url(arn, _NO_FUNCTION_FOR_URL)
        after = _replace(self.url(arn), modified_at_ms=self._documents.now_ms(), **changes)
        self._documents.change(function, urls={**function.urls, arn.qualifier or LATEST: after})
        return after

    async def delete_url(self, arn: FunctionArn) -> None:
        self.url(arn)
        function = self._documents.find(*arn)
        self._documents.change(function, urls=_without(function.urls, arn.qualifier or LATEST))

    def _for_url(self, arn: FunctionArn, missing: str) -> FunctionState:
        function = self._documents.get(arn.scope, arn.name)
        if function is None or (arn.qualifier is not None and arn.qualifier not in function.aliases):
            raise ResourceNotFound(missing)
        return function

    # -- asynchronous invocation -------------------------------------------------------------------------------------

    async def put_event_invoke(self, arn: FunctionArn, values: Mapping[str, Any], *, merges: bool) -> EventInvokeState:
        """`values`: fields of `EventInvokeState`, those given. Merging keeps the others as they are."""
        if not values:
            raise InvalidParameterValue("You must specify at least one of error handling or destination setting.")
        function = self._for_event_invoke(arn)
        qualifier = arn.qualifier or LATEST
        before = function.event_invoke.get(qualifier)
        if merges and before is None:
            raise _no_event_invoke(arn)
        rules.check_destinations(
            function, values.get("on_success_arn"), values.get("on_failure_arn"), self.check_destination
        )
        now_ms = self._documents.now_ms()
        base = before if merges and before is not None else EventInvokeState(now_ms)
        after = _replace(base, modified_at_ms=now_ms, **values)
        self._documents.change(function, event_invoke={**function.event_invoke, qualifier: after})
        return after

    def event_invoke(self, arn: FunctionArn) -> EventInvokeState:
        function = self._documents.get(arn.scope, arn.name)
        found = function.event_invoke.get(arn.qualifier or LATEST) if function else None
        if found is None:
            raise _no_event_invoke(arn)
        return found

    def event_invokes(self, arn: FunctionArn) -> list[tuple[str, EventInvokeState]]:
        """Of the function, with their qualifiers: $LATEST, versions, aliases."""
        configs = self._for_event_invoke(arn._replace(qualifier=None)).event_invoke
        return sorted(configs.items(), key=lambda item: rules.qualifier_rank(item[0]))

    async def delete_event_invoke(self, arn: FunctionArn) -> None:
        self.event_invoke(arn)
        function = self._documents.find(*arn)
        self._documents.change(function, event_invoke=_without(function.event_invoke, arn.qualifier or LATEST))

    def _for_event_invoke(self, arn: FunctionArn) -> FunctionState:
        function = self._documents.get(arn.scope, arn.name)
        qualifier = arn.qualifier or LATEST
        if function is None or not (
            qualifier == LATEST or qualifier in function.aliases or qualifier in function.versions
        ):
            raise ResourceNotFound("The function doesn't exist.")
        return function

    # -- tags and others ---------------------------------------------------------------------------------------------

    async def tag(self, scope: Scope, name: str, tags: Mapping[str, str]) -> None:
        function = self._documents.find(scope, name)
        if not tags:
            raise InvalidParameterValue("An error occurred and the request cannot be processed.")
        after = {**function.tags, **tags}
        rules.check_tags(after)
        self._change_revised(function, tags=after)

    async def untag(self, scope: Scope, name: str, keys: list[str]) -> None:
        function = self._documents.find(scope, name)
        self._change_revised(function, tags={key: value for key, value in function.tags.items() if key not in keys})

    async def set_recursion(self, scope: Scope, name: str, loop: Literal["Allow", "Terminate"]) -> None:
        self._documents.change(self._documents.find(scope, name), recursive_loop=loop)

    async def set_runtime_updates(self, arn: FunctionArn, updates: RuntimeUpdates) -> None:
        function, version = self._runtime_of(arn)
        if updates.update_on == "Manual" and updates.version_arn is None:
            raise InvalidParameterValue("You must specify a runtime version ARN when UpdateRuntimeOn is Manual.")
        self._documents.change(function, runtime_updates={**function.runtime_updates, version.version: updates})

    def runtime_updates(self, arn: FunctionArn) -> RuntimeUpdates:
        function, version = self._runtime_of(arn)
        return function.runtime_updates.get(version.version, RuntimeUpdates())

    def _runtime_of(self, arn: FunctionArn) -> tuple[FunctionState, VersionState]:
        function = self._documents.find(*arn)
        return function, rules.find_version(function, arn.qualifier)

    def _change_revised(self, function: FunctionState, **fields: object) -> None:
        latest = _replace(function.latest, revision_id=self._documents.revision())
        self._documents.change(function, latest=latest, **fields)


def _check_exists(function: FunctionState, qualifier: str) -> None:
    if rules.is_alias(qualifier):
        rules.find_alias(function, qualifier)
    else:
        rules.find_version(function, qualifier)


def _no_event_invoke(arn: FunctionArn) -> ResourceNotFound:
    qualified = arn._replace(qualifier=arn.qualifier or LATEST)
    return ResourceNotFound(f"The function {qualified} doesn't have an EventInvokeConfig")


def _without(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {each: value for each, value in settings.items() if each != key}
