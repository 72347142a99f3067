from functools import partial

import pytest

from pyg_bsl.nn import Popularity
from pyg_bsl.training import Callback, ProgressBar, callbacks
from tests.planted import NUM_ITEMS, NUM_USERS
from tests.training.parts import Raises, Recorder, fit, new_trainer


@pytest.fixture
def every_step(monkeypatch):
    """A bar that is drawn at every step, however short."""
    eager = partial(callbacks.tqdm, mininterval=0, miniters=1)
    monkeypatch.setattr(callbacks, "tqdm", eager)


def test_hooks_come_in_order():
    trainer = new_trainer(callbacks=[recorder := Recorder()])
    result = fit(trainer, 2)
    assert recorder.calls == ["start", "epoch 1", "epoch 2", "end"]
    assert recorder.result is result and result.status == "finished"


def test_the_bare_callback_does_nothing():
    assert fit(new_trainer(callbacks=[Callback()]), 1).metrics == fit(new_trainer(), 1).metrics


@pytest.mark.usefixtures("every_step")
def test_the_bar_shows_epochs_loss_and_metric_and_goes_away(capsys):
    result = fit(new_trainer(callbacks=[ProgressBar("MF + SL")]), 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "MF + SL: 100%" in err and "3/3" in err
    assert f"loss={result.history[-1].loss:.4f}" in err
    assert f"valid ndcg@5={result.history[-1].valid['ndcg@5']:.4f}" in err
    assert err.rstrip(" ").endswith("\r")  # wiped


@pytest.mark.usefixtures("every_step")
def test_the_bar_keeps_the_last_metric_between_validations(capsys):
    result = fit(new_trainer(callbacks=[ProgressBar()], eval_every=2), 4)
    assert not result.history[2].valid
    loss, metric = result.history[2].loss, result.history[1].valid["ndcg@5"]
    assert f"loss={loss:.4f}, valid ndcg@5={metric:.4f}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_the_bar_is_closed_when_training_breaks(error):
    bar = ProgressBar()
    with pytest.raises(type(error)):
        fit(new_trainer(callbacks=[bar, Raises("on_epoch_end", error)]))
    assert bar._bar is None


@pytest.mark.usefixtures("every_step")
def test_the_bar_takes_another_run(capsys):
    trainer = new_trainer(callbacks=[ProgressBar()])
    fit(trainer, 1)
    fit(trainer, 2)
    assert "2/2" in capsys.readouterr().err


def test_the_bar_of_a_model_that_does_not_train():
    bar = ProgressBar()
    fit(new_trainer(Popularity(NUM_USERS, NUM_ITEMS), callbacks=[bar]))
    assert bar._bar is None
