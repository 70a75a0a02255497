"""The wire: HTTP, AWS's protocols and texts, one module per service.

A request's way: `http` (bytes to requests) ▶ `gateway` (who asks, which operation) ▶ `codec` (body to values, by the
service's model) ▶ a service (`kinesis`, `native`) ▶ back through the codec.
"""
