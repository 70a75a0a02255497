"""Kinesis Data Streams over the log: what a stream is, how it changes, who reads it.

`service` is the way in. `state` is what is remembered, `control` where; `resharding`, `routing`, `iterators`,
`throttle` and `rules` are pure.
"""
