"""``--dry-run``: what a run would do and cost, without a call and without a row."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.chat import ChatRequest
from pipeline.job import Job, existing, has_record, models_of
from pipeline.plan import Plan
from pipeline.prices import price_of
from pipeline.tokens import prompt_tokens, tokenizer_for
from tracker import ledger
from tracker.catalogue import Reader, Row, reading
from tracker.paths import Workspace

_VERDICT_TOKENS = 3
_SAMPLE = 200


@dataclass(frozen=True)
class Preview:
    """What `generate` would do. Costs are US dollars, None where a price is unknown; calls and tokens are estimates."""

    fingerprint: str
    reference: str
    status: str
    reused_from: str | None
    batch: str
    n_records: int
    n_done: int
    rephrase_calls: int
    judge_calls: int
    already_paid: int
    prompt_tokens: int
    completion_tokens: int
    tokenizer: str
    cost_usd: float | None
    rephrase_prompt: str
    validation_prompt: str | None


def preview(workspace: Workspace, job: Job) -> Preview:
    """The preview of a run."""
    plan = job.plan
    if not has_record(workspace):
        return _preview(job, None, list(range(plan.n_records)), plan.n_records)
    with reading(workspace) as reader:
        found = existing(reader, plan)
        pending = _pending(reader, plan, found)
        return _preview(job, found, [p for p in pending if not _is_paid(reader, plan, p)], len(pending))


def _preview(job: Job, found: Row | None, unpaid: list[int], n_pending: int) -> Preview:
    plan = job.plan
    rephrase = _Estimate(plan, unpaid)
    judge_calls = n_pending if plan.judge is not None else 0
    costs: list[float | None] = []
    tokens_in, tokens_out = rephrase.prompt, rephrase.completion
    prices = [price_of(model) for model in models_of(plan.config)]
    costs.append(None if prices[0] is None else prices[0].cost(rephrase.prompt, rephrase.completion))
    if plan.judge is not None:
        judge_in = rephrase.judge_prompt(judge_calls)
        judge_out = judge_calls * _VERDICT_TOKENS
        costs.append(None if prices[1] is None else prices[1].cost(judge_in, judge_out))
        tokens_in, tokens_out = tokens_in + judge_in, tokens_out + judge_out
    known = [cost for cost in costs if cost is not None]
    return Preview(
        fingerprint=plan.identity.fingerprint,
        reference=f"{plan.source.name}/{found['name'] if found else plan.semantic_name}",
        status="new" if found is None else found["status"],
        reused_from=found["original_batch"] if found is not None and not n_pending else None,
        batch=job.batch,
        n_records=plan.n_records,
        n_done=plan.n_records - n_pending,
        rephrase_calls=len(unpaid),
        judge_calls=judge_calls,
        already_paid=n_pending - len(unpaid),
        prompt_tokens=tokens_in,
        completion_tokens=tokens_out,
        tokenizer=rephrase.tokenizer.name,
        cost_usd=sum(known) if len(known) == len(costs) else None,
        rephrase_prompt=_text(plan.rephrase_request(0)),
        validation_prompt=None if plan.judge is None else _text(plan.judge_request(0, plan.original(0))),
    )


class _Estimate:
    """Tokens of the requests for some records, from a sample of them where there are many."""

    def __init__(self, plan: Plan, positions: list[int]) -> None:
        self.plan, self.count = plan, len(positions)
        self.tokenizer = tokenizer_for(plan.config.generation.model)
        step = max(1, len(positions) // _SAMPLE)
        self.sample = positions[::step] or [0]
        scale = self.count / len(self.sample)
        requests = [plan.rephrase_request(position) for position in self.sample]
        self.prompt = round(scale * prompt_tokens(requests, self.tokenizer))
        # A paraphrase is about as long as what it rephrases.
        self.completion = round(scale * sum(self.tokenizer.count(plan.original(p)) for p in self.sample))

    def judge_prompt(self, calls: int) -> int:
        requests = [self.plan.judge_request(position, self.plan.original(position)) for position in self.sample]
        return round(calls / len(self.sample) * prompt_tokens(requests, self.tokenizer))


def _pending(reader: Reader, plan: Plan, found: Row | None) -> list[int]:
    if found is None:
        return list(range(plan.n_records))
    rows = reader.rows(
        "SELECT position FROM sample WHERE shared_experiment_id = :id AND status <> 'failed'", id=found["id"]
    )
    done = {row["position"] for row in rows}
    return [position for position in range(plan.n_records) if position not in done]


def _is_paid(reader: Reader, plan: Plan, position: int) -> bool:
    return ledger.find_answer(reader, plan.rephrase_request(position).key) is not None


def _text(request: ChatRequest) -> str:
    return "\n\n".join(f"[{message.role}]\n{message.content.strip()}" for message in request.messages)
