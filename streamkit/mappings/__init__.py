"""Event source mappings: what ties a stream to a function."""
