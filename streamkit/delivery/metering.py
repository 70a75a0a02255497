"""What deliveries count. CloudWatch's names stand in the help texts."""

from __future__ import annotations

from typing import Final, Protocol

from streamkit.metrics import Registry

_LABELS: Final = ("delivery_stream",)
_TO: Final = ("delivery_stream", "destination")


class Counted(Protocol):
    """What became of a chunk."""

    taken: int
    taken_bytes: int
    converted: int
    failed: dict[str, int]


class DeliveryMetrics:
    """Of all delivery streams of a server."""

    def __init__(self, metrics: Registry) -> None:
        self._metrics = metrics
        counter, gauge = metrics.counter, metrics.gauge
        self.incoming_records = counter(
            "streamkit_delivery_incoming_records_total", "Records read (IncomingRecords).", _LABELS
        )
        self.incoming_bytes = counter("streamkit_delivery_incoming_bytes_total", "Of them (IncomingBytes).", _LABELS)
        self.failed_records = counter(
            "streamkit_delivery_failed_records_total",
            "Records that went to the error output, by error type (FailedConversion.Records for conversions).",
            ("delivery_stream", "error_type"),
        )
        self.converted_records = counter(
            "streamkit_delivery_converted_records_total",
            "Records that became rows of a table (SucceedConversion.Records).",
            _LABELS,
        )
        self.delivered_records = counter(
            "streamkit_delivery_records_total", "Records delivered (DeliveryTo<destination>.Records).", _TO
        )
        self.delivered_bytes = counter(
            "streamkit_delivery_bytes_total", "Bytes delivered, as written (DeliveryTo<destination>.Bytes).", _TO
        )
        self.delivered_objects = counter(
            "streamkit_delivery_objects_total", "Objects delivered (DeliveryTo<destination>.ObjectCount).", _TO
        )
        self.tries = counter(
            "streamkit_delivery_tries_total",
            "Tries to deliver an object; those that did not fail are DeliveryTo<destination>.Success.",
            (*_TO, "outcome"),
        )
        self.backup_records = counter(
            "streamkit_delivery_backup_records_total", "Records backed up (BackupToS3.Records).", _LABELS
        )
        self.error_records = counter(
            "streamkit_delivery_error_records_total", "Records delivered to the error output.", _LABELS
        )
        self.freshness = gauge(
            "streamkit_delivery_freshness_seconds",
            "Age of the oldest record that is not delivered (DeliveryTo<destination>.DataFreshness).",
            _TO,
        )
        self.partitions = gauge("streamkit_delivery_partitions", "Active partitions (PartitionCount).", _LABELS)
        self.staged_bytes = gauge(
            "streamkit_delivery_staged_bytes", "Sealed on this disk, and not delivered yet.", _LABELS
        )

    def forget(self, name: str) -> None:
        """The last delivery stream of this name is gone, and its series with it, also those that the API counts."""
        self._metrics.forget("delivery_stream", name)


class Meter:
    """Counts one delivery stream's work."""

    def __init__(self, metrics: DeliveryMetrics, name: str) -> None:
        self._metrics = metrics
        self._name = name

    def processed(self, output: Counted) -> None:
        metrics, name = self._metrics, self._name
        metrics.incoming_records.add(output.taken, name)
        metrics.incoming_bytes.add(output.taken_bytes, name)
        if output.converted:
            metrics.converted_records.add(output.converted, name)
        for kind, count in output.failed.items():
            metrics.failed_records.add(count, name, kind)

    def tried(self, destination: str, *, failed: bool) -> None:
        self._metrics.tries.add(1, self._name, destination, "failed" if failed else "succeeded")

    def delivered(self, destination: str, role: str, records: int, size_bytes: int) -> None:
        metrics, name = self._metrics, self._name
        if role == "backup":
            metrics.backup_records.add(records, name)
        elif role == "error":
            metrics.error_records.add(records, name)
        elif role == "main":
            metrics.delivered_records.add(records, name, destination)
            metrics.delivered_bytes.add(size_bytes, name, destination)
            metrics.delivered_objects.add(1, name, destination)
