"""Every command killed at random, by ``kill -9``: what is paid stays, and what it makes is what it would have made.

``make soak`` does so at least a hundred times; SYNTHTRACK_KILLS says how often, SYNTHTRACK_SEED from which seed on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests import two_stage
from tests.faults.killing import forge
from tests.faults.subjects import SUBJECTS, Ground, Subject
from tests.faults.trials import AFTER, Trial, Undisturbed, undisturbed
from tests.llm_server import Server, running_server
from tests.workspaces import write_recording

# Under load, and with what a first trial prepares.
pytestmark = pytest.mark.timeout(900)
SHORT = (1, 2)
LATENCY_S = 0.1
_FIRST_OF_SOAK = 1001

Try = Callable[[Subject, int], Trial]


def soak_seeds() -> range:
    """So many that each subject is killed its part of all; an odd seed kills twice."""
    kills, first = (
        int(os.environ.get("SYNTHTRACK_KILLS", "140")),
        int(os.environ.get("SYNTHTRACK_SEED", _FIRST_OF_SOAK)),
    )
    number = 1
    while (number + (number + first % 2) // 2) * len(SUBJECTS) < kills:
        number += 1
    return range(first, first + number)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    recording = write_recording(tmp_path_factory.mktemp("recording") / "recording.jsonl", two_stage.N_RECORDS)
    with running_server(recorded=recording, latency=LATENCY_S) as found:
        yield found


@pytest.fixture(scope="module")
def ground(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    top = tmp_path_factory.mktemp("ground")
    with forge(top / "forge") as found:
        yield Ground(top, found, server.base_url)


@pytest.fixture(scope="module")
def attempt(ground: Ground, server: Server) -> Try:
    """What kills a subject with a seed; its undisturbed run is made once."""
    known: dict[str, Undisturbed] = {}

    def found(subject: Subject, seed: int) -> Trial:
        if subject.name not in known:
            known[subject.name] = undisturbed(ground, subject)
        return Trial(ground, server, subject, seed, known[subject.name])

    return found


def killed(trial: Trial, record_property: Callable[[str, object], None]) -> None:
    try:
        trial.run()
    finally:
        # For the soak's summary.
        record_property("kills", [trial.subject.name, *trial.hits])


@pytest.mark.parametrize("seed", SHORT)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_killed_it_makes_the_same(
    attempt: Try, subject: Subject, seed: int, record_property: Callable[[str, object], None]
) -> None:
    killed(attempt(subject, seed), record_property)


@pytest.mark.soak
@pytest.mark.parametrize("seed", soak_seeds())
@pytest.mark.parametrize(
    "subject", [pytest.param(each, id=str(each), marks=pytest.mark.xdist_group(str(each))) for each in SUBJECTS]
)
def test_killed_often_it_makes_the_same(
    attempt: Try, subject: Subject, seed: int, record_property: Callable[[str, object], None]
) -> None:
    killed(attempt(subject, seed), record_property)


def test_a_kill_that_nobody_notices_would_be_found(attempt: Try) -> None:
    """That the trials can fail: a command that leaves out what the undisturbed run did."""
    subject = next(each for each in SUBJECTS if each.name == "delete")
    trial = attempt(subject, 2)
    missing = Undisturbed(trial.undisturbed.steps, trial.undisturbed.seconds, {**trial.undisturbed.found, "more": 1})
    with pytest.raises(AssertionError, match="and not: 1") as error:
        Trial(trial.ground, trial.server, subject, 2, missing).run()
    assert f"{subject.name}, seed 2:" in error.value.__notes__[0]
    assert AFTER not in trial.hits
