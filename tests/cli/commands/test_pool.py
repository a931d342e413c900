"""``pool preprocess`` and ``pool build`` as they are typed: what they say, what they leave, and how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import benchmark_tasks
from tests.benchmark_tasks import data_config, pool, preprocessed, read_tasks, write_config, write_tasks
from tests.workspaces import Done, call, execute, rows, steady

BUILD = ("pool", "build", "--no-mlflow")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose benchmarks are preprocessed; tests add pools, each of its own name."""
    return preprocessed(tmp_path_factory.mktemp("made") / "workspace")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with benchmarks and their configuration, and no record yet."""
    benchmark_tasks.write_benchmarks(tmp_path)
    return tmp_path


def words(text: str, root: Path) -> str:
    return re.sub(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}\b|\b\d{12}\b", "FINGERPRINT", steady(text, root))


def test_preprocess(here: Path) -> None:
    first = call(here, "pool", "preprocess")
    assert (first.code, first.err) == (0, "")
    assert (
        words(first.out, here)
        == """\
✅ humaneval: 20 tasks, scored (new); FINGERPRINT
✅ gsm8k: 40 tasks, scored (new); FINGERPRINT
✅ bbh: 30 tasks, scored (new); FINGERPRINT
✅ amc: 30 tasks, scored (new); FINGERPRINT
✅ medical_qa: 30 tasks, scored (new); FINGERPRINT
   Files: data/benchmarks/full/
"""
    )
    files = sorted(path.name for path in (here / "data/benchmarks/full").iterdir())
    assert files == sorted(
        f"{name}_{end}" for name in benchmark_tasks.ENTRIES for end in ("full.jsonl", "full_meta.json")
    )
    write_tasks(here / "tasks/amc.jsonl", benchmark_tasks.amc(29))
    again = call(here, "pool", "preprocess", "amc", "gsm8k")
    assert (
        words(again.out, here)
        == """\
⚡ gsm8k: 40 tasks, cached (nothing has changed); FINGERPRINT
✅ amc: 29 tasks, scored (the source changed); FINGERPRINT
   Files: data/benchmarks/full/
"""
    )
    assert len(read_tasks(here / "data/benchmarks/full/amc_full.jsonl")) == 29
    forced = call(here, "pool", "preprocess", "amc", "--force")
    assert "✅ amc: 29 tasks, scored (--force)" in forced.out


def test_preprocess_json(here: Path) -> None:
    (here / "tasks/gsm8k.jsonl").unlink()
    done = call(here, "pool", "preprocess", "humaneval", "gsm8k", "--json")
    assert done.code == 12
    found = json.loads(done.out)
    assert found[0].pop("fingerprint") == rows(here, "SELECT fingerprint FROM benchmark")[0][0]
    assert found == [
        {"benchmark": "humaneval", "status": "scored", "reason": "new", "n_tasks": 20, "exit_code": 0},
        {
            "benchmark": "gsm8k", "status": "failed", "n_tasks": 0, "fingerprint": None, "exit_code": 12,
            "reason": f"The benchmark gsm8k is missing.\n  {here}/tasks/gsm8k.jsonl: no such file or directory",
        },
    ]  # fmt: skip


def test_one_broken_benchmark_does_not_stop_the_others(here: Path) -> None:
    (here / "tasks/humaneval.jsonl").write_text('{"prompt": "p"}\n')
    (here / "tasks/bbh/navigate.jsonl").write_text("oops\n")
    done = call(here, "pool", "preprocess")
    assert done.code == 12
    assert (
        words(done.out, here)
        == """\
❌ humaneval: The difficulty of some tasks cannot be told.
  record 1: no text in `test`
✅ gsm8k: 40 tasks, scored (new); FINGERPRINT
❌ bbh: The tasks of bbh cannot be used.
  ROOT/tasks/bbh/navigate.jsonl:1: not JSON: Expecting value: line 1 column 1 (char 0)
✅ amc: 30 tasks, scored (new); FINGERPRINT
✅ medical_qa: 30 tasks, scored (new); FINGERPRINT
"""
    )
    assert done.err == "Error: The difficulty of some tasks cannot be told.\n  record 1: no text in `test`\n"
    assert len(list((here / "data/benchmarks/full").glob("*_full.jsonl"))) == 3
    assert call(here, *BUILD, "--name", "p", "--benchmarks", "gsm8k,amc", "--n", "4").code == 0


def test_names_that_are_none(here: Path) -> None:
    done = call(here, "pool", "preprocess", "gsm8")
    assert (done.code, done.out) == (4, "")
    assert done.err == (
        "Error: No benchmark 'gsm8'.\nDid you mean gsm8k?\nThere are: humaneval, gsm8k, bbh, amc, medical_qa.\n"
    )
    write_config(here, data_config(benchmarks={"amc": {"enabled": False}}))
    done = call(here, "pool", "preprocess", "amc")
    assert (done.code, done.err) == (3, "Error: A benchmark is disabled.\n  benchmarks.amc.enabled: false\n")
    assert "amc" not in call(here, "pool", "preprocess").out


def test_an_edited_file_is_moved_aside(here: Path) -> None:
    call(here, "pool", "preprocess")
    path = here / "data/benchmarks/full/gsm8k_full.jsonl"
    content = path.read_bytes()
    path.write_text("edited\n")
    done = call(here, "pool", "preprocess")
    assert done.code == 0
    assert "⚠️  benchmarks/full/gsm8k_full.jsonl was not what the record says; it was moved to" in done.err
    assert path.read_bytes() == content
    assert [kept.read_text() for kept in here.glob(".trash/**/gsm8k_full.jsonl")] == ["edited\n"]


def test_what_it_made_itself_is_replaced_without_a_word(here: Path) -> None:
    call(here, "pool", "preprocess")
    full = here / "data/benchmarks/full"
    before = full.joinpath("gsm8k_full.jsonl").read_bytes()
    content = (here / "tasks/gsm8k.jsonl").read_bytes()
    write_tasks(here / "tasks/gsm8k.jsonl", benchmark_tasks.gsm8k(41))
    changed = call(here, "pool", "preprocess")
    assert (changed.code, changed.err) == (0, "")
    assert len(read_tasks(full / "gsm8k_full.jsonl")) == 41
    (here / "tasks/gsm8k.jsonl").write_bytes(content)
    again = call(here, "pool", "preprocess")
    assert (again.code, again.err) == (0, "")
    assert full.joinpath("gsm8k_full.jsonl").read_bytes() == before
    (here / "tasks/amc.jsonl").rename(here / "tasks/moved.jsonl")
    write_config(here, data_config(benchmarks={"amc": {"path": "file:tasks/moved.jsonl"}}))
    moved = call(here, "pool", "preprocess")
    assert (moved.code, moved.err) == (0, "")
    assert json.loads((full / "amc_full_meta.json").read_text())["path"] == "file:tasks/moved.jsonl"
    assert not (here / ".trash").exists()
    meta = full / "bbh_full_meta.json"
    meta.write_text(meta.read_text().replace('"n_tasks": 30', '"n_tasks": 31'))
    assert "bbh_full_meta.json was not what the record says" in call(here, "pool", "preprocess").err


def test_a_configuration_elsewhere(here: Path) -> None:
    (here / "configs/pools/data_config.yaml").rename(here / "mine.yaml")
    done = call(here, "pool", "preprocess")
    assert done.code == 3
    assert "configs/pools/data_config.yaml cannot be read" in done.err
    assert call(here, "pool", "preprocess", "--config", "mine.yaml").code == 0
    assert call(here, *BUILD, "--config", "mine.yaml", "--name", "p", "--benchmarks", "gsm8k", "--n", "2").code == 0


SCORER = '''\
"""How hard riddles are."""

from pipeline.pools.difficulty import Difficulty, top


def riddles(records):
    lengths = [len(record.raw["riddle"].split()) for record in records]
    most = top(lengths)
    return Difficulty([min(n / most, 1) for n in lengths], [{"words": n} for n in lengths], {"max_words": most})
'''


def test_a_benchmark_of_ones_own_is_one_function_and_one_entry(here: Path) -> None:
    write_tasks(here / "riddles.jsonl", [{"riddle": "why " * number, "answer": "so"} for number in range(1, 21)])
    write_config(here, data_config(benchmarks={"riddles": {"path": "file:riddles.jsonl"}}))
    (here / "scorers.py").write_text(SCORER)
    without = call(here, "pool", "preprocess")
    assert without.code == 3
    assert without.err == (
        "Error: A benchmark has no scorer.\n  riddles: known here: humaneval, gsm8k, bbh, amc, medical_qa\n"
        "Give a file with one function of that name: --scorers FILE (docs/pools.md shows one).\n"
    )
    done = call(here, "pool", "preprocess", "--scorers", "scorers.py")
    assert (done.code, done.err) == (0, "")
    assert "✅ riddles: 20 tasks, scored (new)" in done.out
    again = call(here, "pool", "preprocess", "riddles", "--scorers", "scorers.py")
    assert "⚡ riddles: 20 tasks, cached (nothing has changed)" in again.out
    built = call(here, *BUILD, "--name", "mixed", "--benchmarks", "riddles,gsm8k", "--n", "8")
    assert built.code == 0
    tasks = read_tasks(here / "data/mixed/task_pool.jsonl")
    assert {len(task["raw_data"]["riddle"].split()) for task in tasks if task["benchmark"] == "riddles"} <= {
        1, 2, 3, 4, 17, 18, 19, 20,
    }  # fmt: skip
    assert sum(task["benchmark"] == "riddles" for task in tasks) == 4
    (here / "scorers.py").write_text(SCORER.replace("n / most", "1 - n / most"))
    changed = call(here, "pool", "preprocess", "riddles", "--scorers", "scorers.py")
    assert "✅ riddles: 20 tasks, scored (the scorer changed)" in changed.out
    assert list(here.glob("**/__pycache__")) == []


def test_scorers_that_cannot_be_read(here: Path) -> None:
    (here / "scorers.py").write_text("import nothing_of_that_name\n")
    done = call(here, "pool", "preprocess", "--scorers", "scorers.py")
    assert done.code == 3
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in done.err
    assert call(here, "pool", "preprocess", "--scorers", "none.py").code == 3


def build(root: Path, *arguments: object, name: str, **changes: Any) -> Done:
    write_config(root, pool(name=name, **changes), name)
    return call(root, *BUILD, name, *arguments)


def test_build(made: Path) -> None:
    first = build(made, name="first")
    assert (first.code, first.err) == (0, "")
    assert (
        words(first.out, made)
        == """\
✅ first: made
   Parameter fingerprint: FINGERPRINT
   Tasks: 12 of 12 (6 easy, 6 hard) from humaneval, gsm8k
   Files: data/first/
"""
    )
    assert sorted(path.name for path in (made / "data/first").iterdir()) == ["statistics.json", "task_pool.jsonl"]
    again = call(made, *BUILD, "first")
    assert words(again.out, made).startswith("⚡ first: already drawn, nothing to do\n")
    other = call(made, *BUILD, "first", "--seed", "8")
    assert (
        words(other.out, made)
        == """\
✅ first_2: made
   The name first is taken by a pool of other settings.
   Parameter fingerprint: FINGERPRINT
   Tasks: 12 of 12 (6 easy, 6 hard) from humaneval, gsm8k
   Files: data/first_2/
"""
    )


def test_build_json(made: Path) -> None:
    done = build(made, "--json", name="told", n_total_tasks=18, difficulty_split="100:0")
    assert done.code == 0
    (found,) = json.loads(done.out)
    ((fingerprint, digest),) = rows(made, "SELECT fingerprint, data_digest FROM task_pool WHERE name = 'told'")
    assert found == {
        "outcome": "made", "name": "told", "fingerprint": fingerprint, "n_wanted": 18, "n_tasks": 12, "n_easy": 12,
        "n_hard": 0, "n_short": 6, "random_seed": 7, "data_digest": digest, "path": "data/told/task_pool.jsonl",
        "shortfalls": [
            {"benchmark": "humaneval", "bin": "easy", "wanted": 9, "got": 4},
            {"benchmark": "gsm8k", "bin": "easy", "wanted": 9, "got": 8},
        ],
    }  # fmt: skip
    again = json.loads(call(made, *BUILD, "told", "--json").out)
    assert again == [{**found, "outcome": "reused"}]


def test_what_is_missing_is_a_warning_and_an_error_under_strict(made: Path) -> None:
    done = build(made, name="short", n_total_tasks=30)
    assert done.code == 0
    assert done.err == (
        "⚠️  short: humaneval has 4 easy tasks, 8 were wanted.\n⚠️  short: humaneval has 4 hard tasks, 7 were wanted.\n"
    )
    assert "   Tasks: 23 of 30 (11 easy, 12 hard) from humaneval, gsm8k\n" in done.out
    strict = call(made, *BUILD, "short", "--strict")
    assert strict.code == 1
    assert strict.err.endswith(
        "Error: Fewer tasks than wanted in short.\n"
        "Use --with-replacement, percentiles closer to the middle (--percentiles 30:70), or fewer tasks.\n"
    )
    assert call(made, *BUILD, "short", "--strict", "--with-replacement").code == 0


def settings(root: Path, name: str) -> dict[str, Any]:
    ((config,),) = rows(root, "SELECT config FROM task_pool WHERE name = ?", name)
    return dict(json.loads(config))


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--n", "6"], {"n_total_tasks": 6}),
        (["--seed", "9"], {"random_seed": 9}),
        (["--split", "75:25"], {"difficulty_split": "75:25"}),
        (["--ratios", "humaneval=0.25,gsm8k=0.75"], {"benchmark_ratios": {"humaneval": 0.25, "gsm8k": 0.75}}),
        (["--percentiles", "30:70"], {"difficulty_percentiles": {"humaneval": [30, 70], "gsm8k": [30, 70]}}),
        (["--percentiles", "gsm8k=10:90"], {"difficulty_percentiles": {"gsm8k": [10, 90]}}),
        (["--with-replacement"], {"sample_with_replacement": True}),
        (["--without-replacement"], {"sample_with_replacement": False}),
        (["--benchmarks", "amc, bbh"], {"benchmarks": ["amc", "bbh"]}),
        (
            ["--benchmarks", "amc,bbh", "--ratios", "amc=0.5,bbh=0.5", "--percentiles", "bbh=40:60"],
            {
                "benchmarks": ["amc", "bbh"],
                "benchmark_ratios": {"amc": 0.5, "bbh": 0.5},
                "difficulty_percentiles": {"bbh": [40, 60]},
            },
        ),
    ],
)
def test_every_option_changes_what_the_config_says(
    made: Path, options: list[str], changed: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = f"option{request.node.callspec.indices['options']}"
    done = build(made, *options, name=name)
    assert done.code == 0, done.err
    plain = {"description": "", "benchmarks": ["humaneval", "gsm8k"], "difficulty_split": "50:50"} | {
        "n_total_tasks": 12, "random_seed": 7, "difficulty_percentiles": {},
    }  # fmt: skip
    assert settings(made, name) == {"name": name, **plain, **changed}


def test_ratios_are_of_benchmarks_in_the_order_of_their_file(made: Path) -> None:
    options = ("--name", "typed", "--n", "6", "--json", "--ratios")
    first = call(made, *BUILD, *options, "amc=0.5,gsm8k=0.5")
    again = call(made, *BUILD, *options, "gsm8k=0.5,amc=0.5")
    assert (first.code, again.code) == (0, 0)
    assert json.loads(again.out) == [{**json.loads(first.out)[0], "outcome": "reused"}]
    assert settings(made, "typed")["benchmarks"] == ["gsm8k", "amc"]
    own = call(made, *BUILD, "--name", "typed", "--n", "6", "--json", "--benchmarks", "amc,gsm8k")
    assert json.loads(own.out)[0]["name"] == "typed_2", "who names benchmarks orders them"


def test_a_split_of_a_file_is_ignored_and_said(here: Path) -> None:
    first = call(here, "pool", "preprocess", "gsm8k", "--json")
    write_config(here, data_config(benchmarks={"gsm8k": {"split": "train"}}))
    again = call(here, "pool", "preprocess", "gsm8k", "--json")
    assert "⚠️  gsm8k: `split` is of the hub's data sets alone, of a file it has no effect.\n" in again.err
    assert json.loads(again.out)[0]["fingerprint"] == json.loads(first.out)[0]["fingerprint"]


def test_other_benchmarks_drop_the_ratios_and_percentiles_of_the_configs_own(made: Path) -> None:
    own = {"benchmark_ratios": {"humaneval": 0.1, "gsm8k": 0.9}, "difficulty_percentiles": {"gsm8k": [10, 90]}}
    assert build(made, "--benchmarks", "gsm8k,amc", name="dropped", **own).code == 0
    found = settings(made, "dropped")
    assert "benchmark_ratios" not in found
    assert found["difficulty_percentiles"] == {}


def test_the_command_line_alone_describes_a_pool(made: Path) -> None:
    done = call(made, *BUILD, "--name", "alone", "--benchmarks", "gsm8k,bbh", "--n", "10", "--split", "80:20")
    assert done.code == 0, done.err
    assert "✅ alone: made" in done.out
    assert rows(made, "SELECT config_path, n_easy, n_hard, random_seed FROM task_pool WHERE name = 'alone'") == [
        (None, 8, 2, 2025)
    ]
    ratios = call(made, *BUILD, "--name", "ratios", "--ratios", "gsm8k=0.5,bbh=0.5", "--benchmarks", "gsm8k,bbh")
    assert ratios.code == 0


def test_the_name_of_one_pool_is_an_option(made: Path) -> None:
    build(made, name="called")
    assert "✅ otherwise: made" in call(made, *BUILD, "called", "--name", "otherwise").out
    assert (made / "data/called/task_pool.jsonl").read_bytes() == (
        made / "data/otherwise/task_pool.jsonl"
    ).read_bytes(), "a name draws nothing"
    two = call(made, *BUILD, "called", "first", "--name", "x")
    assert (two.code, "--name is for one pool." in two.err) == (2, True)


def test_a_config_by_its_path(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.yml"
    path.write_text("name: by_path\nbenchmarks: [gsm8k]\nn_total_tasks: 4\n")
    assert "✅ by_path: made" in call(made, *BUILD, path).out
    json_path = tmp_path / "elsewhere.json"
    json_path.write_text('{"name": "by_path", "benchmarks": ["gsm8k"], "n_total_tasks": 4}')
    assert "⚡ by_path: already drawn" in call(made, *BUILD, json_path).out


def test_several_at_once(made: Path) -> None:
    for name in ("several_a", "several_b"):
        write_config(made, pool(name=name), name)
    done = call(made, *BUILD, "several_b", "several_a", "--json")
    assert [each["name"] for each in json.loads(done.out)] == ["several_b", "several_a"]


def test_all(tmp_path: Path) -> None:
    root = preprocessed(tmp_path / "workspace")
    none = call(root, *BUILD, "--all")
    assert (none.code, none.err) == (
        3,
        f"Error: There is no configuration.\n  {root}/configs/pools: no config of a pool here\n",
    )
    for name in ("b", "a"):
        write_config(root, pool(name=name), name)
    (root / "configs/pools/notes.txt").write_text("no config")
    done = call(root, *BUILD, "--all")
    assert (done.code, done.err) == (0, "")
    assert re.findall("^✅ (.*)$", done.out, re.MULTILINE) == ["a: made", "b: made"]
    write_config(root, {"n": 3, **pool(name="c")}, "c")
    broken = call(root, *BUILD, "--all", "--seed", "9")
    assert broken.code == 3
    assert "configs/pools/c.yaml:1: unknown key `n`" in broken.err
    assert len(rows(root, "SELECT id FROM task_pool")) == 2, "nothing is built where one config is wrong"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Missing argument '[CONFIG|NAME]...'; or give --name and --benchmarks, or --all."),
        (["--name", "x"], 2, "Missing argument"),
        (["tinny"], 4, "No pool config 'tinny'.\nDid you mean tiny"),
        (["tiny", "--split", "50"], 3, "`difficulty_split`: '50' is no split of easy and hard, such as 80:20"),
        (["tiny", "--ratios", "humaneval=0.5,gsm8k=0.4"], 3, "the ratios sum to 0.9, not to 1"),
        (["tiny", "--ratios", "humaneval=1"], 0, ""),
        (["tiny", "--ratios", "humaneval"], 2, "--ratios: 'humaneval' is not NAME=VALUE."),
        (["tiny", "--ratios", "gsm8k=0.5,gsm8k=0.5"], 2, "--ratios: gsm8k is there twice."),
        (["tiny", "--ratios", "gsm8k=half,humaneval=0.5"], 2, "'half' is no number."),
        (
            ["tiny", "--ratios", "gsm8k=nan,humaneval=0.5"],
            3,
            "`benchmark_ratios.gsm8k`: input should be a finite number",
        ),
        (["tiny", "--percentiles", "80:20"], 3, "two percentiles from 0 to 100, the lower one first, as [20, 80]"),
        (["tiny", "--percentiles", "20"], 2, "'20' are no percentiles, such as 20:80."),
        (["tiny", "--percentiles", "gsm8k=20:80,gsm8k=1:2"], 2, "--percentiles: gsm8k is there twice."),
        (
            ["tiny", "--percentiles", "amc=20:80"],
            3,
            "difficulty_percentiles names amc, which is not among its benchmarks",
        ),
        (["tiny", "--n", "0"], 2, "0 is not in the range x>=1"),
        (["tiny", "--seed", "-1"], 2, "-1 is not in the range x>=0"),
        (["tiny", "--seed", str(2**63)], 3, "`random_seed`: input should be less than or equal to"),
        (["tiny", "--benchmarks", "gsm8k,gsm8k"], 3, "`benchmarks`: gsm8k is there twice"),
        (["tiny", "--benchmarks", ","], 3, "`benchmarks`: tuple should have at least 1 item"),
        (["tiny", "--benchmarks", "gsm8k,mmlu"], 3, "no benchmark 'mmlu'; there are humaneval, gsm8k, bbh"),
        (["tiny", "--name", "../x"], 3, "`name`: '../x' holds a separator"),
        (["tiny", "--name", "agents"], 3, "agents is where other things lie"),
        (["data_config"], 3, "missing key `name`"),
    ],
)
def test_what_is_wrong_is_said(made: Path, arguments: list[str], code: int, words: str) -> None:
    write_config(made, pool(), "tiny")
    done = call(made, *BUILD, *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
    assert done.out == "" or code == 0


def test_rules_of_the_benchmarks(here: Path) -> None:
    call(here, "pool", "preprocess")
    rules = {"exclude_combinations": [["amc", "gsm8k"]]}
    write_config(here, data_config(benchmarks={"bbh": {"enabled": False}}, mixing_rules=rules))
    done = call(here, *BUILD, "--name", "x", "--benchmarks", "gsm8k,bbh,amc")
    assert done.code == 3
    assert done.err == (
        "Error: the pool asks for a pool that cannot be.\n"
        "  the pool: benchmark 'bbh' is disabled (benchmarks.bbh.enabled)\n"
        "  the pool: amc and gsm8k may not be mixed (mixing_rules.exclude_combinations)\n"
    )
    assert call(here, *BUILD, "--name", "x", "--benchmarks", "gsm8k", "--n", "2").code == 0


def test_the_benchmarks_say_how_to_draw_where_a_pool_does_not(here: Path) -> None:
    drawing = {"sample_with_replacement": True, "difficulty_percentiles": {"gsm8k": [5, 95]}}
    write_config(here, data_config(stream_generation=drawing))
    call(here, "pool", "preprocess")
    done = call(here, *BUILD, "--name", "x", "--benchmarks", "gsm8k,amc", "--n", "100", "--json")
    assert json.loads(done.out)[0]["n_tasks"] == 100
    assert rows(here, "SELECT benchmark, low_percentile, high_percentile FROM task_pool_benchmark_overview") == [
        ("gsm8k", 5.0, 95.0), ("amc", 20.0, 80.0),
    ]  # fmt: skip
    own = call(here, *BUILD, "--name", "y", "--benchmarks", "gsm8k", "--n", "100", "--without-replacement", "--json")
    assert json.loads(own.out)[0]["n_tasks"] < 100
    call(here, *BUILD, "--name", "z", "--benchmarks", "gsm8k,amc", "--n", "4", "--percentiles", "gsm8k=30:70")
    assert rows(
        here, "SELECT benchmark, low_percentile, high_percentile FROM task_pool_benchmark_overview WHERE pool = 'z'"
    ) == [("gsm8k", 30.0, 70.0), ("amc", 20.0, 80.0)]


def test_before_preprocessing(here: Path) -> None:
    write_config(here, pool(), "tiny")
    done = call(here, *BUILD, "tiny")
    assert (done.code, done.err) == (
        14,
        "Error: Not preprocessed yet: humaneval, gsm8k.\nRun `synthtrack pool preprocess`.\n",
    )


def test_an_edited_pool_is_moved_aside(made: Path) -> None:
    build(made, name="edited")
    path = made / "data/edited/task_pool.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    done = call(made, *BUILD, "edited")
    assert done.err.startswith("⚠️  edited/task_pool.jsonl was not what the record says; it was moved to ")
    assert path.read_bytes() == content


def test_the_command_itself(tmp_path: Path) -> None:
    root = preprocessed(tmp_path / "workspace")
    write_config(root, pool(), "tiny")
    done = execute(root, *BUILD, "tiny")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("✅ tiny: made\n")
    assert rows(root, "SELECT kind, logged_at FROM mlflow_outbox") == [("task_pool", None)]


@pytest.mark.parametrize("name", ["inputs", "Inputs", "BENCHMARKS"])
def test_a_pool_is_not_called_as_what_lies_there_in_any_case(made: Path, name: str) -> None:
    done = call(made, *BUILD, "--name", name, "--benchmarks", "gsm8k", "--n", "2")
    assert (done.code, done.out) == (3, "")
    assert f"{name} is where other things lie" in done.err


def test_a_source_that_changed_since_is_said_and_the_record_is_drawn_from(here: Path) -> None:
    assert call(here, "pool", "preprocess").code == 0
    options = (*BUILD, "--name", "p", "--benchmarks", "gsm8k,amc", "--n", "4", "--json")
    first = call(here, *options)
    assert (first.code, first.err) == (0, "")
    write_tasks(here / "tasks/gsm8k.jsonl", benchmark_tasks.gsm8k(41))
    (here / "tasks/amc.jsonl").write_text("oops")
    again = call(here, *options)
    since = "since `synthtrack pool preprocess`, which brings it up to date."
    assert again.err == (f"⚠️  gsm8k: its source changed {since}\n⚠️  amc: its source cannot be read any more {since}\n")
    assert json.loads(again.out) == [{**json.loads(first.out)[0], "outcome": "reused"}]
