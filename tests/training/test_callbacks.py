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


# The end, whatever happens


class Says(Callback):
    """Notes its end, and may raise there."""

    def __init__(self, name, said, error=None):
        self.name, self.said, self.error = name, said, error

    def on_fit_end(self, trainer, result):
        self._note("end")

    def on_fit_error(self, trainer, result, error):
        self._note("error")

    def _note(self, what):
        self.said.append(f"{self.name} {what}")
        if self.error is not None:
            raise self.error


def test_callbacks_end_in_reverse_order():
    said = []
    fit(new_trainer(callbacks=[Says("a", said), Says("b", said), Says("c", said)]), 1)
    assert said == ["c end", "b end", "a end"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_one_that_raises_at_the_end_keeps_no_other_from_its_end(error, caplog):
    said, late = [], ValueError("late")
    callbacks = [Says("a", said, late), Says("b", said, error), Recorder(), Says("c", said)]
    with pytest.raises(type(error)) as caught:
        fit(new_trainer(callbacks=callbacks), 1)
    assert caught.value is error
    assert said == ["c end", "b end", "a end"]  # and nobody is told of an error after its end
    assert callbacks[2].calls == ["start", "epoch 1", "end"]
    assert callbacks[2].result.status == "finished"
    assert "late" in caplog.text


@pytest.mark.parametrize("own", [OSError("full"), SystemExit(143)])
def test_one_that_raises_after_an_error_hides_neither_it_nor_the_others(own, caplog):
    said, first = [], RuntimeError("first")
    callbacks = [Says("a", said), Says("b", said, own), Says("c", said)]
    with pytest.raises(RuntimeError) as caught:
        fit(new_trainer(callbacks=[*callbacks, Raises("on_epoch_end", first)]), 2)
    assert caught.value is first
    assert said == ["c error", "b error", "a error"]
    assert "failed after the training had failed: " + repr(own) in caplog.text
