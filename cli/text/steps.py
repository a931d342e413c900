"""Where a two_stage experiment stands, in words."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED, STEPS, State, Step, numbers

_DOING = {
    Step.REPHRASE_FIRST: "rephrase the first samples",
    Step.REVIEW: "checkpoint 1, a person reviews them",
    Step.REPHRASE_REST: "rephrase the other records with the approved ones as examples",
    Step.ANNOTATE: "checkpoint 2, a person annotates samples for the judge",
    Step.JUDGE_TEST: "test the judge on what the person said",
    Step.VALIDATE: "let the judge decide the other records",
    Step.COMPLETE: "complete",
}


def overview(state: State) -> str:
    """All steps in a line, as SQL and MLflow name them: what is done, and which is next."""
    at = STEPS.index(state.step())
    marks = {-1: " ✓", 0: " ←", 1: ""}
    return "Steps: " + "  ".join(
        f"{number + 1} {step}{marks[(number > at) - (number < at)]}" for number, step in enumerate(STEPS[:-1])
    )


def described(state: State) -> Iterator[str]:
    """The step an experiment is at, and how far people are with it."""
    step = state.step()
    if step is not Step.COMPLETE:
        yield f"Step {STEPS.index(step) + 1} of {len(STEPS) - 1}: {_DOING[step]}"
    review = state.there(REVIEW)
    if review and (REVIEW in state.closed or state.decisions or step is Step.REVIEW):
        words = {SAME: "approved", NOT_THE_SAME: "rejected"}
        yield f"Review of samples {numbers(state.ranges.review)}: {_tally(state, review, words)}"
    if REVIEW in state.closed:
        where = f"{numbers(state.ranges.few_shot)} and {numbers(state.ranges.test)}"
        words = {SAME: "same", NOT_THE_SAME: "not the same"}
        yield f"Annotation of samples {where}: {_tally(state, state.there(ANNOTATION), words)}"
    test = state.test()
    if test is not None:
        verdict = "passed" if state.judge_passed else "not passed"
        yield (
            f"Judge test: {test['n_correct']} of {test['n_tested']} as the person ({test['accuracy']:.1%}; "
            f"{100 * state.required_accuracy:.4g}% required), {verdict}"
        )


def _tally(state: State, positions: list[int], words: dict[str, str]) -> str:
    parts = [f"{len(state.decided(positions, verdict))} {word}" for verdict, word in words.items()]
    skipped = len(state.decided(positions, SKIPPED))
    parts += [f"{skipped} skipped"] if skipped else []
    waiting = [at for at in positions if at not in state.decisions]
    disputed = [at for at in positions if at in state.decisions and state.decisions[at]["verdict"] == "disputed"]
    parts += [f"{len(disputed)} disputed ({', '.join(str(at + 1) for at in disputed)})"] if disputed else []
    parts += [f"{len(waiting)} to be decided"] if waiting else []
    return ", ".join(parts)
