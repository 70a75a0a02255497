"""The demo's transform: what Firehose asks for each batch of records. Runs on AWS as it is."""

import base64
import json
from typing import Any


def drop_cancelled(event: dict[str, Any], context: object) -> dict[str, Any]:
    return {"records": [transformed(record) for record in event["records"]]}


def transformed(record: dict[str, Any]) -> dict[str, Any]:
    try:
        flight = json.loads(base64.b64decode(record["data"]))
    except ValueError:
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    result = "Dropped" if flight["dep_delay"] is None else "Ok"
    return {"recordId": record["recordId"], "result": result, "data": record["data"]}
