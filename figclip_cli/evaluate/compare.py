"""What flipped between two models on the same items: where one wins and where it fails, item by item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.flips import Count, Flip, Pair, count_by, find_flips
from figclip_cli.evaluate.results import MODELS, Results, read_results, samples_beside
from figclip_cli.evaluate.samples import Outcome, Sample, read_samples
from figclip_cli.reporting import SILENT, Reporter

DEFAULT_RESULTS = Path("results")
Model = Literal["base", "adapted"]
GroupBy = Literal["group", "look"]


@dataclass(frozen=True)
class CompareOptions:
    """What is compared.

    Attributes:
        model_a: Which model of the first file. Default: base where one file is compared, else its headline model.
        model_b: Which model of the second file. Default: its headline model.
        at: Count as right what is among the first so many, instead of what the task counts.
        part: Only this part.
        group: Only this group.
        group_by: Also count by group, or by clip or image (look).
        common: Compare the items that both files have where they differ.
    """

    model_a: Model | None = None
    model_b: Model | None = None
    at: int | None = None
    part: str | None = None
    group: str | None = None
    group_by: GroupBy | None = None
    common: bool = False


@dataclass(frozen=True)
class Side:
    """One of the two models compared.

    Attributes:
        file: Results file.
        results: What it holds.
        model: ``base`` or ``adapted``.
    """

    file: Path
    results: Results
    model: str

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.results.models[self.model]["name"])

    def as_dict(self) -> dict[str, str]:
        """Return file, model and name, for JSON."""
        return {"file": str(self.file), "model": self.model, "name": self.name}


@dataclass(frozen=True)
class Comparison:
    """What flipped.

    Attributes:
        a, b: The two models.
        options: What was compared.
        whole: All items that were compared.
        parts: By part, in order of name.
        groups: By group or look, the largest balance of won over lost first; empty where it was not asked for.
        won, lost: Items that flipped, the largest change of margin first.
        only_in_a, only_in_b: Items that the other file lacks, which are left out.
        other_texts: Items whose right text differs between the files.
        protocol_differences: Keys of the protocol that differ.
    """

    a: Side
    b: Side
    options: CompareOptions
    whole: Count
    parts: tuple[Count, ...]
    groups: tuple[Count, ...]
    won: tuple[Flip, ...]
    lost: tuple[Flip, ...]
    only_in_a: int = 0
    only_in_b: int = 0
    other_texts: int = 0
    protocol_differences: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything, all flips included, for JSON."""
        return {
            "task": self.a.results.task,
            "dataset": self.a.results.dataset_id,
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "options": vars(self.options),
            "all": self.whole.as_dict(),
            "parts": [count.as_dict() for count in self.parts],
            "groups": [count.as_dict() for count in self.groups],
            "won": msgspec.to_builtins(self.won),
            "lost": msgspec.to_builtins(self.lost),
            "only_in_a": self.only_in_a,
            "only_in_b": self.only_in_b,
            "other_texts": self.other_texts,
            "protocol_differences": list(self.protocol_differences),
        }


@dataclass
class _Pairs:
    """Items of both files, with the outcome of A and that of B."""

    items: list[Pair] = field(default_factory=list)
    only_in_a: int = 0
    only_in_b: int = 0
    other_texts: int = 0


def compare(
    first: Path, second: Path | None = None, *, options: CompareOptions | None = None, reporter: Reporter = SILENT
) -> Comparison:
    """Compare two models of one results file, or one of each of two files.

    Raises:
        InputError: A file is not what it should be, its samples are missing or changed, the tasks differ, or the
            items differ and ``common`` is not set.
        UsageError: A model, part or group that is not there, or ``at`` without ranks.
    """
    options = options or CompareOptions()
    a, b = _sides(first, second, options)
    if a.results.task != b.results.task:
        raise InputError(
            f"{a.file} is of the task '{a.results.task}', {b.file} of '{b.results.task}'", "compare files of one task"
        )
    pairs = _pairs(a, b)
    differences = tuple(_differences(a.results.protocol, b.results.protocol)) if b.file != a.file else ()
    _report(a, b, pairs, differences, options, reporter)
    chosen = list(_filtered(pairs, options))
    won, lost = find_flips(chosen, options.at)
    return Comparison(
        a,
        b,
        options,
        whole=count_by(chosen, lambda sample: "", options.at)[0],
        parts=tuple(count_by(chosen, lambda sample: sample.part, options.at)),
        groups=tuple(_by_group(chosen, options)),
        won=won,
        lost=lost,
        only_in_a=pairs.only_in_a,
        only_in_b=pairs.only_in_b,
        other_texts=pairs.other_texts,
        protocol_differences=differences,
    )


def newest_results(folder: Path = DEFAULT_RESULTS) -> Path:
    """Return the results file of a folder that is newest.

    Raises:
        InputError: There is none.
    """
    files = sorted(folder.glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    if not files:
        raise InputError(f"there is no results file in {folder}/", "name one, or make one with figclip evaluate")
    return files[-1]


def _sides(first: Path, second: Path | None, options: CompareOptions) -> tuple[Side, Side]:
    results_a = read_results(first)
    results_b = results_a if second is None else read_results(second)
    model_a = options.model_a or ("base" if second is None else results_a.headline_model)
    model_b = options.model_b or ("adapted" if second is None else results_b.headline_model)
    sides = Side(first, results_a, model_a), Side(second or first, results_b, model_b)
    for side in sides:
        if side.model not in side.results.models:
            has = " and ".join(model for model in MODELS if model in side.results.models)
            raise UsageError(f"{side.file} has no {side.model} model, only {has}", "name a second results file")
    if sides[0].file == sides[1].file and model_a == model_b:
        raise UsageError(f"{first} is compared with itself, both times its {model_a} model", "name another model")
    return sides


def _pairs(a: Side, b: Side) -> _Pairs:
    pairs = _Pairs()
    if a.file == b.file:
        samples = read_samples(samples_beside(a.file, a.results))[1]
        pairs.items = [(sample, _outcome(sample, a), _outcome(sample, b)) for sample in samples]
        return pairs
    held = {sample.key: sample for sample in read_samples(samples_beside(a.file, a.results))[1]}
    for theirs in read_samples(samples_beside(b.file, b.results))[1]:
        ours = held.pop(theirs.key, None)
        if ours is None:
            pairs.only_in_b += 1
            continue
        pairs.other_texts += ours.text != theirs.text
        pairs.items.append((ours, _outcome(ours, a), _outcome(theirs, b)))
    pairs.only_in_a = len(held)
    return pairs


def _outcome(sample: Sample, side: Side) -> Outcome:
    if side.model not in sample.outcomes:
        raise InputError(f"the samples of {side.file} have no outcomes of {side.model}", "evaluate again")
    return sample.outcomes[side.model]


def _report(
    a: Side, b: Side, pairs: _Pairs, differences: Iterable[str], options: CompareOptions, reporter: Reporter
) -> None:
    counts = f"{len(pairs.items)} items in both, {pairs.only_in_a} only in {a.file}, {pairs.only_in_b} only in {b.file}"
    if (pairs.only_in_a or pairs.only_in_b) and not options.common:
        hint = "pass --common to compare those in both" if pairs.items else "are they of the same data set?"
        raise InputError(f"the two files have different items: {counts}", hint)
    if not pairs.items:
        raise InputError(f"{a.file} and {b.file} have no item in common", "are they of the same data set?")
    if pairs.only_in_a or pairs.only_in_b:
        reporter.warn(f"only the common items are compared: {counts}")
    if a.results.dataset_sha256 != b.results.dataset_sha256:
        reporter.warn(f"the data sets are not the same file: {a.results.dataset_id} and {b.results.dataset_id}")
    if pairs.other_texts:
        reporter.warn(f"{pairs.other_texts} of {len(pairs.items)} items have another text in {b.file}")
    if differences:
        reporter.warn(f"the protocols differ: {', '.join(differences)}")


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys, with dots between levels, whose values differ; what is told by model is no choice."""
    for key in sorted({*first, *second}):
        left, right = first.get(key), second.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            if not {*left, *right} <= set(MODELS):
                yield from _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            yield f"{prefix}{key}"


def _filtered(pairs: _Pairs, options: CompareOptions) -> Iterator[Pair]:
    for what, wanted in (("part", options.part), ("group", options.group)):
        names = {getattr(sample, what) for sample, _, _ in pairs.items}
        if wanted is not None and wanted not in names:
            raise UsageError(f"no item has the {what} '{wanted}'", nearest(wanted, names - {""}))
    kept = [
        (sample, first, second)
        for sample, first, second in pairs.items
        if options.part in (None, sample.part) and options.group in (None, sample.group)
    ]
    if not kept:
        raise UsageError(f"no item of the part '{options.part}' has the group '{options.group}'", "leave one out")
    unranked = next((s for s, *outcomes in kept if any(outcome.rank is None for outcome in outcomes)), None)
    if options.at is not None and unranked is not None:
        raise UsageError(f"items such as '{unranked.id}' have no rank", "leave out --at")
    yield from kept


def _by_group(pairs: Iterable[Pair], options: CompareOptions) -> list[Count]:
    what = options.group_by
    if what is None:
        return []
    counts = count_by(pairs, lambda sample: str(getattr(sample, what)), options.at)
    return sorted(counts, key=lambda count: count.only_a - count.only_b)
