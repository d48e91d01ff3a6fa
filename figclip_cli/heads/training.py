"""Train a head: batches in, weights, metrics and checkpoints out; the same loop for every task."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.heads.chance import seed_of
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.learning_rate import learning_rate_factor
from figclip_cli.metrics_log import MetricsLog
from figclip_cli.models.tensors import load_tensors, save_tensors
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.stop_signals import StopSignals

_MODULE, _OPTIMIZER, _BEST = "module.", "optimizer.", "best."


@dataclass(frozen=True)
class Validation:
    """What held-out clips say.

    Attributes:
        score: Decides which epoch's weights are kept.
        higher_is_better: Direction.
        parts: Numbers for the log.
    """

    score: float
    higher_is_better: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)


class HeadTask(Protocol):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """The head; its parameters are trained."""
        ...

    def steps(self) -> int:
        """Return the number of batches of an epoch."""
        ...

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch, whose order and content follow from the seed and the epoch alone."""
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, a scalar, and its parts for the log."""
        ...

    def validate(self) -> Validation | None:
        """Score held-out clips; None where there are none. The module is in evaluation mode."""
        ...


@dataclass(frozen=True)
class FitSummary:
    """How a training ended.

    Attributes:
        epochs: Epochs done in all.
        steps: Steps done in all.
        best_epoch: The epoch, from 1, whose weights are kept.
        best_score: Its validation score; None without validation.
        train_seconds: Wall-clock time of this call.
        parameters: Trained parameters.
    """

    epochs: int
    steps: int
    best_epoch: int
    best_score: float | None
    train_seconds: float
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainSummary:
    """What a training made.

    Attributes:
        folder: The head.
        fitted: How it ended.
        config: What is in ``config.json``.
    """

    folder: HeadFolder
    fitted: FitSummary
    config: Mapping[str, Any]


@dataclass
class _Progress:
    """How far it is, and the best epoch so far; all of it is in the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float | None = None


def fit(
    task: HeadTask,
    folder: HeadFolder,
    options: TrainingOptions,
    *,
    resuming: bool = False,
    reporter: Reporter = SILENT,
) -> FitSummary:
    """Train to the end; the best weights are in ``folder.weights_file`` and in ``task.module`` afterwards.

    Call ``folder.check`` and ``folder.begin`` first, ``folder.finish`` after. A checkpoint is written after every
    epoch; a run that was stopped and resumed ends with the same bytes.

    Raises:
        VerificationError: A loss, gradient or validation score is not finite.
        InputError: The checkpoint is damaged.
        KeyboardInterrupt: A signal came; the epochs before are kept.
    """
    return _Fit(task, folder, options, reporter).run(resuming=resuming)


class _Fit:
    def __init__(self, task: HeadTask, folder: HeadFolder, options: TrainingOptions, reporter: Reporter) -> None:
        self._task, self._folder, self._options, self._reporter = task, folder, options, reporter
        self._optimizer = _optimizer(task.module, options)
        self._total_steps = options.epochs * task.steps()
        self._progress = _Progress()
        self._best: dict[str, Tensor] = {}

    def run(self, *, resuming: bool) -> FitSummary:
        if resuming:
            self._restore()
        begun = time.monotonic()
        log = MetricsLog(
            self._folder.metrics_file, step=self._progress.epoch * self._task.steps(), epoch=self._progress.epoch
        )
        stop = StopSignals(lambda: self._reporter.warn("stopping; the epochs before are kept, --resume goes on"))
        try:
            with stop, self._reporter.track("train", self._total_steps, "steps") as bar:
                bar.advance(self._progress.epoch * self._task.steps())
                while self._progress.epoch < self._options.epochs:
                    self._epoch(log, stop, bar)
        finally:
            log.close()
        self._task.module.load_state_dict(self._best)
        self._task.module.eval()
        save_tensors(self._folder.weights_file, self._best, {"epoch": self._progress.best_epoch})
        return FitSummary(
            self._progress.epoch,
            self._total_steps,
            self._progress.best_epoch,
            self._progress.best_score,
            time.monotonic() - begun,
            sum(parameter.numel() for parameter in self._task.module.parameters()),
        )

    def _epoch(self, log: MetricsLog, stop: StopSignals, bar: Any) -> None:
        """Train one epoch, validate, log and checkpoint."""
        number = self._progress.epoch
        torch.manual_seed(seed_of(self._options.seed, "epoch", number))
        self._task.module.train()
        found: dict[str, list[float]] = {}
        step = number * self._task.steps()
        for batch in self._task.batches(number):
            if stop.requested:
                raise KeyboardInterrupt
            parts = self._step(batch, step)
            step += 1
            bar.advance()
            for name, value in parts.items():
                found.setdefault(name, []).append(value)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        self._task.module.eval()
        validation = self._task.validate()
        self._progress.epoch = number + 1
        self._keep_best(validation)
        entry: dict[str, Any] = {"epoch": number + 1, "step": step, **means}
        if validation is not None:
            entry["validation"] = {"score": validation.score, **validation.parts}
        log.write(entry)
        log.flush()
        self._save()
        shown = "" if validation is None else f", validation {validation.score:.4g}"
        self._reporter.detail(f"epoch {number + 1}: loss {means['loss']:.4g}{shown}")

    def _step(self, batch: Any, step: int) -> dict[str, float]:
        loss, parts = self._task.loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self._options.max_gradient_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self._task.module.parameters(), limit)
        found = {"loss": float(loss.detach()), **parts}
        if not (math.isfinite(found["loss"]) and math.isfinite(float(norm))):
            raise VerificationError(
                f"step {step + 1}: the loss is {found['loss']}, the gradient's length {float(norm)}",
                "try a smaller --lr; the epochs before are kept",
            )
        factor = learning_rate_factor(
            step,
            warmup_steps=round(self._options.warmup * self._total_steps),
            schedule="cosine",
            total_steps=self._total_steps,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.lr * factor
        self._optimizer.step()
        return found

    def _keep_best(self, validation: Validation | None) -> None:
        if validation is not None and not math.isfinite(validation.score):
            raise VerificationError(f"the validation score is {validation.score}", "try a smaller --lr")
        best = self._progress.best_score
        if validation is not None and best is not None:
            better = validation.score > best if validation.higher_is_better else validation.score < best
            if not better:
                return
        self._progress.best_epoch = self._progress.epoch
        self._progress.best_score = None if validation is None else validation.score
        self._best = {name: tensor.detach().clone() for name, tensor in self._task.module.state_dict().items()}

    def _save(self) -> None:
        tensors = {_MODULE + name: tensor for name, tensor in self._task.module.state_dict().items()}
        tensors |= {_BEST + name: tensor for name, tensor in self._best.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{index}.{key}": value for key, value in state.items()}
        save_tensors(self._folder.checkpoint_file, tensors, {"progress": asdict(self._progress)})

    def _restore(self) -> None:
        if not self._folder.checkpoint_file.is_file():
            return
        tensors, metadata = load_tensors(self._folder.checkpoint_file, "checkpoint")
        try:
            self._task.module.load_state_dict(_under(_MODULE, tensors))
            self._best = _under(_BEST, tensors)
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(_OPTIMIZER, tensors).items():
                index, _, key = name.partition(".")
                moments.setdefault(int(index), {})[key] = tensor
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
            self._progress = _Progress(**metadata["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"checkpoint {self._folder.checkpoint_file} is damaged or of another head",
                "start anew with --overwrite",
            ) from error
        self._reporter.info(f"resume: {self._progress.epoch} of {self._options.epochs} epochs are done")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer(module: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """Return AdamW; vectors (biases, norms, tokens) do not decay."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=options.lr)
