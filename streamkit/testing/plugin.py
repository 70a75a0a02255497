"""The pytest plug-in: fixtures for tests that use a streamkit server."""
