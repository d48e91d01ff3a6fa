"""The training loop: batches in, adapted weights and a metrics line per step out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from figclip_cli.adapt.checkpoint import load_checkpoint, save_checkpoint
from figclip_cli.adapt.data import Batch, ClipBatches
from figclip_cli.adapt.objective import Terms, objective
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.errors import MachineError, VerificationError
from figclip_cli.files import canonical_json, explaining_disk_errors
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.lora import lora_layers
from figclip_cli.reporting import Progress, Reporter
from figclip_cli.run_folder import RunFolder


class Trainer:
    """Train LoRA and the contextualizer of one run, epoch by epoch."""

    def __init__(
        self,
        clip: Clip,
        contextualizer: VideoContextualizer | None,
        *,
        text_table: Tensor,
        batches: ClipBatches,
        options: AdaptOptions,
        run: RunFolder,
        reporter: Reporter,
    ) -> None:
        self._clip = clip
        self._contextualizer = contextualizer
        self._text_table = text_table.to(clip.device)
        self._batches = batches
        self._options = options
        self._run = run
        self._reporter = reporter
        modules: list[nn.Module] = [clip.model] + ([contextualizer] if contextualizer is not None else [])
        self._parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.epoch = 0
        self.step = 0

    def resume(self) -> None:
        """Go on after the last finished epoch; a run that was cut off before its first one starts anew."""
        if self._run.checkpoint_file.is_file():
            self.epoch, self.step = load_checkpoint(
                self._run.checkpoint_file,
                model=self._clip.model,
                contextualizer=self._contextualizer,
                optimizer=self._optimizer,
            )
        _keep_lines(self._run.metrics_file, self.step)
        self._reporter.info(f"resuming {self._run.path} after epoch {self.epoch} of {self._options.epochs}")

    def train(self) -> None:
        """Run the remaining epochs, with a checkpoint after each.

        Raises:
            VerificationError: A loss is not finite; the checkpoint from before stays.
            MachineError: The device has too little memory, or the disk is full.
        """
        remaining = max(0, self._options.epochs - self.epoch)
        # The frozen tower stays in evaluation mode: only LoRA's own dropout belongs to this training.
        for _, layer in lora_layers(self._clip.model):
            layer.train()
        with self._reporter.track("adapt", remaining * len(self._batches), "steps") as progress:
            while self.epoch < self._options.epochs:
                self._train_epoch(progress)
        self._clip.model.eval()

    def _train_epoch(self, progress: Progress) -> None:
        with (
            explaining_disk_errors(self._run.metrics_file),
            self._run.metrics_file.open("a", encoding="utf-8") as log,
        ):
            for batch in self._batches.epoch(self.epoch):
                metrics = self._train_step(batch)
                log.write(canonical_json(metrics) + "\n")
                progress.advance(detail=f"epoch {self.epoch + 1}/{self._options.epochs}, loss {metrics['loss']:.4f}")
        self.epoch += 1
        save_checkpoint(
            self._run.checkpoint_file,
            model=self._clip.model,
            contextualizer=self._contextualizer,
            optimizer=self._optimizer,
            epoch=self.epoch,
            step=self.step,
        )

    def _train_step(self, batch: Batch) -> dict[str, Any]:
        try:
            terms = self._loss(batch)
            loss = terms.total.item()
            self._refuse_non_finite("loss", terms.total, batch)
            self._optimizer.zero_grad(set_to_none=True)
            terms.total.backward()
            gradient_norm = nn.utils.get_total_norm(p.grad for p in self._parameters if p.grad is not None)
            self._refuse_non_finite("gradient norm", gradient_norm, batch)
            self._optimizer.step()
        except torch.OutOfMemoryError as error:
            raise MachineError(
                f"the device is out of memory with {len(batch.clip_ids)} clips a step",
                "lower --batch-clips, or pass --precision bf16",
            ) from error
        self.step += 1
        parts = {name: float(value) for name, value in terms.parts.items()}
        return {
            "step": self.step,
            "epoch": self.epoch + 1,
            "loss": loss,
            **parts,
            "gradient_norm": float(gradient_norm),
            "learning_rate": self._options.learning_rate,
            "clips": len(batch.clip_ids),
        }

    def _refuse_non_finite(self, what: str, value: Tensor, batch: Batch) -> None:
        if not torch.isfinite(value):
            raise VerificationError(
                f"the {what} is {value.item()} at step {self.step + 1}, on the clips {', '.join(batch.clip_ids)}",
                f"lower --learning-rate; {self._run.checkpoint_file} holds the state after the last good epoch",
            )

    def _loss(self, batch: Batch) -> Terms:
        device = self._clip.device
        clips, events, frames = batch.frames.shape[:3]
        autocast = torch.autocast(device.type, torch.bfloat16) if self._options.precision == "bf16" else nullcontext()
        with autocast:
            features = self._clip.encode_frames(batch.frames.flatten(0, 2))  # (B P T, D)
        return objective(
            features.float().unflatten(0, (clips, events, frames)),  # (B, P, T, D)
            self._contextualizer,
            text_table=self._text_table,
            positives=batch.positives.to(device),
            negatives=batch.negatives.to(device),
            logit_scale=self._clip.logit_scale,
            video_weight=self._options.video_weight,
        )


def _keep_lines(path: Path, count: int) -> None:
    """Cut metrics of an unfinished epoch, which will be run again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:count]), encoding="utf-8")
