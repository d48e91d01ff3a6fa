"""The stage: annotation files in, prompts.jsonl out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from figclip_cli import __version__
from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.files import refuse_existing, sha256_of_file
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.annotations import AnnotatedEvent, Annotation, read_annotations, read_split
from figclip_cli.prompts.candidates import NounPool, SenseCatalogue, verb_words
from figclip_cli.prompts.negatives import KINDS, ROLE_NOUN, VERB_ROLE, NegativeMaker, Positive
from figclip_cli.prompts.overflow import DROP_ORDER, Fitted, OnOverflow, fit
from figclip_cli.prompts.roles import GENERIC_NAMES, MODIFIERS, SCENE, Role, role_name
from figclip_cli.prompts.store import PromptEvent, write_prompts
from figclip_cli.prompts.templates import PAPER, normalised
from figclip_cli.reporting import SILENT, Progress, Reporter

DEFAULT_OUTPUT = Path("prompts.jsonl")
_ARGS = (*GENERIC_NAMES, *MODIFIERS, SCENE)


@dataclass(frozen=True)
class PromptOptions:
    """What the texts are to be.

    Attributes:
        seed: Decides every random choice.
        verb_role_negatives: Negatives per event with another verb and its role names.
        role_noun_negatives: Negatives per event with nouns exchanged between roles, or replaced.
        on_overflow: What to do with a prompt over the model's context: ``drop``, ``truncate`` or ``error``.

    Raises:
        UsageError: A count is below zero, or there is no such rule.
    """

    seed: int = 0
    verb_role_negatives: int = 4
    role_noun_negatives: int = 2
    on_overflow: OnOverflow = "drop"

    def __post_init__(self) -> None:
        if min(self.verb_role_negatives, self.role_noun_negatives) < 0:
            raise UsageError("a number of negatives is below zero", "0 makes none")
        if self.on_overflow not in get_args(OnOverflow):
            hint = nearest(self.on_overflow, get_args(OnOverflow))
            raise UsageError(f"no rule '{self.on_overflow}' for overflow", hint)


@dataclass(frozen=True)
class PromptSummary:
    """What was written.

    Attributes:
        output: The prompts file.
        counts: The header's counts (docs/file-formats.md).
        missing_clips: Clips of the split that no annotation file has, sorted.
    """

    output: Path
    counts: dict[str, Any]
    missing_clips: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"output": str(self.output), "counts": self.counts, "missing_clips": list(self.missing_clips)}


@dataclass
class _Tally:
    """What is counted while events are made."""

    verbs: set[str] = field(default_factory=set)
    events: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    generic: Counter[str] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)

    def add(self, event: PromptEvent, fitted: Fitted, options: PromptOptions) -> None:
        """Count one finished event."""
        self.events += 1
        self.verbs.add(event.verb_sense)
        self.roles.update(role.arg for role in event.roles)
        self.lost.update(role.arg for role in event.lost_roles)
        self.overflow["events"] += fitted.overlong
        self.overflow["agent_words_cut"] += fitted.words_cut
        self.overflow["truncated"] += fitted.overlong and options.on_overflow == "truncate"
        kinds = Counter(negative.kind for negative in event.negatives)
        self.negatives.update(kinds)
        self.missing[VERB_ROLE] += options.verb_role_negatives - kinds[VERB_ROLE]
        self.missing[ROLE_NOUN] += options.role_noun_negatives - (kinds.total() - kinds[VERB_ROLE])


def build(
    annotation_paths: Sequence[Path],
    output: Path = DEFAULT_OUTPUT,
    *,
    options: PromptOptions | None = None,
    split: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> PromptSummary:
    """Write the prompts and hard negatives of VidSitu annotations (FiGCLIP, section 3).

    Args:
        annotation_paths: ``vsann_*_lb.json`` files.
        split: A ``vseg_split_*_lb.json``: only its clips are kept, also as a source of other verbs and nouns.

    Raises:
        UsageError: ``output`` exists and ``overwrite`` is false, or an annotation file is given twice.
        InputError: An input breaks its format, no clip of the split is annotated, or a prompt is too long and
            the rule is ``error``. Nothing is written then.
    """
    options = options or PromptOptions()
    refuse_existing(output, overwrite=overwrite)
    files = read_annotations(annotation_paths)
    annotations, missing = _keep(files.annotations, split)
    if missing:
        reporter.warn(f"{len(missing)} clips of {split} are not annotated, the first is {missing[0]}")
    builder = _Builder(annotations, options)
    counts: dict[str, Any] = {}

    def header() -> dict[str, Any]:
        """Return the header, once all events are made."""
        counts.update(_counts(builder, annotations, missing))
        return {
            "tool_version": __version__,
            "options": _options(options, builder.counter, split),
            "seed": options.seed,
            "sources": list(files.sources),
            "counts": counts,
        }

    events = sum(len(annotation.events) for annotation in annotations)
    with reporter.track("build prompts", events, "events") as progress:
        write_prompts(output, builder.events(progress), header)
    _remark(builder.tally, reporter)
    return PromptSummary(output, counts, missing)


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


class _Builder:
    """Makes every line of the file, clip by clip."""

    def __init__(self, annotations: Sequence[Annotation], options: PromptOptions) -> None:
        self.counter = TokenCounter()
        self.tally = _Tally()
        self._annotations = annotations
        self._options = options
        self._maker = NegativeMaker(
            SenseCatalogue(annotations), NounPool(annotations), meaning=self._meaning_of_negative, seed=options.seed
        )

    def events(self, progress: Progress) -> Iterator[PromptEvent]:
        """Yield events sorted by clip, annotation and event."""
        for _, group in groupby(self._annotations, key=lambda annotation: annotation.clip_id):
            clip = list(group)
            yield from self._clip(clip)
            progress.advance(sum(len(annotation.events) for annotation in clip))

    def _clip(self, clip: list[Annotation]) -> Iterator[PromptEvent]:
        fitted = [
            [self._fit(annotation, index, event) for index, event in enumerate(annotation.events)]
            for annotation in clip
        ]
        said = frozenset(self._meaning(prompt.text) for row in fitted for prompt in row)
        for annotation, row in zip(clip, fitted, strict=True):
            for index, prompt in enumerate(row):
                twins = [other.events[index] for other in clip]
                yield self._event(annotation, index, prompt, twins, said)

    def _fit(self, annotation: Annotation, index: int, event: AnnotatedEvent) -> Fitted:
        roles = []
        for argument in event.arguments:
            if argument.value:
                name, generic = role_name(event.sense, argument.arg, argument.description)
                self.tally.generic[argument.arg] += generic
                roles.append(Role(argument.arg, name, argument.value))
        where = f"clip {annotation.clip_id}, annotation {annotation.annotation_index}, Ev{index + 1}"
        return fit(event.verb, roles, counter=self.counter, on_overflow=self._options.on_overflow, where=where)

    def _event(
        self, annotation: Annotation, index: int, prompt: Fitted, twins: Sequence[AnnotatedEvent], said: frozenset[str]
    ) -> PromptEvent:
        event = annotation.events[index]
        place = (annotation.clip_id, annotation.annotation_index, index)
        positive = Positive(
            place=place,
            verb=event.verb,
            sense=event.sense,
            roles=prompt.roles,
            verbs=frozenset().union(*(verb_words(twin.verb, twin.sense) for twin in twins)),
            values=frozenset(normalised(argument.value) for twin in twins for argument in twin.arguments),
            said=said,
        )
        negatives = self._maker.make(
            positive,
            verb_role=self._options.verb_role_negatives,
            role_noun=self._options.role_noun_negatives,
        )
        made = PromptEvent(*place, event.verb, event.sense, prompt.roles, prompt.lost, prompt.text, tuple(negatives))
        self.tally.add(made, prompt, self._options)
        return made

    def _meaning(self, text: str) -> str:
        """Return what the model sees of a text, normalised."""
        return normalised(self.counter.visible(text))

    def _meaning_of_negative(self, text: str) -> str | None:
        """Return the same, or None for a text over the context unless texts are to be truncated."""
        if self.counter.fits(text):
            return normalised(text)
        if self._options.on_overflow != "truncate":
            self.tally.overflow["negatives_refused"] += 1
            return None
        self.tally.overflow["negatives_truncated"] += 1
        return self._meaning(text)


def _options(options: PromptOptions, counter: TokenCounter, split: Path | None) -> dict[str, Any]:
    return {
        "template": PAPER,
        "verb_role_negatives": options.verb_role_negatives,
        "role_noun_negatives": options.role_noun_negatives,
        "on_overflow": options.on_overflow,
        "context_length": counter.context_length,
        "split": None if split is None else {"name": split.name, "sha256": sha256_of_file(split)},
    }


def _counts(builder: _Builder, annotations: Sequence[Annotation], missing: Sequence[str]) -> dict[str, Any]:
    tally = builder.tally
    overflow = ("events", "truncated", "agent_words_cut", "negatives_refused", "negatives_truncated")
    return {
        "clips": len({annotation.clip_id for annotation in annotations}),
        "clips_missing": len(missing),
        "annotations": len(annotations),
        "events": tally.events,
        "verbs": len(tally.verbs),
        "roles": {arg: tally.roles[arg] for arg in _ARGS},
        "generic_roles": {arg: tally.generic[arg] for arg in GENERIC_NAMES},
        "roles_lost": {arg: tally.lost[arg] for arg in DROP_ORDER},
        "negatives": {kind: tally.negatives[kind] for kind in KINDS},
        "negatives_missing": {kind: tally.missing[kind] for kind in (VERB_ROLE, ROLE_NOUN)},
        "overflow": {name: tally.overflow[name] for name in overflow},
    }


def _remark(tally: _Tally, reporter: Reporter) -> None:
    if truncated := tally.overflow["truncated"]:
        reporter.warn(f"{truncated} prompts are over the context: the model will not see their end")
    if tally.lost:
        lost = ", ".join(f"{arg} {tally.lost[arg]}" for arg in DROP_ORDER if tally.lost[arg])
        reporter.warn(f"roles left out of long prompts: {lost}")
    if cut := tally.overflow["agent_words_cut"]:
        reporter.warn(f"{cut} prompts were still too long: words of their agent were cut")
