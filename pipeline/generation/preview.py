"""``--dry-run``: what a run would do and cost, without a call and without a row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.chats.chat import ChatRequest
from pipeline.chats.tokens import Tokenizer, prompt_tokens, tokenizer_for
from pipeline.engine.prices import price_of
from pipeline.generation import adoption
from pipeline.generation.job import Job, existing, has_record, models_of
from pipeline.generation.plan import Plan, clean
from pipeline.two_stage import ANNOTATION, REVIEW, SKIPPED, State, load, positions
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record import ledger, names
from tracker.record.catalogue import Reader, Row, reading

_VERDICT_TOKENS = 3
_SAMPLE = 200


@dataclass(frozen=True)
class Preview:
    """What `generate` would do. Costs are US dollars, None where a price is unknown; calls and tokens are estimates.

    ``splits`` says of each split which file, or data set of the hub, it comes from.
    """

    fingerprint: str
    reference: str
    status: str
    reused_from: str | None
    batch: str
    splits: dict[str, str]
    n_records: int
    n_done: int
    rephrase_calls: int
    judge_calls: int
    already_paid: int
    verdicts_paid: int
    prompt_tokens: int
    completion_tokens: int
    tokenizer: str
    cost_usd: float | None
    unpriced: list[str]
    rephrase_prompt: str
    validation_prompt: str | None
    shown_record: int


def preview(workspace: Workspace, job: Job) -> Preview:
    """The preview of a run."""
    plan = job.plan
    if not has_record(workspace):
        everything = list(range(plan.n_records))
        judge = [at for at in everything if not _is_decided_by_people(plan, at)]
        job = _taught(job, None)
        return _preview(job, None, everything, judge, n_pending=plan.n_records, n_asked=plan.n_records, n_judged=0)
    with reading(workspace) as reader:
        found = existing(reader, plan)
        state = _state(workspace, reader, plan, found) if plan.is_two_stage else None
        job = _taught(job, state)
        plan = job.plan
        skipped = set() if state is None or found is None else set(state.decided(list(state.decisions), SKIPPED))
        there = _there(reader, found)
        pending = [at for at in range(plan.n_records) if there.get(at, "failed") in {"failed", "undecided"}]
        asked = [at for at in pending if there.get(at) != "undecided"]
        rephrase = [at for at in asked if _rephrased(reader, plan, at) is None]
        left = [at for at in pending if at in skipped or not _is_decided_by_people(plan, at)]
        judge = [at for at in left if not _is_judged(reader, plan, at)]
        n_judged = len(left) - len(judge)
        made = _preview(job, found, rephrase, judge, n_pending=len(pending), n_asked=len(asked), n_judged=n_judged)
        return made if found is not None else replace(made, reference=f"{plan.source.name}/{_free_name(reader, plan)}")


def _free_name(reader: Reader, plan: Plan) -> str:
    """The name that a new experiment would get now: other settings may have its own."""
    there = "SELECT 1 FROM shared_experiment WHERE dataset = :dataset AND name = :name"
    return names.first_free(
        plan.semantic_name, lambda name: bool(reader.rows(there, dataset=plan.source.name, name=name))
    )


def _state(workspace: Workspace, reader: Reader, plan: Plan, found: Row | None) -> State | None:
    """The experiment's state; of one that is not there yet that of which it will take over what people decided."""
    if found is None:
        found = next(iter(adoption.alike(reader, plan.source.digest, plan.identity_parts)), None)
    return None if found is None else load(reader, listings.experiment(reader, found["fingerprint"], workspace))


def _taught(job: Job, state: State | None) -> Job:
    """``job`` with the examples that people approved; those they have not seen yet count as approved.

    Prompts grow by them, so an estimate without them would be far too low.
    """
    plan, judge = job.plan, job.plan.config.validation
    if not plan.is_two_stage or judge is None:
        return job
    learned = {}
    for checkpoint, among in (
        (REVIEW, range(plan.config.generation.review_size)),
        (ANNOTATION, positions(judge.few_shot_range)),
    ):
        known = state is not None and (
            checkpoint in state.closed or (state.there(checkpoint) and not state.open(checkpoint))
        )
        if state is not None and known:
            learned[checkpoint] = state.examples(checkpoint)
        else:
            texts = [plan.original(at) for at in among]
            verdict = {} if checkpoint == REVIEW else {"verdict": "same"}
            learned[checkpoint] = [{"original": text, "rephrased": text, **verdict} for text in texts]
    taught = plan.taught(
        [*plan.config.generation.few_shot_examples, *learned[REVIEW]], [*judge.few_shot_examples, *learned[ANNOTATION]]
    )
    return replace(job, plan=taught)


def _preview(
    job: Job, found: Row | None, rephrase: list[int], judge: list[int], *, n_pending: int, n_asked: int, n_judged: int
) -> Preview:
    plan, models = job.plan, models_of(job.plan.config)
    tokenizer = tokenizer_for(plan.config.generation.model)
    estimates = [_rephrase_tokens(plan, rephrase, tokenizer)]
    if plan.judge is not None:
        estimates.append(_judge_tokens(plan, judge, tokenizer))
    prices = [price_of(model) for model in models]
    # What asks nothing costs nothing, whatever its price.
    costs = [
        price.cost(*each) if price is not None else None if any(each) else 0.0
        for price, each in zip(prices, estimates, strict=True)
    ]
    unpriced = [f"{model.model} at {model.endpoint}" for model, cost in zip(models, costs, strict=True) if cost is None]
    known = [cost for cost in costs if cost is not None]
    shown = (rephrase or judge or [0])[0]
    return Preview(
        fingerprint=plan.identity.fingerprint,
        reference=f"{plan.source.name}/{found['name'] if found else plan.semantic_name}",
        status="new" if found is None else found["status"],
        reused_from=found["original_batch"] if found is not None and not n_pending else None,
        batch=job.batch,
        splits={split.name: split.origin or plan.source.origin for split in plan.source.splits},
        n_records=plan.n_records,
        n_done=plan.n_records - n_pending,
        rephrase_calls=len(rephrase),
        judge_calls=len(judge) if plan.judge is not None else 0,
        already_paid=n_asked - len(rephrase),
        verdicts_paid=n_judged if plan.judge is not None else 0,
        prompt_tokens=sum(tokens[0] for tokens in estimates),
        completion_tokens=sum(tokens[1] for tokens in estimates),
        tokenizer=tokenizer.name,
        cost_usd=sum(known) if len(known) == len(costs) else None,
        unpriced=unpriced,
        rephrase_prompt=_text(plan.rephrase_request(shown)),
        validation_prompt=None if plan.judge is None else _text(plan.judge_request(shown, plan.original(shown))),
        shown_record=shown + 1,
    )


def _rephrase_tokens(plan: Plan, positions: list[int], tokenizer: Tokenizer) -> tuple[int, int]:
    """Prompt and completion tokens; a paraphrase is about as long as what it rephrases."""
    sample = positions[:: max(1, len(positions) // _SAMPLE)]
    scale = len(positions) / max(1, len(sample))
    prompt = prompt_tokens([plan.rephrase_request(position) for position in sample], tokenizer)
    return round(scale * prompt), round(scale * sum(tokenizer.count(plan.original(position)) for position in sample))


def _judge_tokens(plan: Plan, positions: list[int], tokenizer: Tokenizer) -> tuple[int, int]:
    """Prompt and completion tokens, as if every text came back unchanged."""
    sample = positions[:: max(1, len(positions) // _SAMPLE)]
    requests = [plan.judge_request(position, plan.original(position)) for position in sample]
    prompt = len(positions) / max(1, len(sample)) * prompt_tokens(requests, tokenizer)
    return round(prompt), len(positions) * _VERDICT_TOKENS


def _there(reader: Reader, found: Row | None) -> dict[int, str]:
    """The status of each record that has one."""
    if found is None:
        return {}
    rows = reader.rows("SELECT position, status FROM sample WHERE shared_experiment_id = :id", id=found["id"])
    return {row["position"]: row["status"] for row in rows}


def _is_decided_by_people(plan: Plan, position: int) -> bool:
    """Whether no judge is asked about a record; about the test set it is, before it may decide anything."""
    judge = plan.config.validation
    if not plan.is_two_stage or judge is None:
        return False
    return position < plan.config.generation.review_size or position in positions(judge.few_shot_range)


def _rephrased(reader: Reader, plan: Plan, position: int) -> str | None:
    """The rephrased text that is in the ledger already, or None."""
    row = ledger.find_answer(reader, plan.rephrase_request(position).key)
    return None if row is None else clean(row["answer"], plan.original(position))


def _is_judged(reader: Reader, plan: Plan, position: int) -> bool:
    rephrased = _rephrased(reader, plan, position) if plan.judge is not None else None
    if rephrased is None:
        return False
    return ledger.find_answer(reader, plan.judge_request(position, rephrased).key) is not None


def _text(request: ChatRequest) -> str:
    return "\n\n".join(f"[{message.role}]\n{message.content.strip()}" for message in request.messages)
