"""Serve a data directory as Kinesis and Lambda, to any AWS SDK, the AWS CLI and this library.

example:
  streamkit serve --data ./data
  aws --endpoint-url http://127.0.0.1:4566 kinesis list-streams

Every option is also STREAMKIT_<OPTION> in the environment and a key in streamkit.toml. Ctrl-C answers what is under
way and stops; a second one stops at once. Nothing acknowledged is lost by any way of stopping.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from streamkit import log
from streamkit.config import Config, boolean, one_of
from streamkit.model.errors import UsageError
from streamkit.model.names import ACCOUNT_ID

if TYPE_CHECKING:
    from streamkit.api.server import Server
    from streamkit.node import Node

DURABILITIES = ("fsync", "interval", "none")
AUTH_MODES = ("off", "presence", "verified")
ENVIRONMENTS = ("fork", "ric", "inline")
ISOLATIONS = ("none", "bubblewrap")
LOG_LEVELS = ("debug", "info", "warning", "error")
SWITCH_INTERVAL_S = 0.0005
_M_ARENA_MAX = -8  # malloc.h


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, help="port to listen on, 0 for a free one (default: 4566)")
    add("--data", type=Path, metavar="DIR", help="where everything is kept (default: ./streamkit-data)")
    add("--durability", choices=DURABILITIES, help="when a put is acknowledged: on disk, or before (default: fsync)")
    add("--account-id", metavar="ID", help="account of requests whose access key is no account (default: 000000000000)")
    add("--region", help="region of requests without a signature (default: us-east-1)")
    add("--auth", choices=AUTH_MODES, help="what is wanted of signatures (default: presence)")
    add("--access-key", metavar="KEY:SECRET", help="the key that --auth verified accepts")
    add("--transition-delay-ms", type=int, metavar="N", help="how long streams stay CREATING, UPDATING (default: 0)")
    add("--enforce-limits", action="store_true", default=None, help="throttle shards as AWS does")
    add("--allow-reset", action="store_true", default=None, help="let POST /_streamkit/reset delete everything")
    add("--tls", action="store_true", default=None, help="serve HTTPS with --tls-cert and --tls-key")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", type=Path, metavar="FILE", help="private key, PEM")
    add("--log-store", metavar="NAME", help="where records are kept: disk, memory or a plug-in (default: disk)")
    add("--functions", choices=ENVIRONMENTS, help="what runs functions: own processes, or AWS's client (default: fork)")
    add("--isolation", choices=ISOLATIONS, help="what else is put around environments of kind ric (default: none)")
    add("--cgroup", type=Path, metavar="DIR", help="delegated cgroup v2 directory that bounds the memory of kind ric")
    add("--s3-endpoint", metavar="URL", help="where buckets are: an S3 server, or aws (default: folders below --data)")
    add("--s3-access-key", metavar="KEY:SECRET", help="for --s3-endpoint (default: AWS_ACCESS_KEY_ID and its secret)")
    add(
        "--redshift-url", metavar="URL", help="postgresql:// that Redshift destinations load into, instead of their own"
    )
    add("--redshift-copy", metavar="FORM", help="how they do: redshift, stdin, or a command (default: as the URL is)")
    add("--log-level", choices=LOG_LEVELS, help="(default: info)")


class Guest(Protocol):
    """What another command does with the server that it starts."""

    async def prepare(self, node: Node) -> None:
        """When functions can be made, before mappings run and requests are answered; what it raises ends it."""
        ...

    async def attend(self, server: Server) -> None:
        """When the server listens; cancelled before it stops. What it raises stops it."""
        ...


def run(options: argparse.Namespace, config: Config, guest: Guest | None = None) -> int:
    log.configure(config.value("log_level", options.log_level, one_of(*LOG_LEVELS), "info"))
    arguments = _server_arguments(options, config)
    tls = _tls_context(options, config)
    _raise_file_limit()
    import uvloop

    try:
        uvloop.run(_serve(arguments, tls, guest))
    except asyncio.CancelledError:  # the second Ctrl-C
        return 130
    return 0


def _server_arguments(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    value = config.value
    account_id = value("account_id", options.account_id, str, "000000000000")
    if not ACCOUNT_ID.fullmatch(account_id):
        raise UsageError(f"--account-id is {account_id!r}; an AWS account has 12 digits")
    port = value("port", options.port, int, 4566)
    if not 0 <= port <= 65_535:
        raise UsageError(f"--port is {port}; ports go from 0 (any free one) to 65535")
    delay_ms = value("transition_delay_ms", options.transition_delay_ms, int, 0)
    if delay_ms < 0:
        raise UsageError(f"--transition-delay-ms is {delay_ms}; it cannot be negative")
    auth = value("auth", options.auth, one_of(*AUTH_MODES), "presence")
    return {
        "host": value("host", options.host, str, "127.0.0.1"),
        "port": port,
        "data": value("data", options.data, Path, Path("streamkit-data")),
        "durability": value("durability", options.durability, one_of(*DURABILITIES), "fsync"),
        "log_store": value("log_store", options.log_store, str, "disk"),
        "account_id": account_id,
        "region": value("region", options.region, str, "us-east-1"),
        "auth": auth,
        "keys": _keys(value("access_key", options.access_key, str, ""), auth),
        "transition_delay_ms": delay_ms,
        "enforce_limits": value("enforce_limits", options.enforce_limits, boolean, False),
        "functions": value("functions", options.functions, one_of(*ENVIRONMENTS), "fork"),
        "cgroup": value("cgroup", options.cgroup, Path, None),
        "isolation": value("isolation", options.isolation, one_of(*ISOLATIONS), "none"),
        "object_store": _object_store(options, config),
        "destinations": {"redshift": _redshift(options, config)},
        "allow_reset": value("allow_reset", options.allow_reset, boolean, False),
    }


def _keys(text: str, auth: str) -> dict[str, str]:
    key, _, secret = text.partition(":")
    if auth == "verified" and not (key and secret):
        raise UsageError("--auth verified needs --access-key KEY:SECRET (or STREAMKIT_ACCESS_KEY)")
    return {key: secret} if key else {}


def _object_store(options: argparse.Namespace, config: Config) -> dict[str, str]:
    """Only where it is asked for: a server that finds somebody's AWS keys by chance must not use them."""
    endpoint = config.value("s3_endpoint", options.s3_endpoint, str, "")
    if not endpoint:
        return {}
    given = config.value("s3_access_key", options.s3_access_key, str, "")
    key, _, secret = given.partition(":")
    environment = os.environ
    settings = {
        "endpoint": "" if endpoint == "aws" else endpoint,
        "region": config.value("region", options.region, str, "us-east-1"),
        "access_key_id": key or environment.get("AWS_ACCESS_KEY_ID", ""),
        "secret_access_key": secret or environment.get("AWS_SECRET_ACCESS_KEY", ""),
        "session_token": "" if key else environment.get("AWS_SESSION_TOKEN", ""),
    }
    if not (settings["access_key_id"] and settings["secret_access_key"]):
        raise UsageError(
            "--s3-endpoint needs keys: --s3-access-key KEY:SECRET, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return {name: value for name, value in settings.items() if value}


def _redshift(options: argparse.Namespace, config: Config) -> dict[str, str]:
    """What wins over a delivery stream's own: AWS's API takes no other address than a Redshift cluster's."""
    settings = {
        "jdbc_url": config.value("redshift_url", options.redshift_url, str, ""),
        "copy_form": config.value("redshift_copy", options.redshift_copy, str, ""),
    }
    return {name: value for name, value in settings.items() if value}


def _tls_context(options: argparse.Namespace, config: Config) -> ssl.SSLContext | None:
    if not config.value("tls", options.tls, boolean, False):
        return None
    certificate = config.value("tls_cert", options.tls_cert, Path, Path())
    key = config.value("tls_key", options.tls_key, Path, Path())
    if certificate == Path() or key == Path():
        raise UsageError("--tls needs --tls-cert FILE and --tls-key FILE, both PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{certificate} and {key} cannot be used for TLS: {error}") from error
    return context


def _raise_file_limit() -> None:
    """A connection and a stream being written cost a file each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bound_memory() -> None:
    """Deliveries make and leave columns of some MiB, on several threads. Arrow's own pool, mimalloc, keeps them for a
    while, and so does malloc if each thread has an arena: 70 MiB more at the most, for no less CPU."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # read when pyarrow is loaded
    with contextlib.suppress(AttributeError, OSError):  # glibc's alone
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


async def _serve(arguments: dict[str, Any], tls: ssl.SSLContext | None, guest: Guest | None) -> None:
    from streamkit.api.server import Server, ServerSettings

    # A commit thread that has synced waits for the interpreter at most this long, not 5 ms.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What a request makes is freed by reference counts; looking for cycles every 700 objects costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    _bound_memory()
    server = Server(ServerSettings(**arguments))
    if guest is not None:
        server.node.before_mappings = guest.prepare
    try:
        port = await server.start(tls)
    except OSError as error:
        raise UsageError(f"cannot listen on {arguments['host']}:{arguments['port']}: {error.strerror}") from error
    scheme = "https" if tls else "http"
    print(f"streamkit serves {arguments['data']} at {scheme}://{arguments['host']}:{port}", file=sys.stderr, flush=True)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    attending = None if guest is None else loop.create_task(_attend(guest, server, stopping))
    await stopping.wait()
    if attending is not None:
        attending.cancel()
        await asyncio.wait([attending])
    await server.stop()
    if attending is not None and not attending.cancelled():
        attending.result()


async def _attend(guest: Guest, server: Server, stopping: asyncio.Event) -> None:
    try:
        await guest.attend(server)
    except Exception:
        stopping.set()
        raise
