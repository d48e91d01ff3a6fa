"""Files of weights: safetensors, torch's own, and TorchScript archives. Shapes come first, numbers only when asked.

A file is refused before anything large is read or made: it must be an ordinary file, its header must agree with its
length, and what it holds must be plain dense tensors under names.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors import safe_open
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.files import require_file
from figclip_cli.models.model_sizes import shown_key
from figclip_cli.models.torchscript_archive import (
    ArchiveError,
    TorchScriptArchive,
    check_stored,
    is_torchscript,
    is_zip,
)

_SAFETENSORS_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}
_HINT = "is the file complete, and made for this model?"


class TensorHeader(NamedTuple):
    """What is known of a stored tensor before its numbers are read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class StoredWeights:
    """Weights in one file or in several.

    Attributes:
        path: The file, or the one that lists the files.
        headers: Shape and type of each tensor.
        read: Reads all tensors. They may be views of the file: copy them before the file can change.
        activations: Activations that the file shows (``gelu``, ``quickgelu``); none unless it is an archive with code.
        numbers: Whole numbers that the file states beside the tensors, by dotted name.
    """

    path: Path
    headers: Mapping[str, TensorHeader]
    read: Callable[[], dict[str, Tensor]]
    activations: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict)


def require_ordinary(path: Path, what: str, hint: str, *, most_bytes: int | None = None) -> Path:
    """Return ``path`` if it is an ordinary file; a pipe or a device would be read for ever.

    Raises:
        InputError: It is missing, no ordinary file, or larger than ``most_bytes``.
    """
    require_file(path, what, hint)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{what} {path} is no ordinary file", hint)
    if most_bytes is not None and status.st_size > most_bytes:
        raise InputError(f"{what} {path} is larger than {most_bytes >> 20} MiB", hint)
    return path


def open_weights(path: Path) -> StoredWeights:
    """Open a file of weights of any kind; what kind is told by its content, never by trying one after the other.

    Raises:
        InputError: It is no ordinary file, damaged, or holds anything but plain tensors.
    """
    require_ordinary(path, "the weights file", _HINT)
    try:
        if path.suffix == ".safetensors" or _begins_as_safetensors(path):
            return _safetensors([path], path)
        if is_zip(path):
            if is_torchscript(path):
                return _torchscript(path)
            check_stored(path)
        return _torch_file(path)
    except InputError:
        raise
    except Exception as error:
        unusable(path, first_line(error), error)


def open_shards(index: Path, files: Iterable[Path], weight_map: Mapping[str, str]) -> StoredWeights:
    """Open safetensors files that hold one model together.

    Args:
        index: The file that lists them.
        files: The files.
        weight_map: Name of the file of each tensor, as the index says.

    Raises:
        InputError: A file is missing or damaged, or a tensor is not where the index says it is.
    """
    paths = [require_ordinary(path, "the weights file", _HINT) for path in files]
    try:
        stored = _safetensors(paths, index)
        for path in paths:
            with safe_open(path, framework="pt") as file:
                listed = {name for name, place in weight_map.items() if place == path.name}
                differing = sorted(listed ^ set(file.keys()))
            if differing:
                unusable(index, f"it and {path.name} disagree about the tensor {shown_key(differing[0])}")
        return stored
    except InputError:
        raise
    except Exception as error:
        unusable(index, first_line(error), error)


def unusable(path: Path, why: str, error: Exception | None = None, hint: str = _HINT) -> NoReturn:
    """Raise the one kind of error about weights that are there but cannot be used."""
    raise InputError(f"the weights in {path} cannot be loaded: {why}", hint) from error


def first_line(error: Exception) -> str:
    """Return the beginning of another library's message, on one line and of printable letters."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "weights_only" in text:  # torch would go on to advise how to run what is in it
        return "it holds more than tensors, which is not read"
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]


def _begins_as_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _safetensors(paths: list[Path], named: Path) -> StoredWeights:
    headers: dict[str, TensorHeader] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                dtype = _SAFETENSORS_DTYPES.get(part.get_dtype())
                if dtype is None:
                    unusable(named, f"the tensor {shown_key(name)} is of the type {part.get_dtype()}")
                if name in headers:
                    unusable(named, f"the tensor {shown_key(name)} is there twice")
                headers[name] = TensorHeader(tuple(part.get_shape()), dtype)

    def read() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for path in paths:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors

    return StoredWeights(named, headers, read)


def _torchscript(path: Path) -> StoredWeights:
    archive = TorchScriptArchive(path)
    # The causal mask is computed, not learned; archives hold it as an attribute of the blocks.
    learned = {name: one for name, one in archive.tensors.items() if name.rpartition(".")[2] != "attn_mask"}
    headers = {name: TensorHeader(one.shape, one.dtype) for name, one in learned.items()}
    activations = {
        "quickgelu": "QuickGELU" in archive.class_names,
        "gelu": "torch.nn.modules.activation.GELU" in archive.class_names,
    }
    shown = frozenset(word for word, found in activations.items() if found)
    return StoredWeights(path, headers, lambda: archive.read(learned), shown, archive.numbers)


def _torch_file(path: Path) -> StoredWeights:
    """Read a file of ``torch.save`` with torch's restricted unpickler, which calls nothing that a file names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    tensors = _named_tensors(loaded)
    headers = {name: TensorHeader(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    return StoredWeights(path, headers, lambda: tensors)


def _named_tensors(loaded: Any) -> dict[str, Tensor]:
    """Return the state dict in what was loaded: the thing itself, or its ``state_dict`` as trainers save it."""
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not state:
        raise ArchiveError(f"it holds {type(state).__name__}, not tensors under names")
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise ArchiveError("it holds a tensor whose name is no text")
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.is_quantized or tensor.device.type != "cpu":
            raise ArchiveError(f"{shown_key(name)} in it is no plain tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ArchiveError(f"{shown_key(name)} in it uses the same numbers over and over")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""  # of DistributedDataParallel
    return {name.removeprefix(prefix): tensor.detach() for name, tensor in state.items()}
