"""Names, references, paths, ranges and SQL on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.cage import Cage
from tests.fuzz.odd import fuzzed

EXPERIMENT, STAGED = "Copa/temp07_topp10_rulesv1", "Copa/temp06_topp10_rulesv1"
KNOWN = (
    "Copa", EXPERIMENT, "temp07_topp10_rulesv1", "Data_v2/synthetic/_shared/Copa/temp07_topp10_rulesv1/Copa",
    "Data_v2/synthetic", "data", "data/agents", "sample", "published/Copa", "tracker.db", ".", "", "configs",
    "loop/a", "long", "folder\nwith\nlines", "Data_v2/synthetic/_shared", "mlruns", ".trash",
)  # fmt: skip
READING = (
    "path resolve X", "path resolve X --json", "path list --batch X", "path list --dataset X --format yaml",
    "lineage X", "lineage X --json", "lineage X --mermaid", "batch show X", "batch show X --json",
    "experiment show X --json", "experiment list --dataset X", f"experiment compare X {EXPERIMENT}",
    f"experiment compare --batch1 X --batch2 {STAGED}", "result show X", "result list --purpose X --json",
    "result best --by X", "result compare X X", "training status X", "training logs X", "perspectives show X --json",
    "perspectives show X --condition X", "perspectives compare X X", "pool show X --json", "pool stats X",
    "pool compare X sample", "verify X --json", "stale X", "annotations agreement X", "annotations export X",
    f"annotations export {STAGED} --range X", f"annotations export {STAGED} --annotator X", "judge-test X --list",
    f"judge-test {STAGED} --list --set X", "review X --list", f"annotate {STAGED} --range X --list", "report X -o -",
    "sql --schema X", "sql X", "sql X --json", "sql X --csv", "completion X", "gc --dry-run --older-than X",
    "trash list", "trash empty --dry-run --older-than X", "view check", "config --root X", "batch list --root X",
    "--root X config", "generate X --dry-run", "perspectives X --dry-run", "train X --dry-run", "import X --dry-run",
    "restore X", "X", "X X", "generate configs/stage1/copa_offline.yaml --dry-run --set X",
    "generate configs/stage1/copa_offline.yaml --dry-run --batch X",
    "train configs/stage2/copa_tiny.yaml --dry-run --set X",
    "perspectives configs/perspectives/translation_offline.yaml --dry-run --set X", "pool preprocess X",
    "pool validate X --model rules-v1 --provider offline --dry-run",
)  # fmt: skip
WRITING = (
    "publish X --target out", f"publish {EXPERIMENT} --target out --dataset X", f"publish {EXPERIMENT} --target P",
    f"publish {EXPERIMENT} --target out --archive X", f"publish {EXPERIMENT} --target P --symlink",
    "publish remove X --yes", "generate configs/stage1/copa_offline.yaml --no-mlflow --batch X",
    f"template save {STAGED} X", "backup P", "export X P", f"export {EXPERIMENT} P", "batch remove X X",
    "batch delete X --yes --no-mlflow", "experiment delete X --yes --no-mlflow", "pool delete X --yes --no-mlflow",
    "perspectives delete X --yes --no-mlflow", "result delete X --yes --no-mlflow", "restore X --yes --no-mlflow",
    f"report {EXPERIMENT} -o P", "report X --batch", f"annotations export {STAGED} -o P",
    "pool build sample --no-mlflow --name X", "pool build sample --no-mlflow --ratios X",
    "pool build sample --no-mlflow --split X", "pool build sample --no-mlflow --percentiles X",
    "pool build --no-mlflow --name x --benchmarks X", "pool stats sample --plot P",
    f"annotate {STAGED} --same X --only", f"annotate {STAGED} --not-same X --annotator X --only",
    f"review {STAGED} --reject X", f"annotate {STAGED} --range X --all-same --note X", "init P",
    "import dataset P --dataset X --purpose X",
    "import dataset train=Data/original/Copa/copa_train.jsonl --dataset X --purpose X --batch X --name X --model X",
    "generate configs/stage1/copa_offline.yaml --no-mlflow --set experiment.batch_id=X",
    "gc --yes --no-mlflow --older-than X",
    "generate configs/stage1/copa_offline.yaml --no-mlflow --set dataset.dataset_name=X", "training stop X",
    "training resume X", f"judge-test {STAGED} --set X --no-mlflow",
    "pool validate sample --model X --provider offline --samples 1 --no-mlflow",
)  # fmt: skip


def names(cage_top: str = "") -> st.SearchStrategy[str]:
    """What could be meant as a name, a reference or a path that is read."""
    arguments = odd.texts().map(lambda text: text.replace("\x00", "\x01"))
    damaged = st.builds(
        lambda known, at, more: known[:at] + more + known[at:], st.sampled_from(KNOWN), st.integers(0, 60), arguments
    )
    return st.one_of(arguments, st.sampled_from(KNOWN), damaged)


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Where something is to be written: below the workspace, or so that it leads out of the cage by no means."""
    parts = draw(
        st.lists(odd.texts().map(lambda text: text.strip("/~").replace("..", "_").replace("\x00", "")), max_size=3)
    )
    start = draw(
        st.sampled_from(("", "./", "out/", "../beside/../workspace/", "loop/", "tracker.db/", "published/", "Data_v2/"))
    )
    return (start + "/".join(parts)).lstrip("/")


def prepared(root: Path) -> None:
    """What makes paths awkward: a link to itself, a long name, a name with line breaks, a link that leads nowhere."""
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    (root / "folder\nwith\nlines").mkdir()
    (root / os.fsdecode(b"caf\xe9")).mkdir()


def filled_in(template: str, name: str, target: str = "") -> list[str]:
    return [
        word.replace("X", name) if word == "X" or "=X" in word else target if word == "P" else word
        for word in template.split()
    ]


@example("path resolve X", "\udcff")
@example("experiment show X --json", "Copa/\udcff")
@fuzzed
@given(st.sampled_from(READING), names())
def test_commands_that_read(filled: Cage, template: str, name: str) -> None:
    before = filled.rows()
    with filled.fresh() as root:
        prepared(root)
        filled.call(*filled_in(template, name))
        assert filled.rows() == before


@example(f"publish {EXPERIMENT} --target P", "", "\ud800")
@fuzzed
@given(st.sampled_from(WRITING), names(), targets())
def test_commands_that_write(filled: Cage, template: str, name: str, target: str) -> None:
    with filled.fresh() as root:
        prepared(root)
        filled.call(*filled_in(template, name, target))
        assert (root / "tracker.db").is_file()
        assert filled.call("verify").code in {0, 6}


SQL = (
    "SELECT", "*", "FROM", "experiment", "shared_experiment", "sqlite_master", "WHERE", "1", "=", "'", '"', "--",
    "/*", "*/", ";", "DROP TABLE", "DELETE FROM", "INSERT INTO", "UPDATE", "ATTACH", "'x.db'", "AS", "PRAGMA",
    "writable_schema=1", "VACUUM INTO", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n)", "n", "LIMIT",
    "3", "JOIN", "GROUP BY", "ORDER BY", "count(*)", "zeroblob(10)", "x'00ff'", "randomblob(2000000000)",
    "load_extension('x')", "readfile('/etc/passwd')", "CAST('a' AS BLOB)", "1e999", "-1e999", "9223372036854775808",
    "char(55296)", "char(0)", "NULL", ",", "(", ")", "?", ":name", "@a", "EXPLAIN", "BEGIN", "COMMIT",
    "CREATE TEMP TABLE t(a)", "EXISTS", "hex(randomblob(3))", "replace(hex(zeroblob(99)),'00','0000000')", "\x00",
    "\ud800", "printf('%.*c', 100000000, 'x')", "GLOB", "LIKE", "||", "json('[')", "json_extract('{}','$[')",
)  # fmt: skip

statements = st.one_of(
    st.lists(st.sampled_from(SQL), max_size=7).map(lambda words: f"SELECT {' '.join(words)}"),
    st.lists(st.sampled_from(SQL) | odd.texts(), max_size=9).map(" ".join),
)


@fuzzed
@given(statements, st.sampled_from(((), ("--json",), ("--csv",))))
def test_sql(filled: Cage, statement: str, form: Sequence[str]) -> None:
    before = filled.rows()
    filled.call("sql", statement, "--timeout", "1", "--limit", "5", *form)
    (filled.root / "odd.sql").write_bytes(statement.encode("utf-8", "surrogatepass"))
    filled.call("sql", "--file", "odd.sql", "--timeout", "1", "--limit", "5", *form)
    assert filled.rows() == before
