"""One setting of an ablation: changes to ``adapt``'s options, to the prompts, and to what reads the clips."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Union, get_args, get_origin, get_type_hints

from figclip_cli.adapt.options import AdaptOptions, Execution, steps_of_epoch
from figclip_cli.errors import FigclipError, InputError, UsageError, nearest
from figclip_cli.evaluate.task_options import FEATURES, PLAIN, TOKENS
from figclip_cli.option_fields import spelled
from figclip_cli.prompts.kinds import TEMPORAL
from figclip_cli.prompts.negatives import parse_requests
from figclip_cli.prompts.options import PromptOptions

_OWN = ("template", "negatives", "balance", "features", "keep_steps")
_LARGEST = 1e300
_PROMPT_KEYS = ("template", "negatives", "balance")
_ADAPT = {item.name: item for item in fields(AdaptOptions) if item.name != "seed"}
KEYS = (*_ADAPT, *_OWN)
"""Everything that a setting can say, with underscores."""


@dataclass(frozen=True)
class Resolved:
    """A setting with everything said.

    Attributes:
        options: Of ``adapt``; its seed is one of the spec's.
        prompts: How the prompts are built; None where the spec names a finished file.
        features: One of :data:`FEATURES`.
        keeps_steps: Whether epochs were chosen so that there are about as many steps as with all clips.
    """

    options: AdaptOptions
    prompts: PromptOptions | None = None
    features: str = PLAIN
    keeps_steps: bool = False


@dataclass(frozen=True)
class Changes:
    """What a table of the spec changes, converted and checked one by one, not yet together.

    Attributes:
        options: By field of :class:`AdaptOptions`.
        prompts: By field of :class:`PromptOptions`.
        features: None leaves it.
        keep_steps: Whether a fraction of the clips is shown in more epochs, for about as many steps; None leaves it.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    features: str | None = None
    keep_steps: bool | None = None

    def then(self, later: Changes) -> Changes:
        """Return these changes with others on top."""
        return Changes(
            {**self.options, **later.options},
            {**self.prompts, **later.prompts},
            self.features if later.features is None else later.features,
            self.keep_steps if later.keep_steps is None else later.keep_steps,
        )

    def resolve(self, recipe: AdaptOptions, *, seed: int, builds_prompts: bool, clips: Callable[[], int]) -> Resolved:
        """Return everything that these changes decide.

        Args:
            recipe: What is changed.
            builds_prompts: Whether prompts are built from annotation.
            clips: Tells how many clips there are to train on; asked only where steps are kept.

        Raises:
            UsageError: The options contradict each other, or prompts are to change that are not built here.
        """
        if self.prompts and not builds_prompts:
            first = next(iter(self.prompts))
            raise UsageError(f"'{first}' changes prompts that are given as a file", "name annotations under [data]")
        options = replace(recipe, **self.options, seed=seed)
        keeps_steps = bool(self.keep_steps) and options.fraction < 1
        if keeps_steps:
            options = replace(options, epochs=_epochs_of_as_many_steps(options, clips()))
        features = self.features or PLAIN
        if features == TOKENS and not options.contextualizer:
            raise UsageError("features = 'tokens' needs a contextualizer", "leave out contextualizer = false")
        return Resolved(options, PromptOptions(**self.prompts) if builds_prompts else None, features, keeps_steps)


def _epochs_of_as_many_steps(options: AdaptOptions, clips: int) -> int:
    """Return how many epochs of a fraction of the clips come nearest to the steps of all clips."""
    all_steps = options.epochs * max(1, steps_of_epoch(clips, options.batch_clips))
    part = max(1, round(options.fraction * clips))
    return max(1, round(all_steps / steps_of_epoch(part, options.batch_clips)))


def changes_of(values: Mapping[str, Any], where: str) -> Changes:
    """Return what a table of the spec changes; its keys are the names of options, dashes or underscores.

    Raises:
        InputError: A key is unknown, which names the nearest, or a value is not of its type.
    """
    options: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in KEYS:
            raise InputError(f"{where} has the unknown key '{key[:80]}'", _hint(key))
        place = options if name in _ADAPT else prompts if name in _PROMPT_KEYS else own
        if name in place:
            raise InputError(f"{where} has the key '{key}' twice", "leave one out")
        try:
            place[name] = _own_value(name, value) if name in _OWN else converted(_ADAPT[name], _HINTS[name], value)
        except FigclipError as error:
            raise InputError(f"{where}: {error.message}", error.hint) from error
    return Changes(options, prompts, own.get("features"), own.get("keep_steps"))


def _hint(key: str) -> str:
    if key == "seed":
        return "seeds = [0, 1] at the top of the spec"
    return nearest(key.replace("_", "-")[:80], (name.replace("_", "-") for name in KEYS))


def execution_of(values: Mapping[str, Any], where: str) -> Execution:
    """Return how runs are computed, from a table of the spec.

    Raises:
        InputError: A key is unknown, or a value is not of its type or out of range.
    """
    known = {item.name: item for item in fields(Execution)}
    hints = get_type_hints(Execution)
    made: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            hint = nearest(key.replace("_", "-")[:80], (one.replace("_", "-") for one in known))
            raise InputError(f"{where} has the unknown key '{key[:80]}'", hint)
        try:
            made[name] = converted(known[name], hints[name], value)
        except FigclipError as error:
            raise InputError(f"{where}: {error.message}", error.hint) from error
    try:
        return Execution(**made)
    except UsageError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from error


_HINTS = get_type_hints(AdaptOptions)


def _own_value(name: str, value: Any) -> Any:
    if name in ("balance", "keep_steps"):
        if not isinstance(value, bool):
            raise UsageError(f"{name.replace('_', '-')} is not true or false", f"for example {name} = true")
        return value
    if name == "negatives":
        return _negatives(value)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{name} is no text", f'for example {name} = "{"plain" if name == "features" else "paper"}"')
    if name == "features" and value not in FEATURES:
        raise UsageError(f"features cannot be '{value[:80]}'", nearest(value[:80], FEATURES))
    return value


def _negatives(value: Any) -> dict[str, int]:
    made = _requests(value)
    if made.get(TEMPORAL):
        raise UsageError(
            f"negatives of the kind '{TEMPORAL}' are of joined texts, which are not trained on", "leave it out"
        )
    return made


def _requests(value: Any) -> dict[str, int]:
    if isinstance(value, str):
        return parse_requests(value)
    if isinstance(value, Mapping) and all(type(number) is int for number in value.values()):
        return PromptOptions(negatives=dict(value)).negatives  # type: ignore[return-value]
    raise UsageError("negatives are no KIND=NUMBER,...", 'for example negatives = "verb-role=4,role-noun=2"')


def converted(item: Field[Any], hint: Any, value: Any) -> Any:
    """Return a TOML value as a field of an options class takes it.

    Raises:
        UsageError: It is of another type.
    """
    written, name = item.metadata.get("written"), spelled(item.name).removeprefix("--")
    if written == "list":
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise UsageError(f"{name} is no list of texts", f'for example {name} = "a,b"')
        return tuple(part.strip() for part in parts if part.strip())
    if written == "mapping":
        return _mapping(name, value)
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if bool in kinds or isinstance(value, bool):
        if bool in kinds and isinstance(value, bool):
            return value
    elif (int in kinds and isinstance(value, int)) or (str in kinds and isinstance(value, str)):
        return value
    elif float in kinds and isinstance(value, (int, float)) and abs(value) < _LARGEST:
        return float(value)
    said = "true or false" if bool in kinds else "a text" if str in kinds else "a number" if float in kinds else "whole"
    raise UsageError(f"{name} = {str(value)[:80]!r} is not {said}", f"see --{name} in figclip adapt --help")


def _mapping(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {key.strip(): number for key, _, number in pairs}
        if len(value) < len(pairs):
            raise UsageError(f"{name} names one kind twice", "give each one weight")
    try:
        if isinstance(value, Mapping) and not any(isinstance(one, bool) for one in value.values()):
            return {key: float(number) for key, number in value.items()}
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{name} is no KIND=WEIGHT,...", f'for example {name} = "feature=1"')
