"""What a run of ``adapt`` can be told; the defaults are the paper's.

:class:`AdaptOptions` is what the result depends on and what ``--resume`` compares. :class:`Execution` is how it is
computed: it may change between a run and its resumption. Both are also the command line's flags: a field's metadata
holds its help, its panel and, for lists, how they are written. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from figclip_cli.errors import UsageError, nearest
from figclip_cli.option_fields import check_choices, flag, refuse_below, spelled

if TYPE_CHECKING:
    from figclip_cli.models.lora import LoraConfig

ANCHORS = ("feature", "geometry", "video")
TERMS = ("clip_event", "vc_event", "clip_video", "vc_video")
SCORES = ("event_mrr", "event_recall_at_1", "hard_negative_accuracy")


_LORA, _LOSS, _SWITCH, _TRAIN = "LoRA", "Objective", "Objective, on or off", "Training"
_DATA, _KEEP, _RUN = "Data", "Validation", "Speed and safety"


@dataclass(frozen=True)
class AdaptOptions:
    """Options of one run; see each field's help.

    ``alpha`` None is the rank, so that the update is scaled by one. ``contextualizer_lr`` None is the
    learning rate. ``anchor`` maps kinds of anchor losses to weights. ``select`` says which state becomes the run's
    adapter: ``auto`` is the best one with ``early_stop``, else the last.
    """

    rank: int = flag(64, "LoRA rank; 0 tunes all weights of the tower.", _LORA, min=0)
    alpha: float | None = flag(None, "LoRA alpha; the rank by default.", _LORA)
    lora_dropout: float = flag(0.0, "Dropout on the low-rank path.", _LORA)
    targets: tuple[str, ...] = flag(
        ("q", "k", "v"), "Projections to adapt, among q, k, v, o, fc, proj.", _LORA, metavar="NAME,...", written="list"
    )
    blocks: str = flag("all", "Transformer blocks to adapt: all, last-N, first-N, or numbers like 0-3,11.", _LORA)
    towers: str = flag("image", "Towers to adapt.", _LORA, choices=("image", "text", "both"))

    clip_event_weight: float = flag(1.0, "Weight of: event frames against the event's prompt.", _LOSS)
    vc_event_weight: float = flag(1.0, "Weight of: contextual event token against the event's prompt.", _LOSS)
    clip_video_weight: float = flag(0.25, "Weight of: all frames against the mean of the prompts.", _LOSS)
    vc_video_weight: float = flag(0.25, "Weight of: contextual video token against the mean of the prompts.", _LOSS)
    contextualizer: bool = flag(True, "Train the video contextualizer.", _SWITCH)
    contextualizer_layers: int = flag(6, "Its depth.", _LOSS)
    hard_negatives: bool = flag(True, "Use the negatives in the prompts file.", _SWITCH)
    negative_kinds: tuple[str, ...] = flag(
        (), "Use negatives of these kinds only.", _LOSS, metavar="KIND,...", written="list"
    )
    natural_negatives: bool = flag(True, "Other events of the same clip are negatives.", _SWITCH)
    learn_temperature: bool = flag(False, "Train the temperature; its inverse stays at most 100.", _LOSS)
    anchor: Mapping[str, float] = flag(
        {}, "Losses that keep the base: feature, geometry, video.", _LOSS, metavar="KIND=WEIGHT,...", written="mapping"
    )

    epochs: int = flag(40, "Passes over the clips.", _TRAIN)
    batch_clips: int = flag(20, "Clips per step, over all processes.", _TRAIN)
    learning_rate: float = flag(1e-6, "AdamW's learning rate.", _TRAIN, also="--lr")
    contextualizer_lr: float | None = flag(None, "Of the contextualizer alone.", _TRAIN)
    weight_decay: float = flag(0.01, "AdamW's weight decay, on matrices.", _TRAIN)
    schedule: str = flag("constant", "Of the learning rate, after the warm-up.", _TRAIN, choices=("constant", "cosine"))
    warmup_steps: int = flag(0, "Steps over which the learning rate rises from zero.", _TRAIN, min=0)
    clip_gradient_norm: float | None = flag(None, "Largest norm of the gradient.", _TRAIN)
    seed: int = flag(0, "Seed of everything random.", _TRAIN)
    precision: str = flag("fp32", "Of the towers' arithmetic.", _TRAIN, choices=("fp32", "bf16", "fp16"))

    fraction: float = flag(1.0, "Share of the clips to train on; a larger share holds the smaller ones.", _DATA)

    validate_every: int = flag(1, "Epochs between validations; the last epoch always has one.", _KEEP, min=1)
    early_stop: int = flag(0, "Stop after this many validations without a better score; 0 never.", _KEEP, min=0)
    best_by: str = flag("event_mrr", "What is best.", _KEEP, choices=SCORES)
    select: str = flag("auto", "Which state becomes the adapter.", _KEEP, choices=("auto", "last", "best"))

    def __post_init__(self) -> None:
        refuse_below(self, 1, "epochs", "contextualizer_layers", "validate_every", verb="adapt")
        if self.batch_clips < 2:
            raise UsageError("--batch-clips must be at least 2: one clip has no other clip to differ from", "try 20")
        for name in ("learning_rate", "contextualizer_lr", "clip_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{spelled(name)} must be above 0, got {value}", "see figclip adapt --help")
        for name in (*(f"{term}_weight" for term in TERMS), "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{spelled(name)} must be 0 or more, got {getattr(self, name)}", "0 leaves it out")
        if not 0 < self.fraction <= 1:
            raise UsageError(f"--fraction must be above 0 and at most 1, got {self.fraction}", "0.1 is a tenth")
        refuse_below(self, 0, "rank", "warmup_steps", "early_stop", "seed", verb="adapt")
        if self.seed >= 1 << 63:
            raise UsageError(f"--seed must be below 2^63, got {self.seed}", "any smaller number will do")
        if self.alpha is not None and (self.alpha == 0 or not math.isfinite(self.alpha)):
            raise UsageError(f"--alpha must not be {self.alpha:g}: the update would stay zero", "leave it out")
        check_choices(self)
        self._check_objective()
        if self.precision == "fp16" and self.rank == 0:
            raise UsageError("--precision fp16 does not go with --rank 0", "pass --precision bf16 or fp32")
        self.lora()

    def _check_objective(self) -> None:
        for kind, weight in self.anchor.items():
            if kind not in ANCHORS:
                raise UsageError(f"--anchor knows no '{kind}'", nearest(kind, ANCHORS))
            if not 0 <= weight < math.inf:
                raise UsageError(f"--anchor {kind} must be 0 or more, got {weight}", "0 leaves it out")
        if not any(self.term_weights().values()):
            raise UsageError("all terms of the objective have weight 0", "give one of them a weight")
        if self.contextualizer and not (self.vc_event_weight or self.vc_video_weight):
            raise UsageError("the contextualizer has no term with a weight", "pass --no-contextualizer")
        if self.towers == "text" and self.anchor:
            raise UsageError("--anchor keeps the image tower, --towers text does not change it", "leave out --anchor")

    def term_weights(self) -> dict[str, float]:
        """Return the weight of each of the four terms; those of the contextualizer are 0 without it."""
        weights = {term: float(getattr(self, f"{term}_weight")) for term in TERMS}
        return {term: w if self.contextualizer or not term.startswith("vc") else 0.0 for term, w in weights.items()}

    def lora(self) -> LoraConfig:
        """Return the LoRA part."""
        from figclip_cli.models.lora import LoraConfig

        alpha = float(self.rank) if self.alpha is None else self.alpha
        return LoraConfig(self.rank, alpha, self.lora_dropout, self.targets, self.blocks, self.towers)

    def selects_best(self) -> bool:
        """Return whether the best state, not the last one, becomes the run's adapter."""
        return self.select == "best" or (self.select == "auto" and self.early_stop > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved options as plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {**values, **lists, "alpha": self.lora().alpha, "anchor": dict(self.anchor)}


@dataclass(frozen=True)
class Execution:
    """How a run is computed; none of this changes what it computes beyond rounding.

    ``workers`` None is 0 on a CPU; on a GPU 4 under nvjpeg, else as many as cores, up to 16. ``checkpoint_every`` 0 is
    after each epoch only. ``micro_batch_clips`` None is the whole batch at once. ``jpeg_decoder`` ``auto`` is nvjpeg
    on a GPU.
    """

    workers: int | None = flag(None, "Processes that read frames; none on a CPU, up to 16 on a GPU.", _RUN, min=0)
    micro_batch_clips: int | None = flag(
        None, "Clips in memory at once; loss and gradients stay those of the whole batch.", _RUN, min=1
    )
    gradient_checkpointing: bool = flag(False, "Keep fewer activations, compute them again.", _RUN)
    compile: bool = flag(False, "Compile the image tower (torch.compile).", _RUN)
    jpeg_decoder: str = flag("auto", "nvjpeg decodes on the GPU.", _RUN, choices=("auto", "cpu", "nvjpeg"))
    checkpoint_every: int = flag(0, "Steps between checkpoints, beside those after each epoch.", _RUN, min=0)
    tensorboard: bool = flag(False, "Also write TensorBoard files (extra: tensorboard).", _RUN)
    save_tokens: bool = flag(False, "Write contextual tokens of the clips trained on and held out.", _RUN)

    def __post_init__(self) -> None:
        refuse_below(self, 1, "micro_batch_clips", verb="adapt")
        refuse_below(self, 0, "workers", "checkpoint_every", verb="adapt")
        check_choices(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def steps_of_epoch(clips: int, batch_clips: int) -> int:
    """Return how many steps an epoch has; a last step of one clip joins the one before it."""
    steps = math.ceil(clips / batch_clips)
    return steps - (steps > 1 and clips % batch_clips == 1)
