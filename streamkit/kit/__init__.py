"""The library: the same calls over a data directory in this process and over a running server.

`kit` is what users hold, `consumer` reads; `backend` is the port under both, `embedded` and `remote` implement it;
`blocking` is the same without `await`.
"""
