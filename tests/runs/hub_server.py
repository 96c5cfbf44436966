# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""A Hub of model repositories on the loopback address, in memory, for `huggingface_hub` as it is.

It answers what a push and a load ask for: users and tokens, repositories with commits and branches, regular and LFS
uploads, downloads. It has no Xet storage: clients set `HF_HUB_DISABLE_XET=1`.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


LFS = re.compile(r".*\.(safetensors|bin|png|pt)")
REPO = r"(?P<repo_id>[^/]+/[^/]+)"


class Refusal(Exception):
    """An answer other than success. `code` goes into the header by which the client chooses an exception."""

    def __init__(self, status: int, message: str, code: str = "", **content):
        super().__init__(message)
        self.status, self.message, self.code, self.content = status, message, code, content


@dataclass(frozen=True)
class User:
    """The holder of a token. `role` is that of the token: `write` or `read`."""

    name: str
    organizations: tuple[str, ...] = ()
    role: str = "write"

    def may_write(self, repo_id: str) -> bool:
        return self.role == "write" and repo_id.partition("/")[0] in (self.name, *self.organizations)


@dataclass
class Repository:
    """Commits by hash, each with all of its files, and the branches that point to them."""

    repo_id: str
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", {})

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the newest commit on main, by path."""
        return self.commits[self.branches["main"]]

    def resolve(self, revision: str) -> str:
        commit = self.branches.get(revision, revision)
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        commit = hashlib.sha1(f"{self.repo_id} {len(self.commits)}".encode()).hexdigest()
        self.commits[commit], self.branches[branch] = files, commit
        return commit


class Hub:
    """The state of the server. `uploads` are the LFS files that arrived whole, by SHA-256."""

    def __init__(self):
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.endpoint = ""
        self.uploads_until_break = 0
        self.broken: set[str] = set()

    def break_upload(self, number: int) -> None:
        """Cuts the connection of the `number`-th LFS upload from now on half-way, and refuses the client's retries."""
        self.uploads_until_break = number

    def to_read(self, repo_id: str, user: User | None) -> Repository:
        repository = self.repositories.get(repo_id)
        if repository is None or (repository.private and user is None):
            # The Hub answers alike for a repository that one may not see and one that does not exist.
            raise Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repository

    def to_write(self, repo_id: str, user: User | None) -> Repository:
        repository = self.to_read(repo_id, user)
        if user is None or not user.may_write(repo_id):
            raise Refusal(403, f"You don't have the rights to write to {repo_id}")
        return repository


class Handler(BaseHTTPRequestHandler):
    """One connection. Subclassed with the `hub` that it serves."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    ROUTES: tuple[tuple[str, str], ...] = (
        ("POST /api/repos/create", "create"),
        ("POST /api/validate-yaml", "validate"),
        (f"GET /api/models/{REPO}(/revision/(?P<revision>[^/]+))?", "info"),
        (f"GET /api/models/{REPO}/refs", "references"),
        (f"GET /api/models/{REPO}/auth-check(?P<write>/write)?", "check"),
        (f"POST /api/models/{REPO}/branch/(?P<branch>[^/]+)", "branch"),
        (f"POST /api/models/{REPO}/preupload/[^/]+", "preupload"),
        (f"POST /api/models/{REPO}/commit/(?P<branch>[^/]+)", "commit"),
        (f"POST /{REPO}\\.git/info/lfs/objects/batch", "batch"),
        ("PUT /lfs/(?P<oid>[0-9a-f]{64})", "upload"),
        (f"(GET|HEAD) /{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "file"),
    )

    def do_GET(self) -> None:
        self.body = None
        try:
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            if token and token not in self.hub.users:
                raise Refusal(401, "Invalid credentials in Authorization header")
            self.user = self.hub.users.get(token)
            request = f"{self.command} {urlsplit(self.path).path}"
            matches = ((re.fullmatch(pattern, request), name) for pattern, name in self.ROUTES)
            match, name = next((found for found in matches if found[0]), (None, ""))
            if match is None:
                raise Refusal(404, f"This Hub has no {request}", "EntryNotFound")
            arguments = {key: unquote(value) for key, value in match.groupdict().items() if value}
            getattr(self, f"answer_{name}")(**arguments)
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, "X-Error-Code": refusal.code}
            self.send(refusal.status, json.dumps({"error": refusal.message} | refusal.content).encode(), headers)

    do_HEAD = do_POST = do_PUT = do_GET

    def read(self) -> bytes:
        if self.body is None:
            self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        return self.body

    def json(self) -> dict:
        return json.loads(self.read())

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.read()  # the next request on this connection begins after it
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def log_message(self, *arguments) -> None:
        pass

    def answer_create(self) -> None:
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        payload = self.json()
        repo_id = f"{payload['organization'] or self.user.name}/{payload['name']}"
        if not self.user.may_write(repo_id):
            raise Refusal(403, f"You don't have the rights to create a model {repo_id}")
        url = {"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repositories:
            raise Refusal(409, "You already created this model repo", **url)
        is_private = payload.get("private") or payload.get("visibility") == "private"
        self.hub.repositories[repo_id] = Repository(repo_id, bool(is_private))
        self.answer(url)

    def answer_validate(self) -> None:
        self.answer({"errors": [], "warnings": []})

    def answer_info(self, repo_id: str, revision: str = "main") -> None:
        repository = self.hub.to_read(repo_id, self.user)
        commit = repository.resolve(revision)
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        self.answer({"id": repo_id, "sha": commit, "private": repository.private, "siblings": siblings})

    def answer_references(self, repo_id: str) -> None:
        heads = self.hub.to_read(repo_id, self.user).branches.items()
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in heads]
        self.answer({"branches": branches, "tags": [], "converts": []})

    def answer_check(self, repo_id: str, write: str = "") -> None:
        (self.hub.to_write if write else self.hub.to_read)(repo_id, self.user)
        self.answer({})

    def answer_branch(self, repo_id: str, branch: str) -> None:
        repository = self.hub.to_write(repo_id, self.user)
        repository.branches[branch] = repository.branches["main"]
        self.answer({})

    def answer_preupload(self, repo_id: str) -> None:
        self.hub.to_write(repo_id, self.user)
        modes = {one["path"]: "lfs" if LFS.fullmatch(one["path"]) else "regular" for one in self.json()["files"]}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        self.answer({"files": files})

    def answer_batch(self, repo_id: str) -> None:
        self.hub.to_write(repo_id, self.user)
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in self.json()["objects"]]
        for one in objects:
            if one["oid"] not in self.hub.uploads:
                self.hub.broken.discard(one["oid"])
                one["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects})

    def answer_commit(self, repo_id: str, branch: str) -> None:
        repository = self.hub.to_write(repo_id, self.user)
        files = dict(repository.commits[repository.resolve(branch)])
        _, *operations = map(json.loads, self.read().splitlines())
        for operation in operations:
            value = operation["value"]
            is_lfs = operation["key"] == "lfsFile"
            files[value["path"]] = self.hub.uploads[value["oid"]] if is_lfs else base64.b64decode(value["content"])
        commit = repository.commit(branch, files)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{commit}"
        self.answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def answer_upload(self, oid: str) -> None:
        """Sees no tokens, like a storage service: whoever has the address may upload to it."""
        hub = self.hub
        if oid in hub.broken:
            raise Refusal(403, "This address is no longer valid")
        hub.uploads_until_break -= 1
        if hub.uploads_until_break == 0:
            hub.broken.add(oid)
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            # Throws away what is on its way, too.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if hashlib.sha256(self.read()).hexdigest() != oid:
            raise Refusal(400, "The content does not have the announced SHA-256")
        hub.uploads[oid] = self.read()
        self.answer({})

    def answer_file(self, repo_id: str, revision: str, path: str) -> None:
        repository = self.hub.to_read(repo_id, self.user)
        commit = repository.resolve(revision)
        content = repository.commits[commit].get(path)
        if content is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[None]:
    """Meanwhile, `hub.endpoint` is the value for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def environment(hub: Hub, home: str, **changes: str) -> dict[str, str]:
    """Variables with which a new process talks to the server: no proxy, no token, and a cache of its own in `home`."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": home,
        "HF_HUB_CACHE": f"{home}/hub",
        "HF_MODULES_CACHE": f"{home}/modules",
        "HF_TOKEN_PATH": f"{home}/token",
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    } | changes
