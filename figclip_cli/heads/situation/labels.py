"""What the training clips know: their verb senses, and which roles the events of each sense have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.vidsitu_annotations import ROLES, SituationEvent
from figclip_cli.files import read_json, write_json

_FORMAT, _FORMAT_VERSION = "figclip-situation-labels", 1
_DAMAGED = "train the head again"
_STRENGTH = 4.0  # events that the rate of a role over all senses counts for, beside those of one sense
_RAREST = 0.01  # no role is certain, or impossible: a logit stays finite
_NOT_A_PHRASE = ("", "...")


def phrase_of(value: str) -> str:
    """Return a noun phrase with white space collapsed; empty where the annotator left it open."""
    phrase = " ".join(value.split())
    return "" if phrase in _NOT_A_PHRASE else phrase


def roles_of(event: SituationEvent) -> dict[str, str]:
    """Return the phrases of an event by role, in the annotation's order; of two keys of one role, the first."""
    found: dict[str, str] = {}
    for argument in event.arguments:
        if phrase := phrase_of(argument.value):
            found.setdefault(argument.name, phrase)
    return found


@dataclass(frozen=True)
class SituationLabels:
    """Labels in the order in which a head counts them.

    Attributes:
        senses: S verb senses, sorted.
        events: Of each sense, how many training events have it.
        role_events: Of each sense and each of ``ROLES``, how many of these events have the role.
    """

    senses: tuple[str, ...]
    events: tuple[int, ...]
    role_events: tuple[tuple[int, ...], ...]

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {sense: number for number, sense in enumerate(self.senses)}

    @property
    def unknown(self) -> int:
        """Number of every sense that the training clips do not have."""
        return len(self.senses)

    def number(self, sense: str) -> int:
        """Return the number of a sense."""
        return self._number_of.get(sense, self.unknown)

    def role_log_odds(self) -> Tensor:
        """Return (S + 1, roles) float32: how likely events of a sense, and last of an unknown one, have each role.

        The rate of a role within a sense is drawn towards its rate over all senses, the more the fewer events there
        are.
        """
        events = torch.tensor(self.events, dtype=torch.float64)
        counts = torch.tensor(self.role_events, dtype=torch.float64).reshape(-1, len(ROLES))
        overall = counts.sum(0) / events.sum().clamp_min(1)
        of_senses = (counts + _STRENGTH * overall) / (events + _STRENGTH)[:, None]
        rates = torch.cat([of_senses, overall[None]]).clamp(_RAREST, 1 - _RAREST)
        return torch.logit(rates).float()

    def save(self, path: Path) -> None:
        """Write the labels, whole or not at all."""
        senses = [
            {"sense": sense, "events": events, "roles": dict(zip(ROLES, counts, strict=True))}
            for sense, events, counts in zip(self.senses, self.events, self.role_events, strict=True)
        ]
        write_json(path, {"format": _FORMAT, "format_version": _FORMAT_VERSION, "senses": senses})


def labels_of(events: Iterable[SituationEvent]) -> SituationLabels:
    """Return the labels of training events."""
    counted: dict[str, int] = {}
    with_role: dict[str, dict[str, int]] = {}
    for event in events:
        counted[event.sense] = counted.get(event.sense, 0) + 1
        roles = with_role.setdefault(event.sense, {})
        for name in roles_of(event):
            roles[name] = roles.get(name, 0) + 1
    senses = tuple(sorted(counted))
    return SituationLabels(
        senses,
        tuple(counted[sense] for sense in senses),
        tuple(tuple(with_role[sense].get(role, 0) for role in ROLES) for sense in senses),
    )


def load_labels(path: Path) -> SituationLabels:
    """Read what :meth:`SituationLabels.save` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    values = read_json(path, "labels")
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise InputError(f"{path} has no labels of a head for situation recognition", _DAMAGED)
    if values.get("format_version") != _FORMAT_VERSION:
        raise InputError(
            f"{path} has labels of version {values.get('format_version')!r}", "use the figclip that made it"
        )
    try:
        found = [(one["sense"], one["events"], [one["roles"][role] for role in ROLES]) for one in values["senses"]]
        _refuse_strange(found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"labels {path} are damaged: {error!r}", _DAMAGED) from error
    return SituationLabels(
        tuple(sense for sense, _, _ in found),
        tuple(events for _, events, _ in found),
        tuple(tuple(counts) for _, _, counts in found),
    )


def _refuse_strange(found: Sequence[tuple[Any, Any, list[Any]]]) -> None:
    senses = [sense for sense, _, _ in found]
    if not senses or any(not isinstance(sense, str) for sense in senses) or senses != sorted(set(senses)):
        raise ValueError("the senses are not different texts in order")
    for sense, events, counts in found:
        if any(type(number) is not int or not 0 <= number <= events for number in (events, *counts)):
            raise ValueError(f"the counts of {sense} are none")
