"""What a worker does: take trials of a study until none is left, alone or with others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyg_bsl.tuning.storage import Storage, alive, counts, fail, retry, sweep

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

POLL_SECONDS = 0.5

log = logging.getLogger("pyg_bsl")


class Pruned(Exception):
    """The trial was stopped early."""


class NotMine(Exception):
    """Others finished the trial, who took this worker for dead; or it is one too many."""


Objective = Callable[["Trial"], Sequence[float]]


def work(
    storage: Storage,
    study: Study,
    objective: Objective,
    total: int,
    told: Callable[[FrozenTrial], None] = lambda trial: None,
) -> None:
    """Run trials until ``total`` are finished, by this worker or by others.

    Args:
        storage: Where the study is.
        study: The study.
        objective: Gives a trial's values; raises :class:`Pruned`.
        total: Number of trials of the study.
        told: Is told every trial that was finished here.

    Raises:
        KeyboardInterrupt: At an interrupt; the trial that was being run is queued again.
    """
    from optuna.trial import TrialState

    waited = False
    while True:
        with storage.turn():
            sweep(study)
        trials = study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if waiting or sum(map(counts, trials)) < total:
            _run_one(storage, study, objective, total, told)
            waited = False
        elif any(trial.state == TrialState.RUNNING for trial in trials):
            if not waited:
                log.info("Waiting for the trials of other workers")
            waited = True
            time.sleep(POLL_SECONDS)
        else:
            return


def run_jobs(
    storage: Storage,
    study: Study,
    jobs: Sequence[Mapping[str, Any]],
    objective: Objective,
    told: Callable[[FrozenTrial], None] = lambda trial: None,
) -> None:
    """Run a trial for each of some sets of parameters, those that are done already left out."""
    enqueue(storage, study, jobs)
    work(storage, study, objective, 0, told)


def enqueue(storage: Storage, study: Study, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Queue a trial for each of some sets of parameters, unless there is one."""
    with storage.turn():
        known = [_asked(trial) for trial in study.get_trials(deepcopy=False) if counts(trial)]
        for job in jobs:
            if dict(job) not in known:
                study.enqueue_trial(dict(job))


def _asked(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial has, or that it was queued with."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _run_one(
    storage: Storage,
    study: Study,
    objective: Objective,
    total: int,
    told: Callable[[FrozenTrial], None],
) -> None:
    import optuna
    from optuna.trial import TrialState

    with storage.turn():
        trial = study.ask()
    state, values = TrialState.FAIL, None
    with alive(trial):
        try:
            _check_mine(study, trial, total)
            values = objective(trial)
            state = TrialState.COMPLETE
        except Pruned:
            state = TrialState.PRUNED
        except (NotMine, optuna.exceptions.UpdateFinishedTrialError):
            fail(study, trial.number)
            return
        except (KeyboardInterrupt, SystemExit):
            if fail(study, trial.number):
                retry(study, study.trials[trial.number], always=True)
            raise
        except Exception as error:
            if not _own_fault(error):
                with suppress(Exception):  # The storage itself may be what failed.
                    fail(study, trial.number)
                raise
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:2000])
    try:
        told(study.tell(trial, values, state))
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        if study.trials[trial.number].state == TrialState.RUNNING:
            raise
        log.warning("Trial %d took so long that it was given to others", trial.number)


def _own_fault(error: Exception) -> bool:
    """Whether one set of parameters can be to blame: the others are tried all the same."""
    if isinstance(error, RuntimeError):  # What torch raises has no type of its own on the CPU.
        return "allocate" in str(error) or "out of memory" in str(error)
    return isinstance(error, ArithmeticError | ValueError | MemoryError)


def _check_mine(study: Study, trial: Trial, total: int) -> None:
    """Give the trial up if it is one too many, because several workers asked at once.

    Raises:
        NotMine: If so.
    """
    mine, *others = (t for t in reversed(study.get_trials(deepcopy=False)[: trial.number + 1]))
    others = [other for other in others if counts(other)]
    fixed, retry_of = mine.system_attrs.get("fixed_params"), mine.user_attrs.get("retry_of")
    if retry_of is not None:
        too_many = any(other.user_attrs.get("retry_of") == retry_of for other in others)
    elif fixed is not None:
        too_many = any(_asked(other) == fixed for other in others)
    else:
        too_many = len(others) >= total
    if too_many:
        raise NotMine
