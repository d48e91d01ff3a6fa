"""The training loop: batches in, adapted weights, metrics and checkpoints out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from figclip_cli.adapt.batches import Batch, Batches, Layout
from figclip_cli.adapt.checkpoint import (
    Progress,
    Trained,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from figclip_cli.adapt.frames_on_device import on_device
from figclip_cli.adapt.memory import is_out_of_memory, out_of_memory
from figclip_cli.adapt.metrics_log import MetricsLog
from figclip_cli.adapt.objective import Terms
from figclip_cli.adapt.optimizer import learning_rate_factor, make_optimizer
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.speed import Speed
from figclip_cli.adapt.step import Model, Step, clamp_temperature
from figclip_cli.adapt.stop_signals import StopSignals
from figclip_cli.errors import FigclipError, VerificationError
from figclip_cli.models.lora import lora_layers
from figclip_cli.models.tensors import load_tensors
from figclip_cli.reporting import Progress as ProgressBar
from figclip_cli.reporting import Reporter
from figclip_cli.run_folder import RunFolder

_SMALLEST_LOSS_SCALE = 1.0


class Trainer:
    """Train what a run trains, step by step.

    Args:
        model: What is trained, with weights as they are before the first step.
        step: Computes gradients.
        batches: What each step sees.
        validate: Returns the metrics of the held-out clips; None without any.
        frame_size: Side of the frames in pixels.
        known_texts: Gives the features of a layout's texts, where they are known before a step.

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
        validate: Callable[[], dict[str, float]] | None = None,
        reporter: Reporter,
    ) -> None:
        self._model, self._step, self._batches, self._validate = model, step, batches, validate
        self._options, self._execution, self._processes = options, execution, processes
        self._run, self._reporter = run, reporter
        self._frame_size, self._known_texts = frame_size, known_texts
        towers, heads = model.parameters()
        self._parameters = [*towers, *heads]
        self._trained = Trained(
            model.clip.model,
            model.contextualizer,
            make_optimizer(model, options),
            torch.amp.GradScaler(processes.device.type, enabled=options.precision == "fp16"),
        )
        self._total_steps = batches.steps(options.epochs)
        self._is_whole = True
        self.progress = Progress()
        self.speed = Speed()

    def resume(self) -> None:
        """Go on after the last checkpoint; a run that was cut off before its first one starts anew."""
        if self._run.checkpoint_file.is_file():
            self.progress = load_checkpoint(self._run.checkpoint_file, self._trained)
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
        try:
            with StopSignals() as signals:
                self._train(signals)
        finally:
            self._model.clip.model.eval()

    def select_weights(self) -> None:
        """Put the best weights in place where the options ask for them."""
        if self._validate is not None and self._options.selects_best() and self.progress.best_score is not None:
            tensors, _ = load_tensors(self._run.best_file, "best weights")
            load_weights(self._trained, tensors)

    def _train(self, signals: StopSignals) -> None:
        log = self._open_log()
        remaining = self._total_steps - self.progress.step
        try:
            with self._reporter.track("adapt", remaining, "steps") as bar:
                self._end_epoch_if_due(log)  # a run that was stopped between an epoch's last step and its end
                for batch in self.speed.watch(self._stream()):
                    if self._is_done:
                        break
                    self._one_step(batch, log, bar)
                    self._end_epoch_if_due(log)
                    if self._processes.any(signals.requested):
                        raise KeyboardInterrupt
                    if self._execution.checkpoint_every and self.progress.step % self._execution.checkpoint_every == 0:
                        self._save(log)
        except BaseException as error:
            with suppress(FigclipError):  # the first error is the one to tell
                self._save(log)
            if signals.requested and not isinstance(error, FigclipError):
                raise KeyboardInterrupt from error  # workers die of the same signal, in whatever way
            raise
        finally:
            if log is not None:
                log.close()

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
        terms, loss, norm = self._gradients(batch)
        self._refuse_non_finite(loss, norm, batch)
        self._is_whole = False  # between an update and its count there is nothing that may be saved
        self._update(factor, norm)
        self.progress.step += 1
        self.progress.number = batch.number + 1
        self._is_whole = True
        rate = self._options.learning_rate * factor
        if log is not None:
            parts = {name: float(value) for name, value in terms.parts.items()}
            log.write(
                {
                    "step": self.progress.step,
                    "epoch": batch.epoch + 1,
                    "loss": loss,
                    **parts,
                    # An overflow that fp16 skipped has no norm; JSON has no infinity.
                    "gradient_norm": norm if math.isfinite(norm) else None,
                    "learning_rate": rate,
                    "logit_scale": self._model.logit_scale_value(),
                    "clips": len(batch.layout.clip_ids),
                }
            )
        speed = f"{self.speed.images_per_second:.1f} images/s, {100 * self.speed.idle_share:.0f} % idle"
        bar.advance(detail=f"epoch {batch.epoch + 1}/{self._options.epochs}, loss {loss:.4f}, lr {rate:.3g}, {speed}")

    def _gradients(self, batch: Batch) -> tuple[Terms, float, float]:
        """Return the loss, as terms and as a number, and the norm of the gradient, which is left in the weights."""
        scaler = self._trained.scaler
        try:
            terms = self._step.gradients(batch, self.progress.step, scaler.scale)
            scaler.unscale_(self._trained.optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
            loss, gradient_norm = torch.stack([terms.total.detach().float(), norm.float()]).tolist()
            return terms, loss, gradient_norm
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, so that the traceback no longer holds the step's tensors.
        self._trained.optimizer.zero_grad(set_to_none=True)
        assert isinstance(batch.frames, Tensor)
        clips = math.ceil(len(batch.layout.clip_ids) / self._processes.count)
        micro = min(self._execution.micro_batch_clips or clips, clips)
        weights = self._model.all_weights()
        raise out_of_memory(self._step.encode, batch.frames, weights, clips=clips, micro_batch_clips=micro)

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
                    f"lower --learning-rate; {self._run.checkpoint_file} holds the state from before this step",
                )

    def _end_epoch_if_due(self, log: MetricsLog | None) -> None:
        """After an epoch's last step: validate, keep the best state, and save."""
        progress = self.progress
        if progress.epoch >= self._options.epochs or progress.number < len(self._batches.order(progress.epoch)):
            return
        # Before the epoch counts as finished: a run stopped in here validates again.
        if self._validate is not None and (progress.epoch + 1) % self._execution.validate_every == 0:
            self._note_validation(self._validate(), log)
        self.progress = replace(self.progress, epoch=progress.epoch + 1, number=0)
        self._save(log)

    def _note_validation(self, metrics: dict[str, float], log: MetricsLog | None) -> None:
        progress, name, epoch = self.progress, self._options.best_by, self.progress.epoch + 1
        is_best = progress.best_score is None or metrics[name] > progress.best_score
        noted = replace(progress, validations_since_best=progress.validations_since_best + 1)
        if is_best:
            noted = replace(noted, best_score=metrics[name], best_step=progress.step, validations_since_best=0)
            if self._processes.is_first:
                save_weights(self._run.best_file, self._trained, noted)
        self.progress = noted
        if log is not None:
            log.write({"step": noted.step, "epoch": epoch, "validation": metrics})
        best = f"best {noted.best_score:.4f} after step {noted.best_step}"
        self._reporter.info(f"validation after epoch {epoch}: {name} {metrics[name]:.4f} ({best})")

    def _save(self, log: MetricsLog | None) -> None:
        if log is not None and self._is_whole:
            log.flush()
            save_checkpoint(self._run.checkpoint_file, self._trained, self.progress)
