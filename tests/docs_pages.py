"""The pages of docs/ as programs: what they show is run in order, in one workspace for each page, and compared.

A page is Markdown as any reader shows it. What is run:

- each ``$ command`` of a ```` ```console ```` block, with its output below it; a line ``...`` stands for any lines. A
  command that fails is followed by ``$ echo $?`` with its exit code, and what it wrote to stderr is part of its output.
  A backslash at the end of a line continues the command on the next one.
- ```` ```python ```` blocks, and ```` ```sql ```` blocks through ``synthtrack sql``;
- commands in a comment ``<!-- run ... -->``, which no reader sees.

What the first block of a page leaves is made once and copied for all pages that begin with the same, if it is hidden or
shows no output but ``...``.

A block of another language after `` `a/path`: `` is written to that file. A comment ``<!-- not run: why -->`` above a
block keeps it from being run. ``SYNTHTRACK_DOCS=write`` puts what is printed into the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from cli.main import run
from tests.llm_server import running_server
from tests.pool_answers import record_answers
from tests.recording import record_sample
from tests.workspaces import REPOSITORY, call

DOCS = REPOSITORY / "docs"
RUN = ("console", "python", "sql")
"""The languages of blocks that are run, or say why not. Those of a shell (`bash`, `sh`) show no output: not used."""
_BLOCK = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->$"
    r"|(?:^<!-- not run: (?P<reason>[^>]+) -->\n\n?)?"
    r"(?:`(?P<file>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
STEP = re.compile(r"^\$ (?P<line>(?:.*\\\n)*.*\n)(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_SHELL = re.compile(r"[|<>;&*`]|\$\(")


@dataclass(frozen=True)
class Block:
    """A block that is run, written to a file, or left alone for a reason."""

    kind: str
    body: str
    start: int
    file: str | None = None
    reason: str | None = None

    @property
    def is_run(self) -> bool:
        return self.reason is None and self.file is None and self.kind in {*RUN, "hidden"}

    @property
    def only_begins(self) -> bool:
        """Whether what it prints does not matter: as the first of a page it need not be run for each page."""
        return self.kind == "hidden" or (
            self.kind == "console" and all(step.expected in {"", "...\n"} for step in steps(self))
        )


@dataclass(frozen=True)
class Step:
    """A command with what is said to be printed."""

    line: str
    expected: str
    start: int


def pages() -> list[Path]:
    return sorted(DOCS.rglob("*.md"))


def blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        if found["hidden"] is not None:
            yield Block("hidden", found["hidden"], found.start("hidden"))
        else:
            yield Block(found["kind"], found["body"], found.start("body"), found["file"], found["reason"])


def steps(block: Block) -> Iterator[Step]:
    for found in STEP.finditer(block.body):
        yield Step(found["line"].replace("\\\n", "").rstrip("\n"), found["output"], block.start + found.start("output"))


def steady(text: str) -> str:
    """``text`` without what differs from run to run or from machine to machine, and without how wide things are.

    That is digests (the address of the server is in them), ids, names and times of runs, seconds and sizes, shares
    where sums are rounded in another order, the host, and where lines break because of any of these.
    """
    for pattern, stands in (
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b", "<id>"),
        (r"\b(?:[0-9a-f]{64}|[0-9a-f]{12}|[0-9a-f]{8})\b(?!_)", "<digits>"),
        # What is made within the same second is told apart by a number.
        (r"\d{8}[T_-]?\d{6}(_\d+\b)?", "<time>"),
        (r"\b2\d{3}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?", "<moment>"),
        (r"(?<=_)2\d{7}(?=_)|(?<=-)2\d{7}(?=-)", "<day>"),
        (r"-?\d+\.\d%|\d+\.\d#37;", "<share>"),
        (r"\bp = [\d.e-]+|\bsd [\d.]+|\b\d+\.\d points", "<figure>"),
        (r"\bon \S+, \d+\.\d s", "on <host>, <seconds>"),
        (r"\b\d+(?:\.\d+)? s\b|\b0\.\d{4}\b", "<seconds>"),
        (r"\b[\d,.]+ (?:bytes|KiB|MiB|kB|KB|MB)\b", "<size>"),
        (r"\b\d+ (?:seconds?|minutes?) ago\b", "<ago>"),
        (r"-{3,}", "---"),
        (r"(?<=127\.0\.0\.1:)\d+", "<port>"),
        (r"[\s│]+", " "),
    ):
        text = re.sub(pattern, stands, text)
    return text.strip()


def is_printed(expected: str, printed: str) -> bool:
    """Whether ``printed`` is what is ``expected``, in which a line ``...`` stands for any lines."""
    parts = [steady(part) for part in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)]
    pattern = r"(?:.*\s)?".join(re.escape(f"{part} ") if part else "" for part in parts)
    return re.fullmatch(pattern, f"{steady(printed)} " if printed.strip() else "", re.DOTALL) is not None


@dataclass
class Shell:
    """Runs the commands of a page as a terminal would, those of synthtrack in this process."""

    top: Path
    base_url: str
    here: Path = field(init=False)
    code: int = 0
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.here = self.top

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self.top),
            "LANG": "C.UTF-8",
            "LOGNAME": "ana",
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "test-key",
            **self.more,
        }

    def __call__(self, line: str) -> str:
        """What the command prints; its exit code is then in ``code``."""
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.here = (self.here / words[1]).resolve()
            return ""
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.more |= {} if value == "..." else {name: value}
            return ""
        if line == "echo $?":
            code, self.code = self.code, 0
            return f"{code}\n"
        if words[0] == "synthtrack" and not _SHELL.search(line) and "--background" not in words:
            return self.start_here(words[1:])
        return self.start(["bash", "-c", line])

    def start(self, words: list[str]) -> str:
        """The same of a process of its own."""
        done = subprocess.run(
            words, cwd=self.here, env=self.environment(), capture_output=True, text=True, timeout=170, check=False
        )
        self.code = done.returncode
        return self._seen(done.stdout, done.stderr)

    def start_here(self, words: list[str]) -> str:
        """The same of a command of synthtrack, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.here),
            mock.patch.dict(os.environ, self.environment(), clear=True),
            mock.patch.object(sys, "argv", ["synthtrack", *words]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            self.code = run(words)
        return self._seen(out.getvalue(), err.getvalue())

    def _seen(self, out: str, err: str) -> str:
        text = out if self.code == 0 else out + err
        for place, near in ((self.here, "."), (self.top, os.path.relpath(self.top, self.here))):
            text = text.replace(f"{place}/", "" if near == "." else f"{near}/")
            text = re.sub(rf"{re.escape(str(place))}(?![\w.-])", near, text)
        return text.replace(f"on {socket.gethostname()}", "on laptop")


@dataclass
class Begun:
    """What the commands at the beginning of pages leave, made once for all that begin with the same."""

    place: Path
    base_url: str
    made: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    def shell(self, block: Block, top: Path) -> Shell:
        if block.body not in self.made:
            first = Shell(self.place / f"begun{len(self.made)}" / "top", self.base_url)
            first.top.mkdir(parents=True)
            for step in steps(block):
                printed = first(step.line)
                assert first.code == 0, f"{step.line}\n{printed}"
            self.made[block.body] = (first.top, first.here.relative_to(first.top))
        model, here = self.made[block.body]
        shutil.copytree(model, top, symlinks=True, dirs_exist_ok=True)
        shell = Shell(top, self.base_url)
        shell.here = top / here
        return shell


def play(text: str, top: Path, begun: Begun) -> tuple[int, dict[Step, str]]:
    """How many blocks of a page were run, and what each step printed that should have printed something else."""
    ran, wrong, shell = 0, dict[Step, str](), Shell(top, begun.base_url)
    for block in blocks(text):
        if block.file is not None:
            path = shell.here / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        if not block.is_run:
            continue
        ran += 1
        if block.only_begins and ran == 1:
            shell = begun.shell(block, top)
        elif block.kind in {"hidden", "console"}:
            wrong |= _differing(shell, block)
        else:
            python = [sys.executable, "-c", block.body]
            printed = shell.start(python) if block.kind == "python" else shell.start_here(["sql", block.body])
            if shell.code != 0:
                wrong[Step(f"{block.kind}: {block.body}", "", block.start)] = printed
        shell.code = 0
    return ran, wrong


def _differing(shell: Shell, block: Block) -> dict[Step, str]:
    """What steps print that should print something else; the code of one that fails must be shown."""
    found = {}
    told = [*steps(block)]
    for step, then in zip(told, [*told[1:], None], strict=True):
        printed = shell(step.line)
        is_unseen = shell.code != 0 and (then is None or then.line != "echo $?")
        if is_unseen or not (block.kind == "hidden" or is_printed(step.expected, printed)):
            found[step] = printed + (f"exit code {shell.code}\n" if is_unseen else "")
        shell.code = 0 if is_unseen else shell.code
    return found


def written(text: str, wrong: Mapping[Step, str]) -> str:
    """The page with what was printed in place of what was said to be."""
    for step, printed in sorted(wrong.items(), key=lambda each: -each[0].start):
        if "...\n" not in step.expected and not step.line.startswith(("python:", "sql:")):
            end = step.start + len(step.expected)
            text = text[: step.start] + printed.rstrip("\n") + ("\n" if printed.strip() else "") + text[end:]
    return text


def check(page: Path, top: Path, begun: Begun) -> None:
    """Runs a page in ``top``: what it prints must be what the page says, or is written into it if that is wanted."""
    text = page.read_text(encoding="utf-8")
    ran, wrong = play(text, top, begun)
    if os.environ.get("SYNTHTRACK_DOCS") == "write":
        page.write_text(written(text, wrong), encoding="utf-8")
    assert ran
    assert not wrong, "\n".join(f"$ {step.line}\n{printed}" for step, printed in wrong.items())


@contextlib.contextmanager
def beginning(place: Path) -> Iterator[Begun]:
    """Pages' beginnings, with answers to the sample's records and to the sample pool's tasks in OpenAI's place."""
    tasks = place / "tasks"
    tasks.mkdir()
    for words in (
        ["init"],
        ["pool", "preprocess", "--config", "configs/pools/data_config_sample.yaml"],
        ["pool", "build", "sample", "--no-mlflow"],
    ):
        assert call(tasks, *words).code == 0
    recorded = record_sample(place / "sample.jsonl").read_text() + record_answers(tasks, place / "t.jsonl").read_text()
    (place / "recorded.jsonl").write_text(recorded, encoding="utf-8")
    with running_server(recorded=place / "recorded.jsonl") as server:
        yield Begun(place, server.base_url)
