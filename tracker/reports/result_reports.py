"""Comparisons of training runs out of the record: what is asked for, read, and handed to the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tracker.errors import UnknownReference
from tracker.fingerprint import Json, canonical_json
from tracker.listings import result_compare, results
from tracker.listings.result_compare import Group, Pooled, Settings, Tested
from tracker.listings.result_settings import MADE_WITH, SEED, Result, full_name, known, load
from tracker.listings.results import Filters
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import Reader, Row

_FIGURES = (
    *("macro_f1", "eval_loss", "dev_accuracy", "dev_loss", "zero_shot_accuracy", "majority_accuracy", "step_time_s"),
    *("tokens_per_s", "peak_memory_bytes", "duration_s"),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """Results beside each other; ``seeds`` are, for each, all seeds of its point that the record has."""

    pools: list[Pooled]
    settings: Settings
    tests: list[Tested]
    seeds: list[Pooled]

    @property
    def is_comparable(self) -> bool:
        """Whether all were measured on the same records."""
        return result_compare.are_comparable(self.pools)

    def plain(self) -> dict[str, Json]:
        """As JSON has it; tests name the results by their place, from 1."""
        return {
            "results": [
                plain_pool(each) | {"seeds_in_record": plain_pool(seeds)}
                for each, seeds in zip(self.pools, self.seeds, strict=True)
            ],
            "best": _place(result_compare.best_of(self.pools)) if self.is_comparable else None,
            **asdict(self.settings),
            "tests": [plain_test(each) for each in self.tests],
            "sd_over_seeds": result_compare.seed_deviation(self.pools),
        }


@dataclass(frozen=True, slots=True)
class Ranked:
    """The values of the setting ``name``, apart where measured on different records.

    ``best`` has each group's best point, with its answers; ``tests`` compare those measured on the same records.
    ``others`` are the settings in which these points differ beside.
    """

    name: str
    groups: list[Group]
    best: list[Pooled]
    tests: list[Tested]
    others: list[str]

    @property
    def at_best(self) -> int | None:
        """The index of the best value; None where not all were measured on the same records."""
        return result_compare.best_of(self.best) if result_compare.are_comparable(self.best) else None

    def plain(self) -> dict[str, Json]:
        """As JSON has it; tests name the values by their place, from 1."""
        return {
            "setting": self.name,
            "task": self.best[0].first.row["task"],
            "values": [
                {"value": group.value, "is_original_data": group.is_original, "is_unknown_data": group.is_unknown,
                 "n_eval": group.measure.n_eval, "eval_digest": group.measure.eval_digest,
                 "n_runs": group.n_runs, "n_points": len(group.points), "mean": group.mean,
                 "best_point": plain_pool(pool)}
                for group, pool in zip(self.groups, self.best, strict=True)
            ],
            "best": _place(self.at_best),
            "tests": [plain_test(each) for each in self.tests],
            "sd_over_seeds": result_compare.seed_deviation(self.best),
            "also_differ": self.others,
        }  # fmt: skip


def run_ids(reader: Reader, workspace: Workspace, refs: Sequence[str]) -> list[int]:
    """The runs that ``refs`` name, each once; a sweep stands for its finished runs. Raises UnknownReference."""
    found: list[int] = []
    for ref in refs:
        there = sweeps.find(reader, workspace, ref, shown_by="result list --detail")
        if there.run_id is not None:
            found.append(there.run_id)
        else:
            found += [row["id"] for row in sweeps.runs(reader, there.sweep_id) if row["status"] == "complete"]
    return list(dict.fromkeys(found))


def compare(reader: Reader, ids: Sequence[int], *, apart: bool = False) -> Compared:
    """The runs beside each other; seeds of a point are pooled unless ``apart``."""
    found = load(reader, results.runs(reader, ids))
    pools = result_compare.pooled(found, results.answers(reader, ids), apart=apart)
    seeds = [siblings(reader, each.first) for each in pools]
    return Compared(pools, result_compare.settings_of(pools), result_compare.compared(pools), seeds)


def siblings(reader: Reader, of: Result) -> Pooled:
    """The finished seeds of a result's point, the newest attempt of each; the result itself where none is."""
    found = [each for each in load(reader, results.alike(reader, of.row)) if each.point == of.point]
    found.sort(key=lambda each: int(each.row["seed"] or 0))
    return result_compare.pool(found or [of], {})


def rank(reader: Reader, found: Sequence[Result], name: str) -> Ranked:
    """The results, which are of one task, by the values of a setting. Raises UnknownReference for an unknown one."""
    full = full_name(found, name)
    groups = result_compare.grouped(found, full)
    answers = results.answers(reader, [each.id for group in groups for each in group.best.results])
    best = [result_compare.pool(group.best.results, answers) for group in groups]
    return Ranked(full, groups, best, result_compare.against_best(best), list(_others(full, groups, best)))


def finished(reader: Reader, filters: Filters) -> list[Result]:
    """The newest complete attempt of each point. Raises UnknownReference where there is none."""
    found = load(reader, results.finished(reader, filters))
    if not found:
        hint = "`synthtrack result list` shows what there is."
        raise UnknownReference("finished training run in", str(filters), hint=hint)
    return found


def by_settings(found: Sequence[Result]) -> dict[str, list[Group]]:
    """The settings that any of the results has, each with the results by its value."""
    return {name: result_compare.grouped(found, name) for name in sorted(known(found))}


def plain_values(groups: Sequence[Group]) -> list[Json]:
    """The different values of a setting, as JSON has them."""
    return list({canonical_json(group.value): group.value for group in groups}.values())


def _others(name: str, groups: Sequence[Group], best: Sequence[Pooled]) -> Iterator[str]:
    # What made the data goes with it; and data that nobody generated differs in all of that.
    implied = ("data", *MADE_WITH) if name.startswith(("data", *MADE_WITH)) else ()
    compared = [pool for group, pool in zip(groups, best, strict=True) if group.value is not None]
    for other in result_compare.settings_of(compared).different if compared else ():
        # That the data differs says that its fingerprint does.
        if other not in (name, SEED) and not other.startswith((*implied, "train_data.", "eval_data.", "model.")):
            yield other


def plain_pool(pool: Pooled) -> dict[str, Json]:
    """A pool as JSON has it: figures are means over its runs."""
    low, high = pool.interval or (None, None)
    return {
        "runs": [
            {name: each.row[name] for name in ("uuid", "seed", "status", "accuracy", "attempt", "directory")}
            for each in pool.results
        ],
        "mean_accuracy": pool.mean, "sd_over_seeds": pool.deviation, "accuracy_low": low, "accuracy_high": high,
        "n_records": len(pool.n_right), **{name: pool.figure(name) for name in _FIGURES},
    }  # fmt: skip


def plain_test(test: Tested) -> Row:
    """A test as JSON has it; results are counted from 1."""
    return asdict(test) | {"first": test.first + 1, "second": test.second + 1}


def _place(index: int | None) -> int | None:
    return None if index is None else index + 1
