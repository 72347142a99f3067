"""Search spaces of the papers, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pyg_bsl.experiment import Experiment
from pyg_bsl.names import pick
from pyg_bsl.space import Choice, Space
from pyg_bsl.tuning.spaces import default_space, given_by, without

_TAU = Choice((0.01, 0.05, 0.1, 0.2, 0.5))


@dataclass(frozen=True)
class Preset:
    """A ready-made search space.

    Args:
        description: What it is, and where its numbers are from.
        losses: Space of each loss.
        common: Space whatever the loss.
    """

    description: str
    losses: Mapping[str, Mapping[str, Space]]
    common: Mapping[str, Space] = field(default_factory=dict)


_PSL = Preset(
    "The grid of the PSL paper (arXiv:2411.00163, appendix B.5), as its authors' code "
    "(IR-Benchmark, hyper.py) searches it. Temperatures but PSL's own are on the full cosine here, "
    "twice those of the paper's tables.",
    losses={
        "BPR": {"trainer.lr": Choice((0.1, 0.01, 0.001, 0.0001))},
        "LLPAUC": {
            "loss.alpha": Choice((0.1, 0.3, 0.5, 0.7, 0.9)),
            "loss.beta": Choice((0.01, 0.1)),
        },
        "AdvInfoNCE": {"loss.tau": _TAU},
        "SL": {"loss.tau": _TAU},
        "BSL": {"loss.tau1": _TAU, "loss.tau2": _TAU},
        "PSL": {"loss.tau": Choice((0.005, 0.025, 0.05, 0.1, 0.25))},
    },
    common={
        "trainer.lr": Choice((0.1, 0.01, 0.001)),
        "trainer.weight_decay": Choice((0.0, 1e-4, 1e-5, 1e-6)),
    },
)

PRESETS: Mapping[str, Preset] = {
    "psl": _PSL,
    "ir-benchmark": Preset(
        "The grid of IR-Benchmark (github.com/Tiny-Snow/IR-Benchmark, src/itemrec/hyper.py), which "
        "the SL@K paper (arXiv:2508.05673, tables 11 to 14) reports the best values of: that of "
        "'psl', and SL@K's.",
        losses={
            **_PSL.losses,
            "SLatK": {
                "loss.tau": _TAU,
                "loss.tau_weight": Choice(tuple(0.25 * step for step in range(2, 13))),
                "loss.every": Choice((5, 20)),
            },
        },
        common=_PSL.common,
    ),
    "bsl": Preset(
        "No grid of the BSL paper (arXiv:2312.12882), which gives no ranges: the values that its "
        "authors' released runs use (github.com/junkangwu/BSL), over all their data sets and both "
        "backbones. Their first temperature is tau2 here, their second one the weight; tau1 plays "
        "no part unless positives are pooled.",
        losses={
            "SL": {"loss.tau": Choice((0.08, 0.11, 0.12, 0.14, 0.15, 0.17, 0.3))},
            "BSL": {
                "loss.tau2": Choice((0.08, 0.11, 0.12, 0.14, 0.15, 0.17, 0.3)),
                "loss.weight": Choice((0.8, 0.84, 1.06, 1.1, 1.12, 1.22, 1.32)),
            },
        },
        common={
            "trainer.lr": Choice((0.0001, 0.0005, 0.001)),
            "trainer.l2": Choice((1e-9, 1e-5, 1e-3, 0.1)),
        },
    ),
}
"""The spaces by name."""


def preset_space(
    name: str, experiment: Experiment, given: Collection[str] = ()
) -> dict[str, Space]:
    """The space called ``name`` for the experiment's loss, but for what the experiment sets.

    Args:
        name: One of :data:`PRESETS`; ``"default"``: what the parts say is worth tuning;
            ``"none"``: nothing, to start from.
        experiment: Names the loss.
        given: Names that are not tuned either.

    Raises:
        ValueError: If there is no such space, or none for the loss.
    """
    if name == "none":
        return {}
    if name == "default":
        return default_space(experiment, given)
    preset = pick("preset", name, {**PRESETS, "default": None, "none": None})
    assert preset is not None
    if experiment.loss not in preset.losses:
        raise ValueError(
            f"The preset '{name}' has no space for the loss '{experiment.loss}'; it has those of "
            f"{', '.join(preset.losses)}"
        )
    space = {**preset.common, **preset.losses[experiment.loss]}
    return without(space, {*given, *given_by(experiment)})
