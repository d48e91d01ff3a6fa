"""The training loop: batches in, adapted weights, metrics and checkpoints out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from figclip_cli.adapt.batches import Batch, Batches
from figclip_cli.adapt.checkpoint import (
    Progress,
    Trained,
    load_weights,
    read_checkpoint,
    restore,
    save_checkpoint,
    save_weights,
)
from figclip_cli.adapt.frames_on_device import on_device
from figclip_cli.adapt.held_out import Validate
from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.memory import MemoryNeed, is_out_of_memory, out_of_memory
from figclip_cli.adapt.optimizer import make_optimizer
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.speed import Speed
from figclip_cli.adapt.step import Model, Step, clamp_temperature
from figclip_cli.errors import FigclipError, UsageError, VerificationError
from figclip_cli.learning_rate import learning_rate_factor
from figclip_cli.metrics_log import MetricsLog
from figclip_cli.models.lora import lora_layers
from figclip_cli.models.tensors import load_tensors
from figclip_cli.reporting import Progress as ProgressBar
from figclip_cli.reporting import Reporter
from figclip_cli.run_folder import RunFolder
from figclip_cli.stop_signals import StopSignals

_SMALLEST_LOSS_SCALE = 1.0


class Trainer:
    """Train what a run trains, step by step.

    Args:
        model: What is trained, with weights as they are before the first step.
        step: Computes gradients.
        batches: What each step sees.
        validate: Measures the held-out clips; None without any.
        frame_size: Side of the frames in pixels.
        known_texts: Gives the features of a layout's texts, where they are known before a step.
        memory_need: Measures what a step needs, for the error when there is too little.
        clips_at_once: Clips whose activations are in memory at once.

    Attributes:
        progress: How far the run is.
        speed: How fast this call's training is.
    """

    def __init__(
        self,
        model: Model,
        step: Step,
        batches: Batches,
        *,
        options: AdaptOptions,
        execution: Execution,
        processes: Processes,
        run: RunFolder,
        frame_size: int,
        known_texts: Callable[[Layout], Tensor | None],
        memory_need: Callable[[], MemoryNeed],
        clips_at_once: int,
        validate: Validate | None = None,
        reporter: Reporter,
    ) -> None:
        self._model, self._step, self._batches, self._validate = model, step, batches, validate
        self._options, self._execution, self._processes = options, execution, processes
        self._run, self._reporter = run, reporter
        self._frame_size, self._known_texts = frame_size, known_texts
        self._memory_need, self._clips_at_once = memory_need, clips_at_once
        towers, heads = model.parameters()
        self._parameters = [*towers, *heads]
        self._trained = Trained(
            model.clip.model,
            model.contextualizer,
            make_optimizer(model, options),
            torch.amp.GradScaler(processes.device.type, enabled=options.precision == "fp16"),
        )
        self._total_steps = batches.steps(options.epochs)
        if not self._total_steps:
            raise UsageError("there is no step to train: no epoch shows a clip", "raise --mix or --epochs")
        if options.warmup_steps >= self._total_steps:
            reporter.warn(
                f"the run has {self._total_steps} steps and never leaves its warm-up of {options.warmup_steps}: "
                "its steps stay smaller than --learning-rate; pass a smaller --warmup-steps, or more --epochs"
            )
        self._is_whole = True
        self.progress = Progress()
        self.speed = Speed()

    def resume(self) -> None:
        """Go on after the last checkpoint; a run that was cut off before its first one starts anew.

        Raises:
            UsageError: More epochs are finished than are asked for.
        """
        found = self._processes.shared(lambda: read_checkpoint(self._run.checkpoint_file))
        if found is not None:
            self.progress = restore(self._trained, *found)
        begun = self.progress.epoch + (self.progress.number > 0)
        if begun > self._options.epochs:
            raise UsageError(f"{self._run.path} is in epoch {begun} already", f"pass --epochs {begun} or more")
        done = f"step {self.progress.step} of {self._total_steps}"
        self._reporter.info(f"resuming {self._run.path} after epoch {self.progress.epoch}, {done}")

    def train(self) -> None:
        """Run the remaining steps, with a checkpoint after each epoch and as often as asked.

        Whatever ends it early, a checkpoint of the last finished step is written first.

        Raises:
            VerificationError: A loss or gradient is not finite; the weights are those from before.
            MachineError: The device has too little memory, the disk is full, or another process is gone.
            KeyboardInterrupt: A signal asked to stop.
        """
        self._processes.same_start(self._parameters)
        for _, layer in lora_layers(self._model.clip.model):
            layer.train()  # the frozen tower stays in evaluation mode: only LoRA's own dropout belongs to training
        log = self._open_log()
        try:
            with StopSignals(self._say_stopping) as signals:
                self._train(log, signals)
        finally:
            self._model.clip.model.eval()
            if log is not None:
                log.close()

    def select_weights(self) -> bool:
        """Put the best weights in place where the options ask for them; return whether they are not the last ones."""
        progress = self.progress
        if not self._options.selects_best() or progress.best_score is None or progress.best_step == progress.step:
            return False
        found = self._processes.shared(lambda: load_tensors(self._run.best_file, "best weights"))
        assert found is not None
        load_weights(self._trained, found[0])
        return True

    def _say_stopping(self) -> None:
        self._reporter.info("stopping after this step, with a checkpoint; Ctrl-C once more stops at once")

    def _train(self, log: MetricsLog | None, signals: StopSignals) -> None:
        is_memory_short = False
        try:
            with self._reporter.track("adapt", self._total_steps - self.progress.step, "steps") as bar:
                self._all_steps(log, bar, lambda: self._processes.any(signals.requested))
        except VerificationError:
            self._save(log, self._run.failure_file)  # the last regular checkpoint may be from before it went astray
            raise
        except BaseException as error:
            is_memory_short = is_out_of_memory(error)
            with suppress(FigclipError):  # the first error is the one to tell
                self._save(log, self._run.checkpoint_file)
            if signals.requested and not isinstance(error, FigclipError):
                raise KeyboardInterrupt from error  # workers die of the same signal, in whatever way
            if not is_memory_short:
                raise
        if is_memory_short:  # outside the handler, so that no traceback holds the step's tensors
            self._trained.optimizer.zero_grad(set_to_none=True)
            raise out_of_memory(self._memory_need, self._processes.device, self._clips_at_once)

    def _all_steps(self, log: MetricsLog | None, bar: ProgressBar, should_stop: Callable[[], bool]) -> None:
        every = self._execution.checkpoint_every
        self._end_epoch_if_due(log, should_stop)  # of a run that was stopped between an epoch's last step and its end
        for batch in self.speed.watch(self._stream()):
            if self._is_done:
                return
            self._one_step(batch, log, bar)
            with self.speed.aside():
                self._end_epoch_if_due(log, should_stop)
                if should_stop():
                    raise KeyboardInterrupt
                if every and self.progress.step % every == 0:
                    self._save(log, self._run.checkpoint_file)

    @property
    def _is_done(self) -> bool:
        patience = self._options.early_stop
        return bool(patience) and self.progress.validations_since_best >= patience

    def _open_log(self) -> MetricsLog | None:
        if not self._processes.is_first:
            return None
        folder = self._run.path / "tensorboard" if self._execution.tensorboard else None
        return MetricsLog(
            self._run.metrics_file,
            step=self.progress.step,
            epoch=self.progress.epoch,
            tensorboard=folder,
        )

    def _stream(self) -> Iterable[Batch]:
        batches = self._batches.stream(self.progress.epoch, self.progress.number, self._options.epochs)
        return on_device(batches, self._processes.device, self._frame_size, self._known_texts)

    def _one_step(self, batch: Batch, log: MetricsLog | None, bar: ProgressBar) -> None:
        factor = learning_rate_factor(
            self.progress.step,
            warmup_steps=self._options.warmup_steps,
            schedule=self._options.schedule,
            total_steps=self._total_steps,
        )
        numbers = self._gradients(batch)
        loss, norm = numbers["loss"], numbers["gradient_norm"]
        self._refuse_non_finite(loss, norm, batch)
        self._is_whole = False  # between an update and its count there is nothing that may be saved
        self._update(factor, norm)
        self.progress = replace(self.progress, step=self.progress.step + 1, number=batch.number + 1)
        self._is_whole = True
        rate = self._options.learning_rate * factor
        if log is not None:
            log.write(
                {
                    **numbers,
                    "step": self.progress.step,
                    "epoch": batch.epoch + 1,
                    # An overflow that fp16 passed over has no norm; JSON has no infinity.
                    "gradient_norm": norm if math.isfinite(norm) else None,
                    "learning_rate": rate,
                    "logit_scale": self._model.logit_scale_value(),
                    "clips": len(batch.layout.clip_ids),
                }
            )
        speed = f"{self.speed.images_per_second:.1f} images/s, {100 * self.speed.idle_share:.0f} % idle"
        bar.advance(detail=f"epoch {batch.epoch + 1}/{self._options.epochs}, loss {loss:.4f}, lr {rate:.3g}, {speed}")

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Leave the gradients in the weights; return the loss, its terms and the gradient's norm."""
        scaler = self._trained.scaler
        terms = self._step.gradients(batch, self.progress.step, scaler.scale)
        scaler.unscale_(self._trained.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        found = {"loss": terms.total.detach(), **terms.parts, "gradient_norm": norm}
        numbers = torch.stack([value.float() for value in found.values()]).tolist()  # the step's one wait for a GPU
        return dict(zip(found, numbers, strict=True))

    def _update(self, factor: float, norm: float) -> None:
        optimizer, scaler = self._trained.optimizer, self._trained.scaler
        if self._options.clip_gradient_norm and norm < math.inf:
            nn.utils.clip_grads_with_norm_(self._parameters, self._options.clip_gradient_norm, torch.tensor(norm))
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        clamp_temperature(self._model.clip.model)

    def _refuse_non_finite(self, loss: float, norm: float, batch: Batch) -> None:
        scaler = self._trained.scaler
        # Under fp16 a gradient that overflows is expected now and then: the scaler passes over that step.
        overflow_is_expected = scaler.is_enabled() and scaler.get_scale() > _SMALLEST_LOSS_SCALE
        found = {"loss": loss} if overflow_is_expected else {"loss": loss, "gradient norm": norm}
        for what, value in found.items():
            if not math.isfinite(value):
                self._trained.optimizer.zero_grad(set_to_none=True)
                raise VerificationError(
                    f"the {what} is {value} at step {self.progress.step + 1}, "
                    f"on the clips {', '.join(batch.layout.clip_ids)}",
                    f"start anew with a lower --learning-rate or --clip-gradient-norm 1; "
                    f"{self._run.failure_file} holds the state from before this step",
                )

    def _end_epoch_if_due(self, log: MetricsLog | None, should_stop: Callable[[], bool]) -> None:
        """After an epoch's last step: validate, keep the best state, and save."""
        progress = self.progress
        if progress.epoch >= self._options.epochs or progress.number < len(self._batches.order(progress.epoch)):
            return
        done, metrics = replace(progress, epoch=progress.epoch + 1, number=0), None
        if self._validate is not None and self._is_validation_due(done.epoch):
            self._save(log, self._run.checkpoint_file)  # validating may take long; stopped in it, it is done again
            metrics = self._validate(should_stop)
            done = self._judged(done, metrics)
        self.progress = done
        if log is not None and metrics is not None:
            log.write({"step": done.step, "epoch": done.epoch, "validation": metrics})
        self._save(log, self._run.checkpoint_file)

    def _is_validation_due(self, epoch: int) -> bool:
        return epoch % self._options.validate_every == 0 or epoch == self._options.epochs

    def _judged(self, done: Progress, metrics: dict[str, float]) -> Progress:
        """Compare a validation with the best one; keep the weights if they are better."""
        score = metrics[self._options.best_by]
        if done.best_score is None or score > done.best_score:
            done = replace(done, best_score=score, best_step=done.step, validations_since_best=0)
            if self._processes.is_first:
                save_weights(self._run.best_file, self._trained, done)
        else:
            done = replace(done, validations_since_best=done.validations_since_best + 1)
        best = f"best {done.best_score:.4f} after step {done.best_step}"
        self._reporter.info(f"validation after epoch {done.epoch}: {self._options.best_by} {score:.4f} ({best})")
        return done

    def _save(self, log: MetricsLog | None, path: Path) -> None:
        if log is not None and self._is_whole:
            log.flush()
            save_checkpoint(path, self._trained, self.progress)
