"""A whole server: data directory, services, gateway and HTTP, started and stopped in order."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from streamkit._version import __version__
from streamkit.api.errors import RequestIds
from streamkit.api.gateway import Gateway, Route
from streamkit.api.http import HttpServer, Request, Response
from streamkit.api.kinesis import Kinesis
from streamkit.api.native import Native
from streamkit.api.sigv4 import Authenticator, Mode
from streamkit.clock import Clock, SystemClock
from streamkit.metrics import Registry
from streamkit.model.names import Scope
from streamkit.shards.disk import SYNC_INTERVAL_MS, Durability
from streamkit.streams.directory import DataDirectory
from streamkit.streams.service import StreamSettings

_log = logging.getLogger(__name__)

DRAIN_MS: Final = 10_000


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


class Server:
    """Serves a data directory on a port. Made and used on one event loop."""

    def __init__(self, settings: ServerSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._metrics = Registry()
        self._incoming = self._metrics.counter(
            "streamkit_incoming_records_total", "Records put (CloudWatch: IncomingRecords).", ("stream",)
        )
        self._directory = DataDirectory(
            settings.data,
            durability=settings.durability,
            log_store=settings.log_store,
            settings=StreamSettings(settings.transition_delay_ms, settings.enforce_limits),
            clock=self._clock,
        )
        self._http: HttpServer | None = None

    async def start(self, ssl_context: ssl.SSLContext | None = None) -> int:
        """Opens the directory and listens; returns the port."""
        await self._directory.start()
        scope = Scope(self.settings.account_id, self.settings.region)
        authenticator = Authenticator(self.settings.auth, self.settings.keys, self._clock)
        streams = self._directory.streams
        native = Native(streams, authenticator, scope)
        routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics_text,
            **native.routes,
        }
        if self.settings.allow_reset:
            routes["POST", "/_streamkit/reset"] = self._reset
        gateway = Gateway(
            [Kinesis(streams, self._clock, self._metrics)],
            routes,
            authenticator=authenticator,
            default_scope=scope,
            request_ids=RequestIds(random.Random()),
            metrics=self._metrics,
        )
        self._http = HttpServer(gateway.handle, clock=self._clock, on_error=gateway.failed)
        try:
            await self._http.start(self.settings.host, self.settings.port, ssl_context)
        except BaseException:
            await self._directory.close()
            raise
        return self._http.port

    async def stop(self, drain_ms: int = DRAIN_MS) -> None:
        """Takes no more requests, answers those under way, and closes the log."""
        assert self._http is not None
        self._directory.streams.stop_waiting()
        await self._http.drain(drain_ms)
        await self._directory.close()

    # -- routes ------------------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        durability = self.settings.durability
        health: dict[str, Any] = {
            "status": "ok",
            "version": __version__,
            "streams": len(self._directory.streams.all()),
            "durability": durability,
        }
        if durability == "interval":
            health["sync_interval_ms"] = SYNC_INTERVAL_MS
        return Response(200, msgspec.json.encode(health), b"application/json")

    async def _metrics_text(self, request: Request) -> Response:
        for stream in self._directory.streams.all():
            self._incoming.set(stream.records_put, stream.state.name)
        return Response(200, self._metrics.text().encode(), b"text/plain; version=0.0.4")

    async def _reset(self, request: Request) -> Response:
        await self._directory.streams.delete_all()
        _log.info("all streams deleted by a reset")
        return Response(200, b"{}", b"application/json")
