"""The numbers of results, taken from the statistics that results are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from figclip_cli.evaluate.action_numbers import ActionNumbers, ScoredSplit
from figclip_cli.evaluate.compositional_numbers import CompositionalNumbers, Scored
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSplit
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.metrics.choices import choice_outcomes, part_statistic
from figclip_cli.evaluate.metrics.ranking import hits
from figclip_cli.evaluate.metrics.statistics import PERCENT, Mean
from figclip_cli.evaluate.retrieval_numbers import STATISTICS, values_of


def retrieval_metrics(ranks):
    """Each number of 0-based ranks (..., n), of the shape of the leading axes."""
    made = [
        {name: statistic.number(values_of(one)) for name, (statistic, _) in STATISTICS.items()}
        for one in ranks.reshape(-1, ranks.shape[-1])
    ]
    return {name: np.reshape([one[name] for one in made], ranks.shape[:-1]) for name in STATISTICS}


def action_metrics(found):
    """Every headline number of one split, and top-1 of each class that has clips, by its number."""
    clips = tuple(ActionClip(str(number), label) for number, label in enumerate(found.labels.tolist()))
    split = ActionSplit("all", tuple(map(str, range(found.classes))), clips)
    numbers = ActionNumbers([ScoredSplit(split, clips, {"base": found})])
    of_class = {int(metric.group): metric.value for metric in numbers.groups()}
    return {metric.name: metric.value for metric in numbers.metrics()}, of_class


@dataclass
class PerClass:
    mean: float
    of_class: list[float]
    without_clips: int


def per_class_accuracy(found, k=1):
    mean = Mean(PERCENT, groups=found.labels).number(hits(found.ranks, k).astype(np.float64))
    of_class = action_metrics(found)[1]
    values = [of_class.get(label, math.nan) for label in range(found.classes)]
    return PerClass(mean, values, sum(map(math.isnan, values)))


@dataclass
class PartAccuracy:
    percent: float
    items: int
    groups: int


def statistic_of(rule, groups):
    return part_statistic(rule, groups, np.arange(len(groups)), len(groups))


def part_accuracy(right, rule, groups):
    statistic = statistic_of(rule, groups)
    used = statistic.used(len(groups))
    counted = {group for group, counts in zip(groups, used, strict=True) if counts}
    return PartAccuracy(statistic.number(right.astype(np.float64)), int(used.sum()), len(counted))


def part_weights(rule, groups):
    """What each item weighs in the headline accuracy of its part."""
    return statistic_of(rule, groups).contributions(np.ones(len(groups))) / PERCENT


def averaged(percents, averages):
    """The averages of parts of ten items each, of which so many percent are right."""
    choices, scores = [], []
    for part, percent in percents.items():
        for number in range(10):
            right = number < percent / 10
            choices.append(Choice(f"{part}/{number}", (Look(image=f"{part}{number}"),), ("right", "wrong"), part))
            scores.append(np.array([right, not right], dtype=np.float32))
    rules = {part: PartRule("micro", "strict") for part in percents}
    made = Compositional("test", "test", "0" * 64, tuple(choices), rules, tuple(averages), {}, "images")
    scored = {"base": Scored({"": choice_outcomes(scores)}, np.ones(len(choices), dtype=np.int64))}
    numbers = {
        metric.name: metric.value for metric in CompositionalNumbers(made, choices, scored, "official").metrics()
    }
    return {average.name: numbers[average.name] for average in averages}
