"""A small Hugging Face hub on 127.0.0.1: repositories of files, and refusals of the real one's kinds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import api

COMMIT = "5" * 40
_REFUSALS = {
    "gated": (403, "GatedRepo", "Access to this model is restricted."),
    "absent": (404, "RepoNotFound", "Repository not found"),
    "broken": (500, "", "Internal Server Error"),
}


@dataclass
class Hub:
    """``directories`` are its repositories, ``requests`` what was asked for, with the token if one was given."""

    directories: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def files_asked(self) -> set[str]:
        return {path.rpartition("/")[2] for path, _ in self.requests if "/resolve/" in path}


@contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for its own within, with an empty cache."""
    hub = Hub()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            if self.path.startswith("/api/") and not self.path.startswith("/api/models/"):
                # Once a process the client asks for something that is not about models.
                self._answer(404, {}, b"")
                return
            hub.requests.append((self.path, token))
            self._answer(*(_model(hub, self.path) if self.path.startswith("/api/") else _file(hub, self.path)))

        do_HEAD = do_GET  # noqa: N815  so HTTP names it

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        set_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}", cache)
        yield hub
        server.shutdown()


def set_endpoint(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """What HF_ENDPOINT and HF_HOME would do; they are read once, when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(api, "endpoint", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))


def _model(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    repo, kind, revision = path.partition("?")[0].removeprefix("/api/models/").rsplit("/", 2)
    if refused := _refusal(hub, repo, revision):
        return refused
    root = hub.directories[repo]
    files = {str(each.relative_to(root)): each.stat().st_size for each in root.rglob("*") if each.is_file()}
    found: object = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
    if kind == "tree":
        found = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in files.items()]
    return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


def _file(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    repo, _, rest = path.removeprefix("/").partition("/resolve/")
    revision, _, name = rest.partition("/")
    if refused := _refusal(hub, repo, revision):
        return refused
    found = hub.directories[repo] / name
    if not found.is_file():
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
    content = found.read_bytes()
    return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content


def _refusal(hub: Hub, repo: str, revision: str) -> tuple[int, dict[str, str], bytes] | None:
    kind = hub.refusals.get(repo) or (None if repo in hub.directories else "absent")
    if kind is not None:
        status, code, said = _REFUSALS[kind]
        return status, {"X-Error-Code": code, "X-Error-Message": said}, b""
    if revision in {"main", COMMIT}:
        return None
    return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
