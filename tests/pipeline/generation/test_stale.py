"""What rests on settings that a config no longer has, by what changed, and what new data would cost."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.generation.stale import Again, Change, Made, Staleness, changes, overrides_of, staleness
from tests import old_trees, trainings
from tests.workspaces import call, config, execute, new_root, rows, tree, write_config, write_lines
from tracker.errors import ConfigError
from tracker.paths import Workspace

N = 10
JUDGE = "Original: {original_premise}\nRephrased: {rephrased_premise}\nSame?"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of one config, and of the same with another temperature on the command line."""
    root = new_root(tmp_path_factory.mktemp("stale"), N)
    write_config(root, config())
    for arguments in ((), ("--set", "generation.temperature=0.9"), ("--limit", "3")):
        # In a process of its own, whose command line is recorded.
        done = execute(root, "generate", "copa.yaml", "--no-mlflow", *arguments)
        assert done.code == 0, done.err
    return root


def copied(generated: Path, tmp_path: Path, **given: Any) -> Path:
    """That workspace with the config changed."""
    root = tmp_path / "workspace"
    shutil.copytree(generated, root, symlinks=True)
    write_config(root, config(**given))
    return root


def compared(root: Path, name: str = "copa.yaml") -> Staleness:
    return staleness(Workspace(root, environ={}), root / name)


def changed(root: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(sql)


def plain(found: Staleness) -> Made:
    """The experiment of all records, made without options."""
    return next(each for each in found.made if not each.overrides and each.record_limit is None)


def test_what_the_config_still_describes_is_current_trials_and_overrides_too(generated: Path) -> None:
    found = compared(generated)
    assert {(each.overrides, each.record_limit, each.is_current) for each in found.made} == {
        ((), None, True), ((), 3, True), (("generation.temperature=0.9",), None, True)
    }  # fmt: skip
    assert found.batches == ("first",)
    assert found.renewals == {}
    assert plain(found).fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"generation__rephrase_prompt": "Say it anew: {premise}"},
            [("prompt", "generation.rephrase_prompt", "Rephrase: {premise}", "Say it anew: {premise}")],
        ),
        ({"generation__temperature": 0.2}, [("model", "generation.temperature", 0.7, 0.2)]),
        ({"generation__system_prompt": "Be brief."}, [("prompt", "generation.system_prompt", None, "Be brief.")]),
        (
            {"validation__temperature": 0.5, "validation__validation_prompt": f"{JUDGE} Yes?"},
            [
                ("judge", "validation.temperature", 0, 0.5),
                ("judge", "validation.validation_prompt", JUDGE, f"{JUDGE} Yes?"),
            ],
        ),
        (
            {"generation__rephrase_prompt": "{{few_shot_examples}}\n{premise}",
             "generation__few_shot_examples": [{"original": "A.", "rephrased": "B."}]},
            [("prompt", "generation.rephrase_prompt", "Rephrase: {premise}", "{{few_shot_examples}}\n{premise}"),
             ("few_shots", "generation.few_shot_examples", None, "Example 1:\nOriginal: A.\nRephrased: B.")],
        ),
    ],
)  # fmt: skip
def test_each_change_is_told_by_its_kind(
    generated: Path, tmp_path: Path, changed: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    found = plain(compared(copied(generated, tmp_path, **changed)))
    assert [(each.kind, each.name, each.then, each.now) for each in found.changes] == expected
    assert not found.is_current


def test_another_judge_costs_verdicts_alone_what_the_ledger_holds_is_reckoned(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path, validation__validation_prompt=f"{JUDGE} Yes?")
    found = compared(root)
    assert list(found.renewals) == [Again(), Again(("generation.temperature=0.9",))], "not the trial, which is in it"
    new = found.renewals[Again()]
    assert (new.n_records, new.n_done) == (N, 0)
    assert (new.already_paid, new.rephrase_calls) == (N, 0)
    assert (new.verdicts_paid, new.judge_calls) == (0, N)
    assert new.cost_usd == 0, "the offline provider asks for nothing"
    before = rows(root, "SELECT COUNT(*) FROM attempt")
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    assert rows(root, "SELECT COUNT(*) FROM attempt")[0][0] - before[0][0] == new.judge_calls
    again = compared(root)
    assert [each.is_current for each in again.made if not each.overrides and each.record_limit is None] == [False, True]
    assert again.renewals[Again()].n_done == N, "what is stale has been made anew"


def test_no_judge_any_more(generated: Path, tmp_path: Path) -> None:
    found = plain(compared(copied(generated, tmp_path, validation=None)))
    assert {each.kind for each in found.changes} == {"judge"}
    assert Change("judge", "validation.model", "rules-v1", None) in found.changes


def test_other_input_content_is_a_change_of_the_input(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path)
    path = root / "Data/original/Copa/copa_train.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [*lines[:-1], {**lines[-1], "premise": "Another one."}])
    found = compared(root)
    [change] = plain(found).changes
    assert (change.kind, change.name) == ("input", "dataset.source")
    assert found.renewals[Again()].already_paid == N - 1, "what was asked of the other records is in the ledger"


def test_an_override_that_is_no_setting_any_more_does_not_matter(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path)
    changed(root, "UPDATE generation_run SET command = 'synthtrack generate c --set generation.nothing=1'")
    found = compared(root)
    assert {each.overrides for each in found.made} == {()}


def test_the_rest_of_the_batch_is_told_apart(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path)
    write_config(root, config(generation__temperature=0.4), "other.yaml")
    assert call(root, "generate", "other.yaml", "--no-mlflow").code == 0
    found = compared(root)
    [other] = [each for each in found.made if not each.is_own]
    assert (other.config_path, other.is_current) == ("other.yaml", False)
    assert [(each.name, each.then, each.now) for each in other.changes] == [("generation.temperature", 0.4, 0.7)]
    assert found.renewals == {}, "it is for the other config to say what is stale"
    assert [each.is_own for each in compared(root, "other.yaml").made].count(True) == 1


def test_a_config_is_itself_by_whatever_path(generated: Path) -> None:
    (generated / "sub").mkdir(exist_ok=True)
    found = compared(generated, "sub/../copa.yaml")
    assert all(each.is_own for each in found.made)


def test_imported_data_of_unknown_settings_is_no_guess(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path)
    changed(
        root,
        """UPDATE shared_experiment SET identity = '{"identity": {"imported": {"files": {}}}}' WHERE id = 1""",
    )
    [unknown] = [each for each in compared(root).made if not each.is_known]
    assert (unknown.changes, unknown.is_current) == ((), False)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A workspace with an older tree, its original data, and one of the older configs; one other is known in part."""
    project, root = tmp_path / "old", tmp_path / "workspace"
    old_trees.write_tree(project)
    part = "generation:\n  temperature: 0.2\n  model: gpt-4o\n  max_workers: 3\n"
    home = project / "Data_v2/synthetic/_shared/Copa/temp02_topp10_gpt4o"
    old_trees.write_experiment(home, 0.2, config=part, metadata=None, fingerprint=None)
    link = project / "Data_v2/synthetic/batch_20241229_temperature/Copa/temp02_topp10_gpt4o"
    link.symlink_to("../../_shared/Copa/temp02_topp10_gpt4o")
    root.mkdir()
    call(root, "import", project)
    shutil.copytree(project / "Data", root / "Data")
    (root / "old.yaml").write_text(old_trees.config_text(0.5))
    return root


def test_imported_data_is_current_while_its_config_says_the_same(imported: Path) -> None:
    found = compared(imported, "old.yaml")
    assert {(each.reference, each.is_own, each.is_current) for each in found.made} == {
        ("Copa/temp05_topp10_gpt4o", True, True),
        ("Copa/temp07_topp10_gpt4o", False, False),
        ("Copa/temp02_topp10_gpt4o", False, False),
    }
    assert found.renewals == {}
    shown = call(imported, "stale", "old.yaml").out
    assert f"Copa/temp05_topp10_gpt4o {found.fingerprint} (imported): current" in shown
    assert "Nothing was made" not in shown


def test_imported_data_is_stale_when_its_config_has_changed(imported: Path) -> None:
    text = old_trees.config_text(0.5)
    (imported / "old.yaml").write_text(text.replace("Say it in other words", "Tell it anew"))
    found = compared(imported, "old.yaml")
    own = {each.reference: each for each in found.made if each.is_own}
    assert [each.name for each in own["Copa/temp05_topp10_gpt4o"].changes] == ["generation.rephrase_prompt"]
    assert list(found.renewals) == [Again()]
    shown = call(imported, "stale", "old.yaml").out
    assert "(imported): stale" in shown
    assert "Tell it anew: {premise}" in shown


def test_of_imported_data_that_is_known_in_part_that_part_is_compared(imported: Path) -> None:
    [part] = [each for each in compared(imported, "old.yaml").made if "temp02" in each.reference]
    assert [(each.kind, each.name, each.then, each.now) for each in part.changes] == [
        ("model", "generation.temperature", 0.2, 0.5)
    ]


def test_results_that_rest_on_stale_data_are_named(tmp_path: Path) -> None:
    root = trainings.new_root(tmp_path)
    path = trainings.generate(root, 0.5)
    [run_id] = trainings.trained(root, data__path=path)
    document = yaml.safe_load((root / "generate.yaml").read_text())
    document["generation"]["rephrase_prompt"] = "Anew: {premise}"
    write_config(root, document, "generate.yaml")
    before = tree(root)
    found = compared(root, "generate.yaml")
    [made] = found.made
    assert (made.n_trainings, [each["id"] for each in made.trainings]) == (1, [run_id])
    assert made.trainings[0]["accuracy"] == trainings.run(root, run_id)["accuracy"]
    assert tree(root) == before, "nothing is written"


def test_of_a_new_config_there_is_nothing_but_a_price(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path)
    document = config(generation__temperature=0.1)
    document["experiment"]["batch_id"] = "another"
    write_config(root, document, "new.yaml")
    found = compared(root, "new.yaml")
    assert found.made == ()
    assert found.renewals[Again()].rephrase_calls == N


def test_a_trial_alone_costs_what_a_trial_costs(generated: Path, tmp_path: Path) -> None:
    root = copied(generated, tmp_path, generation__rephrase_prompt="Say it anew: {premise}")
    changed(root, "UPDATE generation_run SET config_path = 'another.yaml' WHERE command NOT LIKE '%--limit%'")
    [(again, new)] = compared(root).renewals.items()
    assert again == Again((), 3)
    assert (new.n_records, new.rephrase_calls) == (3, 3)


def test_what_others_made_in_the_batch_of_a_new_config_leaves_its_price(generated: Path, tmp_path: Path) -> None:
    """As where a tree was imported: nothing was made from any config that is here."""
    root = copied(generated, tmp_path, generation__temperature=0.1)
    changed(root, "DELETE FROM mlflow_outbox")
    changed(root, "UPDATE attempt SET generation_run_id = NULL")
    changed(root, "DELETE FROM generation_run")
    found = compared(root)
    assert [each.is_own for each in found.made] == [False] * 3
    assert [(again, each.rephrase_calls) for again, each in found.renewals.items()] == [(Again(), N)]


def test_trials_and_draws_are_no_change() -> None:
    then = {"generation": {"model": "a"}, "record_limit": 3, "draw": 2, "reading": 1}
    assert changes(then, {"generation": {"model": "a"}, "record_limit": None, "draw": 0, "reading": 1}) == ()
    assert [each.kind for each in changes(then, {"generation": {"model": "a"}, "reading": 2})] == ["program"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("synthtrack generate a --set x=1 --set 'y=a b'", ("x=1", "y=a b")),
        ("synthtrack generate a --set=x=1", ("x=1",)),
        ("synthtrack generate a", ()),
        ("synthtrack generate 'a", ()),
        ("", ()),
    ],
)
def test_overrides_are_read_from_the_recorded_command(command: str, expected: tuple[str, ...]) -> None:
    assert overrides_of(command) == expected


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"agent_perspectives": {}}, "this is a perspectives config"),
        ({"model": "m", "hyperparameters": {}}, "this is a training config"),
        ({"name": "p", "benchmarks": []}, "this is a config of pools"),
    ],
)
def test_another_kind_of_config_is_refused_by_its_name(
    generated: Path, tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    path = write_config(tmp_path, document, "c.yaml")
    with pytest.raises(ConfigError) as error:
        staleness(Workspace(generated, environ={}), path)
    assert said in str(error.value)
    assert error.value.hint
