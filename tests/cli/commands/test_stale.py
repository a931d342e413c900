"""``stale`` as it is typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workspaces import call, config, matches_snapshot, new_root, rows, tree, write_config

N = 10
PROMPT = "Rephrase this sentence.\nKeep its meaning.\n\n{premise}"
JUDGE = "Original: {original_premise}\nRephrased: {rephrased_premise}\nThe same or not?"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("stale"), N)
    for name, temperature in (("copa.yaml", 0.7), ("warm.yaml", 0.9)):
        write_config(root, config(generation__temperature=temperature, generation__rephrase_prompt=PROMPT), name)
        assert call(root, "generate", name, "--no-mlflow").code == 0
    return root


def changed(generated: Path, tmp_path: Path, **changes: object) -> Path:
    root = tmp_path / "workspace"
    shutil.copytree(generated, root, symlinks=True)
    write_config(root, config(**{"generation__rephrase_prompt": PROMPT, **changes}))
    return root


def ask(root: Path, *arguments: object) -> str:
    before = tree(root), rows(root, "SELECT COUNT(*) FROM attempt")
    done = call(root, "stale", *arguments)
    assert done.code == 0, done.err
    assert (tree(root), rows(root, "SELECT COUNT(*) FROM attempt")) == before, "it is a question"
    return done.out


def test_current(generated: Path) -> None:
    assert matches_snapshot("stale_current", ask(generated, "copa.yaml"))


def test_everything_that_can_change(generated: Path, tmp_path: Path) -> None:
    given = {
        "generation__rephrase_prompt": PROMPT.replace("Keep its", "Do keep its"), "generation__temperature": 0.5,
        "validation__validation_prompt": JUDGE,
    }  # fmt: skip
    shown = ask(changed(generated, tmp_path, **given), "copa.yaml")
    assert matches_snapshot("stale_changed", re.sub(r"about [\d,]+ prompt.*", "about SOME TOKENS", shown))


def test_json(generated: Path, tmp_path: Path) -> None:
    root = changed(generated, tmp_path, validation__validation_prompt=JUDGE)
    found = json.loads(ask(root, "copa.yaml", "--json"))
    own, other = sorted(found["experiments"], key=lambda each: not each["is_own"])
    assert (own["is_current"], [each["kind"] for each in own["changes"]]) == (False, ["judge"])
    assert (other["is_own"], other["config_path"]) == (False, "warm.yaml")
    [renewal] = found["renewals"]
    assert (renewal["already_paid"], renewal["rephrase_calls"], renewal["judge_calls"]) == (N, 0, N)
    assert found["config"] == "copa.yaml"


def test_what_an_endpoint_without_a_price_would_cost_is_unknown(generated: Path, tmp_path: Path) -> None:
    reached = {
        f"{group}__{key}": value
        for group in ("generation", "validation")
        for key, value in {"provider": "openai", "model": "own", "base_url": "http://127.0.0.1:9/v1"}.items()
    }
    root = changed(generated, tmp_path, **reached)
    assert "Cost: unknown" in ask(root, "copa.yaml")
    assert json.loads(ask(root, "copa.yaml", "--json"))["renewals"][0]["cost_usd"] is None


def test_a_prompt_cannot_steer_the_terminal(generated: Path, tmp_path: Path) -> None:
    root = changed(generated, tmp_path, generation__rephrase_prompt="\u202e\x9b31m {premise}")
    shown = ask(root, "copa.yaml")
    assert not set(shown) & {"\u202e", "\x9b", "\x1b"}


def test_a_long_difference_is_cut_and_what_is_there_already_is_said(generated: Path, tmp_path: Path) -> None:
    prompt = "\n".join(f"Rule {number}: be plain." for number in range(20)) + "\n{premise}"
    root = changed(generated, tmp_path, generation__rephrase_prompt=prompt)
    (root / "warm.yaml").unlink()
    shown = ask(root, "copa.yaml")
    assert re.search(r"… \d+ more lines", shown), shown
    assert "Copa/temp09_topp10_rulesv1" in shown
    assert "made from warm.yaml, which is not there any more; differs in" in shown
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    write_config(root, config(generation__rephrase_prompt=PROMPT))
    assert "It is made already: nothing would be asked." in ask(root, "copa.yaml")


def test_a_config_that_made_nothing(generated: Path) -> None:
    write_config(generated, config(experiment__batch_id="elsewhere", generation__temperature=0.1), "new.yaml")
    shown = ask(generated, "new.yaml")
    assert "Nothing was made from this config yet." in shown
    assert "synthtrack generate new.yaml" in shown


def test_several_configs_are_refused(generated: Path) -> None:
    done = call(generated, "stale", ".")
    assert done.code == 3
    assert "configs; name one" in done.err


def test_a_perspectives_config_is_refused_with_what_to_do(generated: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, {"agent_perspectives": {}}, "agents.yaml")
    done = call(generated, "stale", path)
    assert done.code == 3
    assert "this is a perspectives config" in done.err
    assert "perspectives" in done.err.splitlines()[-1]
    assert "--dry-run" in done.err.splitlines()[-1]
