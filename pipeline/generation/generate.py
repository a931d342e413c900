"""Stage 1: makes a synthetic data set, resumes it, or finds it already made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pipeline.engine.asking import Display
from pipeline.generation.adoption import adopt
from pipeline.generation.execution import check_job, claim, is_seen, make, register
from pipeline.generation.job import Job, existing, has_record, models_of
from pipeline.generation.judge_test import run_test
from pipeline.generation.plan import Plan
from pipeline.generation.run import Rephrasing, Run
from pipeline.generation.tested import judge_failed
from pipeline.two_stage import ANNOTATION, REVIEW, State, Step, load
from tracker.errors import PartialResult
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.record import decisions, generation
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database, open_database
from tracker.record.generation import Claimed, Totals
from tracker.views import synthetic_view
from tracker.views.plan import Changes

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a run: made, resumed or reused; complete or partial.

    Of strategy two_stage ``state`` is where the experiment stands now; its status is ``waiting`` where a person is to
    look next, and ``run`` is None where nothing could be done before that.
    """

    outcome: str
    status: str
    dataset: str
    name: str
    fingerprint: str
    batch: str
    original_batch: str
    run: Row | None
    changes: Changes
    in_tree: bool
    first_failure: str | None = None
    state: State | None = None


def generate(workspace: Workspace, job: Job, display: Display = lambda _: None, tell: Tell = lambda _: None) -> Outcome:
    """Makes, resumes or reuses the experiment of ``job``, and brings its part of the tree up to date.

    Strategy two_stage: does every step up to the next that needs a person. ``tell`` gets a sentence when there is
    somebody to wait for, or something was taken over. Where records still fail the status is partial, with the first
    of the failures; without ``accept_partial`` nothing of it is in the tree then. Raises Conflict where another process
    makes it (unless ``wait``), Interrupted, BudgetReached, ProviderError, StorageError, JudgeFailed; whatever was
    answered until then is kept.
    """
    if _asks_models(workspace, job):
        check_job(workspace, job, models_of(job.plan.config))
    with open_database(workspace) as database:
        source_id = register(database, job.plan.source)
        if job.plan.is_two_stage:
            return _Stages(workspace, database, job, source_id, display, tell).go_on()
        claimed = claim(database, job, source_id, tell)
        run = reuse(database, claimed) if claimed.outcome == "reused" else None
        run = run or make(Run(workspace, database, job, claimed, job.plan, display))
        return _outcome(workspace, job, claimed, run)


def reuse(database: Database, claimed: Claimed) -> Row:
    """The row of a run that found everything made."""
    return generation.finish(database, claimed, Totals(), status="partial" if claimed.partial else "complete")


def _outcome(workspace: Workspace, job: Job, claimed: Claimed, run: Row) -> Outcome:
    with reading(workspace) as reader:
        changes = synthetic_view.refresh(workspace, reader, [claimed.experiment_id], deep=True)
    return Outcome(
        outcome=claimed.outcome, status=run["status"], dataset=job.plan.source.name, name=claimed.name,
        fingerprint=job.plan.identity.fingerprint, batch=job.batch, original_batch=claimed.original_batch,
        run=run, changes=changes, in_tree=run["status"] == "complete" or is_seen(job, claimed),
        first_failure=_first_failure(workspace, claimed.experiment_id),
    )  # fmt: skip


@dataclass
class _Stages:
    """Strategy two_stage: one step after the other until a person, or nobody, is to do the next."""

    workspace: Workspace
    database: Database
    job: Job
    source_id: int
    display: Display
    tell: Tell

    def __post_init__(self) -> None:
        self.ran: list[Step] = []
        self.accepts_failures = False
        self.last: tuple[Claimed, Row] | None = None

    def go_on(self) -> Outcome:
        """Does every step that needs no person."""
        while True:
            state = self._state()
            step = _step(state)
            if state is not None and step in self.ran:
                # It was done just now, and records still fail.
                if not self.job.options.accept_partial:
                    return self._stopped(state)
                state = self._accepting(state)
                step = state.step()
            if state is not None and step in _CHECKPOINTS:
                if not adopt(self.workspace, self.database, state, _CHECKPOINTS[step], self.tell):
                    return self._stopped(state)
            elif state is not None and step is Step.JUDGE_TEST:
                # What was taken over may have been corrected since.
                if not adopt(self.workspace, self.database, state, ANNOTATION, self.tell):
                    self._test(state)
            elif step is Step.COMPLETE and self.last is not None:
                return self._stopped(state)
            elif self._take(step):
                self.ran.append(step)

    def _accepting(self, state: State) -> State:
        """The state once failures are accepted. Raises PartialResult where nothing at all is there to be reviewed."""
        self.accepts_failures = True
        state = replace(state, accept_failures=True)
        if state.step() is Step.REPHRASE_FIRST:
            raise PartialResult(
                f"None of the first {len(state.ranges.review)} records of {state.reference} could be rephrased: there "
                "is nothing to review.",
                hint=f"The first failure: {_first_failure(self.workspace, state.experiment['id'])}",
            )
        return state

    def _state(self) -> State | None:
        with reading(self.workspace) as reader:
            found = existing(reader, self.job.plan)
            if found is None:
                return None
            state = load(reader, listings.experiment(reader, found["fingerprint"], self.workspace))
        judge = self.job.plan.config.validation
        assert judge is not None
        if self.job.options.batch is None and self.job.plan.config.experiment.batch_id is None:
            # An experiment that takes days is not spread over the batches of these days.
            self.job = replace(self.job, batch=str(state.experiment["original_batch"]))
        return replace(state, required_accuracy=judge.required_accuracy, accept_failures=self.accepts_failures)

    def _take(self, step: Step) -> bool:
        """Takes a step; False where somebody else took it while this process waited for the experiment."""
        if step is not Step.COMPLETE:
            check_job(self.workspace, self.job, models_of(self.job.plan.config))
        claimed = claim(self.database, self.job, self.source_id, self.tell, None if step is Step.COMPLETE else step)
        if claimed.outcome == "reused":
            self.last = claimed, reuse(self.database, claimed)
            return True
        state = self._state()
        assert state is not None
        if state.step() is not step:
            generation.finish(self.database, claimed, Totals(), status="waiting")
            return False
        plan = self.job.plan if step is Step.REPHRASE_FIRST else self._taught(state)
        parts = (self.workspace, self.database, self.job, claimed, plan, self.display)
        if step is Step.VALIDATE:
            run = make(Run(*parts), before=partial(self._close, state, ANNOTATION, claimed))
        elif step is Step.REPHRASE_REST:
            rest = Rephrasing(*parts, end=plan.n_records)
            run = make(rest, before=partial(self._close, state, REVIEW, claimed))
        else:
            run = make(Rephrasing(*parts, end=len(state.ranges.review)))
        self.last = claimed, run
        return True

    def _taught(self, state: State) -> Plan:
        return self.job.plan.taught(state.rephrase_examples, state.judge_examples)

    def _close(self, state: State, checkpoint: str, claimed: Claimed) -> None:
        verdicts = {at: str(state.decisions[at]["verdict"]) for at in state.there(checkpoint) if at in state.decisions}
        learned = state.learned(checkpoint)
        test = state.test() if checkpoint == ANNOTATION else None
        decisions.close(
            self.database, claimed.experiment_id, checkpoint, verdicts, learned, run_id=claimed.run_id,
            judge_test_id=test["id"] if test else None,
        )  # fmt: skip

    def _test(self, state: State) -> None:
        """Lets the judge be tested; one that was tested on just this test set is not asked again."""
        known = state.test()
        if known is not None:
            raise judge_failed(state.reference, known["n_correct"], known["n_tested"], state.required_accuracy)
        tested = run_test(self.workspace, self.database, self.job, state, self.display, tell=self.tell)
        self.tell(
            f"The judge agrees with the people on {tested.n_correct} of {tested.n_tested} samples "
            f"({tested.accuracy:.1%}; {tested.required_accuracy:.0%} is required)."
        )
        tested.check()

    def _stopped(self, state: State | None) -> Outcome:
        assert state is not None
        experiment = state.experiment
        claimed, run = self.last or (None, None)
        with reading(self.workspace) as reader:
            changes = synthetic_view.refresh(self.workspace, reader, [experiment["id"]], deep=True)
        is_done = experiment["status"] == "complete" or (
            experiment["status"] == "partial" and self.job.options.accept_partial
        )
        status = str(run["status"]) if run is not None and state.step() not in _CHECKPOINTS else "waiting"
        return Outcome(
            outcome="waiting" if claimed is None else claimed.outcome, status=status, dataset=experiment["dataset"],
            name=experiment["name"], fingerprint=experiment["fingerprint"], batch=self.job.batch,
            original_batch=experiment["original_batch"], run=run, changes=changes, in_tree=is_done,
            first_failure=_first_failure(self.workspace, experiment["id"]), state=state,
        )  # fmt: skip


def _step(state: State | None) -> Step:
    return Step.REPHRASE_FIRST if state is None else state.step()


_CHECKPOINTS = {Step.REVIEW: REVIEW, Step.ANNOTATE: ANNOTATION}


def _asks_models(workspace: Workspace, job: Job) -> bool:
    """Whether there is anything to ask a model: not where the data is there, or a person is to look first."""
    if not has_record(workspace):
        return True
    with reading(workspace) as reader:
        found = existing(reader, job.plan)
        if found is None:
            return True
        if generation.is_ready(found, accept_partial=job.options.accept_partial):
            return False
        if job.plan.is_two_stage:
            return load(reader, listings.experiment(reader, found["fingerprint"], workspace)).step() not in _CHECKPOINTS
    return True


def _first_failure(workspace: Workspace, experiment_id: int) -> str | None:
    with reading(workspace) as reader:
        rows = reader.rows(
            "SELECT error FROM sample WHERE shared_experiment_id = :id AND status = 'failed' ORDER BY position LIMIT 1",
            id=experiment_id,
        )
    return str(rows[0]["error"]) if rows else None
