"""``--dry-run``: what a validation would ask and cost at most, without a call and without a row."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.chats.tokens import prompt_tokens, tokenizer_for
from pipeline.engine.prices import price_of
from pipeline.pools import grading
from pipeline.pools.validation_plan import Plan
from tracker.paths import Workspace
from tracker.record import ledger
from tracker.record.catalogue import reading

_DONE = "SELECT uuid FROM pool_validation WHERE fingerprint = :fingerprint AND status = 'complete'"


@dataclass(frozen=True)
class Preview:
    """What `pool validate` would do: tasks by benchmark, calls, tokens and cost (US dollars, None: no price is known).

    Prompt tokens are estimates; answers are reckoned as long as they may be. ``prompts``: the first of each benchmark.
    """

    fingerprint: str
    model: str
    is_done: bool
    n_tasks: dict[str, int]
    n_ungraded: int
    n_calls: int
    already_paid: int
    prompt_tokens: int
    most_completion_tokens: int
    tokenizer: str
    most_cost_usd: float | None
    prompts: dict[str, str]


def preview(workspace: Workspace, plan: Plan) -> Preview:
    """The preview of a validation."""
    asked = [each for each in plan.sample if each.request is not None]
    with reading(workspace) as reader:
        is_done = bool(reader.rows(_DONE, fingerprint=plan.identity.fingerprint))
        requests = [
            each.request
            for each in asked
            if each.request is not None and ledger.find_answer(reader, each.request.key) is None
        ]
    tokenizer, price = tokenizer_for(plan.model.model), price_of(plan.model)
    tokens, most = prompt_tokens(requests, tokenizer), len(requests) * plan.model.max_tokens
    counts, prompts = dict[str, int](), dict[str, str]()
    for each in plan.sample:
        counts[each.benchmark] = counts.get(each.benchmark, 0) + 1
        if each.request is not None and each.benchmark not in prompts:
            prompts[each.benchmark] = grading.question(each.benchmark, each.raw)
    return Preview(
        fingerprint=plan.identity.fingerprint,
        model=plan.model.model,
        is_done=is_done,
        n_tasks=counts,
        n_ungraded=len(plan.sample) - len(asked),
        n_calls=len(requests),
        already_paid=len(asked) - len(requests),
        prompt_tokens=tokens,
        most_completion_tokens=most,
        tokenizer=tokenizer.name,
        most_cost_usd=(None if requests else 0.0) if price is None else price.cost(tokens, most),
        prompts=prompts,
    )
