"""Workers: real storage, objectives that are plain functions, processes that are killed.

SQLite, and the servers whose URLs stand in the environment variable ``PYG_BSL_TEST_STORAGES``, such
as ``"postgresql+psycopg2://me:secret@localhost/test mysql+pymysql://me:secret@127.0.0.1/test"``.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
import uuid

import optuna
import pytest
from optuna.trial import TrialState

from pyg_bsl.tuning import storage as storage_module
from pyg_bsl.tuning.storage import Storage, alive, counts, storage_url, sweep
from pyg_bsl.tuning.work import Pruned, run_jobs, work
from tests.tuning.proxies import Proxy

IDENTITY = {"config": {"loss": {"name": "SL"}, "seed": 0}, "space": {"x": {"kind": "Uniform"}}}


URLS = [None, *os.environ.get("PYG_BSL_TEST_STORAGES", "").split()]


@pytest.fixture(scope="module", params=URLS, ids=lambda url: (url or "sqlite").partition(":")[0])
def place(request, tmp_path_factory):
    return Storage.open(storage_url(tmp_path_factory.mktemp("store"), request.param))


@pytest.fixture
def study(place, request):
    name = f"{request.node.name} {uuid.uuid4().hex}"  # a server has those of earlier tests
    return place.create_or_join(name, IDENTITY, {"value": "maximize"})[0]


def objective(trial):
    return [trial.suggest_float("x", 0, 1)]


def states(study):
    return [trial.state.name for trial in study.trials]


def test_a_study_goes_on_up_to_the_number_asked_for(place, study):
    told = []
    work(place, study, objective, 3, told.append)
    assert states(study) == ["COMPLETE"] * 3 and [t.number for t in told] == [0, 1, 2]
    work(place, study, objective, 3, told.append)
    assert len(told) == 3
    work(place, study, objective, 5, told.append)
    assert states(study) == ["COMPLETE"] * 5


def test_pruned_and_failed_trials_count(place, study):
    def uneven(trial):
        trial.report(0.5, 1)
        if trial.number == 0:
            raise Pruned
        if trial.number == 1:
            raise ArithmeticError("too high")
        return objective(trial)

    work(place, study, uneven, 3)
    assert states(study) == ["PRUNED", "FAIL", "COMPLETE"]
    assert study.trials[0].value == 0.5
    assert study.trials[1].user_attrs["error"] == "ArithmeticError: too high"
    assert all(map(counts, study.trials))


def test_parameters_that_need_too_much_memory_are_not_the_end(place, study):
    def large(trial):
        if trial.number == 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
        return objective(trial)

    work(place, study, large, 2)
    assert states(study) == ["FAIL", "COMPLETE"]


def test_a_bug_ends_the_study_and_leaves_no_trial_running(place, study):
    def broken(trial):
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        work(place, study, broken, 3)
    assert states(study) == ["FAIL"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_is_queued_again(place, study, kind):
    def interrupted(trial):
        objective(trial)
        raise kind

    with pytest.raises(kind):
        work(place, study, interrupted, 2)
    assert states(study) == ["FAIL", "WAITING"]
    work(place, study, objective, 2)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == study.trials[0].params
    assert [counts(trial) for trial in study.trials] == [False, True, True]


def test_jobs_are_run_once_each(place, study):
    jobs = [{"x": 0.25}, {"x": 0.5}]
    run_jobs(place, study, jobs, objective)
    run_jobs(place, study, [*jobs, {"x": 0.75}], objective)
    assert [trial.params["x"] for trial in study.trials] == [0.25, 0.5, 0.75]
    assert states(study) == ["COMPLETE"] * 3


def test_a_job_that_failed_of_its_own_is_not_run_again(place, study):
    def fails(trial):
        objective(trial)
        raise ValueError("no")

    run_jobs(place, study, [{"x": 0.5}], fails)
    run_jobs(place, study, [{"x": 0.5}], objective)
    assert states(study) == ["FAIL"]


def test_a_trial_too_many_gives_way(place, study):
    """Two workers that ask for the last trial at once: here both asked before either looked."""
    from pyg_bsl.tuning.work import NotMine, _check_mine

    first, second = study.ask(), study.ask()
    _check_mine(study, first, 1)
    with pytest.raises(NotMine):
        _check_mine(study, second, 1)
    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({"x": 0.5})
    third, fourth = study.ask(), study.ask()
    _check_mine(study, third, 0)
    with pytest.raises(NotMine):
        _check_mine(study, fourth, 0)


# Deaths


def killed_at_work(url, name, started):
    place = Storage.open(url)

    def hangs(trial):
        objective(trial)
        started.set()
        time.sleep(600)

    work(place, place.load(name), hangs, 3)


def start_and_kill(place, study):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    child = context.Process(target=killed_at_work, args=(place.url, study.study_name, started))
    child.start()
    assert started.wait(30)
    os.kill(child.pid, signal.SIGKILL)
    child.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_killed_workers_trial_is_run_again_once(place, study):
    start_and_kill(place, study)
    assert states(study) == ["RUNNING"]
    lost = study.trials[0].params
    work(place, study, objective, 3)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == lost and study.trials[1].user_attrs["retry_of"] == 0
    assert [counts(trial) for trial in study.trials] == [False, True, True, True]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_parameters_that_kill_twice_are_given_up(place, study):
    start_and_kill(place, study)
    start_and_kill(place, study)
    assert states(study) == ["FAIL", "RUNNING"]
    assert study.trials[0].params == study.trials[1].params
    work(place, study, objective, 3)
    assert states(study) == ["FAIL", "FAIL", *["COMPLETE"] * 3]
    assert study.trials[0].params not in [trial.params for trial in study.trials[2:]]


def test_a_worker_that_lives_is_let_be(study):
    trial = study.ask()
    with alive(trial, beat=0.02):
        said = set()
        patience = time.monotonic() + 30
        while len(said) < 3 and time.monotonic() < patience:
            said.add(study.trials[0].user_attrs.get("alive"))
        assert len(said) == 3
        assert sweep(study) == 0


def test_a_worker_that_ended_is_dead_though_nobody_waited_for_it(study):
    trial = study.ask()
    with alive(trial, beat=0.02):
        pass
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    trial.set_user_attr("worker", storage_module._here(ended.pid))
    assert sweep(study, grace=60) == 1
    assert ended.wait(30) == 0


def test_a_worker_of_another_machine_is_dead_when_it_is_silent(study, monkeypatch):
    monkeypatch.setattr(storage_module, "_here", lambda pid: ["elsewhere", pid])
    trial = study.ask()
    with alive(trial, beat=0.02):
        pass
    monkeypatch.undo()
    assert sweep(study, grace=60) == 0
    time.sleep(0.06)
    assert sweep(study, grace=0.05) == 1
    assert states(study) == ["FAIL", "WAITING"]


def test_a_worker_that_died_before_it_said_anything_is_found_too(study):
    study.ask()
    assert sweep(study, grace=60) == 0
    time.sleep(0.06)
    assert sweep(study, grace=0.05) == 1


def test_a_worker_taken_for_dead_gives_its_trial_up(place, study):
    def slow(trial):
        objective(trial)
        if trial.number == 0:  # as another worker does after a long silence
            study.tell(0, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"retry_of": 0})
        return [1.0]

    told = []
    work(place, study, slow, 1, told.append)
    assert states(study) == ["FAIL", "COMPLETE"] and [t.number for t in told] == [1]


# Storages


def test_a_study_of_another_kind_is_refused(place, study):
    other = {**IDENTITY, "config": {"loss": {"name": "PSL"}, "seed": 0}}
    with pytest.raises(ValueError) as error:
        place.create_or_join(study.study_name, other, {"value": "maximize"})
    assert 'its \'config.loss.name\' is "SL", here it is "PSL"' in str(error.value)
    other = {**IDENTITY, "space": {"x": {"kind": "Choice"}}}
    with pytest.raises(ValueError, match=r"its 'space.x' is \{\"kind\": \"Uniform\"\}, here it"):
        place.create_or_join(study.study_name, other, {"value": "maximize"})


def test_a_study_whose_maker_died_at_once_is_taken_over(place):
    empty = optuna.create_study(storage=place.optuna, direction="maximize").study_name
    for created in (True, False):
        assert place.create_or_join(empty, IDENTITY, {"value": "maximize"})[1] == created


def test_a_study_that_is_not_ours_is_refused(place):
    foreign = optuna.create_study(storage=place.optuna)
    foreign.ask()
    told = f"The study '{foreign.study_name}' was not made by pyg_bsl"
    with pytest.raises(ValueError, match=told):
        place.create_or_join(foreign.study_name, IDENTITY, {"value": "maximize"})


def test_a_study_that_is_not_there_is_told(place, study):
    assert study.study_name in place.names()
    near = f"There is no study '{study.study_name}s'; did you mean '{study.study_name}'"
    with pytest.raises(ValueError, match=re.escape(near)):
        place.load(f"{study.study_name}s")


def test_a_storage_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "studies.db").write_text("no database" * 100)
    with pytest.raises(ConnectionError, match=r"studies\.db cannot be used: DatabaseError"):
        Storage.open(storage_url(tmp_path, None))


@pytest.mark.skipif(len(URLS) == 1, reason="PYG_BSL_TEST_STORAGES names no server")
@pytest.mark.parametrize("url", URLS[1:], ids=lambda url: url.partition(":")[0])
def test_a_server_that_goes_away_is_waited_for(url, caplog):
    from sqlalchemy import make_url

    address = make_url(url)
    ports = {"postgresql": 5432, "mysql": 3306}
    target = (address.host, address.port or ports[address.get_backend_name()])
    door = Proxy(target).open()
    here = address.set(host="127.0.0.1", port=door.port)
    place = Storage.open(here.render_as_string(hide_password=False))
    study, _ = place.create_or_join(uuid.uuid4().hex, IDENTITY, {"value": "maximize"})

    def cut_off(trial):
        door.shut()
        threading.Timer(1.5, door.open).start()
        return objective(trial)

    work(place, study, cut_off, 2)
    assert states(study) == ["COMPLETE"] * 2
    assert f"Waiting for the storage of studies at {here.render_as_string()}" in caplog.text

    storage_module.PATIENCE_SECONDS, before = 0.0, storage_module.PATIENCE_SECONDS
    door.shut()
    try:
        with pytest.raises(ConnectionError, match="The same command goes on from here"):
            with place.used():
                study.ask()
    finally:
        storage_module.PATIENCE_SECONDS = before


@pytest.mark.parametrize("url", ["nonsense", "postgres://me:p@s/secret@host/name"])
def test_a_url_that_is_none_is_told_with_those_that_are(url):
    with pytest.raises(ConnectionError, match=r"pip install psycopg2-binary") as caught:
        Storage.open(url)
    assert "secret" not in str(caught.value)
