"""A small data catalog with Glue's shapes: databases, tables, and the versions of their schemas."""
