"""Before training: open what a run is made from, attach what it trains, and refuse what does not fit."""

from __future__ import annotations

import copy
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from figclip_cli.adapt.frames_on_device import choose_jpeg_decoder
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.sources import ClipLists, Coverage, Source, SourceFiles, open_sources
from figclip_cli.adapt.step import Model
from figclip_cli.adapt.texts import kinds_of_negatives, used_negatives
from figclip_cli.errors import UsageError
from figclip_cli.metrics_log import require_tensorboard
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import AdaptedModule, attach_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tower_speed import speed_up
from figclip_cli.reporting import Reporter


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the run folder is touched.

    Attributes:
        sources: What is trained on.
        kinds: Kinds of negatives that are used; a negative's kind is a place in this list.
        coverage: How much of the annotation that is.
        model: What is trained.
        modules: The table of adapted modules.
        counts: ``lora_parameters``, ``contextualizer_parameters`` and ``base_parameters``.
        jpeg_decoder: ``cpu`` or ``nvjpeg``.
    """

    sources: list[Source]
    kinds: tuple[str, ...]
    coverage: Coverage
    model: Model
    modules: list[AdaptedModule]
    counts: dict[str, int]
    jpeg_decoder: str

    @property
    def frame_size(self) -> int:
        """Side of the frames in pixels."""
        return self.model.clip.preprocess.size


def prepare(
    files: Sequence[SourceFiles],
    source: ModelSource,
    lists: ClipLists,
    options: AdaptOptions,
    execution: Execution,
    device: torch.device,
    reporter: Reporter,
) -> Prepared:
    """Open all inputs and the model, and attach what is trained.

    Raises:
        FigclipError: Something is missing, damaged, or does not fit the rest.
    """
    sources, coverage = open_sources(files, lists, fraction=options.fraction, seed=options.seed, reporter=reporter)
    kinds = kinds_of_negatives(sources, options)
    for one in sources:
        one.frames.require_events(one.prompts.events_per_clip)
    _refuse_pointless(options, execution, {clip_id for one in sources for clip_id in one.clip_ids})
    _refuse_unmeasurable(options, sources, kinds, coverage)
    clip = load_clip(source, device=device, reporter=reporter)
    for recipe in (one.frames.recipe for one in sources):
        clip.check_frames(size=recipe.size, crop=recipe.crop, interpolation=recipe.interpolation, reporter=reporter)
    as_jpeg = all(one.frames.recipe.storage == "jpeg" for one in sources)
    decoder = choose_jpeg_decoder(execution.jpeg_decoder, device, stored_as_jpeg=as_jpeg)
    model, modules = _adapted_model(clip, sources, options, reporter)
    _set_up_towers(clip, execution, reporter)
    lora = sum(module.parameters for module in modules)
    counts = {
        "lora_parameters": lora,
        "contextualizer_parameters": sum(p.numel() for p in model.contextualizer.parameters())
        if model.contextualizer is not None
        else 0,
        "base_parameters": sum(p.numel() for p in clip.model.parameters()) - (lora if options.rank else 0),
    }
    reporter.info(describe_modules(modules, options, counts["lora_parameters"], counts["base_parameters"]))
    return Prepared(sources, kinds, coverage, model, modules, counts, decoder)


def _refuse_pointless(options: AdaptOptions, execution: Execution, clip_ids: Set[str]) -> None:
    """Refuse flags that another flag makes mean nothing, and clips without anything to tell them from."""
    if len(clip_ids) < 2 and not (options.natural_negatives or options.hard_negatives):
        raise UsageError("one clip without negatives has nothing to be told from", "train on more clips")
    if execution.tensorboard:
        require_tensorboard()
    if execution.save_tokens and not options.contextualizer:
        raise UsageError("--save-tokens needs the contextualizer", "leave out --no-contextualizer")
    if options.negative_kinds and not options.hard_negatives:
        raise UsageError("--negative-kinds says nothing under --no-hard-negatives", "leave one out")


def _refuse_unmeasurable(
    options: AdaptOptions, sources: Sequence[Source], kinds: Sequence[str], coverage: Coverage
) -> None:
    """Refuse what needs validation where there is none, before hours are spent."""
    needing = {"--early-stop": options.early_stop > 0, "--select best": options.select == "best"}
    for flag, is_asked in needing.items():
        if is_asked and not coverage.validation:
            raise UsageError(f"{flag} needs held-out clips", "pass --validation LIST")
    if coverage.validation and options.best_by == "hard_negative_accuracy":
        held_out = [(set(source.validation_ids), source.events) for source in sources]
        if not any(e.clip_id in ids and used_negatives(e, kinds) for ids, events in held_out for e in events):
            raise UsageError(
                "--best-by hard_negative_accuracy cannot be measured: no held-out clip has negatives", "leave it out"
            )


def _adapted_model(
    clip: Clip, sources: Sequence[Source], options: AdaptOptions, reporter: Reporter
) -> tuple[Model, list[AdaptedModule]]:
    """Attach what is trained, every start decided by the seed."""
    base = None
    if options.rank == 0 and options.anchor:
        base = replace(clip, model=copy.deepcopy(clip.model).requires_grad_(False))
    modules = attach_lora(
        clip.model,
        options.lora(),
        seed=options.seed,
        image_size=clip.preprocess.size,
        context_length=clip.context_length,
    )
    if options.learn_temperature:
        scale = clip.model.logit_scale
        assert isinstance(scale, Tensor)
        scale.requires_grad_()
    for remark in speed_up(clip.model):
        reporter.detail(remark)
    return Model(clip, _contextualizer(clip, sources, options), base), modules


def _contextualizer(clip: Clip, sources: Sequence[Source], options: AdaptOptions) -> VideoContextualizer | None:
    if not options.contextualizer:
        return None
    recipes = [source.frames.recipe for source in sources]
    config = ContextualizerConfig(
        width=clip.width,
        layers=options.contextualizer_layers,
        max_events=max(recipe.events for recipe in recipes),
        max_frames_per_event=max(recipe.frames_per_event for recipe in recipes),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return VideoContextualizer(config).to(clip.device)


def _set_up_towers(clip: Clip, execution: Execution, reporter: Reporter) -> None:
    visual = clip.model.visual
    assert isinstance(visual, nn.Module)
    if execution.gradient_checkpointing:
        holder = getattr(visual, "transformer", getattr(visual, "trunk", None))
        if not hasattr(holder, "grad_checkpointing"):
            raise UsageError(
                f"--gradient-checkpointing is not possible with {clip.name}", "pass --micro-batch-clips instead"
            )
        clip.model.set_grad_checkpointing(True)  # type: ignore[operator]
    if execution.compile:
        reporter.info("compiling the image tower: the first steps take longer")
        visual.compile(dynamic=True)


def describe_modules(
    modules: Sequence[AdaptedModule], options: AdaptOptions, lora_parameters: int, base_parameters: int
) -> str:
    """Return one line that says what is trained of the towers."""
    if options.rank == 0:
        return f"full fine-tuning of {options.towers}: {lora_parameters:,} trainable parameters of {base_parameters:,}"
    targets = ", ".join(options.targets)
    share = 100 * lora_parameters / base_parameters
    return (
        f"LoRA on {targets} of {len(modules)} modules: {lora_parameters:,} trainable parameters "
        f"beside {base_parameters:,} frozen ones ({share:.2f} %)"
    )
