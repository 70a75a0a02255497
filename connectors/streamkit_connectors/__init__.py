"""Implementations of streamkit's ports that talk to an outside system: one file each."""
