"""Prompt templates for class names, and how the features of several become one class's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.datasets.common import read_lines, refuse_repeated
from figclip_cli.models.pooling import pool_frames

Averaging = Literal["l2-mean-l2", "l2-mean", "mean-l2"]
AVERAGINGS: tuple[str, ...] = get_args(Averaging)

PROMPT_SET_NAMES = ("bare", "photo", "video", "openai-ucf101", "openai-kinetics", "openai")
# OpenAI's UCF101 list is the one that public code uses for HMDB51 too (FitCLIP).
OPENAI_UCF101_DATASETS = frozenset({"ucf101", "hmdb51"})

_PLACE = "{}"
_MEDIA = ("photo", "video", "example", "demonstration")
_VERBS = ("", "using ", "doing ", "during ", "performing ", "practicing ")


@dataclass(frozen=True)
class PromptSet:
    """Templates that a class name is put into.

    Attributes:
        name: What it is called; ``openai`` is never one, it is resolved to the list it stands for.
        templates: Each has exactly one ``{}``.
    """

    name: str
    templates: tuple[str, ...]

    def fill(self, class_name: str) -> tuple[str, ...]:
        """Return the texts of one class, one per template."""
        return tuple(template.replace(_PLACE, class_name) for template in self.templates)


def prompt_set(name: str, *, dataset_id: str = "") -> PromptSet:
    """Return a named prompt set.

    Args:
        name: ``bare``: the class name alone (X-CLIP, ViFi-CLIP zero-shot); ``photo``: ``a photo of a {}.``;
            ``video``: ``a video of a person {}.``; ``openai-ucf101``: OpenAI's 48 for UCF101; ``openai-kinetics``:
            OpenAI's 28 for Kinetics-700; ``openai``: the 48 where ``dataset_id`` is ``ucf101`` or ``hmdb51``, the
            28 elsewhere (FitCLIP).
        dataset_id: Name of the data set; only ``openai`` looks at it.

    Raises:
        UsageError: There is no set of this name.
    """
    if name == "openai":
        name = "openai-ucf101" if dataset_id in OPENAI_UCF101_DATASETS else "openai-kinetics"
    if name == "openai-ucf101":
        return PromptSet(name, _openai_ucf101())
    if name == "openai-kinetics":
        return PromptSet(name, _openai_kinetics())
    single = {"bare": _PLACE, "photo": "a photo of a {}.", "video": "a video of a person {}."}
    if name not in single:
        raise UsageError(f"there is no prompt set '{name}'", nearest(name, PROMPT_SET_NAMES))
    return PromptSet(name, (single[name],))


def _openai_ucf101() -> tuple[str, ...]:
    """Return OpenAI's UCF101 templates in their order: verb, then article, then medium."""
    people = [(verb, article) for verb in _VERBS for article in ("a", "the")]
    return tuple(f"a {medium} of {article} person {verb}{{}}." for verb, article in people for medium in _MEDIA)


def _openai_kinetics() -> tuple[str, ...]:
    """Return OpenAI's Kinetics-700 templates in their order: medium, then none or a person with each verb."""
    people = ("", *(f"a person {verb}" for verb in _VERBS))
    return tuple(f"a {medium} of {person}{{}}." for medium in _MEDIA for person in people)


def read_templates(path: Path) -> PromptSet:
    """Read a prompt set from a text file, one template to a line; its name is the file's.

    Raises:
        InputError: The file is missing, not UTF-8 or empty, repeats a template, or a line has not exactly one ``{}``.
    """
    what, hint = "templates file", "one template to a line, each with one {} where the class name goes"
    templates = []
    for number, line in read_lines(path, what, hint):
        if line.count(_PLACE) != 1 or line.count("{") != 1 or line.count("}") != 1:
            raise InputError(f"{what} {path}, line {number}: {line.count(_PLACE)} places {{}} in {line!r:.60}", hint)
        templates.append(line)
    if not templates:
        raise InputError(f"{what} {path} has no templates", hint)
    refuse_repeated(templates, f"{what} {path}")
    return PromptSet(path.name, tuple(templates))


def texts_of(templates: PromptSet, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the texts of each class: as many tuples as names, one text per template in each."""
    return tuple(templates.fill(name) for name in names)


def class_features(features: Tensor, averaging: Averaging) -> Tensor:
    """Average each class's features over its templates.

    Args:
        features: (classes, templates, D) float32, raw (not normalised).
        averaging: ``l2-mean-l2``: L2 each, mean, L2 (OpenAI's notebooks); ``l2-mean``: L2 each, mean, not normalised
            again, so a class whose prompts disagree scores lower (FitCLIP); ``mean-l2``: mean of raw features, L2.

    Returns:
        (classes, D), unit length except under ``l2-mean``.
    """
    return pool_frames(features, pooling=averaging)
