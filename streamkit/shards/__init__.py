"""The shard log: what a stream's records are kept in.

Read the files along a record's way: `store` (the port), `log` (group commit and reading), `segment` (one file),
`frame` (the format), `index` (where frames lie), `disk` and `memory` (the two implementations), `files` (the port to
the file system), `verify`.
"""
