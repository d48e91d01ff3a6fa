"""The stage: annotation files in, prompts.jsonl out."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli import __version__
from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import refuse_existing, sha256_of_file
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.annotations import read_annotations, read_split, read_verbs
from figclip_cli.prompts.clip_maker import ClipMaker, made_in_order
from figclip_cli.prompts.events import Annotation, AnnotationFiles
from figclip_cli.prompts.joined import JoinedText, write_joined
from figclip_cli.prompts.options import Inputs, PromptOptions
from figclip_cli.prompts.store import PromptEvent, collector_paused, write_prompts
from figclip_cli.prompts.tally import Tally
from figclip_cli.prompts.template_file import read_template
from figclip_cli.prompts.templates import TEMPLATES, Template, template_named
from figclip_cli.reporting import SILENT, Progress, Reporter

DEFAULT_OUTPUT = Path("prompts.jsonl")


@dataclass(frozen=True)
class PromptSummary:
    """What was written.

    Attributes:
        output: The prompts file.
        counts: The header's counts (docs/file-formats.md).
        missing_clips: Clips of the split that no annotation file has, sorted.
        problems: One line for each record or event that was left out.
        samples: Some events, if any were asked for.
    """

    output: Path
    counts: dict[str, Any]
    missing_clips: tuple[str, ...]
    problems: tuple[str, ...]
    samples: tuple[PromptEvent, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        document = {
            "output": str(self.output),
            "counts": self.counts,
            "missing_clips": list(self.missing_clips),
            "problems": list(self.problems),
        }
        return {**document, "samples": msgspec.to_builtins(self.samples)} if self.samples else document


def build(
    inputs: Inputs | Sequence[Path],
    output: Path = DEFAULT_OUTPUT,
    *,
    options: PromptOptions | None = None,
    joined: Path | None = None,
    workers: int = 1,
    samples: int = 0,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> PromptSummary:
    """Write the prompts and hard negatives of annotated events (FiGCLIP, section 3).

    Args:
        inputs: What to read; a list of annotation files stands for :class:`Inputs` of them.
        joined: Also write one text per clip and annotation that tells of all its events, to this file.
        workers: Processes that make texts. Their number does not change the files.
        samples: Events to return for a person to look at; the seed decides which.

    Raises:
        UsageError: An output exists and ``overwrite`` is false, or an annotation file is given twice.
        InputError: A file is missing or of no known format, no clip of the split is annotated, a prompt is too long
            and the rule is ``error``, or, with ``strict``, a record breaks its format. Nothing is written then.
    """
    options = options or PromptOptions()
    inputs = inputs if isinstance(inputs, Inputs) else Inputs(inputs)
    if options.temporal and joined is None:
        raise UsageError("temporal negatives are made of joined texts", "pass --joined FILE, or leave them out")
    for path in (output, *([joined] if joined else [])):
        refuse_existing(path, overwrite=overwrite)
    template = _template(options.template)
    with collector_paused():
        files = read_annotations(
            inputs.annotations,
            format_name=inputs.format_name,
            nouns=inputs.nouns,
            strict=inputs.strict,
            reporter=reporter,
        )
    annotations, missing = _keep(files.annotations, inputs.split)
    if missing:
        reporter.warn(f"{len(missing)} clips of {inputs.split} are not annotated, the first is {missing[0]}")
    verbs = read_verbs(inputs.vinfo) if inputs.vinfo else {}
    maker = ClipMaker(
        annotations, verbs, template, options, strict=inputs.strict, joining=joined is not None, samples=samples
    )
    run = _Run(maker, annotations, options, samples)
    counts: dict[str, Any] = {}

    def header() -> dict[str, Any]:
        """Return the header, once all events are made."""
        counts.update(_counts(run.tally, annotations, missing, files, len(run.problems)))
        return {
            "tool_version": __version__,
            "options": _options(options, template, maker.counter, inputs),
            "seed": options.seed,
            "sources": list(files.sources),
            "counts": counts,
        }

    with collector_paused(), reporter.track("build prompts", len(annotations), "annotations") as progress:
        write_prompts(output, run.blocks(workers, progress), header)
    if joined:
        header_of_joined = {"seed": options.seed, "sources": list(files.sources), "template": template.name}
        write_joined(joined, run.joined, header_of_joined, temporal=options.temporal)
    run.tally.remark(reporter)
    return PromptSummary(output, counts, missing, files.problems + tuple(run.problems), run.samples())


def _template(name: str) -> Template:
    """Return a template by name, or from a file: whatever looks like a path or exists is one."""
    if name not in TEMPLATES and (Path(name).suffix or Path(name).exists()):
        return read_template(Path(name))
    return template_named(name)


def _keep(annotations: tuple[Annotation, ...], split: Path | None) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Return the annotations of the split's clips, and the clips of the split that have none."""
    if split is None:
        return annotations, ()
    wanted = read_split(split)
    kept = tuple(annotation for annotation in annotations if annotation.clip_id in wanted)
    if not kept:
        raise InputError(
            f"none of the {len(wanted)} clips of {split} is annotated, for example {min(wanted)}",
            "the split and the annotation files must be of the same kind (train, valid)",
        )
    return kept, tuple(sorted(wanted - {annotation.clip_id for annotation in kept}))


class _Run:
    """All clips in order, made by this process or by several."""

    def __init__(
        self, maker: ClipMaker, annotations: Sequence[Annotation], options: PromptOptions, samples: int
    ) -> None:
        self.tally = Tally(options.on_overflow, options.per_event)
        self.problems: list[str] = []
        self.joined: list[JoinedText] = []
        self._maker = maker
        self._annotations = annotations
        self._sampled: list[tuple[bytes, PromptEvent]] = []
        self._samples = samples

    def samples(self) -> tuple[PromptEvent, ...]:
        """Return the sampled events, in the order of the file."""
        return tuple(event for _, event in sorted(self._sampled, key=lambda item: item[1].key))

    def blocks(self, workers: int, progress: Progress) -> Iterator[bytes]:
        """Yield lines of the file, sorted by clip, annotation and event."""
        clips = [list(group) for _, group in groupby(self._annotations, key=lambda annotation: annotation.clip_id)]
        for made in made_in_order(self._maker, clips, workers=workers):
            self.tally.merge(made.tally)
            self.problems += made.problems
            self.joined += made.joined
            self._sampled = heapq.nsmallest(self._samples, self._sampled + made.samples, key=lambda item: item[0])
            yield made.lines
            progress.advance(made.annotations)


def _options(options: PromptOptions, template: Template, counter: TokenCounter, inputs: Inputs) -> dict[str, Any]:
    def named(path: Path | None) -> dict[str, str] | None:
        return None if path is None else {"name": path.name, "sha256": sha256_of_file(path)}

    return {
        "template": template.name,
        "template_sha256": template.sha256,
        "negatives": dict(options.negatives),
        "balance": options.balance,
        "on_overflow": options.on_overflow,
        "context_length": counter.context_length,
        "split": named(inputs.split),
        "vinfo": named(inputs.vinfo),
        "nouns": named(inputs.nouns),
    }


def _counts(
    tally: Tally,
    annotations: Sequence[Annotation],
    missing: Sequence[str],
    files: AnnotationFiles,
    events_left_out: int,
) -> dict[str, Any]:
    return {
        "clips": len({annotation.clip_id for annotation in annotations}),
        "clips_missing": len(missing),
        "records": files.records,
        "records_left_out": len(files.problems),
        "records_unlabelled": files.unlabelled,
        "events_left_out": events_left_out,
        "annotations": len(annotations),
        **tally.as_dict(),
    }
