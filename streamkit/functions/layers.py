"""Layers: packages that functions share, in numbered versions that never change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from streamkit.functions import policies, rules
from streamkit.functions.code import CodeStore
from streamkit.functions.documents import Documents
from streamkit.functions.state import CodeState, LayerState, LayerVersionState, PolicyState
from streamkit.functions.store import FunctionStore
from streamkit.model.errors import InvalidParameterValue, ResourceNotFound
from streamkit.model.names import LayerArn, Scope

_MISSING = "The resource you requested does not exist."
_MISSING_FOR_POLICY = "Layer version ARN does not exist."


class Layers:
    """What is returned is on disk. Raises ResourceNotFound for what is not there, and AWS's errors for the rest."""

    def __init__(self, store: FunctionStore, code: CodeStore, documents: Documents) -> None:
        self._store = store
        self._code = code
        self._documents = documents
        self._layers = {layer.arn: layer for layer in store.layers()}

    async def publish(
        self,
        scope: Scope,
        name: str,
        code: bytes | Path,
        *,
        description: str = "",
        license: str = "",
        runtimes: Sequence[str] = (),
        architectures: Sequence[str] = (),
    ) -> LayerVersionState:
        """The next version of the layer, which is made if there is none of that name."""
        arn = LayerArn(scope, name, None)
        if LayerArn.parse(str(arn)) is None:
            raise InvalidParameterValue(f"{name} cannot be the name of a layer.")
        async with self._code.lock:
            package = await (self._code.put_zip(code) if isinstance(code, bytes) else self._code.put_path(code))
            layer = self._layers.get(arn) or LayerState(scope.account, scope.region, name)
            version = LayerVersionState(
                layer.next_version,
                package,
                self._documents.now_ms(),
                description,
                license,
                list(runtimes),
                list(architectures),
            )
            versions = {**layer.versions, str(version.version): version}
            self._save(msgspec.structs.replace(layer, next_version=version.version + 1, versions=versions))
        return version

    def all(self, scope: Scope) -> list[LayerState]:
        """By name; those that have a version left."""
        found = [layer for layer in self._layers.values() if layer.scope == scope and layer.versions]
        return sorted(found, key=lambda layer: layer.name)

    def versions(
        self, arn: LayerArn, *, runtime: str | None = None, architecture: str | None = None
    ) -> list[LayerVersionState]:
        """Newest first; those that say they are compatible, if that is asked."""
        layer = self._layers.get(arn._replace(version=None))
        if layer is None:
            return []
        found = [
            version
            for version in layer.versions.values()
            if (runtime is None or runtime in version.runtimes)
            and (architecture is None or architecture in version.architectures)
        ]
        return sorted(found, key=lambda version: -version.version)

    def find(self, arn: LayerArn) -> LayerVersionState:
        """`arn` has a version."""
        return self._find(arn, _MISSING)[1]

    async def delete(self, arn: LayerArn) -> None:
        """Does nothing where there is no such version. Functions that have it keep it."""
        layer = self._layers.get(arn._replace(version=None))
        _check_number(arn)
        number = str(arn.version)
        if layer is None or number not in layer.versions:
            return
        versions = dict(layer.versions)
        gone = versions.pop(number)
        deleted = {**layer.deleted, number: gone.code} if str(arn) in self._used() else layer.deleted
        self._save(msgspec.structs.replace(layer, versions=versions, deleted=deleted))

    # -- of functions ------------------------------------------------------------------------------------------------

    def code_of(self, text: str, *, may_be_deleted: bool) -> CodeState:
        """The package of a layer version, by its ARN. Raises InvalidParameterValue, as for a function that names it."""
        arn = LayerArn.parse(text)
        layer = self._layers.get(arn._replace(version=None)) if arn else None
        if arn is not None and layer is not None:
            number = str(arn.version)
            if number in layer.versions:
                return layer.versions[number].code
            if may_be_deleted and number in layer.deleted:
                return layer.deleted[number]
        raise InvalidParameterValue(f"Layer version {text} does not exist.")

    def packages(self) -> Iterable[CodeState]:
        """All that are to be kept."""
        for layer in self._layers.values():
            yield from (version.code for version in layer.versions.values())
            yield from layer.deleted.values()

    def forget_unused(self) -> None:
        """Lets go of deleted versions that no function has any more."""
        used = self._used()
        for layer in list(self._layers.values()):
            kept = {number: code for number, code in layer.deleted.items() if f"{layer.arn}:{number}" in used}
            if len(kept) < len(layer.deleted):
                self._save(msgspec.structs.replace(layer, deleted=kept))

    def clear(self) -> None:
        """Forgets all of them; they were removed from disk."""
        self._layers.clear()

    def _used(self) -> set[str]:
        return {
            arn
            for function in self._documents
            for version in (function.latest, *function.versions.values())
            for arn in version.configuration.layers
        }

    # -- policies ----------------------------------------------------------------------------------------------------

    async def add_permission(
        self,
        arn: LayerArn,
        *,
        statement_id: str,
        action: str,
        principal: str,
        organization_id: str | None = None,
        revision_id: str | None = None,
    ) -> tuple[str, str]:
        """The statement as JSON text, and the policy's new revision."""
        layer, version = self._find(arn, _MISSING_FOR_POLICY)
        statements = version.policy.statements if version.policy else []
        if version.policy is not None:
            rules.check_revision(revision_id, version.policy.revision_id, "GetLayerPolicy")
        statement = policies.statement(
            statement_id, policies.principal_of(principal), action, str(arn), organization_id=organization_id
        )
        policy = PolicyState(policies.with_statement(statements, statement), self._documents.revision())
        self._save_version(layer, msgspec.structs.replace(version, policy=policy))
        return policies.text(statement), policy.revision_id

    async def remove_permission(self, arn: LayerArn, statement_id: str, revision_id: str | None = None) -> None:
        layer, version = self._find(arn, _MISSING_FOR_POLICY)
        if version.policy is None:
            raise ResourceNotFound("No policy is associated with the given resource.")
        rules.check_revision(revision_id, version.policy.revision_id, "GetLayerPolicy")
        statements = policies.without_statement(version.policy.statements, statement_id)
        policy = PolicyState(statements, self._documents.revision()) if statements else None
        self._save_version(layer, msgspec.structs.replace(version, policy=policy))

    def policy(self, arn: LayerArn) -> PolicyState:
        _, version = self._find(arn, _MISSING_FOR_POLICY)
        if version.policy is None:
            raise ResourceNotFound("No policy is associated with the given resource.")
        return version.policy

    def _find(self, arn: LayerArn, missing: str) -> tuple[LayerState, LayerVersionState]:
        _check_number(arn)
        layer = self._layers.get(arn._replace(version=None))
        version = layer.versions.get(str(arn.version)) if layer else None
        if layer is None or version is None:
            raise ResourceNotFound(missing)
        return layer, version

    def _save_version(self, layer: LayerState, version: LayerVersionState) -> None:
        versions = {**layer.versions, str(version.version): version}
        self._save(msgspec.structs.replace(layer, versions=versions))

    def _save(self, layer: LayerState) -> None:
        self._store.save_layer(layer)
        self._layers[layer.arn] = layer


def _check_number(arn: LayerArn) -> None:
    assert arn.version is not None
    if arn.version < 1:
        raise InvalidParameterValue("Layer Version Cannot be less than 1")
