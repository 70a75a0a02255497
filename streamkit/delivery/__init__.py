"""Firehose: records leave a stream as objects of a good size.

Read `plan`, `rows`, `worker`, `destination`, in this order.
"""
