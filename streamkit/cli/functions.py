"""List functions, make and change them, publish versions and name them by aliases.

Code is a directory, a .py file or a zip. What is made here can be changed with any AWS tool, and the other way round.

example:
  streamkit functions
  streamkit functions create count functions/count --handler app.handler --env LEVEL=info --timeout 30
  streamkit functions update count functions/count
  streamkit functions publish count
  streamkit functions alias count live 1 --weight 2=0.1
  streamkit functions describe count --json | jq .code_sha256
  streamkit functions delete count --yes
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from streamkit.cli.common import (
    add_endpoint,
    is_meant,
    open_functions,
    print_json,
    print_table,
    say,
    scope_of,
    size_text,
    verb_parsers,
)
from streamkit.config import Config, boolean
from streamkit.kit.lambda_client import LambdaClient, Package, package_of
from streamkit.kit.pipeline import ROLE, RUNTIME
from streamkit.model.errors import ResourceConflict, ResourceNotFound, UsageError

Given = Mapping[str, Any]

_SETTINGS: Final = {  # option: member of the API, kind
    "handler": ("Handler", str),
    "runtime": ("Runtime", str),
    "timeout": ("Timeout", int),
    "memory": ("MemorySize", int),
    "description": ("Description", str),
    "role": ("Role", str),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=None, help="print JSON, one object a line")
    add_endpoint(parser)
    verb = verb_parsers(parser, "functions")
    verb("list", "list functions (this is what is done without a verb)")
    add = verb("create", "make a function").add_argument
    add("name", metavar="NAME", help="letters, digits, - and _, at most 64")
    add("code", type=Path, metavar="CODE_PATH", help="a directory, a .py file or a zip")
    _add_settings(add)
    update = verb("update", "change a function's code or settings; what is not given stays as it is")
    update.add_argument("name", metavar="NAME", help="the function")
    update.add_argument("code", type=Path, nargs="?", metavar="CODE_PATH", help="its new code")
    _add_settings(update.add_argument)
    add = verb("describe", "show a function, its versions and aliases").add_argument
    add("name", metavar="NAME", help="the function")
    add("--qualifier", help="the version or the alias to show (default: $LATEST)")
    add = verb("publish", "make a version of a function as it is now; prints its number").add_argument
    add("name", metavar="NAME", help="the function")
    add("--description", help="of the version")
    add = verb("alias", "list a function's aliases, or make, change or delete one").add_argument
    add("name", metavar="NAME", help="the function")
    add("alias", nargs="?", metavar="ALIAS", help="the alias (default: list all)")
    add("version", nargs="?", metavar="VERSION", help="the version it points to")
    add("--weight", metavar="VERSION=SHARE", help="another version, and the share of invocations it gets: 2=0.1")
    add("--delete", action="store_true", help="delete the alias")
    add = verb("delete", "delete a function with its versions and aliases, or one version").add_argument
    add("name", metavar="NAME", help="the function")
    add("--qualifier", metavar="VERSION", help="delete this version alone")
    add("--yes", action="store_true", help="do not ask")


def _add_settings(add: Callable[..., object]) -> None:
    add("--handler", help="MODULE.FUNCTION, like app.handler")
    add("--runtime", help=f"one of AWS's (default: {RUNTIME})")
    add("--timeout", type=int, metavar="SECONDS", help="1 to 900 (default: 3)")
    add("--memory", type=int, metavar="MIB", help="128 to 10240 (default: 128)")
    add("--env", action="append", metavar="KEY=VALUE", help="an environment variable; KEY alone takes it away")
    add("--layer", action="append", metavar="ARN", help="of a layer version; all of them, in their order")
    add("--concurrency", type=int, metavar="N", help="reserve so many environments; -1 for none reserved")
    add("--description", help="for people")
    add("--role", help="an ARN of IAM's form (nobody asks it anything)")


def run(options: argparse.Namespace, config: Config) -> int:
    verb = options.verb or "list"

    async def do() -> int:
        async with open_functions(options, config) as functions:
            return await _VERBS[verb](functions, options, config)

    return asyncio.run(do())


def _is_json(options: argparse.Namespace, config: Config) -> bool:
    as_json: bool = config.value("json", options.json, boolean, False)
    return as_json


# -- looking ---------------------------------------------------------------------------------------------------------


async def _list(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    found = await functions.all("ListFunctions", "Functions")
    if _is_json(options, config):
        for each in found:
            print_json(_fields(each))
    elif found:
        rows = [
            (
                each["FunctionName"],
                each["Runtime"],
                each["Handler"],
                f"{each['Timeout']} s",
                f"{each['MemorySize']} MiB",
                size_text(each["CodeSize"]),
                each["LastModified"],
            )
            for each in found
        ]
        print_table(("NAME", "RUNTIME", "HANDLER", "TIMEOUT", "MEMORY", "CODE", "MODIFIED"), rows)
    else:
        say("no functions; `streamkit functions create NAME CODE_PATH --handler app.handler` makes one")
    return 0


async def _describe(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    name, qualifier = options.name, config.value("qualifier", options.qualifier, str, "")
    found = await functions.call("GetFunction", {"FunctionName": name, "Qualifier": qualifier or None})
    own = found["Configuration"]
    by_name = {"FunctionName": own["FunctionName"]}
    versions = [each["Version"] for each in await functions.all("ListVersionsByFunction", "Versions", by_name)]
    aliases = await functions.all("ListAliases", "Aliases", by_name)
    reserved = found.get("Concurrency", {}).get("ReservedConcurrentExecutions")
    fields = {
        **_fields(own),
        "reserved_concurrency": reserved,
        "versions": [version for version in versions if version != "$LATEST"],
        "aliases": {alias["Name"]: _routing(alias) for alias in aliases},
    }
    if _is_json(options, config):
        print_json(fields)
        return 0
    for key, value in fields.items():
        if value not in (None, "", [], {}):
            print(f"{key:<22}{_text(value)}")
    return 0


def _fields(found: Given) -> dict[str, Any]:
    return {
        "name": found["FunctionName"],
        "arn": found["FunctionArn"],
        "version": found["Version"],
        "runtime": found["Runtime"],
        "handler": found["Handler"],
        "timeout_s": found["Timeout"],
        "memory_mib": found["MemorySize"],
        "variables": found.get("Environment", {}).get("Variables", {}),
        "layers": [layer["Arn"] for layer in found.get("Layers", [])],
        "description": found["Description"],
        "role": found["Role"],
        "code_bytes": found["CodeSize"],
        "code_sha256": found["CodeSha256"],
        "modified_at": found["LastModified"],
    }


def _routing(alias: Given) -> dict[str, float]:
    """By version: the share of invocations that it gets."""
    weights: dict[str, float] = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return {alias["FunctionVersion"]: round(1 - sum(weights.values()), 6), **weights}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key}: {_text(each)}" if isinstance(each, dict) else f"{key}={each}" for key, each in value.items()
        )
    return ", ".join(value) if isinstance(value, list) else str(value)


# -- making and changing ---------------------------------------------------------------------------------------------


async def _create(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    settings = _settings(options, config)
    if "Handler" not in settings:
        raise UsageError("--handler is needed: MODULE.FUNCTION, like app.handler for the function handler in app.py")
    values = {
        "FunctionName": options.name,
        "Code": _package(options.code).values,
        "Role": ROLE.format(account=scope_of(options, config).account),
        "Runtime": RUNTIME,
        "Environment": {"Variables": _variables(options.env, {})},
        "Layers": options.layer or [],
        **settings,
    }
    made = await functions.call("CreateFunction", values)
    await functions.settled_function(options.name)
    await _reserve(functions, options, config)
    _print_changed(made, "made", as_json=_is_json(options, config))
    return 0


async def _update(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    name = options.name
    settings = _settings(options, config)
    found = await functions.settled_function(name)
    if options.env:
        known = found.get("Environment", {}).get("Variables", {})
        settings["Environment"] = {"Variables": _variables(options.env, known)}
    if options.layer:
        settings["Layers"] = options.layer
    package = None if options.code is None else _package(options.code)
    reserved = await _reserve(functions, options, config)
    if package is None and not settings and not reserved:
        raise UsageError("nothing to change was given; `streamkit functions update --help` lists what there is")
    if package is not None:
        await functions.call("UpdateFunctionCode", {"FunctionName": name, **package.values})
        found = await functions.settled_function(name)
    if settings:
        await functions.call("UpdateFunctionConfiguration", {"FunctionName": name, **settings})
        found = await functions.settled_function(name)
    _print_changed(found, "changed", as_json=_is_json(options, config))
    return 0


def _settings(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What was given, by member."""
    settings: dict[str, Any] = {}
    for option, (member, kind) in _SETTINGS.items():
        value: Any = config.value(option, getattr(options, option), kind, None)
        if value is not None:
            settings[member] = value
    return settings


def _variables(given: list[str] | None, known: Mapping[str, str]) -> dict[str, str]:
    variables = dict(known)
    for text in given or ():
        name, is_set, value = text.partition("=")
        if not name:
            raise UsageError(f"--env is {text!r}; one looks like LEVEL=info")
        if is_set:
            variables[name] = value
        else:
            variables.pop(name, None)
    return variables


def _package(path: Path) -> Package:
    if path.is_dir() or path.suffix in (".py", ".zip") or not path.exists():
        return package_of(path)
    raise UsageError(f"{path} is neither a directory, nor a .py file, nor a zip")


async def _reserve(functions: LambdaClient, options: argparse.Namespace, config: Config) -> bool:
    """Whether anything was asked for."""
    count: int | None = config.value("concurrency", options.concurrency, int, None)
    if count is None:
        return False
    values = {"FunctionName": options.name}
    if count == -1:
        await functions.call("DeleteFunctionConcurrency", values)
    else:
        await functions.call("PutFunctionConcurrency", {**values, "ReservedConcurrentExecutions": count})
    return True


def _print_changed(found: Given, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_fields(found))
    else:
        say(f"function {found['FunctionName']} is {what}, with {size_text(found['CodeSize'])} of code")


# -- versions and aliases --------------------------------------------------------------------------------------------


async def _publish(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    description: str | None = config.value("description", options.description, str, None)
    await functions.settled_function(options.name)
    made = await functions.call("PublishVersion", {"FunctionName": options.name, "Description": description})
    if _is_json(options, config):
        print_json(_fields(made))
    else:
        print(made["Version"])
    return 0


async def _alias(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    by_name = {"FunctionName": options.name, "Name": options.alias}
    weight = config.value("weight", options.weight, str, "")
    if options.delete:
        if options.alias is None or options.version is not None or weight:
            raise UsageError("--delete wants the function and the alias, and nothing else")
        await functions.call("GetAlias", by_name)  # AWS does not say where there is none
        await functions.call("DeleteAlias", by_name)
        say(f"alias {options.name}:{options.alias} is deleted")
        return 0
    if options.alias is None:
        return await _list_aliases(functions, options, config)
    if options.version is None:
        if weight:
            raise UsageError("--weight is for another version than the alias's: name that, too")
        found = await functions.call("GetAlias", by_name)
    else:
        values = {"FunctionVersion": options.version, "RoutingConfig": {"AdditionalVersionWeights": _weights(weight)}}
        try:
            found = await functions.call("CreateAlias", {**by_name, **values})
        except ResourceConflict:
            found = await functions.call("UpdateAlias", {**by_name, **values})
    _print_aliases([found], as_json=_is_json(options, config))
    return 0


def _weights(text: str) -> dict[str, float]:
    version, _, share = text.partition("=")
    try:
        return {version: float(share)} if text else {}
    except ValueError:
        raise UsageError(f"--weight is {text!r}; one looks like 2=0.1") from None


async def _list_aliases(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    aliases = await functions.all("ListAliases", "Aliases", {"FunctionName": options.name})
    if not aliases and not _is_json(options, config):
        say(f"no aliases; `streamkit functions alias {options.name} live VERSION` makes one")
        return 0
    _print_aliases(aliases, as_json=_is_json(options, config))
    return 0


def _print_aliases(aliases: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for alias in aliases:
            print_json({"name": alias["Name"], "arn": alias["AliasArn"], "versions": _routing(alias)})
        return
    rows = [
        (alias["Name"], ", ".join(f"{version} ({share:.0%})" for version, share in _routing(alias).items()))
        for alias in aliases
    ]
    if rows:
        print_table(("ALIAS", "VERSIONS"), rows)


async def _delete(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    qualifier = config.value("qualifier", options.qualifier, str, "")
    values = {"FunctionName": options.name, "Qualifier": qualifier or None}
    await functions.call("GetFunctionConfiguration", values)  # a wrong name is told before anybody is asked
    what = f"version {qualifier} of function {options.name}" if qualifier else f"function {options.name}"
    more = "" if qualifier else " with its versions and aliases"
    if sys.stdin.isatty() and not options.yes and not is_meant(f"{what}{more}"):
        say("nothing was deleted")
        return 1
    try:
        await functions.call("DeleteFunction", values)
    except ResourceNotFound:  # somebody else did
        pass
    say(f"{what} is deleted")
    return 0


_VERBS: Final[Mapping[str, Callable[[LambdaClient, argparse.Namespace, Config], Awaitable[int]]]] = {
    "list": _list,
    "create": _create,
    "update": _update,
    "describe": _describe,
    "publish": _publish,
    "alias": _alias,
    "delete": _delete,
}
