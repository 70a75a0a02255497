"""A function that looks at clicks before they are delivered: robots' are left out, what is no click is told apart."""

import base64
import json
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"records": [cleaned(record) for record in event["records"]]}


def cleaned(record: dict[str, Any]) -> dict[str, Any]:
    try:
        click = json.loads(base64.b64decode(record["data"]))
        result = "Dropped" if click.pop("robot", False) else "Ok"
    except (ValueError, AttributeError):
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    data = base64.b64encode(json.dumps(click).encode()).decode()
    return {"recordId": record["recordId"], "result": result, "data": data}
