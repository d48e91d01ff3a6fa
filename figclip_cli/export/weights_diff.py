"""Which tensors differ between two models, by how much, and whether they may."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.export.folder import REPORT_NAME
from figclip_cli.files import read_json
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.lora import merge_lora
from figclip_cli.models.source import ModelSource, resolve
from figclip_cli.models.stored_weights import StoredWeights, open_weights
from figclip_cli.run_folder import RUN_FORMAT, RunFolder

_FUSED = (".in_proj_weight", ".in_proj_bias", ".qkv.weight", ".qkv.bias")
_PARTS = ("q", "k", "v")
_TEMPERATURE = "logit_scale"
# What a projection's weight is called below the module that the table of adapted modules names.
_WEIGHTS = ("weight", "in_proj_weight", "qkv.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight")


@dataclass(frozen=True)
class Weights:
    """The tensors of one model.

    Attributes:
        place: Where they are from.
        tensors: By name; open_clip's names for a model folder or a run, the file's own for a file.
        dtypes: The type that each is stored in; of those that go by other names there, the coarsest.
        facts: What else decides what they compute. Empty for a file.
        may_differ: Names, with q, k and v apart, of what an adaptation changed; None where nothing is known of one.
    """

    place: Path
    tensors: Mapping[str, Tensor]
    dtypes: Mapping[str, torch.dtype]
    facts: Mapping[str, Any] = field(default_factory=dict)
    may_differ: frozenset[str] | None = None


@dataclass(frozen=True)
class TensorDifference:
    """One tensor, or the q, k or v rows of one, that differs.

    Attributes:
        name: Its name; ``NAME.q`` for the q rows of a fused projection.
        tensor: Name of the whole tensor.
        largest: Largest absolute difference.
        relative: Frobenius norm of the difference over that of the first model's; None where that is zero.
        by_rounding: Whether the two are equal after rounding the wider type to the narrower one.
        expected: Whether it may differ.
    """

    name: str
    tensor: str
    largest: float
    relative: float | None
    by_rounding: bool
    expected: bool


@dataclass(frozen=True)
class WeightsDiff:
    """Everything that differs.

    Attributes:
        tensors: What differs, in name order.
        compared: Number of tensors that both have in one shape.
        only_first: Names that only the first model has; likewise ``only_second``.
        reshaped: Names with the two shapes.
        facts: Settings that differ, with both values.
        known: Whether it is known which tensors may differ.
    """

    tensors: tuple[TensorDifference, ...]
    compared: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    facts: Mapping[str, tuple[Any, Any]]
    known: bool

    @property
    def unexpected(self) -> str | None:
        """The first thing that must not differ, in words, or None."""
        if self.facts:
            key, (first, second) = next(iter(self.facts.items()))
            return f"{key} is {first} in one and {second} in the other"
        for names, which in ((self.only_first, "first"), (self.only_second, "second")):
            if names:
                return f"only the {which} has {names[0]}"
        if self.reshaped:
            name, (one, other) = next(iter(self.reshaped.items()))
            return f"{name} has shape {one} in one and {other} in the other"
        wrong = [one.name for one in self.tensors if not one.expected and not one.by_rounding]
        if not self.known or not wrong:
            return None
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"{wrong[0]} differs, and is not among what may{more}"


def read_weights(place: Path, *, activation: str | None = None) -> Weights:
    """Read a model folder of any kind, a run folder (its base with the adapter merged), or a file of weights.

    Args:
        activation: Of a file of OpenAI's layout, which may not say it.

    Raises:
        InputError: There is none, or it is damaged.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist", "name a model folder, a run folder or a file of weights")
    if not place.is_dir():
        stored = open_weights(place)
        return Weights(place, stored.read(), _dtypes(stored, stored.headers))
    if _is_run(place):
        run = RunFolder(place)
        clip = attach_run(load_base(run), run)
        merge_lora(clip.model)
        config = run.load_config()
        allowed = _adapted(config["lora"], clip.model.state_dict(), config["learn_temperature"])
        state = clip.model.state_dict()
        return Weights(place, state, dict.fromkeys(state, torch.float32), _facts(clip), allowed)
    source = ModelSource(str(place), activation=activation)
    clip, resolved = load_clip(source), resolve(source)
    state = clip.model.state_dict()
    dtypes = _dtypes(resolved.stored or open_weights(resolved.weights), state)
    return Weights(place, state, dtypes, _facts(clip), _allowed_by_report(place, state))


def _facts(clip: Clip) -> dict[str, Any]:
    """Return everything that decides what a model computes from its tensors, with open_clip's defaults filled in."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    config = clip.model_config
    vision = dataclasses.asdict(CLIPVisionCfg(**config["vision_cfg"]))
    text = dataclasses.asdict(CLIPTextCfg(**config["text_cfg"]))
    facts = {"quick_gelu": config["quick_gelu"], "multimodal_cfg": config.get("multimodal_cfg")}
    facts |= {f"vision_cfg.{key}": value for key, value in vision.items()}
    facts |= {f"text_cfg.{key}": value for key, value in text.items()}
    return {**facts, **{f"preprocess_cfg.{key}": value for key, value in clip.preprocess.as_dict().items()}}


def _dtypes(stored: StoredWeights, names: Iterable[str]) -> dict[str, torch.dtype]:
    known = {name: header.dtype for name, header in stored.headers.items() if header.dtype.is_floating_point}
    coarsest = max(known.values(), key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)
    return {name: known.get(name, coarsest) for name in names}


def _is_run(folder: Path) -> bool:
    path = folder / "config.json"
    document = read_json(path, "configuration") if path.is_file() else None
    return isinstance(document, dict) and document.get("format") == RUN_FORMAT


def _allowed_by_report(folder: Path, tensors: Mapping[str, Tensor]) -> frozenset[str] | None:
    path = folder / REPORT_NAME
    if not path.is_file():
        return None
    report = read_json(path, "report of the export")
    try:
        return _adapted(report["lora"], tensors, report["learned_temperature"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what was adapted", "export again") from error


def _adapted(lora: Mapping[str, Any], tensors: Mapping[str, Tensor], temperature: bool) -> frozenset[str]:
    """Return the names, with q, k and v apart, of the projections that a run adapted."""
    modules, names = [module["name"] for module in lora["modules"]], set()
    if lora["rank"] == 0:
        names = {
            part
            for name, tensor in tensors.items()
            if any(_is_below(name, module) for module in modules)
            for part, _ in _parts(name, tensor)
        }
    else:
        wanted = {f"{module}.{weight}" for module in modules for weight in _WEIGHTS}
        for name in wanted & set(tensors):
            parts = [part for part, _ in _parts(name, tensors[name])]
            names |= {part for part in parts if len(parts) == 1 or part[-1] in lora["targets"]}
    return frozenset(names | ({_TEMPERATURE} if temperature else set()))


def _is_below(name: str, tower: str) -> bool:
    """Return whether a tensor is of a tower; the text tower of most models is spread over the model itself."""
    return not name.startswith("visual.") if tower == "text" else name.startswith(f"{tower}.")


def _parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield a tensor under its name, or the q, k and v rows of a fused projection, each under its own."""
    if name.endswith(_FUSED) and tensor.shape and tensor.shape[0] % 3 == 0:
        yield from ((f"{name}.{part}", rows) for part, rows in zip(_PARTS, tensor.chunk(3), strict=True))
    else:
        yield name, tensor


def diff_weights(first: Weights, second: Weights, *, only: Sequence[str] = ()) -> WeightsDiff:
    """Compare two models, tensor by tensor, in float64.

    Args:
        only: Patterns of the names that may differ, ``*`` for any letters; without them, what an export or a run says
            that it adapted.
    """
    known = [one.may_differ for one in (first, second) if one.may_differ is not None]
    may = frozenset().union(*known)
    both = sorted(set(first.tensors) & set(second.tensors))
    shapes = {name: (tuple(first.tensors[name].shape), tuple(second.tensors[name].shape)) for name in both}
    alike = [name for name in both if shapes[name][0] == shapes[name][1]]
    found = []
    for name in alike:
        pairs = zip(_parts(name, first.tensors[name]), _parts(name, second.tensors[name]), strict=True)
        for (part, one), (_, other) in pairs:
            expected = any(fnmatchcase(part, pattern) for pattern in only) if only else part in may
            if not torch.equal(one.double(), other.double()):
                stored = (first.dtypes[name], second.dtypes[name])
                found.append(_difference((part, name), one, other, stored, expected))
    return WeightsDiff(
        tuple(found),
        len(alike),
        tuple(sorted(set(first.tensors) - set(second.tensors))),
        tuple(sorted(set(second.tensors) - set(first.tensors))),
        {name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
        _differing_facts(first.facts, second.facts),
        bool(only) or bool(known),
    )


def _difference(
    names: tuple[str, str], one: Tensor, other: Tensor, stored: tuple[torch.dtype, torch.dtype], expected: bool
) -> TensorDifference:
    difference, norm = other.double() - one.double(), float(one.double().norm())
    narrow = max(stored, key=lambda dtype: torch.finfo(dtype).eps)
    by_rounding = stored[0] != stored[1] and torch.equal(one.to(narrow), other.to(narrow))
    relative = float(difference.norm()) / norm if norm else None
    return TensorDifference(*names, float(difference.abs().max()), relative, by_rounding, expected)


def _differing_facts(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    if not first or not second:
        return {}
    keys = sorted(set(first) | set(second))
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}
