"""``--dry-run``: what a run would do and cost, without a call and without a row; and the estimate that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.chats.chat import ChatRequest
from pipeline.chats.tokens import Tokenizer, prompt_tokens, tokenizer_for
from pipeline.engine.prices import price_of
from pipeline.generation.job import has_record
from pipeline.perspectives.job import Job, existing
from pipeline.perspectives.plan import Agent, Plan, shown
from tracker.paths import Workspace
from tracker.record import ledger
from tracker.record.catalogue import Reader, Row, reading

_SAMPLE = 100
_NOTES_SHARE = 0.5
_NOTES_SHOWN = "(the notes that the agent takes first)"
_ANSWERED = "SELECT position, perspective FROM agent_response WHERE agent_dataset_id = :id AND status = 'answered'"

_SPENT = """
    SELECT COALESCE(SUM(cost_usd), 0) + COALESCE(SUM(at_risk_usd), 0) AS usd FROM agent_run
    WHERE agent_dataset_id = :id"""


@dataclass(frozen=True)
class Estimate:
    """Tokens that a set of requests takes; ``tokenizer`` says how they were counted."""

    n_calls: int
    prompt_tokens: int
    completion_tokens: int
    tokenizer: str


@dataclass(frozen=True)
class Prompt:
    """What an agent is told about the first input: the requests in their order, as a person reads them."""

    condition: str
    text: str


@dataclass(frozen=True)
class Preview:
    """What `perspectives` would do. Costs are US dollars, None where no price is known; tokens are estimates.

    ``spent_usd`` is what the data set's runs have paid, or may have; ``max_cost_suffices`` whether that and the
    estimate stay below --max-cost, None where there is none or no price is known.
    """

    fingerprint: str
    task_type: str
    status: str
    name: str | None
    model: str
    n_inputs: int
    n_perspectives: int
    n_responses: int
    n_done: int
    n_calls: int
    already_paid: int
    prompt_tokens: int
    completion_tokens: int
    tokenizer: str
    cost_usd: float | None
    unpriced: str | None
    spent_usd: float
    max_cost_suffices: bool | None
    is_trial: bool
    prompts: list[Prompt]


def preview(workspace: Workspace, job: Job) -> Preview:
    """The preview of a run."""
    plan, found, done, paid, spent = job.plan, None, 0, 0, 0.0
    readings = [(at, agent) for at, agent in plan.items() if agent.reading is not None]
    responses = list(plan.items())
    if has_record(workspace):
        with reading(workspace) as reader:
            found = existing(reader, plan)
            there = _there(reader, found)
            spent = 0.0 if found is None else float(reader.rows(_SPENT, id=found["id"])[0]["usd"])
            missing = [(at, agent) for at, agent in plan.items() if (at, agent.position) not in there]
            done = plan.n_responses - len(missing)
            readings, responses, paid = _unpaid(reader, plan, missing)
    tokens = _estimate(plan, readings, responses)
    price, cap = price_of(plan.model), job.options.max_cost
    # What asks nothing costs nothing, whatever its price.
    unknown = None if tokens.n_calls else 0.0
    cost = unknown if price is None else price.cost(tokens.prompt_tokens, tokens.completion_tokens)
    return Preview(
        fingerprint=plan.identity.fingerprint,
        task_type=plan.config.task_type,
        status="new" if found is None else found["status"],
        name=None if found is None else found["name"],
        model=plan.model.model,
        n_inputs=len(plan.inputs),
        n_perspectives=len(plan.agents),
        n_responses=plan.n_responses,
        n_done=done,
        n_calls=tokens.n_calls,
        already_paid=paid,
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
        tokenizer=tokens.tokenizer,
        cost_usd=cost,
        unpriced=None if cost is not None else f"{plan.model.model} at {plan.model.endpoint}",
        spent_usd=spent,
        max_cost_suffices=None if cap is None or cost is None else spent + cost <= cap,
        is_trial=job.options.test,
        prompts=[Prompt(agent.condition, shown(_requests(plan, 0, agent))) for agent in plan.agents],
    )


def estimate(plan: Plan) -> Estimate:
    """What all requests of ``plan`` take, as if nothing were there."""
    return _estimate(plan, [(at, agent) for at, agent in plan.items() if agent.reading is not None], list(plan.items()))


def _estimate(plan: Plan, readings: Sequence[tuple[int, Agent]], responses: Sequence[tuple[int, Agent]]) -> Estimate:
    """Notes are reckoned as half their input, responses as long as the mean reference, else as their input."""
    tokenizer = tokenizer_for(plan.model.model)
    some = plan.inputs[:: max(1, len(plan.inputs) // _SAMPLE)]
    known = [tokenizer.count(each.reference) for each in some if each.reference is not None]
    counts = [0, 0]
    # An input that is there twice is asked about once.
    readings, responses = _distinct(plan, readings), _distinct(plan, responses)
    for items, is_notes in ((readings, True), (responses, False)):
        sample = items[:: max(1, len(items) // _SAMPLE)]
        scale = len(items) / max(1, len(sample))
        for at, agent in sample:
            text = tokenizer.count(plan.inputs[at].text)
            notes = min(plan.model.max_tokens, round(_NOTES_SHARE * text)) if agent.reading is not None else 0
            request = plan.reading_request(at, agent) if is_notes else plan.request(at, agent)
            length = notes if is_notes else min(plan.model.max_tokens, round(fmean(known)) if known else text)
            counts[0] += round(scale * (_prompt(request, tokenizer) + (0 if is_notes else notes)))
            counts[1] += round(scale * length)
    return Estimate(len(readings) + len(responses), counts[0], counts[1], tokenizer.name)


def _distinct(plan: Plan, items: Sequence[tuple[int, Agent]]) -> list[tuple[int, Agent]]:
    found: dict[tuple[str, int], tuple[int, Agent]] = {}
    for at, agent in items:
        found.setdefault((plan.inputs[at].text, agent.position), (at, agent))
    return list(found.values())


def _prompt(request: ChatRequest, tokenizer: Tokenizer) -> int:
    return prompt_tokens([request], tokenizer)


def _there(reader: Reader, found: Row | None) -> set[tuple[int, int]]:
    if found is None:
        return set()
    return {(row["position"], row["perspective"]) for row in reader.rows(_ANSWERED, id=found["id"])}


def _unpaid(
    reader: Reader, plan: Plan, missing: Sequence[tuple[int, Agent]]
) -> tuple[list[tuple[int, Agent]], list[tuple[int, Agent]], int]:
    """The notes and the responses that would be asked for, and how many answers the ledger has already."""
    readings, responses, paid = [], [], 0
    for at, agent in missing:
        notes = None
        if agent.reading is not None:
            row = ledger.find_answer(reader, plan.reading_request(at, agent).key)
            if row is None:
                # Nobody knows yet what the response's request will hold.
                readings.append((at, agent))
                responses.append((at, agent))
                continue
            notes, paid = row["answer"].strip(), paid + 1
        if ledger.find_answer(reader, plan.request(at, agent, notes).key) is None:
            responses.append((at, agent))
        else:
            paid += 1
    return readings, responses, paid


def _requests(plan: Plan, position: int, agent: Agent) -> list[ChatRequest]:
    if agent.reading is None:
        return [plan.request(position, agent)]
    return [plan.reading_request(position, agent), plan.request(position, agent, _NOTES_SHOWN)]
