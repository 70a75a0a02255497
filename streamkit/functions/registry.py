"""The registry of functions: what there is, what it is made of, and every change to it.

`Registry` has functions and their versions; its parts have the rest: `aliases`, `layers`, `policies`, `settings`.
Lookups never wait. A change is one transaction, on disk when its call returns; what it raises changed nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streamkit.clock import Clock, Timer
from streamkit.functions import rules
from streamkit.functions.aliases import Aliases
from streamkit.functions.code import CodeStore, aws_hash
from streamkit.functions.documents import Documents, OnChange
from streamkit.functions.environments.port import Spec
from streamkit.functions.layers import Layers
from streamkit.functions.policies import Policies
from streamkit.functions.settings import Settings
from streamkit.functions.state import (
    LATEST,
    CodeState,
    Configuration,
    FunctionState,
    Settling,
    VersionState,
)
from streamkit.functions.store import FunctionStore
from streamkit.model.errors import CodeStorageExceeded, InvalidParameterValue, ResourceConflict
from streamkit.model.limits import CODE_KEPT_MS, CODE_STORAGE_BYTES_MAX
from streamkit.model.names import FunctionArn, Scope

Code = bytes | Path
"""A zip, or the path of a directory or of a zip: what is there now is copied."""

_replace: Final = msgspec.structs.replace


class Usage(NamedTuple):
    """Of an account in a region."""

    code_bytes: int  # zips of all versions and layers
    functions_count: int


class Registry:
    """Made and used on one event loop: `start` before anything else, `close` at the end.

    With a transition delay a new function is Pending and a changed one InProgress for as long, and takes no change
    meanwhile, as in AWS; what runs is the new code at once.
    """

    def __init__(
        self,
        store: FunctionStore,
        code: CodeStore,
        *,
        clock: Clock,
        random: random.Random,
        transition_delay_ms: int = 0,
    ) -> None:
        self.code = code
        self.documents = Documents(store, clock, random)
        self.aliases = Aliases(self.documents)
        self.layers = Layers(store, code, self.documents)
        self.policies = Policies(self.documents)
        self.settings = Settings(self.documents, random)
        self._clock = clock
        self._random = random
        self._transition_delay_ms = transition_delay_ms
        self._unused: set[str] = set()  # packages that nothing named when they were last looked at
        self._timer: Timer | None = None
        self._collecting: asyncio.Task[None] | None = None

    @property
    def on_change(self) -> list[OnChange]:
        """Called with a function before and after each of its changes, when it is on disk; None where there is none."""
        return self.documents.on_change

    async def start(self) -> None:
        """Removes code that nothing names."""
        await self.code.start()
        await self._collect(kept=())

    async def close(self) -> None:
        """Stops waiting to remove code. What it waited for is removed at the next start."""
        if self._timer is not None:
            self._timer.cancel()
        if self._collecting is not None:
            await asyncio.wait([self._collecting])

    # -- looking up --------------------------------------------------------------------------------------------------

    def find(self, scope: Scope, name: str, qualifier: str | None = None) -> FunctionState:
        """Raises ResourceNotFound; the qualifier, if any, appears in its text and nowhere else."""
        return self.documents.find(scope, name, qualifier)

    def all(self, scope: Scope | None = None) -> list[FunctionState]:
        """Of an account in a region, or of all; by name."""
        return self.documents.all(scope)

    def version(self, function: FunctionState, qualifier: str | None) -> VersionState:
        """What a qualifier names: of an alias with weights, the version it points to. Raises ResourceNotFound."""
        if qualifier is not None and qualifier in function.aliases:
            qualifier = function.aliases[qualifier].version
        return rules.find_version(function, qualifier)

    def resolve(self, arn: FunctionArn) -> tuple[FunctionState, VersionState, str | None]:
        """What an invocation of `arn` runs, and the name of the alias it went through, if any.

        An alias with weights draws anew each time. Raises ResourceNotFound.
        """
        function = self.documents.find(*arn)
        alias = function.aliases.get(arn.qualifier) if arn.qualifier is not None else None
        if alias is None:
            return function, rules.find_version(function, arn.qualifier), None
        number = alias.version
        for other, weight in alias.weights.items():
            if self._random.random() < weight:
                number = other
        return function, rules.find_version(function, number), alias.name

    def layers_of(self, configuration: Configuration) -> tuple[Path, ...]:
        """Unpacked, in the order they are merged."""
        return tuple(self.code.unpacked(package) for package in self._layer_packages(configuration))

    def spec_of(self, function: FunctionState, version: VersionState, *, log_stream: str, endpoint: str | None) -> Spec:
        """What an environment for a version is made of."""
        configuration = version.configuration
        logging = configuration.logging
        return Spec(
            function_name=function.name,
            version=version.version,
            arn=str(function.arn),
            account=function.account,
            region=function.region,
            runtime=configuration.runtime,
            handler=configuration.handler,
            code=None if configuration.code is None else self.code.unpacked(configuration.code),
            source=configuration.source,
            layers=self.layers_of(configuration),
            variables=configuration.variables,
            timeout_ms=configuration.timeout_s * 1000,
            memory_mib=configuration.memory_mib,
            tmp_mib=configuration.tmp_mib,
            log_group=logging.group or f"/aws/lambda/{function.name}",
            log_stream=log_stream,
            role=configuration.role,
            log_format=logging.format,
            log_level=logging.application_level,
            endpoint=endpoint,
        )

    def usage(self, scope: Scope) -> Usage:
        functions = self.all(scope)
        packages = [
            version.configuration.code
            for function in functions
            for version in (function.latest, *function.versions.values())
        ]
        layers = [version.code for layer in self.layers.all(scope) for version in layer.versions.values()]
        code_bytes = sum(package.zip_bytes for package in (*packages, *layers) if package is not None)
        return Usage(code_bytes, len(functions))

    # -- functions ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        scope: Scope,
        name: str,
        configuration: Configuration,
        code: Code | None = None,
        *,
        publish: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> VersionState:
        """$LATEST, or version 1 if that is published at once. A configuration with a `source` needs no code.

        Every runtime of AWS's model is taken. What runs Python, of whichever version, is the interpreter streamkit runs
        on; other runtimes need an environment of kind `ric`, with a bootstrap of their own.
        """
        rules.check_name(name)
        rules.check_tags(tags or {})
        rules.check_configuration(configuration, scope)
        self._check_is_new(scope, name)
        if code is None and configuration.source is None:
            raise InvalidParameterValue("Please provide a source for function code.")
        async with self.code.lock:
            configuration = _replace(configuration, code=await self._package(code))
            self._check_is_new(scope, name)
            self._check_packages(configuration, scope)
            now_ms = self._clock.now_ms()
            latest = VersionState(LATEST, configuration, self.documents.revision(), now_ms, self._settling("Pending"))
            function = FunctionState(
                self.documents.function_id(), scope.account, scope.region, name, now_ms, latest, tags=dict(tags or {})
            )
            if publish:
                function, version = self._published(function, latest.configuration.description, settling=True)
                self.documents.commit(None, function)
                return version
            self.documents.commit(None, function)
            return latest

    async def update_code(
        self,
        scope: Scope,
        name: str,
        code: Code | None = None,
        *,
        source: str | None = None,
        architectures: Sequence[str] | None = None,
        publish: bool = False,
        dry_run: bool = False,
        revision_id: str | None = None,
    ) -> VersionState:
        """$LATEST as it becomes, or the version that is published of it. A dry run checks, and changes nothing."""
        if code is None and source is None:
            raise InvalidParameterValue("Please provide a source for function code.")
        self._changeable(scope, name, revision_id)
        async with self.code.lock:
            package = await self._package(code)
            function = self._changeable(scope, name, revision_id)
            old = function.latest.configuration
            new = _replace(
                old,
                code=package,
                source=source,
                architectures=old.architectures if architectures is None else list(architectures),
            )
            rules.check_configuration(new, scope)
            self._check_packages(new, scope)
            if dry_run:
                return function.latest
            return self._update(function, new, publish=publish)

    async def update_configuration(
        self, scope: Scope, name: str, changes: Mapping[str, Any], *, revision_id: str | None = None
    ) -> VersionState:
        """$LATEST as it becomes. `changes`: fields of `Configuration`, with their new values."""
        function = self._changeable(scope, name, revision_id)
        configuration = _replace(function.latest.configuration, **changes)
        assert configuration.code == function.latest.configuration.code, "code is for update_code"
        rules.check_configuration(configuration, scope)
        self._check_packages(configuration, scope)
        return self._update(function, configuration, publish=False)

    async def publish_version(
        self,
        scope: Scope,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision_id: str | None = None,
    ) -> VersionState:
        """A version of $LATEST as it is now; the last one if nothing changed since. `code_sha256` as AWS writes it."""
        function = self._changeable(scope, name, revision_id)
        configuration = function.latest.configuration
        current = aws_hash(configuration.code) if configuration.code else ""
        if code_sha256 and code_sha256 != current:
            raise InvalidParameterValue(
                f"CodeSHA256 ({code_sha256}) is different from current CodeSHA256 in $LATEST ({current}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        last = _last_version(function)
        if last is not None and last.digest == rules.digest(configuration):
            return last
        after, version = self._published(function, description or configuration.description, settling=False)
        self.documents.commit(function, after)
        return version

    async def delete(self, scope: Scope, name: str, qualifier: str | None = None) -> None:
        """A function with all its versions and aliases, or one version; nothing where there is no such version."""
        function = self.documents.find(scope, name)
        if qualifier is None:
            self.documents.commit(function, None)
        elif qualifier == LATEST:
            raise InvalidParameterValue("$LATEST version cannot be deleted without deleting the function.")
        elif rules.is_alias(qualifier):
            raise InvalidParameterValue("Deletion of aliases is not currently supported.")
        elif qualifier in function.versions:
            _check_is_unaliased(function, qualifier)
            versions = {number: each for number, each in function.versions.items() if number != qualifier}
            after = _replace(rules.without_qualifier(function, qualifier), versions=versions)
            self.documents.commit(function, after)
        self._collect_later()

    async def delete_layer_version(self, arn: Any) -> None:
        """See `Layers.delete`; its code goes when no function has it any more."""
        await self.layers.delete(arn)
        self._collect_later()

    async def delete_all(self) -> None:
        """All functions and layers."""
        self.documents.forget_all()
        self.layers.clear()
        self._collect_later()

    # -- changing ----------------------------------------------------------------------------------------------------

    def _check_is_new(self, scope: Scope, name: str) -> None:
        if self.documents.get(scope, name) is not None:
            raise ResourceConflict(f"Function already exist: {name}")

    def _changeable(self, scope: Scope, name: str, revision_id: str | None) -> FunctionState:
        function = self.documents.find(scope, name)
        rules.check_revision(revision_id, function.latest.revision_id)
        rules.check_settled(function.latest, function.arn)
        return function

    def _settling(self, status: Any) -> Settling:
        until_ms = self._clock.now_ms() + self._transition_delay_ms
        return Settling(until_ms, status, self.documents.revision())

    def _update(self, function: FunctionState, configuration: Configuration, *, publish: bool) -> VersionState:
        latest = VersionState(
            LATEST,
            configuration,
            self.documents.revision(),
            self._clock.now_ms(),
            self._settling("InProgress"),
        )
        after, answer = _replace(function, latest=latest), latest
        if publish:
            last = _last_version(function)
            if last is not None and last.digest == rules.digest(configuration):
                answer = last
            else:
                after, answer = self._published(after, configuration.description, settling=True)
        self.documents.commit(function, after)
        self._collect_later()
        return answer

    def _published(
        self, function: FunctionState, description: str, *, settling: bool
    ) -> tuple[FunctionState, VersionState]:
        configuration = function.latest.configuration
        version = VersionState(
            str(function.next_version),
            _replace(configuration, description=description),
            self.documents.revision(),
            self._clock.now_ms(),
            self._settling("Pending") if settling else None,
            rules.digest(configuration),
        )
        after = _replace(
            function,
            latest=_replace(function.latest, revision_id=self.documents.revision()),
            versions={**function.versions, version.version: version},
            next_version=function.next_version + 1,
        )
        return after, version

    async def _package(self, code: Code | None) -> CodeState | None:
        if code is None:
            return None
        return await (self.code.put_zip(code) if isinstance(code, bytes) else self.code.put_path(code))

    def _check_packages(self, configuration: Configuration, scope: Scope) -> None:
        """That the layers exist, and that they and the code are not too much."""
        layers = [self.layers.code_of(arn, may_be_deleted=False) for arn in configuration.layers]
        own = [] if configuration.code is None else [configuration.code]
        rules.check_unpacked([*own, *layers])
        if self.usage(scope).code_bytes + sum(package.zip_bytes for package in own) > CODE_STORAGE_BYTES_MAX:
            raise CodeStorageExceeded("Code storage limit exceeded.")

    def _layer_packages(self, configuration: Configuration) -> list[CodeState]:
        return [self.layers.code_of(arn, may_be_deleted=True) for arn in configuration.layers]

    # -- removing code -----------------------------------------------------------------------------------------------

    def _collect_later(self) -> None:
        """Not at once: an environment that runs old code may yet import from it, until its invocation's time is up."""
        if self._timer is None:
            self._timer = self._clock.call_later(CODE_KEPT_MS, self._collect_now)

    def _collect_now(self) -> None:
        self._timer = None
        self._collecting = asyncio.get_running_loop().create_task(self._collect_in_turn())

    async def _collect_in_turn(self) -> None:
        """Removes what was unused at the turn before, too."""
        unused = self.code.packages() - self._used()
        await self._collect(kept=unused - self._unused)
        self._unused = unused & self.code.packages()
        if self._unused:
            self._collect_later()

    async def _collect(self, kept: Sequence[str] | set[str]) -> None:
        async with self.code.lock:
            self.layers.forget_unused()
            await self.code.retain(self._used() | set(kept))

    def _used(self) -> set[str]:
        used = {package.sha256 for package in self.layers.packages()}
        for function in self.documents:
            for version in (function.latest, *function.versions.values()):
                if version.configuration.code is not None:
                    used.add(version.configuration.code.sha256)
        return used


def _last_version(function: FunctionState) -> VersionState | None:
    """The one published last, if it was not deleted."""
    return function.versions.get(str(function.next_version - 1))


def _check_is_unaliased(function: FunctionState, number: str) -> None:
    names = [alias.name for alias in function.aliases.values() if number in (alias.version, *alias.weights)]
    if names:
        raise ResourceConflict(
            f"Version {number} of function {function.arn} cannot be deleted because it is used by the following "
            f"aliases: [{', '.join(sorted(names))}]"
        )
