"""Which single items are shown: what a run won, what it still has wrong, and what it lost."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from figclip_cli.errors import InputError
from figclip_cli.evaluate.results import MODELS, samples_beside
from figclip_cli.evaluate.samples import Outcome, Sample, read_samples
from figclip_cli.report.found import RunResults

_SPARE = 20  # as many times more are kept as are shown, so that no clip is shown twice
_Key = Callable[[Sample], tuple[float, ...]]


@dataclass(frozen=True)
class ChosenItems:
    """Items of one evaluation.

    Attributes:
        better: Right with the run and wrong with the base, the largest change first.
        failing: Wrong with both, the worst first.
        worse: Wrong with the run and right with the base, the largest change first.
        counts: Of all items: right with both, with the base alone, with the run alone, with neither.
        texts: The right text of each clip or event that is shown.
    """

    better: tuple[Sample, ...]
    failing: tuple[Sample, ...]
    worse: tuple[Sample, ...]
    counts: tuple[int, int, int, int]
    texts: dict[str, str]

    @property
    def n(self) -> int:
        """Items in all."""
        return sum(self.counts)


def base_of(sample: Sample) -> Outcome:
    """Return what the base made of an item."""
    return sample.outcomes[MODELS[0]]


def run_of(sample: Sample) -> Outcome:
    """Return what the run made of an item."""
    return sample.outcomes[MODELS[1]]


def has_samples(entry: RunResults) -> bool:
    """Return whether the outcomes of single items are still beside the results."""
    named = entry.results.samples
    return named is not None and entry.file.with_name(str(named["file"])).is_file()


def choose_items(entry: RunResults, part: str | None, count: int) -> ChosenItems:
    """Read the samples of results, twice, and keep those that are shown.

    Args:
        part: Only this part, such as ``t2v``.
        count: How many of each list.

    Raises:
        InputError: The samples are damaged or not those that were written with the results.
    """
    lists: dict[str, list[Sample]] = {"better": [], "failing": [], "worse": []}
    counts = [0, 0, 0, 0]
    keys: dict[str, _Key] = {"better": _by_change(-1), "failing": _by_margin, "worse": _by_change(1)}
    batch: list[Sample] = []

    def settle() -> None:
        for name, key in keys.items():
            every = (*lists[name], *(one for one in batch if _is_of(name, one)))
            lists[name] = heapq.nsmallest(count * _SPARE, every, key=lambda one: (*key(one), one.id))
        batch.clear()

    for sample in _read(entry, part):
        counts[2 * (not base_of(sample).right) + (not run_of(sample).right)] += 1  # as in ``ChosenItems.counts``
        batch.append(sample)
        if len(batch) >= 4096:
            settle()
    settle()
    both, base, run, neither = counts
    shown = {name: _of_different_clips(found, count) for name, found in lists.items()}
    wanted = {look for found in shown.values() for one in found for look in _looks(one)}
    texts: dict[str, str] = {}
    for sample in _read(entry, None):
        if sample.look in wanted:
            texts.setdefault(sample.look, sample.text)
    return ChosenItems(shown["better"], shown["failing"], shown["worse"], _four(counts), texts)


def _four(counts: Sequence[int]) -> tuple[int, int, int, int]:
    both, base_alone, run_alone, neither = counts
    return both, base_alone, run_alone, neither


def _read(entry: RunResults, part: str | None) -> Iterator[Sample]:
    path = samples_beside(entry.file, entry.results)
    header, samples = read_samples(path)
    if not set(MODELS) <= set(header.models):
        raise InputError(f"the samples of {entry.file} lack a model that it has", "evaluate again")
    return (sample for sample in samples if part in (None, sample.part))


def _is_of(name: str, sample: Sample) -> bool:
    base, run = base_of(sample).right, run_of(sample).right
    if name == "failing":
        return not run and not base
    return (run and not base) if name == "better" else (base and not run)


def _by_change(sign: int) -> _Key:
    """Return a key that puts the largest change of rank, then of margin, first."""

    def key(sample: Sample) -> tuple[float, ...]:
        base, run = base_of(sample), run_of(sample)
        ranks = 0.0 if base.rank is None or run.rank is None else base.rank - run.rank
        return sign * ranks, sign * (run.margin - base.margin)

    return key


def _by_margin(sample: Sample) -> tuple[float, ...]:
    return -(run_of(sample).rank or 0.0), run_of(sample).margin


def _of_different_clips(samples: Iterable[Sample], count: int) -> tuple[Sample, ...]:
    chosen: dict[str, Sample] = {}
    for sample in samples:
        chosen.setdefault(sample.look.rpartition("#")[0] or sample.look, sample)
    return tuple(chosen.values())[:count]


def _looks(sample: Sample) -> Sequence[str]:
    return sample.look, base_of(sample).chosen, run_of(sample).chosen
