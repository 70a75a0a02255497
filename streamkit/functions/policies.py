"""Resource policies: who may invoke a function or read a layer. Kept and shown as AWS has them, and not enforced: there
are no identities on one machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streamkit.functions import rules
from streamkit.functions.documents import Documents
from streamkit.functions.state import LATEST, FunctionState, PolicyState
from streamkit.model.errors import (
    InvalidParameterValue,
    PolicyLengthExceeded,
    ResourceConflict,
    ResourceNotFound,
)
from streamkit.model.limits import FUNCTION_POLICY_BYTES_MAX
from streamkit.model.names import FunctionArn

Statement = dict[str, Any]

_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")
_IDENTITY: Final = re.compile(r"arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:.+")
_MISSING: Final = "The resource you requested does not exist."
NO_POLICY: Final = "No policy is associated with the given resource."


def text(value: object) -> str:
    """JSON as AWS writes it into an answer: compact, members in their order."""
    return msgspec.json.encode(value).decode()


def policy_text(policy: PolicyState) -> str:
    return text({"Version": "2012-10-17", "Id": "default", "Statement": policy.statements})


def principal_of(given: str) -> str | Mapping[str, str]:
    """How a statement names who was given. Raises InvalidParameterValue."""
    if given == "*":
        return given
    if _ACCOUNT.fullmatch(given):
        return {"AWS": f"arn:aws:iam::{given}:root"}
    if _IDENTITY.fullmatch(given):
        return {"AWS": given}
    if _SERVICE.fullmatch(given):
        return {"Service": given}
    raise InvalidParameterValue("The provided principal was invalid. Please check the principal and try again.")


def statement(
    sid: str,
    principal: str | Mapping[str, str],
    action: str,
    resource: str,
    *,
    source_arn: str | None = None,
    source_account: str | None = None,
    organization_id: str | None = None,
    event_source_token: str | None = None,
    url_auth: str | None = None,
    via_url: bool | None = None,
) -> Statement:
    equals = {
        "AWS:SourceAccount": source_account,
        "aws:PrincipalOrgID": organization_id,
        "lambda:EventSourceToken": event_source_token,
        "lambda:FunctionUrlAuthType": url_auth,
    }
    condition: dict[str, dict[str, str]] = {}
    if any(value is not None for value in equals.values()):
        condition["StringEquals"] = {key: value for key, value in equals.items() if value is not None}
    if source_arn is not None:
        condition["ArnLike"] = {"AWS:SourceArn": source_arn}
    if via_url is not None:
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": str(via_url).lower()}
    made = {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource}
    return {**made, "Condition": condition} if condition else made


def with_statement(statements: Sequence[Statement], added: Statement) -> list[Statement]:
    """Raises ResourceConflict if its id is taken, PolicyLengthExceeded."""
    sid = added["Sid"]
    if any(each["Sid"] == sid for each in statements):
        raise ResourceConflict(
            f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the "
            "existing statement."
        )
    after = [*statements, added]
    size_bytes = len(policy_text(PolicyState(after, "")).encode())
    if size_bytes > FUNCTION_POLICY_BYTES_MAX:
        raise PolicyLengthExceeded(
            f"The final policy size ({size_bytes}) is bigger than the limit ({FUNCTION_POLICY_BYTES_MAX})."
        )
    return after


def without_statement(statements: Sequence[Statement], sid: str) -> list[Statement]:
    """Raises ResourceNotFound."""
    rest = [each for each in statements if each["Sid"] != sid]
    if len(rest) == len(statements):
        raise ResourceNotFound(f"Statement {sid} is not found in resource policy.")
    return rest


class Policies:
    """Of functions, by qualifier. What is returned is on disk."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def add(
        self,
        arn: FunctionArn,
        statement_id: str,
        principal: str,
        action: str,
        *,
        revision_id: str | None = None,
        **conditions: Any,
    ) -> str:
        """The statement as JSON text. `conditions` are those of `statement`."""
        if arn.qualifier == LATEST:
            raise InvalidParameterValue("We currently do not support adding policies for $LATEST.")
        function = self._documents.find(*arn)
        qualifier = _key(function, arn.qualifier)
        rules.check_revision(revision_id, _revision(function, qualifier), "GetPolicy")
        resource = function.arn._replace(qualifier=arn.qualifier)
        added = statement(statement_id, principal_of(principal), action, str(resource), **conditions)
        policy = function.policies.get(qualifier)
        statements = with_statement(policy.statements if policy else [], added)
        self._save(function, qualifier, statements)
        return text(added)

    async def remove(self, arn: FunctionArn, statement_id: str, revision_id: str | None = None) -> None:
        function = self._documents.get(arn.scope, arn.name)
        if function is None:
            raise ResourceNotFound(f"No policy found for: {arn}")
        qualifier = _key(function, arn.qualifier)
        policy = function.policies.get(qualifier)
        if policy is None:
            raise ResourceNotFound(NO_POLICY)
        rules.check_revision(revision_id, _revision(function, qualifier), "GetPolicy")
        self._save(function, qualifier, without_statement(policy.statements, statement_id))

    def get(self, arn: FunctionArn) -> tuple[str, str]:
        """The policy as JSON text, and its revision: that of the version or alias it belongs to."""
        function = self._documents.find(arn.scope, arn.name, arn.qualifier)
        qualifier = _key(function, arn.qualifier)
        policy = function.policies.get(qualifier)
        if policy is None:
            raise ResourceNotFound(_MISSING)
        return policy_text(policy), _revision(function, qualifier)

    def _save(self, function: FunctionState, qualifier: str, statements: list[Statement]) -> None:
        revision = self._documents.revision()
        policies = {key: policy for key, policy in function.policies.items() if key != qualifier}
        if statements:
            policies[qualifier] = PolicyState(statements, revision)
        after = msgspec.structs.replace(_revised(function, qualifier, revision), policies=policies)
        self._documents.commit(function, after)


def _key(function: FunctionState, qualifier: str | None) -> str:
    """Under which a qualifier's policy is kept. Raises ResourceNotFound where there is no such version or alias."""
    if qualifier is None:
        return LATEST
    if rules.is_alias(qualifier):
        return rules.find_alias(function, qualifier).name
    return rules.find_version(function, qualifier).version


def _revision(function: FunctionState, qualifier: str) -> str:
    if qualifier in function.aliases:
        return function.aliases[qualifier].revision_id
    return rules.find_version(function, qualifier).revision_id


def _revised(function: FunctionState, qualifier: str, revision: str) -> FunctionState:
    """A policy's change is a change of what it belongs to."""
    replace = msgspec.structs.replace
    if qualifier in function.aliases:
        alias = replace(function.aliases[qualifier], revision_id=revision)
        return replace(function, aliases={**function.aliases, qualifier: alias})
    version = replace(rules.find_version(function, qualifier), revision_id=revision)
    if qualifier == LATEST:
        return replace(function, latest=version)
    return replace(function, versions={**function.versions, qualifier: version})
