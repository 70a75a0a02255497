"""What a query reads and writes: tables as written, their formats, sources and watermarks."""
