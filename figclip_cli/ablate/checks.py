"""What can be refused before hours are spent: files, metrics that no task has, clips that cannot be read as asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from figclip_cli.ablate.plan import Cell, Plan
from figclip_cli.ablate.spec import Question
from figclip_cli.ablate.tasks import COMPOSITIONAL, Task, read_task
from figclip_cli.errors import FigclipError, InputError, UsageError, nearest
from figclip_cli.evaluate.contextual_reading import refuse_misfit
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.task_options import TOKENS
from figclip_cli.frames import FramesReader
from figclip_cli.models.source import resolve
from figclip_cli.run_folder import RunFolder

_NO_RUN = Path("no-such-run")


def check_inputs(plan: Plan, cells: Sequence[Cell]) -> None:
    """Read what scoring reads and look for what training reads.

    Args:
        cells: Those that are to be made.

    Raises:
        FigclipError: Something is missing or broken, or scoring would refuse it.
    """
    inputs = plan.inputs
    names: dict[str, list[str]] = {}
    with_tokens = [cell for cell in cells if TOKENS in cell.features]
    trained_on = FramesReader(list(inputs.frames))
    for task in inputs.spec.tasks:
        asked = read_task(task, inputs.root)
        names[task.name] = metric_names(task, asked)
        try:
            reader = FramesReader(list(inputs.below(task.frames)))
            has_events = _check_frames(asked, reader, _looks(task, asked))
            if with_tokens:
                _check_tokens(inputs.spec.protocol, reader, trained_on, has_events, with_tokens)
        except FigclipError as error:
            raise InputError(f"{inputs.spec.path}, task '{task.name}': {error.message}", error.hint) from error
    for question in inputs.spec.questions:
        check_metrics(question, names)
    if Path(inputs.source.model).is_dir():
        resolve(inputs.source)


def metric_names(task: Task, asked: Any) -> list[str]:
    """Return what a task measures."""
    if task.kind == COMPOSITIONAL:
        from figclip_cli.evaluate.compositional_numbers import metric_names as names_of

        return names_of(asked)
    from figclip_cli.evaluate.retrieval_numbers import METRIC_NAMES

    return list(METRIC_NAMES)


def check_metrics(question: Question, names: dict[str, list[str]]) -> None:
    """Refuse a metric that no task has; ``macro`` stands for the one number of a task that has one.

    Raises:
        InputError: Offers the nearest.
    """
    for metric in question.show:
        task, _, name = metric.partition(" ")
        if name in names[task] or (name == "macro" and len(names[task]) == 1):
            continue
        known = [f"{task} {one}" for one in names[task]]
        raise InputError(f"question '{question.name}': there is no metric '{metric}'", nearest(metric, known))


def _looks(task: Task, asked: Any) -> list[tuple[str, int | None]]:
    """Return the clips that a task looks at, each with its event or None."""
    if task.kind != COMPOSITIONAL:
        return [(query.clip_id, query.event_index) for query in asked.queries]
    if asked.uses == "images":
        raise InputError(f"the benchmark '{asked.benchmark}' is about images", "an ablation scores clips with frames")
    return [(look.clip_id, look.event_index) for choice in asked.choices for look in choice.looks]


def _check_frames(asked: Any, reader: FramesReader, looks: list[tuple[str, int | None]]) -> set[bool]:
    """Refuse frames of other clips or events than are asked for; return whether events and whole clips are."""
    if asked.events_per_clip is not None:
        reader.require_events(asked.events_per_clip)
    there = set(reader.clip_ids)
    if not any(clip_id in there for clip_id, _ in looks):
        raise InputError(
            f"none of its clips, such as '{looks[0][0]}', has frames in {reader.paths[0]}",
            "clip ids are the video files' names without ending",
        )
    return {event is not None for _, event in looks}


def _check_tokens(
    protocol: str, reader: FramesReader, trained_on: FramesReader, has_events: set[bool], cells: Sequence[Cell]
) -> None:
    """Refuse what a contextualizer cannot read, or was not trained to."""
    with suppress(InputError):  # of the run, which is still to be made
        refuse_misfit(TOKENS, RunFolder(_NO_RUN), PROTOCOLS[protocol])
    reader.require_equal_lengths()
    seen, built = reader.recipe, trained_on.recipe
    if seen.events > built.events or seen.frames_per_event > built.frames_per_event:
        raise InputError(
            f"{reader.paths[0]} has {seen.events} events of {seen.frames_per_event} frames, contextualizers are "
            f"trained on {built.events} of {built.frames_per_event}",
            "extract its frames as those that are trained on",
        )
    for cell in cells:
        for is_event, kind in ((False, "video"), (True, "event")):
            if is_event in has_events and not getattr(cell.options, f"vc_{kind}_weight"):
                raise UsageError(
                    f"the cell {cell.name} trains with vc-{kind}-weight 0 and is read through its {kind} tokens, "
                    "which mean nothing",
                    "leave features = 'tokens' out there",
                )
