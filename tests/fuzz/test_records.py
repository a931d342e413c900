"""Data that commands read: the records to rephrase, finished data, inputs of agents, benchmarks, scorers."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.cage import Cage
from tests.fuzz.odd import Json, fuzzed
from tests.workspaces import REPOSITORY, records

SAMPLE = REPOSITORY / "configs/sample/Copa/copa_train.jsonl"
BENCHMARKS = {
    name: (REPOSITORY / "configs/inputs/benchmarks" / path).read_bytes()
    for name, path in {
        "humaneval": "humaneval.jsonl",
        "gsm8k": "gsm8k.jsonl",
        "bbh": "bbh/navigate.jsonl",
        "amc": "amc.jsonl",
        "medical_qa": "medical_qa.jsonl",
    }.items()
}
INPUTS = (REPOSITORY / "configs/inputs/translation.json").read_bytes()
FEW = b"".join(SAMPLE.read_bytes().splitlines(keepends=True)[:6])


def lines(count: int = 4) -> st.SearchStrategy[bytes]:
    """JSON Lines of a few records, some of them changed."""
    return odd.documents(records(count)).map(lambda rows: odd.jsonl(rows if isinstance(rows, list) else [rows]))


def generated(cage: Cage, content: bytes, name: str = "odd_train.jsonl") -> None:
    with cage.fresh() as root:
        (root / "Data/original/Odd").mkdir()
        (root / "Data/original/Odd" / name).write_bytes(content)
        config = root / "configs/stage1/copa_offline.yaml"
        document = yaml.safe_load(config.read_bytes())
        document["dataset"] = {"input_path": f"Data/original/Odd/{name}"}
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        before = cage.rows()
        cage.call("generate", config, "--dry-run", "--json")
        assert cage.rows() == before
        if cage.call("generate", config, "--no-mlflow", "--json").code == 0:
            assert cage.call("verify").code == 0


@fuzzed
@given(lines() | odd.damaged(FEW))
def test_records_to_rephrase(filled: Cage, content: bytes) -> None:
    generated(filled, content)


@fuzzed
@given(odd.damaged(odd.json_text(records(3))), st.sampled_from(("a.json", "a.jsonl.gz", "a.parquet", "a_train.json")))
def test_records_in_other_files(filled: Cage, content: bytes, name: str) -> None:
    generated(filled, content, name)


@fuzzed
@given(lines() | odd.damaged(FEW), lines() | odd.damaged(FEW))
def test_finished_data(filled: Cage, content: bytes, original: bytes) -> None:
    with filled.fresh() as root:
        (root / "made.jsonl").write_bytes(content)
        (root / "original.jsonl").write_bytes(original)
        told = ("--dataset", "Made", "--purpose", "trial", "--original", "original.jsonl", "--json")
        if filled.call("import", "dataset", "train=made.jsonl", *told).code == 0:
            assert filled.call("verify").code == 0


def inputs() -> st.SearchStrategy[bytes]:
    pairs: list[Json] = [{"input": f"Satz {number}.", "reference": f"Sentence {number}."} for number in range(3)]
    return odd.documents(pairs).map(odd.json_text) | odd.damaged(odd.json_text(pairs), INPUTS)


@fuzzed
@given(inputs(), st.sampled_from(("odd.json", "odd.jsonl")))
def test_inputs_of_agents(filled: Cage, content: bytes, name: str) -> None:
    with filled.fresh() as root:
        (root / name).write_bytes(content)
        given = ("configs/perspectives/translation_offline.yaml", "--set", f"data_config.input_data_path={name}")
        if filled.call("perspectives", *given, "--set", "data_config.sample_size=2", "--no-mlflow").code == 0:
            assert filled.call("verify").code == 0


def benchmark(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    rows = [json.loads(line) for line in BENCHMARKS[name].splitlines()[:4]]
    changed = odd.documents(rows).map(lambda found: odd.jsonl(found if isinstance(found, list) else [found]))
    return st.tuples(st.just(name), changed | odd.damaged(BENCHMARKS[name]))


@fuzzed
@given(st.sampled_from(sorted(BENCHMARKS)).flatmap(benchmark))
def test_benchmarks(filled: Cage, given_: tuple[str, bytes]) -> None:
    name, content = given_
    with filled.fresh() as root:
        path = root / "odd.jsonl"
        path.write_bytes(content)
        config = root / "odd.yaml"
        config.write_text(yaml.safe_dump({"benchmarks": {name: {"path": "file:odd.jsonl"}}}), encoding="utf-8")
        done = filled.call("pool", "preprocess", "--config", config, "--json")
        if done.code == 0:
            filled.call(
                "pool", "build", "--config", config, "--name", "odd", "--benchmarks", name, "--n", 3, "--no-mlflow"
            )
            assert filled.call("verify").code == 0


@fuzzed
@given(
    odd.texts() | st.sampled_from((b"def gsm8k(", b"raise SystemExit", b"import nothing_such", b"while 1: x")).map(str)
)
def test_scorers(filled: Cage, text: str) -> None:
    with filled.fresh() as root:
        (root / "scorers.py").write_bytes(text.encode("utf-8", "surrogatepass"))
        config = "configs/pools/data_config_sample.yaml"
        filled.call("pool", "preprocess", "--config", config, "--force", "--scorers", "scorers.py")
