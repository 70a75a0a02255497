"""Lambda: functions, and what runs them.

Read `state` (what is remembered), `registry` (making and changing functions), `environments.port` (what runs code),
`pool` (warm and cold), `invoke` (one invocation), `events` (asynchronous ones), `logs`, `service` (all together).
"""
