"""The papers' spaces hold the papers' own best values."""

import pytest

from pyg_bsl.data.table import DATASETS
from pyg_bsl.experiment import Experiment
from pyg_bsl.nn import BACKBONES
from pyg_bsl.tuning.presets import PRESETS, preset_space
from pyg_bsl.tuning.published import all_published
from pyg_bsl.tuning.spaces import check_space, grid, with_values

PAPERS = {"PSL table B.2": "psl", "PSL table B.3": "psl", "SL@K tables 11-14": "ir-benchmark"}
PAPERS |= {"BSL released logs": "bsl"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_experiments(name):
    for loss, own in PRESETS[name].losses.items():
        experiment = Experiment("movielens-small", loss=loss)
        space = preset_space(name, experiment)
        assert check_space(space, experiment).keys() >= own.keys()
        assert len(grid(space)) > 1


@pytest.mark.parametrize("source", PAPERS)
def test_every_published_best_value_lies_in_the_papers_space(source):
    entries = [entry for entry in all_published() if entry.source == source]
    assert entries
    for entry in entries:
        space = preset_space(PAPERS[source], Experiment(entry.dataset, loss=entry.loss))
        for name, value in entry.values.items():
            if name in space:
                assert value in space[name].values, entry


def test_published_values_make_experiments():
    for entry in all_published():
        assert entry.dataset in DATASETS and entry.backbone in BACKBONES
        base = Experiment(entry.dataset, loss=entry.loss, backbone=entry.backbone)
        with_values(base, entry.values)


def test_two_papers_agree_on_the_scale_of_the_temperatures():
    """PSL's tables are on the half cosine, SL@K's on the full one: here both are on the full."""
    by = {(e.source, e.dataset, e.backbone, e.loss): e.values for e in all_published()}
    pairs = [
        (values["loss.tau"], by["SL@K tables 11-14", *key[1:]]["loss.tau"])
        for key, values in by.items()
        if key[0] == "PSL table B.2" and key[3] in ("SL", "AdvInfoNCE")
        if ("SL@K tables 11-14", *key[1:]) in by
    ]
    assert len(pairs) >= 12
    assert all(ours == theirs for ours, theirs in pairs)


def test_what_the_experiment_sets_is_left_out():
    experiment = Experiment("movielens-small", loss_args={"tau": 0.1})
    assert preset_space("psl", experiment).keys() == {"trainer.lr", "trainer.weight_decay"}
    assert preset_space("psl", experiment, {"trainer.lr"}).keys() == {"trainer.weight_decay"}
    assert preset_space("none", experiment) == {}


def test_a_preset_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="Unknown preset 'pls'; did you mean 'psl'"):
        preset_space("pls", Experiment("movielens-small"))
    with pytest.raises(ValueError, match="'bsl' has no space for the loss 'CCL'"):
        preset_space("bsl", Experiment("movielens-small", loss="CCL"))
