"""The training loop."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pyg_bsl.checks import check_count, check_number, check_share
from pyg_bsl.evaluation import PROTOCOLS, Protocol, Similarity, evaluate
from pyg_bsl.losses import Loss
from pyg_bsl.metrics import parse_metric
from pyg_bsl.names import pick
from pyg_bsl.nn import Backbone
from pyg_bsl.ops.compiler import processor_has
from pyg_bsl.ops.native_tiles import has_pair_products
from pyg_bsl.sampling import AllItems, BatchLoader, InBatch, Sampler, Shared
from pyg_bsl.space import Choice, LogUniform, Space
from pyg_bsl.training.callbacks import Callback, end_all, fail_all
from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.training.scoring import context, hardest, score
from pyg_bsl.training.weights import Average, KeptWeights
from pyg_bsl.types import Batch, BipartiteGraph, Embeddings, Negatives

T = TypeVar("T")

log = logging.getLogger("pyg_bsl")

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""Factor of the learning rate by the share of steps that are done."""


class NonFiniteLossError(ArithmeticError):
    """The training loss became NaN or infinite."""


class Trainer:
    r"""Trains a backbone with a loss; one loop for all of them.

    A step samples negatives, scores the batch, takes the loss and updates with Adam. After every
    ``eval_every`` epochs the metric is measured on validation data; the weights of the best epoch
    are what is left in the backbone at the end. The same seed on the same CPU gives the same
    result to the bit.

    Args:
        backbone: Gives the embeddings.
        loss: Loss over positive and negative scores.
        sampler: Chooses negatives; :obj:`None`: the whole catalogue for a loss that reduces the
            negatives once a user (:attr:`Loss.per_user <pyg_bsl.losses.Loss.per_user>`), the
            batch's own pairs for one that uses no negatives, 1024 shared by the batch for the
            others.
        lr: Learning rate of Adam; :obj:`None`: for vectors kept at length 1, where it is a step's
            turn of each component, 0.05 (0.1 with fewer than 4096 users); else 0.01.
        betas: Adam's decay of the gradient's mean and square. A training here is hundreds of large
            steps and not hundreds of thousands: a shorter memory of the squares learns faster.
        batch_size: Most users (or pairs) of a batch; :obj:`None`: 2048, or a twelfth of all if that
            is less.
        batch_by: ``"user"``: a batch is users with all their positives; ``"pair"``: single
            positives; :obj:`None`: what suits the sampler.
        schedule: Course of the learning rate over all steps: ``"linear"`` or ``"cosine"`` down to
            0, or ``"constant"``.
        weight_decay: Adam's weight decay on the backbone's parameters.
        l2: Weight of the squared norms of the batch's embeddings, users, positives and sampled
            negatives, over the number of rows.
        unit_norm: Whether each learned vector of a user or item is put back to length 1 after
            every step. Vectors that train on cosines grow otherwise, and their steps shrink;
            :obj:`None` does so when training a backbone that wants it
            (:attr:`Backbone.unit_norm <pyg_bsl.nn.Backbone.unit_norm>`) on cosines.
        grad_clip: Largest norm of the gradient; :obj:`None` does not clip.
        average: About the share of the steps so far, the latest, over which the backbone's weights
            are averaged for evaluation and for keeping; 0: those of the last step. It helps where
            the best epoch comes long before the learning rate has fallen to 0. Means of vectors of
            length 1 are shorter (see :class:`~pyg_bsl.training.weights.Average`).
        similarity: Scores to train on, ``"cosine"`` or ``"dot"``; :obj:`None`: what the loss is
            meant for.
        rank_by: Scores to rank by; :obj:`None`: what the backbone is meant for, else those
            trained on.
        pool_positives: Whether the loss is told the users of the rows, so that BSL pools a user's
            positives in the batch.
        precision: ``"auto"``: the gradients by way of the scores of shared negatives and of the
            whole catalogue are products of bfloat16 numbers where the device multiplies these
            faster (GPU tensor cores, Intel's AMX, AMD's AVX512-BF16), else of float32 ones. The
            scores themselves, and all sums, exponentials and weights, are float32: over the same
            vectors a loss has the value it has in float32, and its gradient is off by half a per
            cent. (In compiled code on such CPUs scores are off by about 1e-5 of the vectors'
            lengths, and the loss by that over the temperature or less.) ``"bfloat16"``: so on any
            device, and the products in the backbone and in the scores of negatives drawn for each
            row too (under autocast). ``"float32"``: nowhere.
        k: List lengths to report metrics at.
        metric: Validation metric by which epochs are compared.
        protocol: Evaluation protocol, by name or itself.
        eval_every: Epochs between validations.
        patience: Validations without improvement after which training stops; :obj:`None` never.
        callbacks: What else should happen.
        seed: Seed of batches, negatives and dropout.
        device: Where to train; :obj:`None` takes the GPU if there is one.

    Raises:
        TypeError: If a part is not an object of its kind.
        ValueError: If an argument is out of its range.
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "lr": LogUniform(0.001, 0.3),
        "weight_decay": Choice((0.0, 1e-6, 1e-5, 1e-4)),
        "epochs": Choice((10, 20, 40)),
    }
    """Arguments worth tuning, that of :meth:`fit` among them."""

    def __init__(
        self,
        backbone: Backbone,
        loss: Loss,
        sampler: Sampler | None = None,
        *,
        lr: float | None = None,
        betas: Sequence[float] = (0.9, 0.95),
        batch_size: int | None = None,
        batch_by: Literal["user", "pair"] | None = None,
        schedule: Literal["linear", "cosine", "constant"] = "linear",
        weight_decay: float = 0.0,
        l2: float = 0.0,
        unit_norm: bool | None = None,
        grad_clip: float | None = None,
        average: float = 0.0,
        similarity: Similarity | None = None,
        rank_by: Similarity | None = None,
        pool_positives: bool = False,
        precision: Literal["float32", "bfloat16", "auto"] = "auto",
        k: int | Sequence[int] = (10, 20),
        metric: str = "ndcg@20",
        protocol: str | Protocol = "holdout",
        eval_every: int = 5,
        patience: int | None = None,
        callbacks: Iterable[Callback] = (),
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        self.backbone = _part("backbone", backbone, Backbone)
        self.loss = _part("loss", loss, Loss)
        asked = {"sampler": sampler, "lr": lr, "batch_size": batch_size}
        self._own_choices = [name for name, value in asked.items() if value is None]
        if sampler is None:
            sampler = _default_sampler(loss)
        self.sampler = _part("sampler", sampler, Sampler)
        self.batch_size = None if batch_size is None else check_count("batch_size", batch_size)
        self.batch_by = self.sampler.batch_by if batch_by is None else batch_by
        pick("batch_by", self.batch_by, {"user": None, "pair": None})
        pick("schedule", schedule, SCHEDULES)
        self.schedule = schedule
        self.weight_decay = check_number("weight_decay", weight_decay, least=0)
        self.l2 = check_number("l2", l2, least=0)
        self.grad_clip = (
            None if grad_clip is None else check_number("grad_clip", grad_clip, above=0)
        )
        self.average = check_share("average", average)
        self.similarity: Similarity = similarity or loss.similarity
        self.rank_by: Similarity = rank_by or type(backbone).similarity or self.similarity
        for scores in (self.similarity, self.rank_by):
            pick("similarity", scores, {"cosine": None, "dot": None})
        if unit_norm is None:
            unit_norm = backbone.unit_norm and self.similarity == "cosine"
        self.unit_norm = unit_norm
        if lr is None:
            turn = 0.05 if backbone.num_users >= 4096 else 0.1
            lr = turn if self.unit_norm else 0.01
        self.lr = check_number("lr", lr, above=0)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"'betas' must be two numbers of at least 0 and below 1 (got {betas})")
        self.betas = (float(betas[0]), float(betas[1]))
        self.pool_positives = pool_positives
        pick("precision", precision, {"float32": None, "bfloat16": None, "auto": None})
        self.precision = precision
        name, at = parse_metric(metric)
        self.metric = f"{name}@{at}"
        lengths = [k] if isinstance(k, int) else k
        self.k = tuple(sorted({check_count("k", length) for length in (*lengths, at)}))
        self.protocol = (
            pick("protocol", protocol, PROTOCOLS) if isinstance(protocol, str) else protocol
        )
        self.eval_every = check_count("eval_every", eval_every)
        self.patience = None if patience is None else check_count("patience", patience)
        self.callbacks = tuple(callbacks)
        if not 0 <= seed < 2**63:
            raise ValueError(f"'seed' must be at least 0 and below 2**63 (got {seed})")
        self.seed = seed
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = _check_device(device)
        auto = precision == "auto" and has_bfloat16_units(self.device)
        self._gemm = torch.bfloat16 if auto or precision == "bfloat16" else None
        self.should_stop = False

    def config(self) -> dict[str, Any]:
        """The parts by name with their arguments, and the trainer's own settings."""
        own = describe(self, skip=("backbone", "loss", "sampler", "callbacks", "device", "seed"))
        own["protocol"] = self.protocol.name
        del own["name"]
        return {
            "backbone": describe(self.backbone, skip=("num_users", "num_items")),
            "loss": describe(self.loss),
            "sampler": describe(self.sampler),
            "trainer": own,
        }

    def fit(
        self,
        graph: BipartiteGraph,
        epochs: int = 40,
        *,
        config: Mapping[str, Any] | None = None,
        asked: Mapping[str, Any] | None = None,
        load_seconds: float = 0.0,
    ) -> FitResult:
        """Train, and leave the best epoch's weights in the backbone.

        The backbone and the loss train on :attr:`device` and go back to where they came from, the
        backbone ready to be used (``eval()``), its ``similarity`` that of ``rank_by``.

        Args:
            graph: Data to train and evaluate on.
            epochs: Passes over the training pairs.
            config: What the result and the callbacks should say of the run's settings (default:
                :meth:`config` and the epochs).
            asked: What of it was asked for and not chosen here, for the result.
            load_seconds: Time that loading the data took, for the result.

        Raises:
            NonFiniteLossError: If the loss becomes NaN or infinite. The backbone then holds the
                last good weights.
            TypeError: If ``graph`` is no :class:`~pyg_bsl.types.BipartiteGraph`.
            ValueError: If the data do not fit the backbone, or ``patience`` is given without
                validation data.
        """
        self._check(graph, epochs)
        started = time.perf_counter()
        result = FitResult(
            config=dict(config) if config is not None else self.config() | {"epochs": epochs},
            asked=None if asked is None else dict(asked),
            data={"name": graph.name, "digest": graph.digest},
            protocol=self.protocol.name,
            selected_on=self.protocol.select_on,
            seed=self.seed,
            num_users=graph.num_users,
            num_items=graph.num_items,
            num_train=graph.train.num_pairs,
            epochs=epochs,
            seconds={"load": load_seconds, "train": 0.0, "evaluate": 0.0, "total": 0.0},
        )

        def clock() -> None:
            result.seconds["total"] = load_seconds + time.perf_counter() - started
            result.peak_memory_mib = peak_memory_mib(self.device)

        told: list[Callback] = []
        try:
            for callback in self.callbacks:
                told.append(callback)
                callback.on_fit_start(self, graph, result)
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices):
                torch.manual_seed(self.seed)
                with visiting(self.device, self.backbone, self.loss):
                    self._train(graph, result)
            clock()
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
            result.status = "interrupted" if interrupted else "failed"
            clock()
            fail_all(told, self, result, error)
            raise
        end_all(told, self, result)
        return result

    def step_loss(self, graph: BipartiteGraph, batch: Batch, negatives: Negatives) -> Tensor:
        """Training loss of one batch, a scalar with gradients."""
        autocast = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            emb = self.backbone(graph)
            negatives = hardest(emb, batch, negatives, self.similarity)
            pos, neg = score(emb, batch, negatives, self.similarity, self._gemm)
        needs = {*self.loss.needs, *(("users",) if self.pool_positives else ())}
        loss: Tensor = self.loss(pos, neg, **context(emb, batch, negatives, needs))
        auxiliary = self.backbone.auxiliary_loss(emb, batch)
        if auxiliary is not None:
            loss = loss + auxiliary
        if self.l2 > 0:
            touched = [emb.user.index_select(0, batch.users), emb.item.index_select(0, batch.items)]
            if negatives.items is not None:
                touched.append(emb.item.index_select(0, negatives.items.flatten()))
            squares = torch.stack([x.float().square().sum() for x in touched]).sum()
            loss = loss + self.l2 * squares / batch.items.numel()
        return loss

    def _check(self, graph: BipartiteGraph, epochs: int) -> None:
        check_count("epochs", epochs)
        if not isinstance(graph, BipartiteGraph):
            raise TypeError(
                f"'graph' must be a BipartiteGraph (got {type(graph).__name__}): make one with "
                "pyg_bsl.data.build_graph(data)"
            )
        self.backbone.check_size(graph)
        if self.patience is not None and not self._can_validate(graph):
            raise ValueError(
                "'patience' needs validation data: hold some out first "
                "(pyg_bsl.data.HoldoutValidation), or leave 'patience' out"
            )
        if not self._can_validate(graph):
            log.warning(
                "%s has no validation pairs: the last epoch is taken, not the best one. Hold some "
                "out with pyg_bsl.data.HoldoutValidation",
                graph.name,
            )
        elif self.protocol.select_on == "test":
            log.warning(
                "The protocol '%s' chooses the epoch on the test set: the results are optimistic, "
                "and not to be compared with those of protocols that choose on validation",
                self.protocol.name,
            )

    def _can_validate(self, graph: BipartiteGraph) -> bool:
        rows = graph.test if self.protocol.select_on == "test" else graph.valid
        return rows is not None and rows.num_pairs > 0

    def _train(self, graph: BipartiteGraph, result: FitResult) -> None:
        """Move everything to the device, run the epochs, and evaluate the best one."""
        loader = BatchLoader(
            graph.train.to("cpu"), self.batch_size, self.batch_by, self.sampler.needs_seen
        )
        self._tell_own_choices(loader)
        self.backbone.similarity = self.rank_by
        graph = graph.to(self.device)
        self.loss.setup(graph.train)
        model = nn.ModuleList([self.backbone, self.loss]).to(self.device)
        self.backbone.setup(graph)
        best, good = KeptWeights(model), KeptWeights(model)
        try:
            if any(p.requires_grad for p in self.backbone.parameters()):
                self._epochs(graph, model, loader, result, best, good)
        except BaseException:
            (best if result.best_epoch else good).load()
            if result.epochs_run:  # before that they are the initial ones, of no use to anybody
                result.state_dict = self._weights()
            raise
        if result.best_epoch:
            best.load()
        else:  # never validated: the last epoch stands
            if self.average > 0:
                good.load()
            result.best_epoch = result.epochs_run
            if self._can_validate(graph):
                result.metrics["valid"] = self._evaluate(graph, "valid", result)
        result.state_dict = self._weights()
        if graph.test is not None and graph.test.num_pairs > 0:
            result.metrics["test"] = self._evaluate(graph, "test", result)
        early = 0 < result.epochs_run < result.epochs
        result.status = "stopped" if early else "finished"

    def _epochs(
        self,
        graph: BipartiteGraph,
        model: nn.Module,
        loader: BatchLoader,
        result: FitResult,
        best: KeptWeights,
        good: KeptWeights,
    ) -> None:
        """The loop: ``best`` keeps the best epoch's weights, ``good`` the last finite ones."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        learned = [p for p in self.backbone.parameters() if p.requires_grad]
        own = [{"weight_decay": 0.0, **group} for group in self.loss.parameter_groups(self.lr)]
        optimizer = torch.optim.Adam(
            [{"params": learned}, *own],
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        total_steps, factor = result.epochs * len(loader), SCHEDULES[self.schedule]
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(min(1.0, step / total_steps))
        )
        average = Average(learned, self.average)
        host = Generator().manual_seed(self.seed)
        generator = Generator(self.device).manual_seed(self.seed)
        stale = 0
        self.should_stop = False
        for epoch in range(1, result.epochs + 1):
            started = time.perf_counter()
            self.loss.on_epoch_start(epoch, graph.train, lambda: self._embeddings(graph))
            model.train()
            losses, counts, lr = [], [], self.lr
            for batch in loader.epoch(host):
                batch = batch.to(self.device)
                negatives = self.sampler.sample(batch, graph.train, generator)
                loss = self.step_loss(graph, batch, negatives)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if self.grad_clip is not None:
                    nn.utils.clip_grad_norm_(parameters, self.grad_clip)
                lr = float(scheduler.get_last_lr()[0])
                optimizer.step()
                scheduler.step()
                if self.unit_norm:
                    self._normalize()
                self.loss.after_step()
                average.update()
                losses.append(loss.detach())
                counts.append(batch.items.numel())
            values = torch.stack(losses).cpu().double()
            seconds = time.perf_counter() - started
            result.seconds["train"] += seconds
            self._check_finite(values, model, epoch, lr)
            with average:
                good.save()

                metrics: dict[str, float] = {}
                last = epoch == result.epochs
                if self._can_validate(graph) and (epoch % self.eval_every == 0 or last):
                    metrics = self._evaluate(graph, "valid", result)
                so_far = result.metrics.get("valid", {}).get(self.metric, -math.inf)
                improved = bool(metrics) and metrics[self.metric] > so_far
                if improved:
                    best.save()
                    result.metrics["valid"], result.best_epoch, stale = metrics, epoch, 0
                elif metrics:
                    stale += 1
                weights = torch.tensor(counts, dtype=torch.double)
                mean = float((values * weights).sum() / weights.sum())
                record = EpochRecord(epoch, mean, lr, seconds, metrics, improved)
                result.history.append(record)
                for callback in self.callbacks:
                    callback.on_epoch_end(self, record)
            if self.should_stop or (self.patience is not None and stale >= self.patience):
                break

    def _tell_own_choices(self, loader: BatchLoader) -> None:
        size = f"{loader.batch_size} {self.batch_by}s"
        values = {"sampler": self.sampler, "lr": self.lr, "batch_size": size}
        told = ", ".join(f"{name} {values[name]}" for name in self._own_choices)
        if told:
            log.info("Chosen by the trainer: %s", told)

    @torch.no_grad()
    def _normalize(self) -> None:
        for table in self.backbone.tables():
            F.normalize(table, dim=1, out=table)

    @torch.no_grad()
    def _embeddings(self, graph: BipartiteGraph) -> Embeddings:
        """Vectors whose inner products are the scores that are trained on."""
        emb = self.backbone.eval()(graph)
        if self.similarity == "dot":
            return emb
        return Embeddings(F.normalize(emb.user, dim=1), F.normalize(emb.item, dim=1))

    @torch.no_grad()
    def _evaluate(self, graph: BipartiteGraph, split: str, result: FitResult) -> dict[str, float]:
        started = time.perf_counter()
        self.backbone.eval()
        metrics = evaluate(
            self.backbone(graph),
            graph,
            split=split,
            k=self.k,
            protocol=self.protocol,
            similarity=self.rank_by,
        )
        result.seconds["evaluate"] += time.perf_counter() - started
        return metrics

    def _weights(self) -> dict[str, Tensor]:
        return {key: x.detach().cpu().clone() for key, x in self.backbone.state_dict().items()}

    def _check_finite(self, losses: Tensor, model: nn.Module, epoch: int, lr: float) -> None:
        """Raise if a loss of the epoch, or a weight at its end, is not finite."""
        bad = (~losses.isfinite()).nonzero()
        broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
        if not len(bad) and not broken:
            return
        step = int(bad[0]) + 1 if len(bad) else losses.numel()
        what = f"loss became {losses[step - 1].item()}" if len(bad) else "weights became non-finite"
        if len(bad) and step == 1 and epoch == 1:
            cause = "the loss is not finite on the first batch: check its arguments"
        elif broken:
            # A model is [backbone, loss]: "0.user_embedding" is the backbone's.
            names = ", ".join(name.partition(".")[2] for name in broken)
            cause = (
                f"the weights ({names}) left the finite range, most likely because the learning "
                f"rate ({self.lr:g}) is too high"
            )
        else:
            cause = "the loss overflowed on finite weights: check its arguments"
        raise NonFiniteLossError(
            f"The {what} at epoch {epoch}, step {step} of {losses.numel()} (learning rate {lr:g}): "
            f"{cause}. Try a smaller 'lr', 'grad_clip', or a larger temperature; loss: "
            f"{self.loss}. The last good weights are kept."
        )


@contextmanager
def visiting(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Modules are on ``device`` inside; afterwards each is where it was, in evaluation mode."""
    homes = []
    for module in modules:
        tensor = next((x for xs in (module.parameters(), module.buffers()) for x in xs), None)
        homes.append(torch.device("cpu") if tensor is None else tensor.device)
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home).eval()


def _default_sampler(loss: Loss) -> Sampler:
    if not loss.uses_negatives:
        return InBatch(drop_hits=False)
    return AllItems() if loss.per_user else Shared(1024)


def describe(part: object, skip: Iterable[str] = ()) -> dict[str, Any]:
    """Name and constructor arguments of a part, which keeps them as attributes."""
    parameters = inspect.signature(type(part)).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    values = {name: getattr(part, name) for name in named if name not in {*skip}}
    wrapped = {name: describe(x) for name, x in values.items() if isinstance(x, Sampler)}
    return {"name": type(part).__name__} | values | wrapped


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory so far, in MiB: of the device if it is a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _check_device(name: str | torch.device) -> torch.device:
    """The device, if a number can be put there and read back."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"'device' cannot be '{name}' here: {reason}") from error
    return device


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 ones there, as far as it can be told."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return processor_has("amx_bf16") or has_pair_products()
    return False


def _part(name: str, value: T, kind: type[T]) -> T:
    """``value`` if it is an object of the kind, not its class or its name."""
    if not isinstance(value, kind):
        raise TypeError(
            f"'{name}' must be a {kind.__name__} object, made with its arguments (got {value!r})"
        )
    return value
