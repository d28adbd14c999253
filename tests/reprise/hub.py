"""A server of the part of the Hugging Face Hub's HTTP interface that an upload speaks, on loopback."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub:
    """Keeps the files of one repository; weights and checkpoints come through Git LFS, as on the Hub."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.validated: list[str] = []
        """Cards whose metadata the Hub was asked to check."""
        self.num_commits = 0
        self._objects: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._reply({})

            def do_PUT(self) -> None:
                content = self._body()
                hub._objects[hashlib.sha256(content).hexdigest()] = content
                self._reply({})

            def do_POST(self) -> None:
                hub.tokens.add(self.headers.get("Authorization"))
                body = self._body()
                if refuses:
                    self._reply({"error": "this token may only read"}, 403)
                elif self.path == "/api/repos/create":
                    hub.created.append(json.loads(body))
                    name = json.loads(body)["name"]
                    self._reply({"url": f"{hub.address}/me/{name}", "name": f"me/{name}"})
                elif self.path == "/api/validate-yaml":
                    hub.validated.append(json.loads(body)["content"])
                    self._reply({"errors": [], "warnings": []})
                elif "/preupload/" in self.path:
                    self._reply({"files": [hub._mode(file["path"]) for file in json.loads(body)["files"]]})
                elif self.path.endswith("/info/lfs/objects/batch"):
                    self._reply({"transfer": "basic", "objects": [hub._action(o) for o in json.loads(body)["objects"]]})
                elif "/commit/" in self.path:
                    hub._commit([json.loads(line) for line in body.decode().splitlines()])
                    commit = {"commitOid": "0" * 40, "commitUrl": f"{hub.address}/me/x/commit/{'0' * 40}"}
                    self._reply(commit | {"hookOutput": ""})
                else:
                    self._reply({}, 404)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _reply(self, value: Any, code: int = 200) -> None:
                content = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _mode(self, path: str) -> dict[str, Any]:
        is_large = path.endswith((".safetensors", ".pt"))
        return {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": None}

    def _action(self, asked: dict[str, Any]) -> dict[str, Any]:
        return asked | {"actions": {"upload": {"href": f"{self.address}/objects/{asked['oid']}", "header": {}}}}

    def _commit(self, operations: list[dict[str, Any]]) -> None:
        self.num_commits += 1
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.files[value["path"]] = self._objects[value["oid"]]
