"""`synthtrack judge-test`: what it prints, as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.annotating.checkpoints import open_sheet
from pipeline.two_stage import ANNOTATION, SAME
from tests.llm_server import Server, running_server
from tests.two_stage import (
    GENERATE,
    N_RECORDS,
    OFFLINE,
    SERVED,
    annotated,
    decide,
    drafted,
    generated,
    recorded,
    reviewed,
    staged,
)
from tests.workspaces import Done, call, config, new_root, rows, write_config
from tracker.paths import find_workspace

JUDGE_TEST = ("judge-test", SERVED, "--no-mlflow")
HINT = f"""\
There are three ways on.
1. Look at the disagreements again; the person may be the one who is wrong:
  synthtrack judge-test {SERVED}  (shows them, and asks nothing again)
  synthtrack annotate {SERVED} --only --same N  (or --not-same N)
2. Try another prompt or model on the same samples. Once a judge passes, `synthtrack generate` with its config goes on \
with it: the rephrasings are paid for already, and what people decided is taken over.
  synthtrack judge-test {SERVED} --set validation.model=MODEL
  synthtrack judge-test {SERVED} --config CONFIG
  synthtrack judge-test {SERVED} --list  (every attempt is kept)
3. Require less, knowingly: this judge would pass with validation.required_accuracy at 0.875:
  synthtrack generate CONFIG --set validation.required_accuracy=0.875
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=recorded(tmp_path)) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path, server: Server) -> Path:
    """A workspace whose judge is to be tested; the person disagrees with it on sample 14."""
    return annotated(reviewed(drafted(tmp_path, server.base_url), SERVED), SERVED, {9})


def received(server: Server) -> int:
    return int(server.stats()["received"])


def test_a_judge_that_did_not_pass(root: Path, server: Server) -> None:
    done = call(root, *JUDGE_TEST)
    assert (done.code, received(server)) == (15, N_RECORDS + 8)
    run = rows(root, "SELECT prompt_tokens, completion_tokens, duration_s FROM generation_run ORDER BY id DESC LIMIT 1")
    assert (
        done.out
        == f"""\
⚠️  {SERVED}: the judge gpt-4o did not pass
   Accuracy: 87.5% (7 of 8); required: 95.0%; examples in its prompt: 4
   Calls: 8 sent, 0 answered from the ledger, 0 retried, 0 rate-limited
   Tokens: {run[0][0]:,} prompt + {run[0][1]} completion; cost: unknown; {run[0][2]:.1f} s

The person said    judge: same    judge: not the same    judge: unclear
-----------------  -------------  ---------------------  ----------------
same               6              1                      0
not the same       0              1                      0

Disagreements (1):

   14: the person said same, the judge not the same
      Original:  [-The man in-] house 013 [-fell-].
      Rephrased: {{+In+}} house 013{{+, the man had a fall+}}.
      Record:    choice1: He slipped.; choice2: He slept.; question: cause; idx: 13; label: 1
      Decided:   alice: same
"""
    )
    said = f"The judge of {SERVED} agrees with the people on 7 of 8 samples (87.5%); 8 are needed (95.0%)."
    assert said in done.err
    assert done.err.endswith(f" It may not decide the other records.\n{HINT}")


def test_generate_refuses_alike_and_asks_nothing_again(root: Path, server: Server) -> None:
    first = call(root, *GENERATE)
    assert (first.code, received(server)) == (15, N_RECORDS + 8)
    assert HINT in first.err
    before = rows(root, "SELECT COUNT(*) FROM generation_run")
    again = call(root, *GENERATE)
    assert (again.code, again.out, received(server)) == (15, "", N_RECORDS + 8)
    assert HINT in again.err
    assert rows(root, "SELECT COUNT(*) FROM generation_run") == before
    assert call(root, *JUDGE_TEST).code == 15
    as_json = call(root, *GENERATE, "--json")
    (failed,) = json.loads(as_json.out)
    assert (as_json.code, failed["outcome"], failed["exit_code"]) == (15, "failed", 15)
    shown = call(root, "experiment", "show", SERVED).out
    assert "Judge test: 7 of 8 as the person (87.5%; 95% required), not passed" in shown
    assert f"Next: synthtrack judge-test {SERVED} --config CONFIG\n" in shown, "copa.yaml gives the judge that failed"
    assert not (root / "Data_v2").exists()


def test_less_can_be_required_without_asking_again(root: Path, server: Server) -> None:
    assert call(root, *GENERATE).code == 15
    refused = call(root, *GENERATE, "--set", "validation.required_accuracy=0.9")
    assert (refused.code, "7 of 8 samples (87.5%); 8 are needed (90.0%)" in refused.err) == (15, True)
    done = generated(root, "--set", "validation.required_accuracy=0.875")
    assert done.out.startswith(f"✅ {SERVED}: resumed, complete")
    assert received(server) == N_RECORDS + 16
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(1,)]
    assert rows(root, "SELECT passed, required_accuracy FROM judge_test") == [(0, 0.95)]
    assert rows(root, "SELECT judge_test_id FROM checkpoint ORDER BY id") == [(None,), (1,)]
    assert generated(root).out.startswith("⚡ "), "what is complete stays so, whatever is required"


def test_the_same_test_again_is_shown_and_not_made(root: Path, server: Server) -> None:
    first = call(root, *JUDGE_TEST)
    before = rows(root, "SELECT COUNT(*) FROM generation_run"), received(server)
    again = call(root, *JUDGE_TEST, environ={"OPENAI_API_KEY": None})
    lines = again.out.splitlines(keepends=True)
    told = lines.pop(1)
    assert (again.code, "".join(lines), again.err) == (15, first.out, first.err)
    assert re.fullmatch(r"   Tested before, on [-\d]{10} [:\d]{8}; nothing was asked now\n", told)
    assert (rows(root, "SELECT COUNT(*) FROM generation_run"), received(server)) == before
    as_json = json.loads(call(root, *JUDGE_TEST, "--json").out)
    assert as_json["tested_before"] == rows(root, "SELECT created_at FROM judge_test")[0][0]
    assert as_json["run"]["n_calls"] == 8


def test_a_disagreement_tells_who_decided_why_and_what_the_judge_said(tmp_path: Path) -> None:
    odd = "It\n\x1b[1mdepends"
    with running_server(recorded=recorded(tmp_path, s12=odd)) as server:
        root = reviewed(drafted(tmp_path, server.base_url), SERVED)
        annotated(root, SERVED, {9, 14})
        decide(root, SERVED, ANNOTATION, {12}, annotator="bob", samples="12-12")
        with open_sheet(find_workspace(str(root)), SERVED, ANNOTATION, annotator="carol", samples="12-12") as sheet:
            sheet.answer(sheet.cards[0], SAME, note="fell or\nhad a fall")
        tested = call(root, *JUDGE_TEST)
    assert tested.code == 15, tested.err
    shown = tested.out
    lines = shown[shown.index("Disagreements (1):") :].splitlines()
    assert lines[2] == "   12: the person said same, the judge unclear"
    assert lines[5:] == [
        "      Record:    choice1: He slipped.; choice2: He slept.; question: cause; idx: 11; label: 1",
        "      Decided:   alice: same, bob: not the same, carol: same (settled it; fell or had a fall)",
        "      The judge: It ␛[1mdepends",
    ]


def test_settings_that_are_not_the_judges_are_refused(root: Path) -> None:
    refused = call(root, *JUDGE_TEST, "--set", "generation.temperature=0.1", "--set", "validation.test_range=17-20")
    assert refused.code == 3
    assert "--set generation.temperature: not a setting of the judge" in refused.err
    assert "--set validation.test_range: the samples are what people were asked about" in refused.err
    assert rows(root, "SELECT COUNT(*) FROM judge_test") == [(0,)]


def test_a_prompt_that_judges_blindly_is_warned_of(root: Path) -> None:
    done = call(root, *JUDGE_TEST, "--set", "validation.validation_prompt='{{VALIDATION_FEWSHOT}} {original_premise}'")
    assert done.err.startswith(
        "⚠️  The validation prompt does not contain {rephrased_premise}: the judge will judge bli"
    )


def test_a_judge_that_passed(root: Path) -> None:
    done = call(root, *JUDGE_TEST, "--set", "validation.required_accuracy=0.8")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"✅ {SERVED}: the judge gpt-4o passed\n   Accuracy: 87.5% (7 of 8); required: 80.0%")
    assert "is not the experiment's own" not in done.out
    other = call(root, *JUDGE_TEST, "--set", "validation.required_accuracy=0.8", "--set", "validation.seed=1")
    assert other.code == 0
    assert "This judge is not the experiment's own: `synthtrack generate` with its config goes on with it." in other.out


def test_as_json(root: Path) -> None:
    done = call(root, *JUDGE_TEST, "--json")
    assert done.code == 15, "whoever reads JSON is told by the exit code too"
    found = json.loads(done.out)
    assert {name: found[name] for name in ("reference", "model", "n_tested", "n_correct", "passed", "is_own")} == {
        "reference": SERVED, "model": "gpt-4o", "n_tested": 8, "n_correct": 7, "passed": False, "is_own": True,
    }  # fmt: skip
    assert (found["accuracy"], found["required_accuracy"], found["step"]) == (0.875, 0.95, "judge_test")
    assert found["confusion"]["same"] == {"same": 6, "not_the_same": 1, "unclear": 0}
    assert [row["sample"] for row in found["disagreements"]] == [14]
    assert (found["run"]["n_calls"], found["run"]["n_cached"]) == (8, 0)
    assert found["run"]["uuid"] == rows(root, "SELECT uuid FROM generation_run ORDER BY id DESC LIMIT 1")[0][0]


def test_every_attempt_is_listed(tmp_path: Path, root: Path, server: Server) -> None:
    none = call(root, *JUDGE_TEST, "--list")
    assert (none.code, none.out) == (0, f"The judge of {SERVED} was not tested yet.\n")
    assert json.loads(call(root, *JUDGE_TEST, "--list", "--json").out) == []
    call(root, *JUDGE_TEST)
    call(root, *JUDGE_TEST, "--set", "validation.model=gpt-5", "--set", "validation.temperature=0.5")
    prompt = "Equal?\n{original_premise}\n{rephrased_premise}"
    document = staged(server.base_url, validation__validation_prompt=prompt, validation__required_accuracy=0.5)
    write_config(root, document, "other.yaml")
    assert call(root, *JUDGE_TEST, "--config", "other.yaml").code == 0
    before = received(server)
    found = json.loads(call(root, *JUDGE_TEST, "--list", "--json").out)
    assert [(row["model"], row["temperature"], row["accuracy"], row["passed"]) for row in found] == [
        ("gpt-4o", 0.0, 0.875, False), ("gpt-5", 0.5, 0.875, False), ("gpt-4o", 0.0, 0.875, True),
    ]  # fmt: skip
    assert found[2]["settings"]["validation_prompt"] == prompt
    assert len({row["judge_key"] for row in found}) == 3
    assert len({row["test_set_key"] for row in found}) == 1
    assert [(row["number"], row["prompt_number"]) for row in found] == [(1, 1), (2, 1), (3, 2)]
    shown = call(root, *JUDGE_TEST, "--list").out.splitlines()
    keys = [row["judge_key"][:8] for row in found]
    assert cells(shown[:5]) == [
        ["#", "When", "Model", "Temp", "Prompt", "Accuracy", "Right", "Required", "Passed", "Judge"],
        ["1", "-", "gpt-4o", "0.0", "prompt 1", "87.5%", "7 of 8", "95.0%", "no", keys[0]],
        ["2", "-", "gpt-5", "0.5", "prompt 1", "87.5%", "7 of 8", "95.0%", "no", keys[1]],
        ["3", "-", "gpt-4o", "0.0", "prompt 2", "87.5%", "7 of 8", "50.0%", "yes", keys[2]],
    ]
    assert shown[5:] == [
        "", "--- prompt 1", "+++ prompt 2", "@@ -1,4 +1,3 @@", "-{{VALIDATION_FEWSHOT}}",
        "-Original: {original_premise}", "-Rephrased: {rephrased_premise}", "-Same?", "+Equal?", "+{original_premise}",
        "+{rephrased_premise}",
    ]  # fmt: skip
    lines = call(root, "experiment", "show", SERVED).out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("⚖️ 3 judge tests"))
    assert cells(lines[start + 1 : start + 6]) == cells(shown[:5])
    assert lines[start + 6] == ""
    assert received(server) == before


def cells(table: list[str]) -> list[list[str]]:
    """The cells of a table, without its rule and its moments."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in table if not line.startswith("--")]
    return [["-" if re.match(r"\d{4}-\d\d-\d\d ", cell) else cell for cell in row] for row in rows]


def test_the_list_says_what_else_differs_and_shows_long_changes_in_part(root: Path) -> None:
    call(root, *JUDGE_TEST)
    one = call(root, *JUDGE_TEST, "--list").out
    assert one.splitlines()[0].split() == ["#", "When", "Model", "Accuracy", "Right", "Required", "Passed"]
    long = "\n".join(f"{number}. {{original_premise}} {{rephrased_premise}}" for number in range(20))
    (root / "long.txt").write_text(long)
    call(root, *JUDGE_TEST, "--set", f"validation.validation_prompt={json.dumps(long)}", "--set", "validation.seed=7")
    lines = call(root, *JUDGE_TEST, "--list").out.splitlines()
    assert lines[0].split() == [
        "#", "When", "Model", "seed", "Prompt", "Accuracy", "Right", "Required", "Passed", "Judge",
    ]  # fmt: skip
    assert [line for line in lines[2:4] if "not set" in line] == [lines[2]]
    assert lines[-1] == "... 15 more lines; --json has every prompt"
    assert len(lines) == 2 + 2 + 1 + 12 + 1


def test_a_test_set_without_errors_is_warned_of(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)))
    done = call(root, "judge-test", OFFLINE, "--no-mlflow")
    assert (done.code, "Disagreements" in done.out) == (0, False)
    warning = "Nothing in the test set is `not the same`: this says nothing of whether the judge finds errors."
    assert warning in done.out
    assert warning not in call(annotated(root, rejected={9}), "judge-test", OFFLINE, "--no-mlflow").out


def test_a_test_goes_to_mlflow_too(tmp_path: Path) -> None:
    root = annotated(reviewed(drafted(tmp_path)))
    assert call(root, "judge-test", OFFLINE).code == 0
    logged = "SELECT COUNT(*) FROM mlflow_outbox WHERE logged_at IS NOT NULL"
    assert rows(root, logged) == [(3,)]


def said(root: Path, *arguments: object) -> Done:
    done = call(root, "judge-test", *arguments)
    assert "Traceback" not in done.err
    return done


def test_what_cannot_be_tested(tmp_path: Path, root: Path) -> None:
    write_config(root, config(), "direct.yaml")
    assert call(root, "generate", "direct.yaml", "--no-mlflow").code == 0
    direct = said(root, OFFLINE)
    assert (direct.code, "nobody reviews or annotates it" in direct.err) == (14, True)
    assert said(root, OFFLINE, "--list").code == 14
    assert said(root, "Copa/temp08").code == 4
    assert said(root, SERVED, "--set", "validation.nosuch=1").code == 3
    assert said(root, SERVED, "--set", "validation=null").code == 3
    assert said(root, SERVED, "--config", "missing.yaml").code == 3
    assert said(root, SERVED, "--set", "validation.model=no-such-model").code == 8
    assert rows(root, "SELECT status, error IS NULL FROM generation_run WHERE outcome = 'tested'") == [("failed", 0)]
    assert rows(root, "SELECT COUNT(*) FROM judge_test") == [(0,)]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    assert said(new_root(elsewhere, 4), SERVED).code == 4
