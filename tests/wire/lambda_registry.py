"""A server of Lambda's registry alone, and what tests of it ask of boto3."""

from __future__ import annotations

import asyncio
import io
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from streamkit.api.errors import RequestIds
from streamkit.api.functions import Functions
from streamkit.api.gateway import Gateway
from streamkit.api.http import HttpServer
from streamkit.api.lambda_service import LambdaService, load_model
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import SystemClock
from streamkit.control import ControlFile
from streamkit.functions.code import CodeStore
from streamkit.functions.registry import Registry
from streamkit.functions.store import FunctionStore
from streamkit.metrics import Registry as Metrics
from streamkit.model.names import Scope

ACCOUNT = "000000000000"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


def zip_of(text: str = "def handler(event, context): return event", name: str = "app.py") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


CODE = zip_of()
INVALID = "InvalidParameterValueException"
MODEL = load_model()
SESSION = boto3.session.Session()


class LambdaServer:
    """A registry behind HTTP, on a loop of its own in a thread."""

    def __init__(self, data: Path, transition_delay_ms: int = 0) -> None:
        self._data = data
        self._delay_ms = transition_delay_ms
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.endpoint = ""

    def __enter__(self) -> LambdaServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        clock = SystemClock()
        self._control = ControlFile(self._data / "control.sqlite")
        self._registry = Registry(
            FunctionStore(self._control),
            CodeStore(self._data / "functions" / "code"),
            clock=clock,
            random=random.Random(),
            transition_delay_ms=self._delay_ms,
        )
        await self._registry.start()
        functions = Functions(self._registry, endpoint=lambda: self.endpoint)
        gateway = Gateway(
            [],
            {},
            authenticator=Authenticator("presence", {}, clock),
            default_scope=Scope(ACCOUNT, REGION),
            request_ids=RequestIds(random.Random()),
            metrics=Metrics(),
            rest_services=[LambdaService(MODEL, [functions])],
            prefix_routes=functions.prefix_routes,
        )
        self._http = HttpServer(gateway.handle, clock=clock, on_error=gateway.failed)
        await self._http.start("127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._http.port}"

    async def _stop(self) -> None:
        await self._http.drain(1000)
        await self._registry.close()
        self._control.close()


@contextmanager
def connected(endpoint: str) -> Iterator[Any]:
    client = SESSION.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )
    try:
        yield client
    finally:
        client.close()


def create(client: Any, name: str = "f", **given: Any) -> Any:
    base = {"Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": CODE}}
    return client.create_function(FunctionName=name, **{**base, **given})


def body(answer: Any) -> Any:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def status(answer: Any) -> int:
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def refusal(call: Callable[..., Any], **given: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**given)
    response = caught.value.response
    error = response["Error"]
    return status(response), str(error["Code"]), str(error.get("Message"))
