"""What Lambda accepts of functions, aliases and their settings, beyond its service model, in AWS's words.

Pure checks: each returns nothing or a value, or raises the error AWS answers with. Texts of what AWS has no words for,
because it cannot happen there, say what to do instead.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from streamkit.functions.state import LATEST, AliasState, CodeState, Configuration, FunctionState, VersionState
from streamkit.model.errors import (
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    ValidationError,
)
from streamkit.model.limits import (
    ACCOUNT_CONCURRENCY,
    ALIAS_WEIGHTS_MAX,
    CODE_UNPACKED_BYTES_MAX,
    FUNCTION_LAYERS_MAX,
    FUNCTION_MEMORY_MIB_MAX,
    FUNCTION_NAME_CHARACTERS_MAX,
    FUNCTION_TAGS_MAX,
    FUNCTION_TIMEOUT_S_MAX,
    FUNCTION_TMP_MIB_MAX,
    FUNCTION_VARIABLES_BYTES_MAX,
    UNRESERVED_CONCURRENCY_MIN,
)
from streamkit.model.names import FUNCTION_NAME, FunctionArn, LayerArn, Scope

T = TypeVar("T")

MEMORY_MIB_MIN: Final = 128
TMP_MIB_MIN: Final = 512

# Every identifier of AWS's model, the ones AWS no longer takes too: a local server has no reason to refuse old code.
# Python of any version runs on the interpreter streamkit runs on; the others need an environment of kind `ric`.
RUNTIMES: Final = (
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    *(f"nodejs{major}.x" for major in (10, 12, 14, 16, 18, 20, 22, 24, 26)),
    "java8",
    "java8.al2",
    "java8.al2023",
    "java11",
    "java11.al2023",
    "java17",
    "java17.al2023",
    "java21",
    "java25",
    "python2.7",
    *(f"python3.{minor}" for minor in range(6, 16)),
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "dotnet6",
    "dotnet8",
    "dotnet10",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "ruby4.0",
    "provided",
    "provided.al2",
    "provided.al2023",
)
RESERVED_VARIABLES: Final = frozenset(
    (
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    )
)

STALE_REVISION: Final = (
    "The Revision Id provided does not match the latest Revision Id. Call the {} API to retrieve the latest Revision Id"
)
NO_IMAGES: Final = (
    "streamkit does not run container images. Give the code as a zip (ZipFile), as a local directory "
    '(S3Bucket "hot-reload", S3Key an absolute path), or as a Python function through the library.'
)

_ROLE: Final = re.compile(r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
_ALIAS_NAME: Final = re.compile(r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)")


def violation(value: object, member: str, constraint: str) -> str:
    """One broken constraint, as AWS writes it."""
    return f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"


def not_found(arn: FunctionArn) -> ResourceNotFound:
    return ResourceNotFound(f"Function not found: {arn}")


def check_revision(given: str | None, current: str, operations: str = "GetFunction/GetAlias") -> None:
    if given is not None and given != current:
        raise PreconditionFailed(STALE_REVISION.format(operations))


# -- functions -------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """For what is to be made; a lookup of a name that cannot be simply finds nothing."""
    if len(name) > FUNCTION_NAME_CHARACTERS_MAX:
        bound = f"Member must have length less than or equal to {FUNCTION_NAME_CHARACTERS_MAX}"
        raise InvalidParameterValue(violation(name, "functionName", bound))
    if not FUNCTION_NAME.fullmatch(name):
        pattern = f"Member must satisfy regular expression pattern: {FUNCTION_NAME.pattern}"
        raise InvalidParameterValue(violation(name, "functionName", pattern))


def check_configuration(configuration: Configuration, scope: Scope) -> None:
    """All that can be said of a configuration without looking at layers or code."""
    _check_runtime(configuration)
    if not _ROLE.fullmatch(configuration.role):
        pattern = f"Member must satisfy regular expression pattern: {_ROLE.pattern}"
        raise ValidationError(violation(configuration.role, "role", pattern))
    _check_range(configuration.timeout_s, "timeout", 1, FUNCTION_TIMEOUT_S_MAX)
    _check_range(configuration.memory_mib, "memorySize", MEMORY_MIB_MIN, FUNCTION_MEMORY_MIB_MAX)
    _check_range(configuration.tmp_mib, "ephemeralStorage.size", TMP_MIB_MIN, FUNCTION_TMP_MIB_MAX)
    check_variables(configuration.variables)
    check_layer_arns(configuration.layers, scope)


def _check_runtime(configuration: Configuration) -> None:
    if configuration.runtime not in RUNTIMES:
        raise InvalidParameterValue(
            f"Value {configuration.runtime} at 'runtime' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(RUNTIMES)}] or be a valid ARN"
        )
    if configuration.environment == "inline" and not configuration.runtime.startswith("python3."):
        raise InvalidParameterValue(
            f"{configuration.runtime} cannot run in this process; use a runtime python3.x or another environment."
        )


def _check_range(value: int, member: str, low: int, high: int) -> None:
    if value < low:
        raise ValidationError(violation(value, member, f"Member must have value greater than or equal to {low}"))
    if value > high:
        raise ValidationError(violation(value, member, f"Member must have value less than or equal to {high}"))


def check_variables(variables: Mapping[str, str]) -> None:
    start = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
    )
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise InvalidParameterValue(
            f"{start}contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = msgspec.json.encode(variables)
    if len(measured) > FUNCTION_VARIABLES_BYTES_MAX:
        raise InvalidParameterValue(f"{start}exceeded the 4KB limit. String measured: {measured.decode()}")


def check_layer_arns(arns: Sequence[str], scope: Scope) -> None:
    if len(arns) > FUNCTION_LAYERS_MAX:
        raise InvalidParameterValue(f"Cannot reference more than {FUNCTION_LAYERS_MAX} layers.")
    seen: dict[tuple[Scope, str], str] = {}
    for text in arns:
        arn = LayerArn.parse(text)
        if arn is None or arn.version is None:
            raise InvalidParameterValue(f"Layer version {text} does not exist.")
        if arn.scope.region != scope.region:
            raise InvalidParameterValue(
                "Layers are not in the same region as the function. "
                f"Layers are expected to be in region {scope.region}."
            )
        other = seen.setdefault((arn.scope, arn.name), text)
        if other is not text:
            raise InvalidParameterValue(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{other} and {text} are versions of the same layer."
            )


def check_unpacked(packages: Sequence[CodeState]) -> None:
    """Code and layers of a function together."""
    total_bytes = sum(package.unpacked_bytes for package in packages)
    if total_bytes > CODE_UNPACKED_BYTES_MAX:
        raise InvalidParameterValue(
            f"Function code combined with layers exceeds the maximum allowed size of {CODE_UNPACKED_BYTES_MAX} bytes. "
            f"The actual size is {total_bytes} bytes."
        )


def check_settled(version: VersionState, arn: FunctionArn) -> None:
    """No change is taken while another is under way."""
    if version.settling is None:
        return
    start = "The operation cannot be performed at this time. "
    if version.settling.status == "Pending":
        raise ResourceConflict(f"{start}The function is currently in the following state: Pending")
    raise ResourceConflict(f"{start}An update is in progress for resource: {arn}")


def check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > FUNCTION_TAGS_MAX:
        raise InvalidParameterValue("Number of tags exceeds resource tag limit.")


def digest(configuration: Configuration) -> str:
    """Equal for configurations of which publishing the second would give nothing new."""
    return hashlib.sha256(msgspec.json.encode(configuration, order="sorted")).hexdigest()


# -- versions and aliases --------------------------------------------------------------------------------------------


def find_version(function: FunctionState, qualifier: str | None) -> VersionState:
    """The version a qualifier names: None, $LATEST or a number. Raises ResourceNotFound."""
    if qualifier is None or qualifier == LATEST:
        return function.latest
    version = function.versions.get(qualifier)
    if version is None:
        raise not_found(function.arn._replace(qualifier=qualifier))
    return version


def find_alias(function: FunctionState, name: str) -> AliasState:
    alias = function.aliases.get(name)
    if alias is None:
        raise ResourceNotFound(f"Cannot find alias arn: {function.arn._replace(qualifier=name)}")
    return alias


def is_alias(qualifier: str) -> bool:
    """Whether it can be an alias's name; a version's number cannot."""
    return not qualifier.isdecimal() and not qualifier.startswith("$")


def qualifier_rank(qualifier: str) -> tuple[int, int, str]:
    """AWS's order of qualifiers: $LATEST, versions by number, aliases by name."""
    if qualifier == LATEST:
        return 0, 0, ""
    return (1, int(qualifier), "") if qualifier.isdecimal() else (2, 0, qualifier)


def check_alias_name(name: str) -> None:
    if not _ALIAS_NAME.fullmatch(name):
        pattern = f"Member must satisfy regular expression pattern: {_ALIAS_NAME.pattern}"
        raise ValidationError(violation(name, "name", pattern))


def check_routing(function: FunctionState, version: str, weights: Mapping[str, float]) -> None:
    """An alias has one version or two published ones, which have the same role and dead-letter configuration."""
    if len(weights) > ALIAS_WEIGHTS_MAX:
        raise InvalidParameterValue("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if weights and version == LATEST:
        raise InvalidParameterValue("$LATEST is not supported for an alias pointing to more than 1 version")
    if version in weights:
        raise InvalidParameterValue(
            f"Invalid function version {version}. "
            f"Function version {version} is already included in routing configuration."
        )
    first = find_version(function, version).configuration
    for other, weight in weights.items():
        if not 0.0 <= weight <= 1.0:
            raise ValidationError(
                violation(
                    f"{{{other}={weight}}}",
                    "routingConfig.additionalVersionWeights",
                    "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
                    "Member must have value greater than or equal to 0.0, Member must not be null]",
                )
            )
        second = find_version(function, other).configuration
        if first.role != second.role:
            raise InvalidParameterValue(
                f"Versions {version} and {other} have different execution roles; an alias routes between versions "
                "that have the same one."
            )
        if first.dead_letter_arn != second.dead_letter_arn:
            raise InvalidParameterValue(
                f"Versions {version} and {other} have different dead letter queue configurations; an alias routes "
                "between versions that have the same one, or none."
            )


# -- concurrency -----------------------------------------------------------------------------------------------------

UNPUBLISHED: Final = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
_BELOW_MINIMUM: Final = (
    f"decreases account's UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_CONCURRENCY_MIN}]."
)


def unreserved(functions: Sequence[FunctionState]) -> int:
    """What is left of the account's concurrency for functions that reserve none."""
    return ACCOUNT_CONCURRENCY - sum(
        sum(function.provisioned.values()) if function.reserved_concurrency is None else function.reserved_concurrency
        for function in functions
    )


def check_reserved(function: FunctionState, others: Sequence[FunctionState], count: int) -> None:
    """`others`: all other functions of the account and region."""
    provisioned = sum(function.provisioned.values())
    if count < provisioned:
        raise InvalidParameterValue(  # the spaces are AWS's
            f" ReservedConcurrentExecutions  {count} should not be lower than function's total provisioned concurrency "
            f"[{provisioned}]."
        )
    if unreserved(others) - count < UNRESERVED_CONCURRENCY_MIN:
        raise InvalidParameterValue(f"Specified ReservedConcurrentExecutions for function {_BELOW_MINIMUM}")


def check_provisioned(function: FunctionState, others: Sequence[FunctionState], qualifier: str, count: int) -> None:
    """That `count` environments can be kept for a published version or an alias."""
    if qualifier == LATEST:
        raise InvalidParameterValue(UNPUBLISHED)
    _check_provisioned_qualifier(function, qualifier)
    rest = sum(each for key, each in function.provisioned.items() if key != qualifier)
    if function.reserved_concurrency is not None:
        if rest + count > function.reserved_concurrency:
            raise InvalidParameterValue(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution "
                "for function"
            )
        return
    free = unreserved(others) - rest
    if count > free:
        raise InvalidParameterValue(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}]."
        )
    if free - count < UNRESERVED_CONCURRENCY_MIN:
        raise InvalidParameterValue(f"Specified ConcurrentExecutions for function {_BELOW_MINIMUM}")


def _check_provisioned_qualifier(function: FunctionState, qualifier: str) -> None:
    """An environment is kept once: for a version, or for an alias of it."""
    if is_alias(qualifier):
        version = find_alias(function, qualifier).version
        if version == LATEST:
            raise InvalidParameterValue(UNPUBLISHED)
        if version in function.provisioned:
            raise ResourceConflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            )
        return
    find_version(function, qualifier)
    if any(alias.version == qualifier and alias.name in function.provisioned for alias in function.aliases.values()):
        raise ResourceConflict("Version is pointed by a Provisioned Concurrency alias")


# -- asynchronous invocation -----------------------------------------------------------------------------------------


def check_destinations(
    function: FunctionState, on_success: str | None, on_failure: str | None, check: Callable[[str], object]
) -> None:
    """`check` raises InvalidParameterValue for an ARN that nothing can be delivered to."""
    for arn in (on_success, on_failure):
        if not arn:
            continue
        parsed = FunctionArn.parse(arn)
        if parsed is not None and parsed._replace(qualifier=None) == function.arn:
            raise InvalidParameterValue("You can't specify the function as a destination for itself.")
        check(arn)


def without_qualifier(function: FunctionState, qualifier: str) -> FunctionState:
    """Without anything that was set for a version or an alias."""

    def rest(settings: Mapping[str, T]) -> dict[str, T]:
        return {key: each for key, each in settings.items() if key != qualifier}

    return msgspec.structs.replace(
        function,
        provisioned=rest(function.provisioned),
        provisioned_at_ms=rest(function.provisioned_at_ms),
        event_invoke=rest(function.event_invoke),
        urls=rest(function.urls),
        policies=rest(function.policies),
        runtime_updates=rest(function.runtime_updates),
    )
