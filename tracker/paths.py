"""Where everything lies: every path of a workspace, and how a workspace is found."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tracker.errors import ConfigError, Problem

ROOT_VARIABLE = "SYNTHTRACK_ROOT"
DATABASE_URL_VARIABLE = "SYNTHTRACK_DB_URL"
BUSY_TIMEOUT_VARIABLE = "SYNTHTRACK_BUSY_TIMEOUT"
MLFLOW_URI_VARIABLE = "MLFLOW_TRACKING_URI"
CURRENT_DIRECTORY = "current directory"
TEMPORARY = ".synthtrack-tmp-"
"""How the name of what is being written begins."""
SHARED = "_shared"
DATABASE_NAME = "tracker.db"
MARKER_NAME = ".synthtrack"
MARKER = "This directory is a synthtrack workspace; its record is in the database that SYNTHTRACK_DB_URL names.\n"

_BUSY_TIMEOUT = "30"
_SHOWN = 80
_DIRECTORIES = {
    "synthetic_dir": ("SYNTHTRACK_SYNTHETIC_DIR", "Data_v2/synthetic", "synthetic data: _shared/ and the batches"),
    "original_dir": ("SYNTHTRACK_ORIGINAL_DIR", "Data/original", "source data sets"),
    "results_dir": ("SYNTHTRACK_RESULTS_DIR", "Results_v2", "training results"),
    "data_dir": ("SYNTHTRACK_DATA_DIR", "data", "agents, benchmarks and task pools"),
    "configs_dir": ("SYNTHTRACK_CONFIGS_DIR", "configs", "configurations by stage"),
    "mlruns_dir": ("SYNTHTRACK_MLRUNS_DIR", "mlruns", "MLflow's database and artifacts"),
}
DIRECTORY_VARIABLES = tuple(variable for variable, _, _ in _DIRECTORIES.values())
_HIDDEN_VALUE = re.compile(
    r"((?:^|[?&;\s])(?:[\w.-]*(?:password|passwd|pwd|token|secret|credential|signature|(?:api|access)[-_]?key)|sig)"
    r"\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^&;#\s]+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """One path or setting in force: its value, what it is for, and where it came from."""

    name: str
    value: str
    purpose: str
    origin: str


@dataclass(frozen=True)
class Workspace:
    """One directory with ``tracker.db`` and the trees that belong to it."""

    root: Path
    root_origin: str = "--root"
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @property
    def database(self) -> Path:
        """The SQLite file; meaningless where ``database_url`` names another database."""
        return self.root / DATABASE_NAME

    @property
    def database_url(self) -> str | None:
        """The URL of a database server, or None for the SQLite file."""
        return self.environ.get(DATABASE_URL_VARIABLE) or None

    @property
    def busy_timeout(self) -> float:
        """Seconds to wait for a database that another program has locked. Raises ConfigError."""
        given = self.environ.get(BUSY_TIMEOUT_VARIABLE) or _BUSY_TIMEOUT
        if not re.fullmatch(r"\d{1,6}(\.\d*)?", given):
            raise ConfigError("A variable is wrong.", [Problem(BUSY_TIMEOUT_VARIABLE, "expected seconds, such as 30")])
        return float(given)

    @property
    def synthetic_dir(self) -> Path:
        return self._directory("synthetic_dir")

    @property
    def shared_dir(self) -> Path:
        """The physical data, one directory per shared experiment."""
        return self.synthetic_dir / SHARED

    @property
    def original_dir(self) -> Path:
        return self._directory("original_dir")

    @property
    def results_dir(self) -> Path:
        return self._directory("results_dir")

    @property
    def data_dir(self) -> Path:
        return self._directory("data_dir")

    @property
    def configs_dir(self) -> Path:
        return self._directory("configs_dir")

    @property
    def mlruns_dir(self) -> Path:
        return self._directory("mlruns_dir")

    @property
    def trash_dir(self) -> Path:
        """Where the view puts what stood in its way."""
        return self.root / ".trash"

    @property
    def mlflow_store(self) -> Path:
        """MLflow's own SQLite file, absolute and without links."""
        return Path(os.path.realpath(self.mlruns_dir)) / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI: the environment's, else MLflow's own SQLite file under ``mlruns/``, always absolute."""
        return self.environ.get(MLFLOW_URI_VARIABLE) or f"sqlite:///{self.mlflow_store}"

    def experiment_dir(self, dataset: str, name: str) -> Path:
        return self.shared_dir / dataset / name

    def link(self, batch: str, dataset: str, name: str) -> Path:
        return self.synthetic_dir / batch / dataset / name

    def relative(self, path: Path) -> str:
        """``path`` as a person reads it: relative to the root where it lies below it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def find(self, given: str | Path) -> Path:
        """The file or directory meant by ``given``: absolute, else below the current directory, else below the root.

        Raises ConfigError for the home of a user that is not there.
        """
        path = expanded(given, str(given))
        here = current_directory()
        # Not Path.exists, which raises for names that are too long or not to be looked at.
        if here is not None and os.path.lexists(here / path):
            return here / path
        return self.root / path

    def places(self) -> list[Place]:
        """Every path and setting in force, with its origin."""
        found = [Place("root", str(self.root), "the workspace", self.root_origin)]
        url = self.database_url
        found.append(
            Place("database", without_password(url), "the record", DATABASE_URL_VARIABLE)
            if url
            else Place("database", str(self.database), "the record", "root")
        )
        for name, (variable, default, purpose) in _DIRECTORIES.items():
            origin = variable if self.environ.get(variable) else f"default {default}"
            found.append(Place(name, str(self._directory(name)), purpose, origin))
        origin = MLFLOW_URI_VARIABLE if self.environ.get(MLFLOW_URI_VARIABLE) else "mlruns_dir"
        found.append(Place("mlflow", without_password(self.mlflow_uri), "MLflow's tracking URI", origin))
        given = self.environ.get(BUSY_TIMEOUT_VARIABLE)
        origin = BUSY_TIMEOUT_VARIABLE if given else f"default {_BUSY_TIMEOUT}"
        found.append(Place("busy_timeout", given or _BUSY_TIMEOUT, "seconds to wait for a locked database", origin))
        return found

    def _directory(self, name: str) -> Path:
        variable, default, _ = _DIRECTORIES[name]
        return self.root / expanded(self.environ.get(variable) or default, variable)


def find_workspace(root: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Workspace:
    """The workspace in force: ``root``, else SYNTHTRACK_ROOT, else the nearest parent that is one, else here.

    A workspace has a database, or the marker that says that its database is on a server. Raises ConfigError for a root
    that can be no directory, and where the current directory is gone.
    """
    variables = dict(os.environ if environ is None else environ)
    if root is not None:
        return Workspace(_root(root, "--root"), "--root", variables)
    if variables.get(ROOT_VARIABLE):
        return Workspace(_root(variables[ROOT_VARIABLE], ROOT_VARIABLE), ROOT_VARIABLE, variables)
    here = current_directory()
    if here is None:
        raise _no_workspace("the current directory", "it was deleted")
    mark = mark_above(here)
    if mark is None:
        return Workspace(here, CURRENT_DIRECTORY, variables)
    return Workspace(mark.parent, f"nearest {mark.name}", variables)


def mark_above(directory: Path) -> Path | None:
    """The file that makes ``directory``, or the nearest of its parents, a workspace; None where there is none."""
    for candidate in (directory, *directory.parents):
        for name in (DATABASE_NAME, MARKER_NAME):
            if os.path.exists(candidate / name):  # noqa: PTH110  Path.exists raises where it may not look
                return candidate / name
    return None


def is_new(workspace: Workspace) -> bool:
    """Whether there is no workspace yet, so that one would be made in the current directory."""
    return workspace.root_origin == CURRENT_DIRECTORY and workspace.database_url is None


def workspace_of(path: Path) -> Path | None:
    """The root of the workspace in which ``path`` lies; None where that is none."""
    mark = mark_above(path.absolute().parent)
    return None if mark is None else mark.parent


def current_directory() -> Path | None:
    """Where we are, or None where that was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def plain(path: Path) -> Path:
    """``path`` without ``..``, where that is the same place: above a link it need not be."""
    if ".." not in path.parts:
        return path
    found = Path(os.path.normpath(path))
    return found if os.path.realpath(found) == os.path.realpath(path) else path


def expanded(given: str | Path, where: str) -> Path:
    """``given`` with ``~`` and ``~user`` filled in; ``where`` says who gave it. Raises ConfigError."""
    try:
        os.fsencode(given)
        return Path(given).expanduser()
    except UnicodeEncodeError as error:
        raise ConfigError("A path cannot be used.", [Problem(where, f"{given!a}: half of a surrogate pair")]) from error
    except RuntimeError as error:
        raise ConfigError("A path cannot be used.", [Problem(where, f"{given}: no such user")]) from error


def _root(given: str | Path, where: str) -> Path:
    path, here = expanded(given, where), current_directory()
    if here is None and not path.is_absolute():
        raise _no_workspace("the current directory", "it was deleted")
    root = Path(os.path.realpath(path))
    try:
        os.stat(root / DATABASE_NAME)  # noqa: PTH116  what it says is the point
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        shown = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}..."
        raise _no_workspace(where, f"{shown}: {error.strerror}") from error
    return root


def _no_workspace(where: str, what: str) -> ConfigError:
    hint = "Name another directory with --root, or go to one."
    return ConfigError("The workspace cannot be used.", [Problem(where, what)], hint=hint)


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot become a directory name, or None."""
    if not name or name in {".", ".."}:
        return f"{name!r} is no name for a directory"
    # The last range is what Python makes of arguments that are not UTF-8.
    if re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name):
        return f"{name!r} holds a separator, a control character or what is not UTF-8"
    if name.startswith((".", "-")) or name != name.strip():
        return f"{name!r} begins with a point or a hyphen, or has blanks at its ends"
    if name == SHARED:
        return f"{name!r} is where the shared experiments live"
    if len(name.encode()) > 200:
        return f"{name[:40]!r}... is longer than 200 bytes"
    return None


def without_password(url: str) -> str:
    """``url``, or a text that holds some, with every password and token replaced by three asterisks.

    Those are: a password before the host, over HTTP a name alone (it is a token), a signature, and what a query or a
    ``name=value`` address of PostgreSQL calls a password, a token, a secret or a key.
    """
    hidden = re.sub(r"(://[^/?#:@\s]*:)[^/?#]*@", r"\1***@", url)
    hidden = re.sub(r"(https?://)[^/?#:@\s]+@", r"\1***@", hidden, flags=re.IGNORECASE)
    return _HIDDEN_VALUE.sub(r"\1***", hidden)
