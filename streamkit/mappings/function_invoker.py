"""Our functions as what mappings run."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.functions.invoke import Invocations
from streamkit.mappings.invoker import Buffer, Invoked
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import ResourceNotFound
from streamkit.model.names import FunctionArn


class FunctionInvoker:
    """See `streamkit.mappings.invoker.Invoker`."""

    def __init__(self, invocations: Invocations) -> None:
        self._invocations = invocations
        self._arns: dict[str, FunctionArn] = {}  # parsed once: a mapping asks for each batch

    def role_of(self, target: str) -> str:
        try:
            return self._invocations.registry.resolve(self._arn(target))[1].configuration.role
        except ResourceNotFound:
            return ""

    def takes_batches(self, target: str) -> bool:
        try:
            return self._invocations.registry.resolve(self._arn(target))[1].configuration.input == "batch"
        except ResourceNotFound:
            return False

    async def run(self, target: str, payload: Sequence[Buffer] | None, batch: RecordBatch | None = None) -> Invoked:
        result = await self._invocations.invoke(self._arn(target), payload, batch=batch)
        return Invoked(result.payload, result.version, result.request_id, 200, result.function_error)

    def _arn(self, target: str) -> FunctionArn:
        arn = self._arns.get(target)
        if arn is None:
            parsed = FunctionArn.parse(target)
            assert parsed is not None, "mappings keep full ARNs"
            arn = self._arns[target] = parsed
        return arn
