"""An Iceberg REST catalog on loopback, in this process: pyiceberg's SQLite catalog behind the REST catalog's protocol,
as far as tables are made, loaded and committed to. An answer can be lost after the work was done."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import CommitTableRequest, StagedTable, Table

_STATUS = {
    CommitFailedException: 409,
    NamespaceAlreadyExistsError: 409,
    TableAlreadyExistsError: 409,
    NoSuchTableError: 404,
}


class RestCatalogServer:
    def __init__(self, directory: Path) -> None:
        uri = f"sqlite:///{directory}/rest.sqlite"
        self.catalog = SqlCatalog("rest", uri=uri, warehouse=f"file://{directory}")
        self.url = ""
        self.loses_next_commit = False
        self.commits_count = 0
        self._one_at_a_time = threading.Lock()

    def answer(self, method: str, path: list[str], body: bytes) -> Any:
        """None: there is nothing to say, but yes."""
        with self._one_at_a_time:
            match method, path:
                case "GET", ["v1", "config"]:
                    return {"defaults": {}, "overrides": {}}
                case "POST", ["v1", "namespaces"]:
                    asked = json.loads(body)
                    self.catalog.create_namespace(tuple(asked["namespace"]))
                    return {"namespace": asked["namespace"], "properties": {}}
                case "HEAD" | "GET", ["v1", "namespaces", name]:
                    return {"namespace": [name], "properties": self.catalog.load_namespace_properties(name)}
                case "POST", ["v1", "namespaces", name, "tables"]:
                    return self._create(name, CreateTableRequest.model_validate({"location": None, **json.loads(body)}))
                case "GET", ["v1", "namespaces", name, "tables", table]:
                    return _table(self.catalog.load_table((name, table)))
                case "POST", ["v1", "namespaces", name, "tables", table]:
                    return self._commit((name, table), CommitTableRequest.model_validate_json(body))
        raise NotImplementedError(f"{method} {path}")

    def _create(self, namespace: str, asked: CreateTableRequest) -> Any:
        assert asked.stage_create
        made = self.catalog.create_table_transaction(
            (namespace, asked.name), asked.table_schema, asked.location, properties=asked.properties
        )
        return _table(made._table)

    def _commit(self, name: tuple[str, str], asked: CommitTableRequest) -> Any:
        try:
            table = self.catalog.load_table(name)
        except NoSuchTableError:
            table = StagedTable(name, None, None, None, self.catalog)  # type: ignore[arg-type] # only its name is read
        done = self.catalog.commit_table(table, asked.requirements, asked.updates)
        self.commits_count += 1
        return json.loads(done.model_dump_json(by_alias=True))


def _table(table: Table) -> Any:
    metadata = json.loads(table.metadata.model_dump_json(by_alias=True))
    return {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}


@contextmanager
def rest_catalog(directory: Path) -> Iterator[RestCatalogServer]:
    server = RestCatalogServer(directory)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def serve(self) -> None:
            path = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, answer = 200, server.answer(self.command, path, body)
            except Exception as error:
                status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
                answer = {"error": {"message": str(error), "type": type(error).__name__, "code": status}}
            if server.loses_next_commit and self.command == "POST" and len(path) == 5:
                server.loses_next_commit = False
                self.close_connection = True
                return
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_POST = do_HEAD = do_DELETE = serve

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)
        server.catalog.close()
