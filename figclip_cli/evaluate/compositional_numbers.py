"""Numbers of a compositional benchmark: by part, averaged, by group, and under both rules of ties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.datasets.choices import Choice, Compositional
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.metrics.choices import Outcomes, part_statistic
from figclip_cli.evaluate.metrics.statistics import PERCENT, Average, Mean, Statistic
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure, measure_groups
from figclip_cli.evaluate.results import ALL_ITEMS, Metric
from figclip_cli.evaluate.samples import Outcome, Sample

WINOGROUND_SCORES = ("text", "image", "group")


@dataclass(frozen=True)
class Scored:
    """What one model made of n items.

    Attributes:
        outcomes: By score: text, image and group in Winoground, else one without a name.
        best_wrong: (n,) int64, the wrong text of the highest score, the first of several.
    """

    outcomes: Mapping[str, Outcomes]
    best_wrong: npt.NDArray[np.int64]


def metric_names(benchmark: Compositional) -> list[str]:
    """Return the names of all headline numbers that a benchmark can have."""
    of_parts = [
        name
        for part, rule in benchmark.rules.items()
        for name in ([f"{of} score" for of in WINOGROUND_SCORES] if rule.scoring == "winoground" else [part])
    ]
    whole = [ALL_ITEMS] if len(benchmark.rules) > 1 else []
    return [*of_parts, *(average.name for average in benchmark.averages), *whole]


class CompositionalNumbers:
    """Outcomes of the items of all models, and the numbers made of them."""

    def __init__(
        self, benchmark: Compositional, choices: Sequence[Choice], scored: Mapping[str, Scored], ties: str
    ) -> None:
        self._benchmark = benchmark
        self._choices = choices
        self._scored = scored
        self._ties = ties
        self._part_of = np.array([choice.part for choice in choices], dtype=object)
        self.parts = [part for part in benchmark.rules if (self._part_of == part).any()]
        self._names = list(next(iter(scored.values())).outcomes)
        self.averages: dict[str, tuple[str, ...]] = {}
        for average in benchmark.averages:
            if set(average.of) <= {*self.parts, *self.averages}:  # else it would be the mean of something else
                self.averages[average.name] = average.of
        self.resampling = Resampling(map(_shown, choices), seed=BOOTSTRAP_SEED)

    def rule_of_ties(self, part: str) -> str:
        """Return the rule that a part's numbers follow."""
        return self._benchmark.rules[part].official_ties if self._ties == "official" else self._ties

    def metrics(self) -> Iterator[Metric]:
        """Yield the headline number of each part and of each average, and the mean over all items."""
        values = self._values()
        statistics: dict[str, Statistic] = {}
        for part in self.parts:
            for name in self._names:
                title = f"{name} score" if name else part
                statistics[title] = self._headline(part, name)
        for name, of in self.averages.items():
            statistics[name] = Average(tuple(statistics[one] for one in of))
        if len(self.parts) > 1:
            statistics[ALL_ITEMS] = Mean(PERCENT, key=self._names[0])
        for title, statistic in statistics.items():
            yield measure(title, statistic, values, self.resampling)

    def groups(self) -> Iterator[Metric]:
        """Yield each part under both tie rules and, where its headline is a macro mean, as a plain one; then groups."""
        for rule in ("strict", "lenient"):
            values = self._values(rule)
            for part in self.parts:
                for name in self._names:
                    title = f"{name} score" if name else part
                    yield measure(title, self._headline(part, name), values, self.resampling, group=f"ties {rule}")
        values = self._values()
        for part in self.parts:
            if self._benchmark.rules[part].headline == "macro":
                plain = Mean(PERCENT, weights=(self._part_of == part).astype(np.float64), key=self._names[0])
                yield measure(part, plain, values, self.resampling, group="micro")
        for part in self.parts:
            inside = self._part_of == part
            labels = [choice.group if here else "" for choice, here in zip(self._choices, inside, strict=True)]
            if len(set(labels) - {""}) > 1:
                for name in self._names:
                    by_model = {model: by_key[name] for model, by_key in values.items()}
                    title = f"{name} score" if name else part
                    yield from measure_groups(title, by_model, self.resampling, labels)

    def samples(self) -> Iterator[Sample]:
        """Yield each item, with what every model made of it."""
        name = self._names[-1]  # Winoground's group score: both texts and both images
        right = {model: self._right(scored.outcomes[name]) for model, scored in self._scored.items()}
        for number, choice in enumerate(self._choices):
            outcomes = {
                model: Outcome(
                    right=bool(right[model][number]),
                    margin=float(scored.outcomes[name].margin[number]),
                    chosen=choice.texts[0 if right[model][number] else scored.best_wrong[number]],
                )
                for model, scored in self._scored.items()
            }
            text, look = choice.texts[0], _shown(choice)
            yield Sample(id=choice.id, part=choice.part, group=choice.group, look=look, text=text, outcomes=outcomes)

    def _values(self, rule: str | None = None) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        return {
            model: {name: self._right(one, rule).astype(np.float64) for name, one in scored.outcomes.items()}
            for model, scored in self._scored.items()
        }

    def _right(self, outcomes: Outcomes, rule: str | None = None) -> npt.NDArray[np.bool_]:
        if rule is not None:
            return outcomes.right(rule)
        lenient = np.array([self.rule_of_ties(part) == "lenient" for part in self._part_of])
        return np.where(lenient, outcomes.lenient, outcomes.strict)

    def _headline(self, part: str, name: str) -> Mean:
        rows = np.flatnonzero(self._part_of == part)
        groups = [self._choices[row].group for row in rows.tolist()]
        return part_statistic(self._benchmark.rules[part], groups, rows, len(self._choices), key=name)


def _shown(choice: Choice) -> str:
    """Return the image or clip of an item; items of one are not independent."""
    look = choice.looks[0]
    return str(look.clip_id if look.image is None else look.image)
