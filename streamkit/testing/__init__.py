"""Public: what tests need to run streamkit without waiting, without a disk, and with all the bad luck there is.

`clock` has virtual time, `files` a file system that crashes and fills up, `runner` commits inside the event loop;
`log_store_contract` is what every LogStore must pass; `plugin` has the pytest fixtures.
"""
