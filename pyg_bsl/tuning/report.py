"""What a study found."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from pyg_bsl.atomic import atomic_path
from pyg_bsl.evaluation import PROTOCOLS
from pyg_bsl.experiment import Experiment
from pyg_bsl.tuning.published import published
from pyg_bsl.tuning.spaces import shown, with_values
from pyg_bsl.tuning.storage import Storage, counts, identity_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

DEFAULT = -1  # Number that stands for the experiment as it was given, among those of trials.
EXPERIMENT = "experiment"  # User attribute: the experiment's configuration.
TOP = 10
LEAST = 5  # Trials below which a share of the variance means nothing.

Row = Mapping[str, Any]


def finals_name(study: str) -> str:
    """Name of the study that keeps a study's finals."""
    return f"{study} (finals)"


def retrain_name(study: str) -> str:
    """Name of the study that keeps a study's trainings of winner and default."""
    return f"{study} (retrained)"


def best_of(study: Study, number: int) -> list[FrozenTrial]:
    """The best completed trials by the metric, best first; of the Pareto front if there is one."""
    from optuna.trial import TrialState

    if len(study.directions) > 1:
        trials = study.best_trials
    else:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(trials, key=lambda trial: (-trial.values[0], trial.number))[:number]


@dataclass(frozen=True)
class Report:
    """What a study found.

    Args:
        name: Name of the study.
        study: Optuna's own object.
        identity: What its trials have in common.
        experiment: What was tuned, as it was given.
        trials: The trials that count.
        lost: Number of trials whose process died, or that were interrupted; each was run again.
        finals: Rows of the finals by number of the trial.
        retrained: Rows of the trainings of the winner and of the default (-1).
    """

    name: str
    study: Study = field(repr=False)
    identity: Mapping[str, Any] = field(repr=False)
    experiment: Experiment = field(repr=False)
    trials: Sequence[FrozenTrial] = field(repr=False)
    lost: int = 0
    finals: Mapping[int, Sequence[Row]] = field(default_factory=dict, repr=False)
    retrained: Mapping[int, Sequence[Row]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, storage: Storage, name: str) -> Report:
        """The report of a study in the storage.

        Raises:
            ValueError: If there is no such study, or no trial of it was finished.
        """
        study = storage.load(name)
        identity = identity_of(study)
        every = study.get_trials()
        report = cls(
            name,
            study,
            identity,
            Experiment.from_config(study.user_attrs[EXPERIMENT]),
            trials=[trial for trial in every if counts(trial)],
            lost=sum(not counts(trial) for trial in every),
            finals=_rows(storage, finals_name(name)),
            retrained=_rows(storage, retrain_name(name)),
        )
        if not best_of(study, 1):
            errors = [t.user_attrs["error"] for t in every if "error" in t.user_attrs]
            why = f"; the first that failed: {errors[0]}" if errors else ""
            raise ValueError(f"No trial of the study '{name}' was finished yet{why}")
        return report

    @property
    def metric(self) -> str:
        """The validation metric."""
        return self.identity["metric"]

    @property
    def on_test(self) -> bool:
        """Whether what is called validation is the test set."""
        return PROTOCOLS[self.identity["protocol"]].select_on == "test"

    @property
    def winner(self) -> FrozenTrial:
        """The trial with the best mean in the finals; without finals the best one."""
        numbers = {trial.number: trial for trial in self.trials}
        full = max((len(rows) for rows in self.finals.values()), default=0)
        means = {
            number: mean(row["valid"][self.metric] for row in rows)
            for number, rows in self.finals.items()
            if len(rows) == full and number in numbers
        }
        if means:
            return numbers[max(means, key=lambda number: (means[number], -number))]
        return best_of(self.study, 1)[0]

    @property
    def config(self) -> dict[str, Any]:
        """The winning experiment, as ``pyg-bsl train --config`` takes it."""
        return with_values(self.experiment, self.winner.params).config()

    def states(self) -> dict[str, int]:
        """Number of trials by state."""
        return dict(Counter(trial.state.name.lower() for trial in self.trials))

    def final(self, number: int, split: str = "valid") -> tuple[float, float, int] | None:
        """Mean of a trial's metric in the finals, its standard error, and the number of seeds."""
        values = [row[split][self.metric] for row in self.finals.get(number, ()) if split in row]
        if not values:
            return None
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return mean(values), error, len(values)

    def next_seed(self) -> int:
        """The first seed that chose nothing."""
        finals = [row["seed"] for rows in self.finals.values() for row in rows]
        return 1 + max([self.experiment.seed + self.identity["seeds"] - 1, *finals])

    def importance(self) -> dict[str, float]:
        """Share of each parameter in the variance of the metric; empty where it cannot be told."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        if len(self.complete) < LEAST:
            return {}
        try:
            return get_param_importances(
                self.study,
                evaluator=FanovaImportanceEvaluator(seed=0),
                target=lambda trial: trial.values[0],
            )
        except (ImportError, RuntimeError, ValueError):  # too few trials, or all alike
            return {}

    def comparison(self, split: str) -> Comparison | None:
        """The winner beside the default, on the seeds that both were trained on."""
        by_seed = {
            number: {row["seed"]: row[split][self.metric] for row in rows if split in row}
            for number, rows in self.retrained.items()
        }
        found, default = by_seed.get(self.winner.number, {}), by_seed.get(DEFAULT, {})
        seeds = sorted(found.keys() & default.keys())
        if not seeds:
            return None
        return Comparison([found[s] for s in seeds], [default[s] for s in seeds], seeds)

    def numbers(self) -> dict[str, float]:
        """Numbers for MLflow."""
        winner = self.winner
        out = {f"trials_{state}": float(number) for state, number in self.states().items()}
        out["trials_lost"] = float(self.lost)
        out[f"valid_best/{self.metric}"] = winner.values[0]
        for split in ("valid", "test"):
            if final := self.final(winner.number, split):
                out[f"{split}_final/{self.metric}"] = final[0]
            if comparison := self.comparison(split):
                out[f"{split}_retrained/{self.metric}"] = mean(comparison.found)
                out[f"{split}_default/{self.metric}"] = mean(comparison.default)
        return out

    def curve(self) -> list[tuple[int, float]]:
        """Number and metric of each completed trial."""
        return [(trial.number, trial.values[0]) for trial in self.complete]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that ran to their end."""
        return [trial for trial in self.trials if trial.state.name == "COMPLETE"]

    def note(self) -> str:
        """The report in Markdown, its first line the result."""
        winner, metric, valid = self.winner, self.metric, self._valid
        states = ", ".join(f"{number} {state}" for state, number in self.states().items())
        lines = [
            f"**{valid} {metric} {winner.values[0]:.4f}** at trial {winner.number}: "
            f"{shown(winner.params)}",
        ]
        if self.on_test:
            lines += [
                f"The protocol '{self.identity['protocol']}' chooses on the test set: so did this "
                "study, and its results are optimistic."
            ]
        lost = f"; {self.lost} lost and run again" if self.lost else ""
        number = len(self.trials)
        lines += [f"{number} trial{'s' * (number > 1)}: {states}{lost}."]
        for split in ("valid", "test"):
            if final := self.final(winner.number, split):
                name = valid if split == "valid" else split
                seeds = f"{final[2]} fresh seed{'s' * (final[2] > 1)}"
                lines += [f"On {seeds}: {name} {metric} {_pm(final[0], final[1])}."]
        if not self.finals and "test" in (row := winner.user_attrs["kept"][0]):
            lines += [f"Its test {metric}: {row['test'][metric]:.4f}."]
        text = "\n\n".join(lines)
        for title, table in self.tables().items():
            text += f"\n\n### {title}\n\n{table}"
        return text + "\n"

    @property
    def _valid(self) -> str:
        return "test, as valid," if self.on_test else "valid"

    def tables(self) -> dict[str, str]:
        """Tables in Markdown, by title."""
        out = {"Best trials": self._top()}
        if importance := self.importance():
            rows = [[name, f"{share:.2f}"] for name, share in importance.items()]
            out["Importance"] = markdown(["parameter", "share of the variance"], rows)
        if retrained := self._retrained():
            out["Retrained"] = retrained
        if table := self._published():
            out["Published hyper-parameters"] = table
        return out

    def _top(self) -> str:
        names = list(self.identity["space"])
        objectives = [self.metric, *self.identity["also"]]
        several = len(objectives) > 1
        head = ["trial", *objectives, *(["on fresh seeds"] if self.finals else []), *names]
        rows = []
        for trial in best_of(self.study, TOP):
            mark = " *" if trial.number == self.winner.number else ""
            final = self.final(trial.number)
            again = [_pm(final[0], final[1]) if final else ""] if self.finals else []
            values = [f"{value:.4f}" for value in trial.values]
            params = [shown({name: trial.params[name]}).partition("=")[2] for name in names]
            rows.append([f"{trial.number}{mark}", *values, *again, *params])
        front = "The Pareto front, by its first column. " if several else ""
        below = f"{front}Values are of {self._valid.rstrip(',')}; * is the one chosen"
        error = ", by its mean (± its standard error)" if self.finals else ""
        return f"{markdown(head, rows)}\n\n{below}{error}."

    def _retrained(self) -> str:
        rows = []
        for split in ("valid", "test"):
            if (c := self.comparison(split)) is None:
                continue
            name = self._valid.rstrip(",") if split == "valid" else split
            p = "" if (value := c.p_value()) is None else f"{value:.3g}"
            cells = [f"{_pm(mean(v), _deviation(v))}" for v in (c.found, c.default)]
            gain = mean(c.found) - mean(c.default)
            rows.append([f"{name} {self.metric}", *cells, f"{gain:+.4f}", p, str(len(c.seeds))])
        head = ["", "found", "default", "difference", "p (paired t-test)", "seeds"]
        below = "Mean ± standard deviation over the seeds, none of which chose anything."
        return f"{markdown(head, rows)}\n\n{below}" if rows else ""

    def _published(self) -> str:
        experiment = self.experiment
        there = published(self.identity["data"] or "", experiment.backbone, experiment.loss)
        if not there:
            return ""
        activation = with_values(experiment, self.winner.params).loss_args.get("activation", "relu")
        found = {**self.winner.params}
        rows = []
        for entry in there:
            if entry.values.get("loss.activation", activation) != activation:
                continue
            values = {k: v for k, v in entry.values.items() if k != "loss.activation"}
            rows.append([entry.source, shown(values), entry.note])
        rows.append(["this study", shown(found), ""])
        return markdown(["source", "values", "note"], rows) if len(rows) > 1 else ""

    def folder(self, store: str | Path) -> Path:
        """Where the study's files are."""
        return Path(store) / "studies" / re.sub(r"[^\w.-]+", "-", self.name)

    def save(self, store: str | Path) -> list[Path]:
        """Write what was found; the files.

        They are ``best.json`` (for ``pyg-bsl train --config``), the report, a table of all trials,
        and figures.
        """
        from pyg_bsl.tuning.figures import save_figures

        folder = self.folder(store)
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "best.json": json.dumps(self.config, indent=2) + "\n",
            "report.md": f"# Study {self.name}\n\n{self.note()}",
        }
        files = []
        for name, text in texts.items():
            with atomic_path(folder / name) as part:
                part.write_text(text)
            files.append(folder / name)
        with atomic_path(folder / "trials.csv") as part, part.open("w", newline="") as file:
            self._write_trials(csv.writer(file))
        return [*files, folder / "trials.csv", *save_figures(self, folder)]

    def _write_trials(self, writer: Any) -> None:
        names, metrics = list(self.identity["space"]), [self.metric, *self.identity["also"]]
        writer.writerow(["trial", "state", *metrics, *names, "seconds", "error"])
        for t in self.trials:
            values = t.values if t.values is not None else [""] * len(metrics)
            seconds = round(t.duration.total_seconds(), 1) if t.duration else ""
            params = [t.params.get(name, "") for name in names]
            error = t.user_attrs.get("error", "")
            writer.writerow([t.number, t.state.name.lower(), *values, *params, seconds, error])


@dataclass(frozen=True)
class Comparison:
    """Two settings on the same seeds.

    Args:
        found: Values of the one.
        default: Values of the other.
        seeds: The seeds.
    """

    found: Sequence[float]
    default: Sequence[float]
    seeds: Sequence[int]

    def p_value(self) -> float | None:
        """Of the paired t-test; :obj:`None` where there is nothing to test.

        Example:
            >>> round(Comparison([3.0, 4.0, 6.0], [1.0, 1.0, 2.0], [0, 1, 2]).p_value(), 4)
            0.0351
        """
        differences = [a - b for a, b in zip(self.found, self.default, strict=True)]
        if len(differences) < 2 or stdev(differences) == 0:
            return None
        from scipy.stats import ttest_rel

        return float(ttest_rel(self.found, self.default).pvalue)


def _rows(storage: Storage, name: str) -> dict[int, list[Row]]:
    """Rows of the trainings in a study of jobs, by number of the trial that they are of."""
    from optuna.trial import TrialState

    if name not in {s.study_name for s in storage.optuna.get_all_studies()}:
        return {}
    out: dict[int, list[Row]] = defaultdict(list)
    for trial in storage.load(name).get_trials(states=(TrialState.COMPLETE,)):
        out[trial.params["trial"]] += trial.user_attrs["kept"]
    return dict(out)


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan


def _pm(value: float, spread: float) -> str:
    return f"{value:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table.

    Example:
        >>> print(markdown(["a", "b"], [["1", "2"]]))
        | a | b |
        | --- | --- |
        | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
