"""Aliases: names for a published version, or for two that share the invocations by weight."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.functions import rules
from streamkit.functions.documents import Documents
from streamkit.functions.state import AliasState
from streamkit.model.errors import ResourceConflict, ResourceNotFound
from streamkit.model.names import FunctionArn, Scope


class Aliases:
    """What is returned is on disk. Raises ResourceNotFound for what is not there, and AWS's errors for the rest."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(
        self,
        scope: Scope,
        function_name: str,
        name: str,
        version: str,
        *,
        description: str = "",
        weights: Mapping[str, float] | None = None,
    ) -> AliasState:
        rules.check_alias_name(name)
        # AWS looks for the version; that its function may be what is missing makes no difference to the text.
        function = self._documents.find(scope, function_name, version)
        if name in function.aliases:
            raise ResourceConflict(f"Alias already exists: {function.arn._replace(qualifier=name)}")
        rules.check_routing(function, version, weights or {})
        alias = AliasState(name, version, self._documents.revision(), description, dict(weights or {}))
        self._documents.change(function, aliases={**function.aliases, name: alias})
        return alias

    def get(self, scope: Scope, function_name: str, name: str) -> AliasState:
        function = self._documents.get(scope, function_name)
        if function is None:
            raise ResourceNotFound(f"Cannot find alias arn: {FunctionArn(scope, function_name, name)}")
        return rules.find_alias(function, name)

    def all(self, scope: Scope, function_name: str, version: str | None = None) -> list[AliasState]:
        """By name; only those that can lead to `version`, if one is given."""
        aliases = self._documents.find(scope, function_name).aliases
        found = (aliases[name] for name in sorted(aliases))
        return [alias for alias in found if version is None or version in (alias.version, *alias.weights)]

    async def update(
        self,
        scope: Scope,
        function_name: str,
        name: str,
        *,
        version: str | None = None,
        description: str | None = None,
        weights: Mapping[str, float] | None = None,
        revision_id: str | None = None,
    ) -> AliasState:
        """What is None stays as it is; empty weights leave the alias with one version."""
        arn = FunctionArn(scope, function_name, name)
        function = self._documents.get(scope, function_name)
        before = function.aliases.get(name) if function else None
        if function is None or before is None:
            raise ResourceNotFound(f"Alias not found: {arn}")
        rules.check_revision(revision_id, before.revision_id)
        after = AliasState(
            name,
            before.version if version is None else version,
            self._documents.revision(),
            before.description if description is None else description,
            before.weights if weights is None else dict(weights),
        )
        rules.check_routing(function, after.version, after.weights)
        self._documents.change(function, aliases={**function.aliases, name: after})
        return after

    async def delete(self, scope: Scope, function_name: str, name: str) -> None:
        """With all that was set for it. Does nothing where there is no such alias."""
        function = self._documents.find(scope, function_name)
        if name in function.aliases:
            aliases = {key: alias for key, alias in function.aliases.items() if key != name}
            self._documents.commit(
                function, msgspec.structs.replace(rules.without_qualifier(function, name), aliases=aliases)
            )
