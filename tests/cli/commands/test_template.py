"""``synthtrack template``: what it saves asks what the experiment asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.llm_server import Server, running_server
from tests.two_stage import N_RECORDS, OFFLINE, REVIEW_SIZE, SERVED, annotated, drafted, generated, reviewed
from tests.workspaces import call, config, new_root, rows, write_config, write_recording

SAVE = ("template", "save")
AS_RECORDED = {9, 14}
"""The samples to annotate that the recorded judge finds not the same."""

KEYS = """
    SELECT s.position, s.rephrase_request_key, COALESCE(t.request_key, s.judge_request_key), s.rephrased
    FROM sample s LEFT JOIN judge_test_sample t ON t.position = s.position AND s.shared_experiment_id = 1
    WHERE s.shared_experiment_id = ? ORDER BY s.position"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=write_recording(tmp_path / "recorded.jsonl", N_RECORDS)) as running:
        yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a complete experiment."""
    root = annotated(reviewed(drafted(tmp_path_factory.mktemp("offline"))))
    generated(root)
    return root


def test_the_template_is_the_prompt_that_people_validated(server: Server, tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path, server.base_url), SERVED), SERVED, AS_RECORDED)
    generated(root)
    before = server.stats()["received"]
    assert call(root, *SAVE, SERVED, "validated").code == 0
    done = call(root, "generate", "configs/stage1/validated.yaml", "--no-mlflow")
    assert done.code == 0, done.err
    staged, direct = (rows(root, KEYS, experiment) for experiment in (1, 2))
    assert len(staged) == len(direct) == N_RECORDS
    # Asked anew: the first samples, which had no examples, and the judge on what people had decided for it.
    judged = {position for position, _, judge_key, _ in staged if judge_key is not None}
    assert judged == set(range(8, N_RECORDS))
    assert server.stats()["received"] - before == REVIEW_SIZE + (N_RECORDS - len(judged))
    for old, new in zip(staged, direct, strict=True):
        assert (new[1] == old[1]) is (old[0] >= REVIEW_SIZE)
        assert new[2] == old[2] or old[0] not in judged
        assert new[3] == old[3]
    told = rows(root, "SELECT n_calls, n_cached FROM generation_run ORDER BY id DESC LIMIT 1")
    assert told == [(12, 2 * N_RECORDS - 12)]


def test_a_setting_of_the_template_can_be_varied(root: Path) -> None:
    done = call(root, *SAVE, OFFLINE, "study")
    assert (done.code, done.err) == (0, "")
    first, origin, counts, *caveats, following = done.out.splitlines()
    assert first == "✅ Template: configs/stage1/study.yaml"
    assert "its judge agreed with people on 100.0% of 8 samples" in origin
    assert counts == "   3 examples for rephrasing, 4 for the judge"
    assert caveats == [
        "⚠️ People's decisions are not in it: the judge decides every record.",
        "   Its learned examples are records of this data set themselves (samples 1, 3, 4, 5, 6, 7, 8): prompts",
        "   for these hold their own answer as an example. Leave them out when you compare data sets, or use the",
        "   template on other records.",
    ]
    command = following.partition("synthtrack ")[2].split()
    varied = call(root, *command, "--no-mlflow")
    assert varied.code == 0, varied.err
    assert "Copa/temp05_topp10_rulesv1: made, complete" in varied.out


def test_as_json_it_says_the_same(root: Path) -> None:
    [(fingerprint,)] = rows(root, "SELECT fingerprint FROM shared_experiment WHERE id = 1")
    done = call(root, *SAVE, fingerprint, "machine", "--json")
    assert json.loads(done.out) == {
        "path": "configs/stage1/machine.yaml",
        "experiment": OFFLINE,
        "fingerprint": fingerprint,
        "n_rephrase_examples": 3,
        "n_judge_examples": 4,
        "learned_samples": [1, 3, 4, 5, 6, 7, 8],
        "next_command": "synthtrack generate configs/stage1/machine.yaml --set generation.temperature=0.5",
    }


def test_a_key_never_reaches_the_template(server: Server, tmp_path: Path) -> None:
    given = {"generation__api_key": "test-key", "validation__api_key": "test-key"}
    root = annotated(reviewed(drafted(tmp_path, server.base_url, **given), SERVED), SERVED, AS_RECORDED)
    generated(root)
    assert call(root, *SAVE, SERVED, "mine").code == 0
    text = (root / "configs/stage1/mine.yaml").read_text(encoding="utf-8")
    assert "test-key" not in text
    assert "api_key" not in text


def test_nothing_is_overwritten_unless_asked(root: Path) -> None:
    path = root / "configs/stage1/taken.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    done = call(root, *SAVE, OFFLINE, "taken")
    assert (done.code, path.read_text(encoding="utf-8")) == (5, "mine")
    assert "--overwrite" in done.err
    assert call(root, *SAVE, OFFLINE, "taken", "--overwrite").code == 0
    assert path.read_text(encoding="utf-8").startswith("# Template taken: ")


def test_it_can_be_put_elsewhere(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep/er/config.yaml"
    done = call(root, *SAVE, OFFLINE, "elsewhere", "--output", path)
    assert done.code == 0
    assert f"synthtrack generate {path} --set" in done.out
    assert path.exists()
    assert call(root, "generate", path, "--dry-run").code == 0


def test_a_place_that_cannot_be_written_is_explained(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = call(root, *SAVE, OFFLINE, "mine", "--output", tmp_path / "file/mine.yaml")
    assert done.code == 11
    assert str(tmp_path / "file") in done.err


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a\nb", ""])
def test_a_name_that_is_none_is_refused(name: str, root: Path) -> None:
    done = call(root, *SAVE, OFFLINE, name)
    assert (done.code, done.out) == (3, "")
    assert "The template cannot be named so." in done.err


def test_it_waits_for_people_and_for_the_judge(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    found = []
    for take in (lambda: None, lambda: reviewed(root), lambda: annotated(root)):
        take()
        done = call(root, *SAVE, OFFLINE, "early")
        found.append((done.code, done.err.splitlines()[-1]))
    assert found == [(14, f"Next: synthtrack {what} {OFFLINE}") for what in ("review", "annotate", "judge-test")]
    assert not (root / "configs/stage1/early.yaml").exists()


def test_a_judge_that_failed_validates_nothing(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)), rejected=set(range(9, 17)))
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 15
    done = call(root, *SAVE, OFFLINE, "failed")
    assert (done.code, done.out) == (14, "")
    assert "its judge is to agree with people first" in done.err


def test_an_experiment_of_the_other_strategy_has_no_template(tmp_path: Path) -> None:
    root = new_root(tmp_path, 3)
    write_config(root, config())
    generated(root)
    done = call(root, *SAVE, OFFLINE, "mine")
    assert done.code == 14
    assert "strategy direct_all" in done.err
    assert call(root, *SAVE, "Copa/none", "mine").code == 4
