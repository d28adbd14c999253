"""What of W&B is needed to see what a run leaves there: a server of its HTTP interface, and a reader of its files.

The answers are those that the client of version 0.31 asks for, as far as it reads them.
"""

import gzip
import json
import re
import struct
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Server:
    """Keeps one run: its history as the client streams it, and the names of the files that arrive."""

    def __init__(self) -> None:
        self.run_ids: list[str] = []
        """Of each time a run was begun or carried on."""
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_codes: list[int] = []
        self.uploads: set[str] = set()
        self.port = 0
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Answer from now on, at the port of the time before."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/graphql":
                    asked = json.loads(body)
                    operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                    assert operation is not None
                    self._reply({"data": server._answer(operation[1], asked.get("variables") or {})})
                else:
                    if self.path.endswith("/file_stream"):
                        server._receive(json.loads(body))
                    self._reply({})

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.uploads.add(self.path.removeprefix("/upload/"))
                self._reply({})

            def _reply(self, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _receive(self, sent: dict[str, Any]) -> None:
        files = sent.get("files") or {}
        if (part := files.get("wandb-history.jsonl")) is not None:
            self.history[part["offset"] :] = [json.loads(row) for row in part["content"]]
        if (part := files.get("wandb-summary.json")) is not None:
            self.summary = json.loads(part["content"][-1])
        if sent.get("complete"):
            self.exit_codes.append(sent["exitcode"])

    def _answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}

        def upload(name: str) -> str:
            return f"{self.address}/upload/{name}"

        if operation == "RunResumeStatus":
            bucket = {
                "id": "b",
                "name": given["name"],
                "displayName": "run",
                "summaryMetrics": "{}",
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyLineCount": len(self.history),
                "historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]),
                "eventsTail": "[]",
                "config": "{}",
                "tags": [],
                "notes": None,
                "wandbConfig": '{"t": 1}',
            }
            return {"model": project | {"bucket": bucket if given["name"] in self.run_ids else None}}
        if operation == "UpsertBucket":
            if given.get("displayName") is not None:
                self.run_ids.append(given["name"])
            if given.get("config"):
                self.config = {key: item["value"] for key, item in json.loads(given["config"]).items()}
            bucket = {"id": "b", "name": given["name"], "displayName": "run", "description": "", "config": "{}"}
            bucket |= {"sweepName": None, "project": project, "historyLineCount": len(self.history)}
            return {"upsertBucket": {"bucket": bucket, "inserted": len(self.run_ids) == 1}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": upload(name)} for name in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if operation == "Viewer":
            viewer = {"id": "v", "entity": "e", "username": "u", "email": "", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer}
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}
        if operation == "CreateArtifact":
            artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if operation == "CreateArtifactManifest":
            file = {"id": "f", "uploadUrl": upload("manifest"), "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = [
                {
                    "storagePath": f"a/{file['name']}",
                    "uploadUrl": upload(f"artifact/{file['name']}"),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": "a"},
                }
                for file in given["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        return {}


def read_offline_run(directory: Path) -> Iterator[Any]:
    """Yield the records of the run in an offline directory; its file is in LevelDB's format of logs."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = directory.glob("run-*.wandb")
    data, place, parts = path.read_bytes(), 7, []
    block, header = 32768, 7
    while place + header <= len(data):
        if block - place % block < header:
            place += block - place % block
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + header])
        parts.append(data[place + header : place + header + size])
        place += header + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def offline_history(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of the history in an offline directory."""
    rows = []
    for record in read_offline_run(directory):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    return rows
