"""The template: the config that comes of an experiment's state, whatever its settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.generation import template
from pipeline.providers import resolve
from pipeline.specs import GenerationConfig
from pipeline.two_stage import ANNOTATION, REVIEW, State, load
from tests.generation import CONFIG, config
from tests.two_stage import OFFLINE, annotated, drafted, generated, reviewed
from tests.workspaces import call
from tracker import configs
from tracker.errors import WrongStep
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.spec import settings

ONLY_TWO_STAGE = ("generation.review_size", "validation.few_shot_range", "validation.test_range")
CHANGED = ("experiment.description", "generation.strategy", "validation.required_accuracy")
EXAMPLES = ("generation.few_shot_examples", "validation.few_shot_examples")


def state_of(root: Path) -> State:
    workspace = Workspace(root, environ={})
    with reading(workspace) as reader:
        return load(reader, listings.experiment(reader, OFFLINE, workspace))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> State:
    root = annotated(reviewed(drafted(tmp_path_factory.mktemp("complete"))))
    generated(root)
    return state_of(root)


def read(text: str) -> dict[str, Any]:
    """Every setting of a written template, as a run with it has them."""
    return settings(resolve(configs.validate(GenerationConfig, configs.parse(text, "template.yaml")), {}))


def test_it_is_the_experiments_config_with_what_was_learned(complete: State) -> None:
    found = read(template.text(complete, "mine", "mine.yaml"))
    same = [name for name in complete.settings if name not in (*ONLY_TWO_STAGE, *CHANGED, *EXAMPLES)]
    assert {name: found[name] for name in same if name != "experiment.batch_id"} == {
        name: complete.settings[name] for name in same if name != "experiment.batch_id"
    }
    assert (found["generation.strategy"], found["experiment.batch_id"]) == ("direct_all", None)
    assert found["generation.few_shot_examples"] == complete.examples(REVIEW)
    assert found["validation.few_shot_examples"] == complete.examples(ANNOTATION)
    assert (len(complete.examples(REVIEW)), len(complete.examples(ANNOTATION))) == (3, 4)


def test_configured_examples_come_before_the_learned_ones(complete: State) -> None:
    own = {name: [f"First: {name}", {"original": "A", "rephrased": "B"}] for name in EXAMPLES}
    found = read(template.text(dataclasses.replace(complete, settings={**complete.settings, **own}), "m", "m.yaml"))
    assert found["generation.few_shot_examples"] == [*own["generation.few_shot_examples"], *complete.examples(REVIEW)]
    learned = complete.examples(ANNOTATION)
    assert found["validation.few_shot_examples"] == [*own["validation.few_shot_examples"], *learned]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["generation.temperature=null", "generation.top_p=null", "validation.temperature=null"],
        ["generation.seed=7", "generation.stop=['\\n', '1.5e3']", "generation.system_prompt=' Be brief. '"],
        ["generation.base_url=http://127.0.0.1:1/v1"],
        ["generation.base_url=http://127.0.0.1:1/v1", "generation.endpoint=ours", "generation.api_key_env=OURS"],
        ["generation.base_url=http://127.0.0.1:1/v1", "validation.endpoint=https://api.openai.com/v1"],
        ["generation.endpoint=ours", "validation.base_url=http://127.0.0.1:2/v1"],
        ["generation.model=meta/llama", "validation.model=gpt-4o", "validation.api_key_env=OTHER"],
        ["validation.model=meta/llama"],
        ["generation.concurrency=3", "generation.requests_per_minute=9", "validation.requests_per_minute=null"],
        ["generation.timeout=5", "validation.timeout=60", "validation.concurrency=50"],
        ["generation.price={input_per_mtok: 1, output_per_mtok: 2}"],
        ["generation.price={input_per_mtok: 1, output_per_mtok: 2}", "validation.model=gpt-4o-mini"],
        ["generation.price={input_per_mtok: 1, output_per_mtok: 2}", "validation.price=null"],
        ["dataset.files={train: a.jsonl, test: b.jsonl}", "dataset.fields=[premise, idx]", "task_name=7"],
    ],
)
def test_no_setting_is_lost_or_changed_by_writing_it(changes: list[str], complete: State) -> None:
    steps = ["generation.strategy=two_stage", "generation.review_size=3", "validation.required_accuracy=0.5"]
    given = settings(config(*steps, *changes, given=CONFIG))
    found = read(template.text(dataclasses.replace(complete, settings=given), "mine", "mine.yaml"))
    changed = {*ONLY_TWO_STAGE, *CHANGED, *EXAMPLES, "experiment.purpose"}
    assert {name: value for name, value in found.items() if name not in changed} == {
        name: value for name, value in given.items() if name not in changed
    }


def test_it_says_where_it_comes_from_and_how_to_vary_it(complete: State) -> None:
    text = template.text(complete, "mine", "a b.yaml")
    head, _, _ = text.partition("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    fingerprint = complete.experiment["fingerprint"]
    assert f"# Template mine: prompts and few-shot examples as people validated them in {OFFLINE}\n" in head
    assert fingerprint in head
    assert "  synthtrack generate 'a b.yaml' --set generation.temperature=0.5" in head
    assert "# People's decisions are not in it: the judge decides every record.\n" in head
    flowing = head.replace("\n# ", " ")
    assert "(samples 1, 3, 4, 5, 6, 7, 8): prompts for these hold their own answer as an example." in flowing
    found = read(text)
    assert found["experiment.purpose"] == "trial"
    assert found["experiment.description"] == (
        f"Prompts and examples validated in {OFFLINE} ({fingerprint}); "
        "its judge agreed with people on 100.0% of 8 samples"
    )


def test_where_nothing_was_learned_no_record_is_its_own_example(complete: State) -> None:
    state = dataclasses.replace(complete, closed={REVIEW: [], ANNOTATION: []})
    assert template.caveats(state) == ["People's decisions are not in it: the judge decides every record."]
    assert "of this data set" not in template.text(state, "mine", "mine.yaml")


def test_people_can_read_its_prompts(complete: State) -> None:
    prompt = "Rewrite.\n\n{{REPHRASE_FEWSHOT}}\n\nPremise: {premise} \nAnswer: "
    changed = {**complete.settings, "generation.rephrase_prompt": prompt}
    text = template.text(dataclasses.replace(complete, settings=changed), "mine", "mine.yaml")
    assert "  rephrase_prompt: |-\n    Rewrite.\n\n    {{REPHRASE_FEWSHOT}}\n\n    Premise: {premise} \n" in text
    assert read(text)["generation.rephrase_prompt"] == prompt
    assert not any(name.rpartition(".")[2] in text for name in (*ONLY_TWO_STAGE, "validation.required_accuracy"))


def test_it_is_refused_until_the_judge_has_passed(tmp_path: Path) -> None:
    root = drafted(tmp_path)
    for take in (lambda: None, lambda: reviewed(root), lambda: annotated(root)):
        take()
        with pytest.raises(WrongStep, match="no validated prompts yet") as caught:
            template.check(state_of(root), "synthtrack something")
        assert caught.value.hint == "Next: synthtrack something"
    assert call(root, "judge-test", OFFLINE, "--no-mlflow").code == 0
    state = state_of(root)
    assert ANNOTATION not in state.closed
    template.check(state, None)
    assert read(template.text(state, "m", "m.yaml"))["validation.few_shot_examples"] == state.examples(ANNOTATION)


def test_it_is_refused_where_more_is_required_now(complete: State) -> None:
    stricter = dataclasses.replace(complete, required_accuracy=1.5)
    template.check(stricter, None)
    with pytest.raises(WrongStep, match="its judge is to agree"):
        template.check(dataclasses.replace(stricter, closed={REVIEW: complete.closed[REVIEW]}), None)
