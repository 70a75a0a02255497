"""The lines the service itself writes to a function's log, in AWS's words; as text, or as JSON platform events.

(AWS Lambda developer guide, "Viewing CloudWatch logs for Lambda functions", and "Lambda Telemetry API Event schema".)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from streamkit.functions.environments.port import Answer, Init, Spec
from streamkit.model.times import iso_ms

_STATUS = {"timeout": "timeout"}


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one invocation. `init` only of the one that waited for a cold start."""

    request_id: str
    version: str
    memory_mib: int
    answer: Answer
    init: Init | None

    @property
    def billed_ms(self) -> int:
        """Duration and INIT together, rounded up."""
        init_ms = 0.0 if self.init is None else self.init.duration_ms
        return max(math.ceil(self.answer.duration_ms + init_ms), 1)

    @property
    def status(self) -> str:
        """Empty where the handler ran to its end, also with an error."""
        ending = self.answer.ending
        return "" if ending in ("answered", "failed") else _STATUS.get(ending, "error")

    @property
    def error_type(self) -> str:
        if self.answer.ending == "out of memory":
            return "Runtime.OutOfMemory"
        return self.answer.error_type if self.status == "error" else ""


class Reports(Protocol):
    """Each is whole lines, with their line ends."""

    def init_start(self) -> bytes: ...

    def start(self, request_id: str, version: str) -> bytes: ...

    def end(self, report: Report) -> bytes:
        """What happened to the environment, END and REPORT."""
        ...

    def init_failed(self, init: Init) -> bytes: ...


def reports_for(spec: Spec, now_ms: Callable[[], int]) -> Reports:
    return _JsonReports(spec, now_ms) if spec.log_format == "JSON" else _TextReports(spec, now_ms)


class _TextReports:
    def __init__(self, spec: Spec, now_ms: Callable[[], int]) -> None:
        self._spec = spec
        self._now_ms = now_ms

    def init_start(self) -> bytes:
        runtime = self._spec.runtime.replace("python", "python:", 1)
        arn = f"arn:aws:lambda:{self._spec.region}::runtime:{self._spec.runtime}"
        return f"INIT_START Runtime Version: {runtime}\tRuntime Version ARN: {arn}\n".encode()

    def start(self, request_id: str, version: str) -> bytes:
        return b"START RequestId: %b Version: %b\n" % (request_id.encode(), version.encode())

    def end(self, report: Report) -> bytes:
        request_id, answer = report.request_id.encode(), report.answer
        init = b"" if report.init is None else b"Init Duration: %.2f ms\t" % report.init.duration_ms
        status = b""
        if report.status:
            status = b"Status: " + report.status.encode()
            if report.error_type:
                status += b"\tError Type: " + report.error_type.encode()
        return (
            b"%bEND RequestId: %b\nREPORT RequestId: %b\tDuration: %.2f ms\tBilled Duration: %d ms\t"
            b"Memory Size: %d MB\tMax Memory Used: %d MB\t%b%b\n"
        ) % (
            self._mishap(report) if status else b"",
            request_id,
            request_id,
            answer.duration_ms,
            report.billed_ms,
            report.memory_mib,
            answer.max_memory_mib,
            init,
            status,
        )

    def init_failed(self, init: Init) -> bytes:
        status = _STATUS.get(init.ending, "error")
        line = f"INIT_REPORT Init Duration: {init.duration_ms:.2f} ms\tPhase: init\tStatus: {status}"
        return (line + (f"\tError Type: {init.error_type}\n" if status == "error" else "\n")).encode()

    def _mishap(self, report: Report) -> bytes:
        """What the handler could not say any more."""
        request_id = report.request_id
        if report.answer.ending == "timeout":
            seconds = self._spec.timeout_ms / 1000
            return f"{iso_ms(self._now_ms())} {request_id} Task timed out after {seconds:.2f} seconds\n".encode()
        try:
            message = orjson.loads(report.answer.payload)["errorMessage"]
        except (ValueError, KeyError, TypeError):
            message = f"RequestId: {request_id} Error: Runtime exited"
        return f"{message}\n{report.answer.error_type}\n".encode()


class _JsonReports:
    """One object a line (`{"time", "type", "record"}`)."""

    def __init__(self, spec: Spec, now_ms: Callable[[], int]) -> None:
        self._spec = spec
        self._now_ms = now_ms

    def init_start(self) -> bytes:
        spec = self._spec
        record = {
            "initializationType": "provisioned-concurrency" if spec.provisioned else "on-demand",
            "phase": "init",
            "runtimeVersion": spec.runtime.replace("python", "python:", 1),
            "functionName": spec.function_name,
            "functionVersion": spec.version,
        }
        return self._line("platform.initStart", record)

    def start(self, request_id: str, version: str) -> bytes:
        record = {"requestId": request_id, "functionArn": self._spec.arn, "version": version}
        return self._line("platform.start", record)

    def end(self, report: Report) -> bytes:
        answer = report.answer
        metrics: dict[str, Any] = {
            "durationMs": round(answer.duration_ms, 3),
            "billedDurationMs": report.billed_ms,
            "memorySizeMB": report.memory_mib,
            "maxMemoryUsedMB": answer.max_memory_mib,
        }
        if report.init is not None:
            metrics["initDurationMs"] = round(report.init.duration_ms, 3)
        record = {"requestId": report.request_id, "metrics": metrics, "status": report.status or "success"}
        if report.error_type:
            record["errorType"] = report.error_type
        return self._line("platform.report", record)

    def init_failed(self, init: Init) -> bytes:
        record: dict[str, Any] = {
            "initializationType": "on-demand",
            "phase": "init",
            "status": _STATUS.get(init.ending, "error"),
            "metrics": {"durationMs": round(init.duration_ms, 3)},
        }
        if init.error_type:
            record["errorType"] = init.error_type
        return self._line("platform.initReport", record)

    def _line(self, kind: str, record: dict[str, Any]) -> bytes:
        return orjson.dumps({"time": iso_ms(self._now_ms()), "type": kind, "record": record}) + b"\n"
