"""Applications inside a server: kept, started again, snapshotted."""
