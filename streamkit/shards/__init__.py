"""The shard log: what a stream's records are kept in.

Read the files along a record's way: `store` (the port), `commit` (group commit), `runners` (where a commit runs),
`writer` (what it does to the files), `segment` (one file), `frame` (the format), `index` (where frames lie), `log` (how
they are found and read again), `cache`, `readers`, `disk` and `memory` (the two implementations), `files` (the port to
the file system), `verify`.
"""
