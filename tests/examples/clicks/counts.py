"""A function that a mapping feeds with clicks, for the README."""

import base64
import json
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    records = event.get("Records", [])
    pages = [json.loads(base64.b64decode(record["kinesis"]["data"]))["page"] for record in records]
    print(len(pages), "clicks:", *pages)
    return {"clicks": len(pages)}
