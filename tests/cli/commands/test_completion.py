"""The TAB key in real shells: their scripts sourced, a line typed, and what the program is then called with."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest

from cli.completing import SOURCES, attach
from cli.main import COMMANDS, cli
from tests import agent_rows, pool_rows, records
from tests.training_rows import training_study
from tests.workspaces import REPOSITORY, call, environment
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.schema import table

BATCHES = ("my batch (1)", "it's $5 [x]* `w`", "a,b; c", "x:y z", "ünï code", "plain_one", 'say "so" & #2 !')
PROMPT = "READY>"
_PROGRAM = f"""#!{sys.executable}
import json, os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
if os.environ.get("_SYNTHTRACK_COMPLETE"):
    from cli.main import main
    main()
with open(os.environ["TYPED"] + ".part", "w") as file:
    json.dump(sys.argv[1:], file)
os.rename(os.environ["TYPED"] + ".part", os.environ["TYPED"])
"""
_RC = {
    "bash": ("bash --norc --noprofile -i", "PS1='{prompt} '; bind 'set enable-bracketed-paste off'; source {script}"),
    "zsh": (
        "zsh -f -i",
        "PS1='{prompt} '; unset zle_bracketed_paste; autoload -U compinit; compinit -u -D; source {script}",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = training_study(tmp_path_factory.mktemp("completion") / "w").workspace
    with open_database(workspace) as database, database.writing() as connection:
        for name in BATCHES:
            records.add_batch(connection, name)
    return workspace


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """The environment in which ``synthtrack`` is a program that notes what it is called with."""
    path = tmp_path / "bin" / "synthtrack"
    path.parent.mkdir()
    path.write_text(_PROGRAM)
    path.chmod(0o755)
    return environment(
        {
            "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}", "TYPED": str(tmp_path / "typed.json"),
            "HOME": str(tmp_path), "TERM": "dumb", "LC_ALL": "C.UTF-8", "HISTFILE": "",
        }
    )  # fmt: skip


def script(root: Path, shell: str, at: Path) -> Path:
    path = at / f"completion.{shell}"
    done = call(root, "completion", shell)
    assert (done.code, done.err) == (0, "")
    path.write_text(done.out)
    return path


def typed(shell: str, place: Workspace, environ: Mapping[str, str], keys: str, tmp_path: Path) -> list[str]:
    """What the program is called with once ``keys`` and the return key were pressed in a terminal with ``shell``."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command, setup = _RC[shell]
    setup = setup.format(prompt=PROMPT, script=shlex.quote(str(script(place.root, shell, tmp_path))))
    result = Path(environ["TYPED"])
    result.unlink(missing_ok=True)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place.root)
        os.execvpe(command.split()[0], command.split(), dict(environ))
    try:
        # Echoed, the words of the setup are no prompt: that begins a line.
        os.write(terminal, f" {setup}; clear\n".encode())
        _read_until(terminal, lambda seen: f"\n{PROMPT} " in seen.replace("\r", "\n"))
        os.write(terminal, f"{keys}\n".encode())
        _read_until(terminal, lambda _: result.exists())
        return list(json.loads(result.read_text()))
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def _read_until(terminal: int, is_done: Callable[[str], bool]) -> str:
    seen, end = "", time.monotonic() + 60
    while not is_done(seen):
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("batch show my\t", ["batch", "show", "my batch (1)"]),
        ("batch show 'my b\t", ["batch", "show", "my batch (1)"]),
        ('batch show "my b\t', ["batch", "show", "my batch (1)"]),
        ("batch show my\\ b\t", ["batch", "show", "my batch (1)"]),
        ("batch show it\t", ["batch", "show", "it's $5 [x]* `w`"]),
        ("batch show a,\t", ["batch", "show", "a,b; c"]),
        ("batch show x:\t", ["batch", "show", "x:y z"]),
        ("batch show ün\t", ["batch", "show", "ünï code"]),
        ("batch show say\t", ["batch", "show", 'say "so" & #2 !']),
        ("path list --batch pl\t", ["path", "list", "--batch", "plain_one"]),
        ("generate --batch=pl\t", ["generate", "--batch=plain_one"]),
        ("experiment show Copa/temp05\t", ["experiment", "show", "Copa/temp05_topp10_gpt4o"]),
        ("exper\t sh\t CB\t", ["experiment", "show", "CB/temp05_topp10_gpt4o"]),
        ("pool pre\t", ["pool", "preprocess"]),
    ],
)
def test_what_is_typed_becomes_the_name_that_the_program_gets(  # noqa: PLR0917  fixtures and parameters
    place: Workspace, program: dict[str, str], tmp_path: Path, shell: str, keys: str, expected: list[str]
) -> None:
    assert typed(shell, place, program, f"synthtrack {keys}", tmp_path) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("batch show my", ["my batch (1)"]),
        ("batch show a,", ["a,b; c"]),
        ("batch show 'my b", ["my batch (1)"]),
        ("batch show ün", ["ünï code"]),
        ("experiment show CB/", ["CB/temp05_topp10_gpt4o"]),
        ("pool pre", ["preprocess"]),
        ("generate --batch=pl", ["--batch=plain_one"]),
    ],
)
def test_fish_offers_the_names_as_they_are(
    place: Workspace, program: dict[str, str], tmp_path: Path, line: str, expected: list[str]
) -> None:
    path = script(place.root, "fish", tmp_path)
    asked = f"source {shlex.quote(str(path))}; complete -C {json.dumps(f'synthtrack {line}', ensure_ascii=False)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked], cwd=place.root, env=program, capture_output=True, text=True, check=True
    )
    assert [each.partition("\t")[0] for each in done.stdout.splitlines()] == expected


def offered(root: Path, line: str, environ: Mapping[str, str | None] | None = None) -> list[str]:
    """What a shell is told of a line, without a terminal; nothing may be said beside."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main"],
        cwd=root,
        env={
            **environment(environ), "_SYNTHTRACK_COMPLETE": "bash_complete", "COMP_TYPED": f"synthtrack {line}",
            "COMP_WORD": words[-1],
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_each_kind_of_name_is_offered(place: Workspace) -> None:
    study = training_study(place.root.parent / "again")
    run = study.uuid("temp05 1e-06 seed 0")
    root = study.workspace.root
    assert f"plain,{run[:8]}" in offered(root, "result show ")
    assert offered(root, f"result show {run[:6]}") == [f"plain,{run[:8]}"]
    assert "plain,hyperparameter_tuning" in offered(root, "result list --purpose ")
    assert offered(root, "experiment list --dataset C") == ["plain,CB", "plain,Copa"]
    assert "plain,hyperparameters.learning_rate" in offered(root, "result best --by hyper")
    assert "plain,CB/temp05_topp10_gpt4o" in offered(root, "publish CB")
    assert offered(root, "sql --schema training_r") == ["plain,training_run"]
    directory = "Results_v2/hyperparameter_tuning"
    assert all(each.startswith(f"plain,{directory}/") for each in offered(root, f"result show {directory}/"))


def test_names_of_agent_data_pools_and_the_trash_are_offered(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w", environ={})
    with open_database(workspace) as database:
        data = agent_rows.dataset(workspace, agent_rows.make(database).dataset_id)
        deleted = {"uuid": "u", "kind": "batch", "name": "my batch", "n_rows": 1, "n_bytes": 1, "archive": "a",
                   "archive_digest": "d", "deleted_by": "delete", "command": "c", "paths": "[]", "mlflow_runs": "[]",
                   "deleted_at": "2026-11-20T21:46:52.123456Z"}  # fmt: skip
        with database.writing() as connection:
            connection.execute(table("deletion").insert().values(deleted))
    pool_rows.populate(workspace)
    root = workspace.root
    assert offered(root, "perspectives show ") == [f"plain,{data['name']}"]
    assert offered(root, f"perspectives list --task {data['task_type'][:2]}") == [f"plain,{data['task_type']}"]
    assert offered(root, "pool show e") == ["plain,exp1", "plain,exp2"]
    assert offered(root, "pool preprocess g") == ["plain,gsm8k"]
    assert offered(root, "restore my") == ["plain,my batch"]
    assert f"plain,{data['name']}" in offered(root, f"lineage {data['name'][:3]}")


def test_a_fingerprint_that_is_begun_is_finished_and_purposes_are_of_all(place: Workspace) -> None:
    with reading(place) as reader:
        [first, *_] = reader.rows("SELECT fingerprint, purpose FROM shared_experiment ORDER BY id")
    assert offered(place.root, f"experiment show {first['fingerprint'][:6]}") == [f"plain,{first['fingerprint']}"]
    assert offered(place.root, "report hyper") == ["plain,hyperparameter_tuning"]


@pytest.mark.parametrize(
    "line", ["batch show ", "nosuch ", "batch nosuch x ", "--root ", "--root /dev/null batch show ", "batch show '"]
)
def test_nothing_is_written_and_nothing_complained_about_where_there_is_no_workspace(tmp_path: Path, line: str) -> None:
    offered(tmp_path, line)
    assert list(tmp_path.iterdir()) == []


def test_a_completion_leaves_a_workspace_as_it_is(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w", environ={})
    with open_database(workspace) as database, database.writing() as connection:
        records.add_batch(connection, "one")
    before = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    assert offered(workspace.root, "batch show ") == ["plain,one"]
    assert {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()} == before
    with open_database(workspace) as database, database.writing() as connection:
        records.add_batch(connection, "two")
        assert offered(workspace.root, "batch show ") == ["plain,one"]
    assert offered(workspace.root, "batch show ") == ["plain,one", "plain,two"]


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_damaged_or_older_database_offers_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tracker.db").write_bytes(content)
    assert offered(tmp_path, "batch show ") in (["file,"], [""], [])
    assert [path.name for path in tmp_path.iterdir()] == ["tracker.db"]
    assert (tmp_path / "tracker.db").read_bytes() == content


def test_every_parameter_that_names_something_of_the_record_is_completed() -> None:
    """A new command with a REF, a batch or a data set is noticed here."""
    wanted = {
        "REF",
        "REF...",
        "REF REF",
        "REF REF...",
        "[REF]...",
        "BATCH",
        "BATCH...",
        "EXPERIMENT",
        "BATCH|EXPERIMENT",
    }
    missing = []

    def look(path: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                look(f"{path} {name}", each)
            return
        for parameter in command.params:
            named = parameter.metavar in wanted or parameter.name in {"ref", "refs", "batch", "dataset", "experiment"}
            if named and type(parameter.type).__name__ != "_Named":
                missing.append(f"{path}: {parameter.name}")

    context = click.Context(cli, resilient_parsing=True)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        attach(name, command)
        look(name, command)
    assert missing == []
    assert SOURCES


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_well_formed(place: Workspace, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(script(place.root, shell, tmp_path))], check=True)
