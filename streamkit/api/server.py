"""A whole server: data directory, services, gateway and HTTP, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec

from streamkit._version import __version__
from streamkit.api import glue
from streamkit.api.channels import Channels
from streamkit.api.errors import RequestIds
from streamkit.api.firehose import Firehose
from streamkit.api.function_urls import FunctionUrls
from streamkit.api.functions import Functions
from streamkit.api.gateway import Gateway, Route
from streamkit.api.http import HttpLimits, HttpServer, Request, Response
from streamkit.api.invoke import InvokeOperations
from streamkit.api.kinesis import Kinesis
from streamkit.api.lambda_service import UPLOAD_PATHS, LambdaService, load_model
from streamkit.api.logs import Logs
from streamkit.api.mappings import MappingOperations
from streamkit.api.native import Native
from streamkit.api.sigv4 import Authenticator, Mode
from streamkit.clock import Clock, SystemClock
from streamkit.functions.service import FunctionSettings
from streamkit.functions.state import EnvironmentKind
from streamkit.metrics import Registry
from streamkit.model.names import Scope
from streamkit.node import Node, NodeSettings
from streamkit.shards.disk import SYNC_INTERVAL_MS, Durability
from streamkit.streams.service import StreamSettings
from streamkit.streams.stream import Stream

_log = logging.getLogger(__name__)

DRAIN_MS: Final = 10_000
FLUSH_PATH: Final = "/_streamkit/deliveries/flush"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `streamkit serve` can be told; its --help says what each means."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 4566
    durability: Durability = "fsync"
    log_store: str = "disk"
    account_id: str = "000000000000"
    region: str = "us-east-1"
    auth: Mode = "presence"
    keys: Mapping[str, str] = field(default_factory=dict)
    transition_delay_ms: int = 0
    enforce_limits: bool = False
    allow_reset: bool = False
    functions: EnvironmentKind = "fork"
    isolation: Literal["none", "bubblewrap"] = "none"
    object_store: Mapping[str, str] = field(default_factory=dict)
    destinations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cgroup: Path | None = None
    endpoint: str | None = None
    """How functions, and clients that are sent a URL, reach this server; None: its own address and port."""


class Server:
    """Serves a data directory on a port. Made and used on one event loop."""

    def __init__(self, settings: ServerSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._metrics = Registry()
        self._incoming = self._metrics.counter(
            "streamkit_incoming_records_total", "Records put (CloudWatch: IncomingRecords).", ("stream",)
        )
        self.node = Node(
            settings.data,
            NodeSettings(
                settings.durability,
                settings.log_store,
                StreamSettings(settings.transition_delay_ms, settings.enforce_limits),
                FunctionSettings(
                    settings.transition_delay_ms, settings.functions, settings.isolation, cgroup=settings.cgroup
                ),
                settings.object_store,
                settings.destinations,
            ),
            clock=self._clock,
            metrics=self._metrics,
        )
        self._http: HttpServer | None = None
        self.endpoint = settings.endpoint or ""

    async def start(self, ssl_context: ssl.SSLContext | None = None) -> int:
        """Opens the directory and listens; returns the port."""
        await self.node.open()
        try:
            http_limits = HttpLimits(upload_paths=UPLOAD_PATHS)
            self._http = HttpServer(
                self._gateway().handle, clock=self._clock, limits=http_limits, on_error=self._gateway_failed
            )
            await self._http.start(self.settings.host, self.settings.port, ssl_context)
            if not self.endpoint:
                host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::") else self.settings.host
                scheme = "http" if ssl_context is None else "https"
                self.endpoint = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._http.port}"
            self.node.functions.invocations.endpoint = self.endpoint
            await self.node.run()
        except BaseException:
            if self._http is not None and self._http.port:  # it listens already
                await self._http.drain(0)
            await self.node.close(finish_ms=0)
            raise
        return self._http.port

    def _gateway(self) -> Gateway:
        node, scope = self.node, Scope(self.settings.account_id, self.settings.region)
        authenticator = Authenticator(self.settings.auth, self.settings.keys, self._clock)
        native = Native(node.streams, authenticator, scope)
        mappings = MappingOperations(node.mappings.registry)
        functions = Functions(node.functions.registry, endpoint=lambda: self.endpoint, tag_owners=[mappings])
        channels = Channels(node.deliveries.registry, node.streams, node.catalog, self._clock, random.Random())
        urls = FunctionUrls(node.functions, authenticator, self._clock, checks_policy=self.settings.auth == "verified")
        routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics_text,
            ("POST", FLUSH_PATH): self._flush,
            **native.routes,
        }
        if self.settings.allow_reset:
            routes["POST", "/_streamkit/reset"] = self._reset
        self._gateway_made = Gateway(
            [
                Kinesis(node.streams, self._clock, self._metrics, channels),
                Logs(node.functions.logs, self._clock),
                Firehose(node.deliveries.registry, node.streams, self._clock, self._metrics),
            ],
            routes,
            authenticator=authenticator,
            default_scope=scope,
            request_ids=RequestIds(random.Random()),
            metrics=self._metrics,
            late_services={glue.TARGET_PREFIX: lambda: glue.Glue(node.catalog)},
            rest_services=[LambdaService(load_model(), [functions, mappings, InvokeOperations(node.functions)])],
            prefix_routes={f"{FLUSH_PATH}/": self._flush, **functions.prefix_routes, urls.PATH: urls.by_path},
            host_route=urls.by_host,
        )
        return self._gateway_made

    def _gateway_failed(self, request: Request, error: BaseException) -> Response:
        return self._gateway_made.failed(request, error)

    async def stop(self, drain_ms: int = DRAIN_MS) -> None:
        """Takes no more requests, answers those under way, lets invocations of mappings finish, and closes the log.
        What takes longer than `drain_ms` is cut off."""
        assert self._http is not None
        self.node.streams.stop_waiting()
        try:
            await asyncio.gather(self._http.drain(drain_ms), self.node.mappings.stop(finish_ms=drain_ms))
        finally:
            await self.node.close(finish_ms=drain_ms)

    # -- routes ------------------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        durability = self.settings.durability
        health: dict[str, Any] = {
            "status": "ok",
            "version": __version__,
            "streams": len(self._streams()),
            "functions": len(self.node.functions.registry.all()),
            "mappings": len(self.node.mappings.registry.all()),
            "delivery_streams": len(self.node.deliveries.registry.all()),
            "durability": durability,
        }
        if durability == "interval":
            health["sync_interval_ms"] = SYNC_INTERVAL_MS
        return Response(200, msgspec.json.encode(health), b"application/json")

    async def _metrics_text(self, request: Request) -> Response:
        for stream in self._streams():
            self._incoming.set(stream.records_put, stream.state.name)
        self.node.functions.invocations.measure()
        self.node.deliveries.measure()
        return Response(200, self._metrics.text().encode(), b"text/plain; version=0.0.4")

    def _streams(self) -> list[Stream]:
        """Those that users know of: not the logs behind direct puts."""
        return [stream for stream in self.node.streams.all() if not stream.state.is_private]

    async def _flush(self, request: Request) -> Response:
        """For tests and impatient people: delivers what buffers hold, of one delivery stream or of all."""
        name = request.path.removeprefix(FLUSH_PATH).strip("/")
        await self.node.deliveries.flush_named(unquote(name) or None)
        return Response(200, b"{}", b"application/json")

    async def _reset(self, request: Request) -> Response:
        await self.node.reset()
        _log.info("everything deleted by a reset")
        return Response(200, b"{}", b"application/json")
