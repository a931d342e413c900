"""The bytes of an experiment's directory."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotating.checkpoints import open_sheet
from tests.two_stage import OFFLINE, annotated, drafted, generated, reviewed, staged
from tests.view_rows import COPIED, LINES, Made, execute, workspace
from tests.workspaces import call, rows, write_config
from tracker.errors import Corrupt
from tracker.mlflow_runs.generation_report import load_report, metrics
from tracker.paths import find_workspace
from tracker.record.catalogue import reading
from tracker.record.checkpoints import ANNOTATION, NOT_THE_SAME, SAME
from tracker.record.content import replace_field, synthetic_data
from tracker.record.decisions import Answer
from tracker.views.synthetic_view import refresh

TEXT = st.text(st.characters(codec="utf-8"))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BLANK = st.text(" \t\r\n", max_size=2)


@dataclass(frozen=True)
class Member:
    """A key and a value as somebody might have written them."""

    key: str
    head: str
    value: str
    tail: str


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    pairs = draw(st.lists(st.tuples(TEXT, VALUE), min_size=1, max_size=5))
    found = []
    for key, value in pairs + draw(st.lists(st.sampled_from(pairs), max_size=2)):
        head = f"{draw(BLANK)}{json.dumps(key, ensure_ascii=draw(st.booleans()))}{draw(BLANK)}:{draw(BLANK)}"
        written = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        found.append(Member(key, head, written, draw(BLANK)))
    return found


def as_object(found: list[Member]) -> str:
    return "{" + ",".join(f"{each.head}{each.value}{each.tail}" for each in found) + "}"


@given(members(), BLANK, BLANK, st.data(), TEXT)
def test_only_the_value_of_the_field_changes(
    found: list[Member], before: str, after: str, data: st.DataObject, value: str
) -> None:
    field = data.draw(st.sampled_from([each.key for each in found]))
    last = max(number for number, each in enumerate(found) if each.key == field)
    expected = list(found)
    expected[last] = replace(found[last], value=json.dumps(value, ensure_ascii=False))

    line = replace_field(f"{before}{as_object(found)}{after}", field, value)

    assert line == f"{before}{as_object(expected)}{after}"
    assert json.loads(line) == json.loads(as_object(found)) | {field: value}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"a":1,"premise":"x","b":1.50}', '{"a":1,"premise":"n","b":1.50}'),
        ('{"premise" : "x\\"}" , "b": "premise"}', '{"premise" : "n" , "b": "premise"}'),
        ('{"n":{"premise":1},"premise":{"q":[{}]},"e":1E+2}', '{"n":{"premise":1},"premise":"n","e":1E+2}'),
        ('{"premise":1,"premise":2}', '{"premise":1,"premise":"n"}'),
        ('{"pr\\u0065mise":null}', '{"pr\\u0065mise":"n"}'),
        (' {\t"premise":true }\r', ' {\t"premise":"n" }\r'),
    ],
)
def test_known_lines(line: str, expected: str) -> None:
    assert replace_field(line, "premise", "n") == expected


def test_new_text_is_written_as_it_is_read() -> None:
    assert replace_field('{"p":""}', "p", 'Tür 👋 "q"\n\\') == '{"p":"Tür 👋 \\"q\\"\\n\\\\"}'


def test_a_field_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        replace_field('{"a":{"premise":1}}', "premise", "n")
    with pytest.raises(KeyError):
        replace_field("{}", "premise", "n")


@pytest.mark.parametrize("line", ["[1]", "", '"premise"', '{"a" 1}', '{"a":1 "premise":2}', '{"a":1', "{"])
def test_what_is_no_object_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|Expecting|Unterminated"):
        replace_field(line, "premise", "n")


def test_rejected_and_failed_records_keep_their_line() -> None:
    made = Made(outcomes=("New.", "rejected", "failed"))
    assert synthetic_data(made.samples, "premise").decode() == "".join(
        f"{line}\n" for line in ('{"premise":"New.","choice1":"He slept.","idx":0,"label":1.0}', *LINES[1:])
    )


def _written(tmp_path: Path, made: Made) -> dict[str, bytes]:
    here = workspace(tmp_path, [made])
    with reading(here) as reader:
        refresh(here, reader, [1])
    home = here.synthetic_dir / made.home
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_the_files_of_an_experiment(tmp_path: Path) -> None:
    files = _written(tmp_path, Made())
    assert files.pop("experiment_metadata.json")
    assert files == {
        ".fingerprint": b"000000000001\n",
        "generation_config.yaml": (
            b"generation:\n  temperature: 0.7\n  model: gpt-4o\n  rephrase_prompt: |-\n    Say\n    \xc3\xa4\n"
        ),
        "Copa/copa_train.jsonl": Made().data,
        "Copa/copa_validation.jsonl": COPIED["validation"],
        "Copa/copa_test.jsonl": COPIED["test"],
    }


def test_the_metadata_is_complete(tmp_path: Path) -> None:
    text = _written(tmp_path, Made(outcomes=("A", "rejected", "failed"), status="partial"))["experiment_metadata.json"]
    found = json.loads(text)
    assert text.decode() == json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    assert {key: found[key] for key in ("fingerprint", "dataset", "status", "original_batch", "cost_usd")} == {
        "fingerprint": "000000000001",
        "dataset": "Copa",
        "status": "partial",
        "original_batch": "batch_a",
        "cost_usd": None,
    }
    assert found["settings"]["generation.temperature"] == 0.7
    assert found["provenance"] == {"rephrased": 1, "original_kept_rejected": 1, "original_kept_failed": 1}
    assert found["acceptance_rate"] == 0.5
    assert found["versions"] == {"synthtrack": "0.1.0"}
    assert found["source"]["splits"]["train"]["rephrased"] is True
    assert found["source"]["splits"]["test"]["n_bytes"] == len(COPIED["test"])
    assert found["llm"] is True


def test_a_trial_holds_its_records_only(tmp_path: Path) -> None:
    files = _written(tmp_path, Made(record_limit=2))
    assert files["Copa/copa_train.jsonl"].count(b"\n") == 2


def test_memberships_do_not_show(tmp_path: Path) -> None:
    one = _written(tmp_path / "one", Made())
    assert _written(tmp_path / "two", Made(batches=("batch_a", "batch_b"))) == one


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE sample SET rephrased = 'edited' WHERE position = 0", "do not give the data"),
        ("UPDATE source_split SET content = x'00' WHERE split = 'test'", "is damaged"),
        ("UPDATE source_split SET digest = 'f' WHERE split = 'test'", "not what its digest says"),
        ("UPDATE shared_experiment SET name = '../up'", "separator"),
        ("UPDATE source_split SET filename = '../../../up' WHERE split = 'test'", "separator"),
    ],
)
def test_rows_that_contradict_each_other_are_named(tmp_path: Path, statement: str, said: str) -> None:
    here = workspace(tmp_path / "workspace")
    execute(here, statement)
    with reading(here) as reader, pytest.raises(Corrupt, match=said):
        refresh(here, reader, [1])
    assert not (here.synthetic_dir / Made().home).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace"]


def _metadata(root: Path, reference: str) -> dict[str, Any]:
    path = root / "Data_v2/synthetic/_shared" / reference / "experiment_metadata.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_what_people_decided_is_in_the_metadata(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)))
    with open_sheet(find_workspace(str(root)), OFFLINE, ANNOTATION, annotator="bob") as sheet:
        sheet.save([Answer(4, NOT_THE_SAME, note="who fell?", settles=True)], via="option")
    generated(root)
    found = _metadata(root, OFFLINE)
    assert found["provenance"]["verdicts_by_person"] == 16
    assert found["provenance"]["verdicts_by_judge"] == 8
    closed = dict(rows(root, "SELECT name, closed_at FROM checkpoint"))
    assert found["checkpoints"] == {
        "review": {
            "samples": "1-4", "closed_at": closed["review"], "n_approved": 3, "n_rejected": 1, "n_skipped": 0,
            "cohen_kappa": None, "annotators": ["alice"], "examples": [1, 3, 4],
        },
        "annotation": {
            "few_shot_range": "5-8", "test_range": "9-16", "closed_at": closed["annotation"], "n_same": 11,
            "n_not_the_same": 1, "n_skipped": 0, "cohen_kappa": None, "annotators": ["alice", "bob"],
            "examples": [6, 7, 8],
        },
    }  # fmt: skip
    assert [each["sample"] for each in found["decisions"]] == list(range(1, 17))
    five = found["decisions"][4]
    assert {key: five[key] for key in ("checkpoint", "verdict")} == {"checkpoint": ANNOTATION, "verdict": NOT_THE_SAME}
    assert [
        {key: each[key] for key in ("annotator", "verdict", "note", "settles", "adopted")} for each in five["answers"]
    ] == [
        {"annotator": "alice", "verdict": SAME, "note": "", "settles": False, "adopted": False},
        {"annotator": "bob", "verdict": NOT_THE_SAME, "note": "who fell?", "settles": True, "adopted": False},
    ]
    ((created_at,),) = rows(root, "SELECT created_at FROM judge_test")
    assert found["judge_test"] == {
        "experiment": OFFLINE, "model": "rules-v1", "temperature": 0.0, "accuracy": 1.0, "n_tested": 8, "n_correct": 8,
        "required_accuracy": 0.95, "created_at": created_at,
    }  # fmt: skip
    shutil.rmtree(root / "Data_v2")
    assert call(root, "view", "rebuild").code == 0
    assert _metadata(root, OFFLINE) == found
    assert call(root, "view", "check").code == 0


def test_what_was_taken_over_is_marked_and_the_test_is_named_by_its_experiment(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)))
    prompt = "{{VALIDATION_FEWSHOT}} Is {rephrased_premise} the same as {original_premise}?"
    tried = call(root, "judge-test", OFFLINE, "--set", f"validation.validation_prompt={prompt!r}", "--no-mlflow")
    assert tried.code == 0, tried.err
    write_config(root, staged(validation__validation_prompt=prompt))
    generated(root)
    ((name,),) = rows(root, "SELECT name FROM shared_experiment WHERE status = 'complete'")
    found = _metadata(root, f"Copa/{name}")
    assert f"Copa/{name}" != OFFLINE
    assert found["judge_test"]["experiment"] == OFFLINE
    assert {each["adopted"] for decision in found["decisions"] for each in decision["answers"]} == {True}
    ((run,),) = rows(root, "SELECT MAX(id) FROM generation_run WHERE step = 'validate'")
    with reading(find_workspace(str(root))) as reader:
        assert metrics(load_report(reader, run))["judge_test/accuracy"] == 1
        # What was taken over is older than the steps before it, which knew nothing of it.
        before = metrics(load_report(reader, run - 1))
    assert "review/n_approved" in before
    assert not {figure for figure in before if figure.startswith("annotation/")}


def test_who_accepts_a_lower_accuracy_is_told_which_test_that_was(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)), rejected={9})
    assert call(root, "judge-test", OFFLINE, "--no-mlflow").code == 15
    generated(root, "--set", "validation.required_accuracy=0.8")
    test = _metadata(root, OFFLINE)["judge_test"]
    assert (test["accuracy"], test["required_accuracy"]) == (7 / 8, 0.95)


def test_nothing_of_people_is_in_the_metadata_where_nobody_was_asked(tmp_path: Path) -> None:
    found = json.loads(_written(tmp_path, Made())["experiment_metadata.json"])
    assert list(found)[-1] == "versions"
    assert list(found["provenance"])[-1] == "original_kept_failed"
