"""How `perspectives --dry-run` looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.render import counted, usd
from cli.text.perspectives_text import SHORT_LINES, n_conditions
from cli.text.side_by_side import beside, hanging

if TYPE_CHECKING:
    from pipeline.perspectives.job import Job
    from pipeline.perspectives.preview import Preview

_INDENT = "   "


def previewed(job: Job, each: Preview, columns: int) -> Iterator[str]:
    """What a run would do and cost, the first input in short, and what each agent is told in its own words."""
    yield f"🔍 {job.path}: {each.task_type} ({each.fingerprint}), {each.status}"
    for line in _figures(job, each):
        yield from (f"{_INDENT}{part}" for part in hanging(line, columns - len(_INDENT)))
    rows = [("Input 1", job.plan.inputs[0].text)]
    if job.plan.model.system_prompt:
        rows.append(("System prompt", job.plan.model.system_prompt))
    yield from ("", *beside(rows, columns, most_lines=SHORT_LINES))
    yield from ("", "💬 What agents are told; then comes the input, then their notes on it")
    yield from beside(list(_told(job)), columns)


def _figures(job: Job, each: Preview) -> Iterator[str]:
    if each.is_trial:
        yield "A trial (--test): no more than the first 10 of the inputs and the first 4 conditions"
    if each.name is not None:
        yield f"{each.name}: {each.n_done:,} of {each.n_responses:,} responses are there"
    conditions = n_conditions(each.n_perspectives, with_reference=job.plan.config.add_references)
    n_reading = sum(agent.reading is not None for agent in job.plan.agents)
    reading = f" ({n_reading:,} of them read{'s' * (n_reading == 1)} first)" if n_reading else ""
    yield f"{counted(each.n_inputs, 'input')}, {conditions}{reading}; model {each.model}"
    paid = f"; {counted(each.already_paid, 'answer')} from the ledger" if each.already_paid else ""
    yield f"Calls: about {each.n_calls:,}{paid}"
    yield f"Tokens: about {each.prompt_tokens:,} prompt + {each.completion_tokens:,} completion ({each.tokenizer})"
    unknown = f" (no price is known for {each.unpriced})" if each.unpriced else ""
    yield f"Cost: {'' if each.cost_usd is None else 'about '}{usd(each.cost_usd)}{unknown}"
    if job.options.max_cost is not None:
        yield f"--max-cost {usd(job.options.max_cost)}: {_cap(each)}"


def _cap(each: Preview) -> str:
    if each.max_cost_suffices is None:
        return "needs known prices; the run would be refused"
    before = f", with the {usd(each.spent_usd)} that was spent before" if each.spent_usd else ""
    if each.max_cost_suffices:
        return f"suffices by this estimate{before}"
    return f"does not suffice by this estimate{before}; the run would stop before it is passed"


def _told(job: Job) -> Iterator[tuple[str, str]]:
    for agent in job.plan.agents:
        if agent.reading is not None:
            yield agent.condition, agent.reading
        yield (agent.condition if agent.reading is None else "  then"), agent.strategy
