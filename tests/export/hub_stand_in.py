"""A hub of one process: what the client of huggingface_hub asks for to upload a repository and to download it."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

WRITER, READER = "hf_writer", "hf_reader"


class StandIn(ThreadingHTTPServer):
    """Repositories in memory; the log has what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.files, self.large, self.created, self.log = {}, {}, [], []

    def __enter__(self):
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_):
        pass

    def _send(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _may_write(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token != WRITER:
            self._send({"error": "no"}, 403 if token == READER else 401)
        return token == WRITER

    def do_PUT(self):
        self.server.log.append(f"PUT {self.path.split('/')[1]}")
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.server.large[self.path.rpartition("/")[2]] = content
        self._send({})

    def do_POST(self):
        body, path = self._body(), self.path.partition("?")[0]
        self.server.log.append(f"POST {path}")
        if not self._may_write():
            return
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            self._send({"url": f"{self.server.endpoint}/{asked['organization']}/{asked['name']}"})
        elif path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            self._send({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {
                    "path": name,
                    "uploadMode": "lfs" if name.endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for name in (file["path"] for file in json.loads(body)["files"])
            ]
            self._send({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.endpoint}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._send({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.server.files[value["path"]] = self.server.large[value["oid"]]
            self._send({"commitUrl": f"{self.server.endpoint}/person/polyps/commit/{'a' * 40}", "commitOid": "a" * 40})
        else:
            self._send({"error": "unknown"}, 404)

    def do_GET(self):
        files, path = self.server.files, self.path.partition("?")[0]
        self.server.log.append(f"{self.command} {path}")
        name = path.partition("/resolve/")[2].partition("/")[2]
        if not files:
            self._send({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        elif name in files:
            etag = hashlib.sha256(files[name]).hexdigest()
            self._send(files[name], ETag=f'"{etag}"', X_Repo_Commit="a" * 40)
        elif "/tree/" in path:
            found = [{"type": "file", "path": one, "size": len(files[one]), "oid": "b" * 40} for one in files]
            self._send(found)
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": one} for one in files]
            self._send({"id": "person/polyps", "sha": "a" * 40, "siblings": siblings, "private": True, "tags": []})
        else:
            self._send({"error": "not found"}, 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET  # noqa: N815 the name that http.server calls
