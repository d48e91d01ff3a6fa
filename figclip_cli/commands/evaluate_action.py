"""``figclip evaluate action``: frames + a list of clips and classes [+ run] -> table and results JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.evaluate_output import FramesFlag, OutputOptions, finish
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.scales import ScaleOptions
from figclip_cli.commands.scored_model import (
    ScoredModelOptions,
    VideosFlag,
    choose_run,
    frames_source,
    load_scored,
    open_frames,
)
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.task_options import ActionOptions

if TYPE_CHECKING:
    from figclip_cli.evaluate.datasets.action_sets import ActionSet

_LISTS = "Clips and classes"


@with_flags_of(ScoredModelOptions, ProtocolOptions, ActionOptions, ScaleOptions, OutputOptions)
def action(
    terminal: Terminal,
    lists: Annotated[
        list[Path] | None,
        typer.Option(
            "--list",
            help="Split file or folder of UCF101, HMDB51, Kinetics, SSv2, X-CLIP or ViFi, or a csv; repeat for splits.",
            rich_help_panel=_LISTS,
        ),
    ] = None,
    classes: Annotated[
        list[Path] | None,
        typer.Option("--classes", help="Class names; one for all lists, or one each.", rich_help_panel=_LISTS),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="One split of a list; full joins all.", rich_help_panel=_LISTS)
    ] = None,
    list_format: Annotated[
        str | None, typer.Option("--list-format", help="Read the lists as this format.", rich_help_panel=_LISTS)
    ] = None,
    only_classes: Annotated[
        Path | None,
        typer.Option("--only-classes", help="Only the classes named in this file.", rich_help_panel=_LISTS),
    ] = None,
    class_draws: Annotated[
        str | None,
        typer.Option(
            "--class-draws", metavar="NxCLASSES", help="Random draws of classes, as 3x160.", rich_help_panel=_LISTS
        ),
    ] = None,
    exclude_classes: Annotated[
        Path | None,
        typer.Option("--exclude-classes", help="Classes that are never drawn.", rich_help_panel=_LISTS),
    ] = None,
    draw_seed: Annotated[
        int | None, typer.Option("--draw-seed", help="Seed of the draws. Default: 0", rich_help_panel=_LISTS)
    ] = None,
    frames: FramesFlag = None,
    videos: VideosFlag = None,
    **values: Any,
) -> None:
    """Zero-shot action recognition: top-1, top-5 and per-class mean of base, adapted and the difference."""
    from figclip_cli.evaluate.action import TASK, evaluate_action_at
    from figclip_cli.evaluate.action_numbers import METRIC_NAMES
    from figclip_cli.evaluate.datasets.action_lists import read_action_set
    from figclip_cli.evaluate.encoders import Encoding

    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    output_options: OutputOptions = options_from(OutputOptions, values)
    options: ActionOptions = options_from(ActionOptions, values)
    draws = _draws(class_draws, exclude_classes, draw_seed)
    chosen = choose_run(terminal, scored)
    plan = options_from(ScaleOptions, values).plan(chosen, base_only=scored.base_only)
    lists = lists or [terminal.default(None, Path("actions.csv"), "list")]
    beside = (classes, only_classes, exclude_classes, options.templates)
    inputs = (lists, *beside, frames or Path("frames.h5"), videos, scored.model, scored.pretrained)
    output = output_options.choose(terminal, "action", lists[0].resolve().stem, chosen, inputs, plan)
    actions = read_action_set(lists, class_names=classes or (), split=split, format=list_format)
    actions = _restricted(actions, only_classes, draws, exclude_classes, draw_seed or 0)
    plan.check(TASK, actions.sha256, METRIC_NAMES)
    protocol = options_from(ProtocolOptions, values).resolve(
        prompts=str(options.templates) if options.templates else options.prompts,
        prompt_averaging=options.prompt_averaging,
        class_names=options.class_names,
    )
    opened = open_frames(terminal, frames, videos)
    clip = load_scored(terminal, chosen, scored)
    evaluations = evaluate_action_at(
        plan.scales,
        clip,
        frames_source(terminal, opened, videos, protocol=protocol, clip=clip),
        actions,
        encoding=Encoding(protocol, output_options.cache_folder(), terminal),
        run=chosen,
        options=options,
    )
    finish(terminal, evaluations, output, output_options, plan)


def _draws(text: str | None, exclude: Path | None, seed: int | None) -> tuple[int, int] | None:
    """Return draws and classes of each from ``3x160``."""
    if text is None:
        if exclude is not None or seed is not None:
            flag = "--exclude-classes" if exclude is not None else "--draw-seed"
            raise UsageError(f"{flag} is for --class-draws", "for example --class-draws 3x160")
        return None
    draws, _, classes = text.partition("x")
    if not (draws.isdecimal() and classes.isdecimal()):
        raise UsageError(f"--class-draws {text} is not NxCLASSES", "for example --class-draws 3x160")
    return int(draws), int(classes)


def _left(classes: Sequence[str], out: Sequence[str]) -> int:
    """Return how many classes are left to draw from."""
    from figclip_cli.evaluate.datasets.class_names import normalised

    excluded = set(map(normalised, out))
    return sum(normalised(name) not in excluded for name in classes)


def _restricted(
    actions: ActionSet, only: Path | None, draws: tuple[int, int] | None, exclude: Path | None, seed: int
) -> ActionSet:
    """Return the set with some classes only, or with random draws of classes as its splits."""
    import dataclasses

    from figclip_cli.evaluate.datasets.action_classes import read_class_names
    from figclip_cli.evaluate.datasets.action_sets import draw_classes, keep_classes, require_competition
    from figclip_cli.files import sha256_of_file

    choices, splits = dict(actions.choices), actions.splits
    if only is not None:
        splits = tuple(keep_classes(split, read_class_names(only)) for split in splits)
        choices["only_classes"] = {"file": only.name, "sha256": sha256_of_file(only)}
    if draws is not None:
        out = read_class_names(exclude) if exclude else ()
        made = [draw_classes(split, count=draws[1], draws=draws[0], seed=seed, exclude=out) for split in splits]
        splits = tuple(split for of_split in made for split in of_split)
        choices["class_draws"] = {
            "draws": draws[0],
            "classes": draws[1],
            "seed": seed,
            "generator": "figclip's own",
            "excluded": {"file": exclude.name, "sha256": sha256_of_file(exclude)} if exclude else None,
            "drawn_from": {split.name: _left(split.classes, out) for split in actions.splits},
        }
    restricted = dataclasses.replace(actions, splits=splits, choices=choices)
    require_competition(restricted)
    return restricted
