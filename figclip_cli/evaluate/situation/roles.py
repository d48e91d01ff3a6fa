"""Numbers of predicted roles: CIDEr, BLEU and ROUGE-L of their texts, and LEA of who is called the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, SCORED_ROLES
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions
from figclip_cli.evaluate.metrics.bleu import Bleu, bleu_counts, bleu_values
from figclip_cli.evaluate.metrics.cider import CiderTexts
from figclip_cli.evaluate.metrics.coreference import COREFERENCE, PrecisionRecall, coreference_sums, f1_of
from figclip_cli.evaluate.metrics.lea import Lea, clusters_of, lea_values
from figclip_cli.evaluate.metrics.ngrams import MAX_ORDER, Ints
from figclip_cli.evaluate.metrics.rouge import rouge_l
from figclip_cli.evaluate.metrics.statistics import PERCENT, Floats, Mean, Statistic
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample
from figclip_cli.evaluate.situation.role_items import hypotheses_of, lea_of_clips, mention_pairs, role_items

_BY_VERB, _BY_ROLE = "mean over verbs", "mean over roles"
# With the idf of all items, or of the group's.
_CIDER, _CIDER_OF_VERB, _CIDER_OF_ROLE = "cider", "cider of verb", "cider of role"


class RoleNumbers:
    """Roles of the first reference that are scored, and the numbers made of their texts; drawn by clip.

    Args:
        truth: With annotations.
        models: Predictions of ``base`` and, where given, ``adapted``; a clip that is missing has empty texts.

    Attributes:
        beyond: Counts of what the official scorer stops at and is scored here, none of which is 0.
        skipped: By model, clips that LEA leaves out because their prediction has no ``Ev1``.

    Raises:
        InputError: There is no role to score.
    """

    def __init__(self, truth: SituationTruth, models: Mapping[str, SituationPredictions]) -> None:
        self._truth, self._models = truth, models
        self._found = role_items(truth)
        self.items = self._found.items
        self._texts = {model: hypotheses_of(self.items, predictions) for model, predictions in models.items()}
        self.senses, self._sense = _numbered([item.sense for item in self.items])
        names = [name for name in SCORED_ROLES if any(item.name == name for item in self.items)]
        self.roles, self._role = names, np.array([names.index(item.name) for item in self.items], dtype=np.int64)
        self._values = {model: self._of_texts(model) for model in models}
        self._lea, unknown = {}, 0
        for model, predictions in models.items():
            sums, without = lea_of_clips(self._found, predictions, self._values[model][_CIDER].tolist())
            self._lea[model], unknown = lea_values(sums, self._found.rounds), unknown + without
        counts = {
            "roles that a reference lacks": self._found.lacking,
            "clips with fewer references than the first": self._found.uneven,
            "predicted roles that only a later reference has": unknown,
            "predictions without one of Ev2 to Ev5": sum(map(_incomplete, models.values())),
        }
        self.beyond = {name: count for name, count in counts.items() if count}
        self.skipped = {model: _without_first(predictions) for model, predictions in models.items()}
        self.resampling = Resampling([item.clip for item in self.items])
        self._of_clips = Resampling(range(len(truth.clip_ids)))

    def _of_texts(self, model: str) -> dict[str, Floats]:
        """Return (items,) arrays of one model; a clip without a record scores 0 even where a reference is empty."""
        texts, of_clips = self._texts[model], self._models[model].roles
        there = np.array([of_clips[item.clip] is not None for item in self.items])
        references = [item.texts for item in self.items]
        scored = CiderTexts(texts, references)
        return {
            _CIDER: scored.scores(),
            _CIDER_OF_VERB: scored.scores(self._sense),
            _CIDER_OF_ROLE: scored.scores(self._role),
            "rouge": rouge_l(texts, references) * there,
            **bleu_values(bleu_counts(texts, references)),
        }

    def metrics(self) -> Iterator[Metric]:
        """Yield CIDEr, C-Vb, C-Arg, ROUGE-L, BLEU-1 to BLEU-4, LEA and LEA-soft, all times 100."""
        yield self._measured("CIDEr", Mean(PERCENT, key=_CIDER))
        yield self._measured("C-Vb", Mean(PERCENT, groups=self._sense, key=_CIDER_OF_VERB))
        yield self._measured("C-Arg", Mean(PERCENT, groups=self._role, key=_CIDER_OF_ROLE))
        yield self._measured("ROUGE-L", Mean(PERCENT, key="rouge"))
        for order in range(1, MAX_ORDER + 1):
            yield self._measured(f"BLEU-{order}", Bleu(order, PERCENT))
        for name, soft in (("LEA", False), ("LEA-soft", True)):
            yield measure(name, Lea(self._found.rounds, soft, PERCENT), self._lea, self._of_clips)

    def groups(self) -> Iterator[Metric]:
        """Yield ROUGE-L and BLEU as means over verbs and over roles, then everything of each role."""
        for group, labels in ((_BY_VERB, self._sense), (_BY_ROLE, self._role)):
            yield self._measured("ROUGE-L", Mean(PERCENT, groups=labels, key="rouge"), group)
            for order in range(1, MAX_ORDER + 1):
                yield self._measured(f"BLEU-{order}", Bleu(order, PERCENT, labels), group)
        yield from self.by_role()
        for number, role in enumerate(self.roles):
            inside = self._role == number
            yield self._measured("ROUGE-L", Mean(PERCENT, weights=inside, key="rouge"), role)
            for order in range(1, MAX_ORDER + 1):
                yield self._measured(f"BLEU-{order}", Bleu(order, PERCENT, np.where(inside, 0, -1)), role)

    def by_role(self) -> Iterator[Metric]:
        """Yield the CIDEr of each role, with the idf of its own items."""
        for number, role in enumerate(self.roles):
            inside = (self._role == number).astype(np.float64)
            yield self._measured("CIDEr", Mean(PERCENT, weights=inside, key=_CIDER_OF_ROLE), role)

    def by_sense(self) -> Iterator[Metric]:
        """Yield the CIDEr of each verb of more than one item, with the idf of its own items."""
        counts = np.bincount(self._sense)
        for number, sense in enumerate(self.senses):
            if counts[number] > 1:
                yield self.within(sense, (self._sense == number).astype(np.float64), _CIDER_OF_VERB)

    def within(self, name: str, weights: Floats, key: str = _CIDER) -> Metric:
        """Return the CIDEr of the items that have weight, (items,), under the name of a group."""
        return self._measured("CIDEr", Mean(PERCENT, weights=weights, key=key), name)

    def official(self, model: str) -> dict[str, float]:
        """Return a model's numbers by their official names: not times 100."""
        values, everything = self._values[model], np.zeros(len(self.items), dtype=np.int64)
        scores = _text_scores(values, _CIDER, everything)
        for prefix, key, labels in (
            ("MacroVb_", _CIDER_OF_VERB, self._sense),
            ("MacroArg_", _CIDER_OF_ROLE, self._role),
        ):
            scores |= {f"{prefix}{name}": score for name, score in _text_scores(values, key, labels).items()}
        for number, role in enumerate(self.roles):
            of_role = _text_scores(values, _CIDER_OF_ROLE, np.where(self._role == number, 0, -1))
            scores |= {f"{role}_{name}": score for name, score in of_role.items()}
        scores |= self._coreference(self._models[model])
        scores["lea"] = Lea(self._found.rounds).number(self._lea[model])
        scores["lea_soft"] = Lea(self._found.rounds, soft=True).number(self._lea[model])
        return scores

    def _coreference(self, predictions: SituationPredictions) -> dict[str, float]:
        sums: list[dict[str, list[PrecisionRecall]]] = [
            {name: [] for name in COREFERENCE} for _ in range(self._found.rounds)
        ]
        for pairs in mention_pairs(self._found, predictions):
            for of_reference, (key, response) in zip(sums, pairs, strict=False):
                for name, found in coreference_sums(clusters_of(key), clusters_of(response)).items():
                    of_reference[name].append(found)
        return {name: sum(f1_of(one[name]) for one in sums) / len(sums) for name in COREFERENCE}

    def samples(self) -> Iterator[Sample]:
        """Yield each item: right where a text is one of the references, letter by letter; the margin is its CIDEr."""
        for row, item in enumerate(self.items):
            clip_id = self._truth.clip_ids[item.clip]
            outcomes = {
                model: Outcome(
                    right=bool(self._texts[model][row].strip()) and self._texts[model][row] in item.texts,
                    margin=float(values[_CIDER][row]),
                    chosen=self._texts[model][row],
                )
                for model, values in self._values.items()
            }
            id = f"{clip_id} {EVENTS[item.event]} {item.key}"
            yield Sample(id=id, part="roles", group=item.name, look=clip_id, text=item.texts[0], outcomes=outcomes)

    def _measured(self, name: str, statistic: Statistic, group: str = "") -> Metric:
        return measure(name, statistic, self._values, self.resampling, group=group)


def _text_scores(values: Mapping[str, Floats], cider: str, labels: Ints) -> dict[str, float]:
    """Return CIDEr, ROUGE-L and BLEU as unweighted means over groups of items; a negative label is left out."""
    scores = {"cider": Mean(groups=labels, key=cider).number(values)}
    scores |= {f"bleu_{order}": Bleu(order, groups=labels).number(values) for order in range(1, MAX_ORDER + 1)}
    return scores | {"rouge": Mean(groups=labels, key="rouge").number(values)}


def _numbered(names: list[str]) -> tuple[list[str], Ints]:
    """Return the different names in order of appearance, and the number of each one's."""
    numbers: dict[str, int] = {}
    column = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return list(numbers), column


def _without_first(predictions: SituationPredictions) -> int:
    return sum(roles is not None and EVENTS[0] not in roles for roles in predictions.roles)


def _incomplete(predictions: SituationPredictions) -> int:
    with_first = (roles for roles in predictions.roles if roles is not None and EVENTS[0] in roles)
    return sum(len(roles) < len(EVENTS) for roles in with_first)
