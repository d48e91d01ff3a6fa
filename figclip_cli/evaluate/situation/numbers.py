"""The numbers of situation recognition together, whichever of verbs, roles and relations are predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Sample
from figclip_cli.evaluate.situation.relations import RelationNumbers
from figclip_cli.evaluate.situation.roles import RoleNumbers
from figclip_cli.evaluate.situation.verbs import HEADLINE_THRESHOLD, VerbNumbers


class SituationNumbers:
    """The numbers of whatever is predicted: verbs, roles and relations.

    Args:
        truth: With what they need.
        models: Predictions of ``base`` and, where given, ``adapted``, of the same kinds.
    """

    def __init__(self, truth: SituationTruth, models: Mapping[str, SituationPredictions]) -> None:
        kinds = next(iter(models.values())).kinds
        self.verbs = VerbNumbers(truth, models) if "verbs" in kinds else None
        self.roles = RoleNumbers(truth, models) if "roles" in kinds else None
        self.relations = RelationNumbers(truth, models) if "relations" in kinds else None
        self._parts = [part for part in (self.verbs, self.roles, self.relations) if part is not None]

    def metrics(self) -> Iterator[Metric]:
        """Yield the headline numbers."""
        for part in self._parts:
            yield from part.metrics()

    def groups(self) -> Iterator[Metric]:
        """Yield the other numbers of the official scorer."""
        for part in self._parts:
            yield from part.groups()

    def samples(self) -> Iterator[Sample]:
        """Yield every event, role and relation."""
        for part in self._parts:
            yield from part.samples()

    def official(self, model: str) -> dict[str, Any]:
        """Return a model's numbers by their official names, not times 100."""
        return {name: score for part in self._parts for name, score in part.official(model).items()}

    @property
    def draws(self) -> int:
        """Draws of the bootstrap; the fewest, where the parts differ."""
        return min(part.resampling.draws for part in self._parts)

    @property
    def seed(self) -> int:
        """Seed of the draws and of the tests."""
        return self._parts[0].resampling.seed

    def notes(self) -> list[str]:
        """Return what a reader has to know of these numbers beside their definitions."""
        made = []
        if self.verbs and not self.verbs.scored_verbs(HEADLINE_THRESHOLD):
            made.append(f"verb Rec@5 is left out: no verb is in more than {HEADLINE_THRESHOLD} events")
        if self.verbs:
            made += self.verbs.notes()
        if self.relations and self.relations.odd_labels:
            made.append(
                f"annotated relations that VidSitu does not have count too: {', '.join(self.relations.odd_labels)}"
            )
        if self.roles:
            made += [f"{what}: {count} (the official scorer stops there)" for what, count in self.roles.beyond.items()]
            made += [
                f"{model} predictions without Ev1, which LEA leaves out as the official scorer does: {count}"
                for model, count in self.roles.skipped.items()
                if count
            ]
        if self.relations and self.relations.unscored_labels:
            labels = ", ".join(self.relations.unscored_labels)
            made.append(f"relations without a majority anywhere, left out: {labels} (the official scorer stops there)")
        return made
