# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""A Hub of model repositories on the loopback address, in memory, for `huggingface_hub` as it is.

It answers what a push and a load ask for: users and tokens, repositories with commits and branches, uploads as regular
and as LFS files, downloads in whole or in part, model cards that are checked, and the errors by which the client tells
a missing repository from a missing file. There is no Xet storage: clients set `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in ("*.safetensors", "*.bin", "*.png", "*.pt")
)
LICENSES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "gpl-3.0",
    "openrail",
    "other",
    "unknown",
)
PIPELINE_TAGS = (
    "feature-extraction", "fill-mask", "multiple-choice", "question-answering", "sentence-similarity",
    "text-classification", "text-generation", "token-classification",
)  # fmt: skip
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
REPO_ID = r"(?P<repo_id>[^/]+/[^/]+)"


class Refusal(Exception):
    """An answer other than success. `code` goes into the header by which the client chooses an exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **content):
        super().__init__(message)
        self.status, self.message, self.code, self.content = status, message, code, content


@dataclass(frozen=True)
class User:
    """Who holds a token. `role` is that of the token: `write`, or `read`, which may push nowhere."""

    name: str
    organizations: tuple[str, ...] = ()
    role: str = "write"

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and namespace in (self.name, *self.organizations)


@dataclass(frozen=True)
class Blob:
    content: bytes
    is_lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def etag(self) -> str:
        """What the client compares with the file that it has: SHA-256 of an LFS file, git's SHA-1 of any other."""
        return self.sha256 if self.is_lfs else git_hash(self.content)

    @cached_property
    def pointer(self) -> bytes:
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.sha256}",
            f"size {len(self.content)}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def tree_entry(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": git_hash(self.content)}
        if self.is_lfs:
            entry["oid"] = git_hash(self.pointer)
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Commits by their hash, each with all of its files, and the branches that point to them."""

    repo_id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", {".gitattributes": Blob(GITATTRIBUTES.encode())}, "initial commit")

    @property
    def namespace(self) -> str:
        return self.repo_id.partition("/")[0]

    @property
    def files(self) -> dict[str, Blob]:
        """Those of the newest commit on main, by path."""
        return self.commits[self.branches["main"]]

    def resolve(self, revision: str) -> str:
        commit = self.branches[revision] if revision in self.branches else revision
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def commit(self, branch: str, files: dict[str, Blob], summary: str) -> str:
        content = json.dumps([len(self.commits), summary, {path: blob.etag for path, blob in files.items()}])
        commit = hashlib.sha1(f"{self.repo_id} {content}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


@dataclass(frozen=True)
class Request:
    """A line of the log. `user` is None for who gives no token, `status` None where the connection was broken."""

    method: str
    path: str
    user: str | None
    status: int | None
    range: str | None = None


class Hub:
    """The state of the server and what it does with it. `log` holds the requests in the order of their answers."""

    def __init__(self):
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.lfs_objects: dict[str, bytes] = {}
        self.upload_keys: dict[str, str] = {}
        self.log: list[Request] = []
        self.lock = threading.RLock()
        self.endpoint = ""
        self._uploads_until_break = 0
        self._downloads_to_break: set[tuple[str, str]] = set()

    def add_user(self, token: str, name: str, **options) -> None:
        self.users[token] = User(name, **options)

    def break_upload(self, number: int) -> None:
        """The connection of the `number`-th LFS upload from now on is lost half-way, and its address is no longer
        valid then: the client's own second attempt is refused, and the upload fails."""
        self._uploads_until_break = number

    def break_download(self, repo_id: str, path: str) -> None:
        """The connection of the next download of a file is lost half-way."""
        self._downloads_to_break.add((repo_id, path))

    def requests(self, method: str, pattern: str, since: int = 0) -> list[Request]:
        """Logged requests whose path matches the regular expression as a whole."""
        return [one for one in self.log[since:] if one.method == method and re.fullmatch(pattern, one.path)]

    def uploads(self, since: int = 0) -> list[str]:
        """SHA-256 of the LFS files that arrived as a whole."""
        return [one.path.rpartition("/")[2] for one in self.requests("PUT", "/lfs/.*", since) if one.status == 200]

    # ---- Who may do what ----

    def find(self, repo_id: str, user: User | None) -> Repository:
        repository = self.repositories.get(repo_id)
        visible = repository and not (repository.private and not (user and self._is_member(user, repository)))
        if visible:
            return repository
        # A repository that one may not see and one that does not exist are answered alike.
        status, message = (401, "Invalid username or password.") if user is None else (404, "Repository not found")
        raise Refusal(status, message, "RepoNotFound")

    def find_to_read(self, repo_id: str, user: User | None) -> Repository:
        repository = self.find(repo_id, user)
        if repository.gated and not (user and self._is_member(user, repository)):
            message = f"Access to model {repo_id} is restricted."
            raise Refusal(401 if user is None else 403, message, "GatedRepo")
        return repository

    def find_to_write(self, repo_id: str, user: User | None) -> Repository:
        repository = self.find(repo_id, user)
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if not user.may_write(repository.namespace):
            raise Refusal(403, f"You don't have the rights to write to {repo_id}")
        return repository

    def _is_member(self, user: User, repository: Repository) -> bool:
        return repository.namespace in (user.name, *user.organizations)

    # ---- Answers: what goes into JSON ----

    def whoami(self, user: User) -> dict:
        token = {"displayName": "test", "role": user.role}
        organizations = [{"type": "org", "name": name} for name in user.organizations]
        return {"type": "user", "name": user.name, "orgs": organizations, "auth": {"accessToken": token}}

    def create_repository(self, user: User, payload: dict) -> dict:
        namespace, name = payload["organization"] or user.name, payload["name"]
        if not NAME.fullmatch(name):
            raise Refusal(400, f"Invalid repo name: {name}")
        repo_id = f"{namespace}/{name}"
        if not user.may_write(namespace):
            message = f"You don't have the rights to create a model under the namespace {namespace!r}"
            raise Refusal(403, message)
        url = {"url": f"{self.endpoint}/{repo_id}", "name": repo_id}
        if repo_id in self.repositories:
            raise Refusal(409, "You already created this model repo", **url)
        private = payload["visibility"] == "private" if "visibility" in payload else payload.get("private", False)
        self.repositories[repo_id] = Repository(repo_id, private)
        return url

    def info(self, repository: Repository, revision: str = "main") -> dict:
        commit = repository.resolve(revision)
        return {
            "id": repository.repo_id,
            "modelId": repository.repo_id,
            "author": repository.namespace,
            "sha": commit,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "siblings": [{"rfilename": path} for path in sorted(repository.commits[commit])],
        }

    def tree(self, repository: Repository, revision: str, recursive: bool) -> list[dict]:
        files = repository.commits[repository.resolve(revision)]
        entries = [files[path].tree_entry(path) for path in sorted(files) if recursive or "/" not in path]
        folders = {path.partition("/")[0] for path in files if "/" in path}
        return entries + [{"type": "directory", "path": path, "oid": git_hash(path.encode())} for path in folders]

    def preupload(self, repository: Repository, revision: str, payload: dict) -> dict:
        files = repository.commits[repository.resolve(revision)]
        answers = []
        for file in payload["files"]:
            path, sample = file["path"], base64.b64decode(file["sample"])
            mode = "lfs" if is_lfs(path, files) or b"\0" in sample else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
            if path in files:
                answers[-1]["oid"] = files[path].etag
        return {"files": answers}

    def lfs_batch(self, repository: Repository, payload: dict) -> dict:
        if payload["operation"] != "upload" or payload["hash_algo"] != "sha256" or "basic" not in payload["transfers"]:
            raise Refusal(400, f"Only basic uploads are served, not {payload['transfers']}")
        objects = []
        for asked in payload["objects"]:
            oid = asked["oid"]
            objects.append({"oid": oid, "size": asked["size"]})
            if oid not in self.lfs_objects:
                key = hashlib.sha256(f"{oid} {len(self.log)}".encode()).hexdigest()
                self.upload_keys[key] = oid
                verify = f"{self.endpoint}/{repository.repo_id}.git/info/lfs/verify"
                upload = f"{self.endpoint}/lfs/{oid}?key={key}"
                objects[-1]["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        return {"transfer": "basic", "objects": objects}

    def lfs_verify(self, payload: dict) -> dict:
        content = self.lfs_objects.get(payload["oid"])
        if content is None or len(content) != payload["size"]:
            raise Refusal(404, f"LFS object {payload['oid']} is not here in this size")
        return {"message": "OK"}

    def receive_upload(self, oid: str, key: str, content: bytes) -> dict:
        if self.upload_keys.get(key) != oid:
            raise Refusal(403, "This address is not valid, or no longer")
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "The content does not have the SHA-256 that was announced")
        self.lfs_objects[oid] = content
        return {}

    def upload_breaks(self, key: str) -> bool:
        """Counts an upload, and says whether its connection is to be lost."""
        with self.lock:
            if key in self.upload_keys and self._uploads_until_break:
                self._uploads_until_break -= 1
                if not self._uploads_until_break:
                    del self.upload_keys[key]
                    return True
        return False

    def download_breaks(self, repo_id: str, path: str) -> bool:
        with self.lock:
            breaks = (repo_id, path) in self._downloads_to_break
            self._downloads_to_break.discard((repo_id, path))
        return breaks

    def commit(self, repository: Repository, branch: str, lines: Iterable[dict]) -> dict:
        if branch not in repository.branches:
            raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        header, *operations = lines
        parent = repository.branches[branch]
        if header["value"].get("parentCommit", parent) != parent:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent])
        for operation in operations:
            self._apply(files, operation["key"], operation["value"])
        if "README.md" in files:
            check_card(files["README.md"].content.decode())
        commit = repository.commit(branch, files, header["value"]["summary"])
        url = f"{self.endpoint}/{repository.repo_id}/commit/{commit}"
        return {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""}

    def _apply(self, files: dict[str, Blob], key: str, value: dict) -> None:
        path = value["path"]
        match key:
            case "file":
                if is_lfs(path, files):
                    raise Refusal(400, f"{path} must be uploaded as an LFS file")
                files[path] = Blob(base64.b64decode(value["content"]))
            case "lfsFile":
                if value["oid"] not in self.lfs_objects:
                    raise Refusal(400, f"The LFS object of {path} has not been uploaded")
                files[path] = Blob(self.lfs_objects[value["oid"]], is_lfs=True)
            case "deletedFile":
                del files[path]
            case _:
                raise Refusal(400, f"Unknown operation {key}")

    def create_branch(self, repository: Repository, branch: str, payload: dict) -> dict:
        if branch in repository.branches:
            raise Refusal(409, f"Reference already exists: {branch}")
        repository.branches[branch] = repository.resolve(payload.get("startingPoint", "main"))
        return {}

    def references(self, repository: Repository) -> dict:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in repository.branches.items()
        ]
        return {"branches": branches, "tags": [], "converts": []}

    def file(self, repository: Repository, revision: str, path: str) -> tuple[Blob, str]:
        commit = repository.resolve(revision)
        if path not in repository.commits[commit]:
            raise Refusal(404, "Entry not found", "EntryNotFound", commit=commit)
        return repository.commits[commit][path], commit


def is_lfs(path: str, files: dict[str, Blob]) -> bool:
    lines = files[".gitattributes"].content.decode().splitlines()
    return any(fnmatch(path.rpartition("/")[2], line.split()[0]) for line in lines if "filter=lfs" in line)


# ---- Model cards ----


def check_card(content: str) -> dict:
    """Warnings as the Hub gives them; a card whose metadata it would not take is refused."""
    front = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", content, re.DOTALL)
    if front is None:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        metadata = yaml.safe_load(front[1])
    except yaml.YAMLError as error:
        raise card_refusal([f"YAML: {error}"]) from error
    if not isinstance(metadata, dict):
        raise card_refusal(["The metadata must be a mapping"])
    problems = [f'"{name}" {problem}' for name, problem in card_problems(metadata)]
    if problems:
        raise card_refusal(problems)
    return {"errors": [], "warnings": []}


def card_refusal(messages: list[str]) -> Refusal:
    return Refusal(400, "; ".join(messages), errors=[{"message": message} for message in messages], warnings=[])


def card_problems(metadata: dict) -> Iterator[tuple[str, str]]:
    strings = {"library_name": r"[a-z0-9_.-]+", "base_model": r"[\w.-]+(/[\w.-]+)?", "license": r"[a-z0-9.-]+"}
    lists = {
        "language": "[a-z]{2,3}|multilingual|code",
        "datasets": r"[\w.-]+(/[\w.-]+)?",
        "metrics": ".+",
        "tags": ".+",
    }
    for name, pattern in strings.items():
        if name in metadata and not matches(metadata[name], pattern):
            yield name, f"must be a string of the form {pattern}, not {metadata[name]!r}"
    for name, pattern in lists.items():
        values = metadata[name] if name in metadata else []
        values = [values] if isinstance(values, str) and name == "language" else values
        if not (isinstance(values, list) and all(matches(value, pattern) for value in values)):
            yield name, f"must be a list of strings of the form {pattern}, not {values!r}"
    for name, allowed in (("license", LICENSES), ("pipeline_tag", PIPELINE_TAGS)):
        if name in metadata and metadata[name] not in allowed:
            yield name, f"must be one of {', '.join(allowed)}, not {metadata[name]!r}"
    for entry in metadata["model-index"] if "model-index" in metadata else []:
        yield from index_problems(entry)


def index_problems(entry: dict) -> Iterator[tuple[str, str]]:
    if not matches(entry.get("name"), ".+"):
        yield "model-index", "needs a name"
    for number, result in enumerate(entry.get("results") or []):
        place = f"model-index[0].results[{number}]"
        needed = {"task": ("type",), "dataset": ("type", "name")}
        for part, names in needed.items():
            for name in names:
                if not matches(result.get(part, {}).get(name), ".+"):
                    yield f"{place}.{part}.{name}", "is required"
        if not result.get("metrics"):
            yield f"{place}.metrics", "is required"
        for metric in result.get("metrics") or []:
            value = metric.get("value")
            if not matches(metric.get("type"), ".+") or value is None or value != value:
                yield f"{place}.metrics", f"need a type and a value that is a number, not {metric!r}"


def matches(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None


# ---- HTTP ----


class Handler(BaseHTTPRequestHandler):
    """One connection. Subclassed with the `hub` that it serves."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # A path that several patterns match goes to the first of them.
    ROUTES: tuple[tuple[str, str, str], ...] = (
        ("GET", "/api/whoami-v2", "answer_whoami"),
        ("POST", "/api/repos/create", "answer_create"),
        ("POST", "/api/validate-yaml", "answer_validate"),
        ("GET", f"/api/models/{REPO_ID}", "answer_info"),
        ("GET", f"/api/models/{REPO_ID}/revision/(?P<revision>[^/]+)", "answer_info"),
        ("GET", f"/api/models/{REPO_ID}/tree/(?P<revision>[^/]+)", "answer_tree"),
        ("GET", f"/api/models/{REPO_ID}/refs", "answer_references"),
        ("GET", f"/api/models/{REPO_ID}/auth-check(?P<write>/write)?", "answer_check"),
        ("POST", f"/api/models/{REPO_ID}/branch/(?P<branch>[^/]+)", "answer_branch"),
        ("POST", f"/api/models/{REPO_ID}/preupload/(?P<revision>[^/]+)", "answer_preupload"),
        ("POST", f"/api/models/{REPO_ID}/commit/(?P<branch>[^/]+)", "answer_commit"),
        ("POST", f"/{REPO_ID}\\.git/info/lfs/objects/batch", "answer_batch"),
        ("POST", f"/{REPO_ID}\\.git/info/lfs/verify", "answer_verify"),
        ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", "answer_upload"),
        ("GET", f"/{REPO_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "answer_file"),
        ("HEAD", f"/{REPO_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "answer_file"),
    )

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.place, self.query = url.path, parse_qs(url.query)
        self.user: User | None = None
        try:
            self.user = self.identify()
            answer, arguments = self.find_route()
            answer(**arguments)
        except Refusal as refusal:
            self.refuse(refusal)

    do_HEAD = do_POST = do_PUT = do_GET

    def identify(self) -> User | None:
        given = self.headers["Authorization"]
        if given is None:
            return None
        token = given.removeprefix("Bearer ")
        if token not in self.hub.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.users[token]

    def find_route(self) -> tuple[Callable[..., None], dict]:
        for method, pattern, name in self.ROUTES:
            match = re.fullmatch(pattern, self.place) if method == self.command else None
            if match:
                return getattr(self, name), {key: value and unquote(value) for key, value in match.groupdict().items()}
        raise Refusal(404, f"This Hub has no {self.command} {self.place}")

    # ---- Reading and writing ----

    @cached_property
    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def json(self) -> dict:
        return json.loads(self.body)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.drain()
        self.record(status)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def drain(self) -> None:
        """Reads what is left of the request: the next one on this connection begins behind it."""
        if "body" not in vars(self):
            _ = self.body
        del self.body

    def answer(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, refusal: Refusal) -> None:
        headers = {"Content-Type": "application/json", "X-Error-Message": refusal.message.replace("\n", " ")}
        if refusal.code is not None:
            headers["X-Error-Code"] = refusal.code
        content = dict(refusal.content)
        if "commit" in content:
            headers["X-Repo-Commit"] = content.pop("commit")
        self.send(refusal.status, json.dumps({"error": refusal.message} | content).encode(), headers)

    def record(self, status: int | None) -> None:
        user = self.user.name if self.user else None
        self.hub.log.append(Request(self.command, self.place, user, status, self.headers["Range"]))

    def break_connection(self, reset: bool = False) -> None:
        """Ends it in the middle of a message. `reset` throws away what is on its way, too."""
        self.record(None)
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *arguments) -> None:
        pass

    # ---- Answers ----

    def known_user(self) -> User:
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        return self.user

    def answer_whoami(self) -> None:
        self.answer(self.hub.whoami(self.known_user()))

    def answer_create(self) -> None:
        user, payload = self.known_user(), self.json()
        with self.hub.lock:
            self.answer(self.hub.create_repository(user, payload))

    def answer_validate(self) -> None:
        self.answer(check_card(self.json()["content"]))

    def answer_info(self, repo_id: str, revision: str = "main") -> None:
        self.answer(self.hub.info(self.hub.find(repo_id, self.user), revision))

    def answer_tree(self, repo_id: str, revision: str) -> None:
        recursive = self.query.get("recursive") == ["true"]
        self.answer(self.hub.tree(self.hub.find_to_read(repo_id, self.user), revision, recursive))

    def answer_references(self, repo_id: str) -> None:
        self.answer(self.hub.references(self.hub.find(repo_id, self.user)))

    def answer_check(self, repo_id: str, write: str | None) -> None:
        (self.hub.find_to_write if write else self.hub.find_to_read)(repo_id, self.user)
        self.answer({})

    def answer_branch(self, repo_id: str, branch: str) -> None:
        self.answer(self.hub.create_branch(self.hub.find_to_write(repo_id, self.user), branch, self.json()))

    def answer_preupload(self, repo_id: str, revision: str) -> None:
        self.answer(self.hub.preupload(self.hub.find_to_write(repo_id, self.user), revision, self.json()))

    def answer_batch(self, repo_id: str) -> None:
        self.answer(self.hub.lfs_batch(self.hub.find_to_write(repo_id, self.user), self.json()))

    def answer_verify(self, repo_id: str) -> None:
        self.hub.find_to_write(repo_id, self.user)
        self.answer(self.hub.lfs_verify(self.json()))

    def answer_commit(self, repo_id: str, branch: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.hub.lock:
            self.answer(self.hub.commit(self.hub.find_to_write(repo_id, self.user), branch, lines))

    def answer_upload(self, oid: str) -> None:
        """Whoever has the address may upload to it: like a storage service, it sees no tokens."""
        key = self.query["key"][0] if "key" in self.query else ""
        if self.hub.upload_breaks(key):
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.break_connection(reset=True)
        else:
            self.answer(self.hub.receive_upload(oid, key, self.body))

    def answer_file(self, repo_id: str, revision: str, path: str) -> None:
        blob, commit = self.hub.file(self.hub.find_to_read(repo_id, self.user), revision, path)
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if blob.is_lfs:
            headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        content = blob.content
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            if first > last:
                raise Refusal(416, "The range lies beyond the end of the file")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        if self.command == "GET" and self.hub.download_breaks(repo_id, path):
            self.send(200, content[: len(content) // 2], headers | {"Content-Length": str(len(content))})
            self.wfile.flush()
            self.break_connection()
        else:
            self.send(206 if asked else 200, content, headers)


class Server:
    """Serves a hub on a port of its own, which stays the same when it is stopped and started again.

    `hub.endpoint` is what HF_ENDPOINT has to be.
    """

    def __init__(self, hub: Hub):
        self.handler = type("HubHandler", (Handler,), {"hub": hub})
        self.hub, self.port = hub, 0
        self.start()
        hub.endpoint = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.http.server_port
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


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
