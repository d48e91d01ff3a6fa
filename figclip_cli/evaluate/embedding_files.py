"""Files of features for other programs: safetensors, HDF5 or npz, the name's ending decides. No pickles.

``features`` is (N, D) float32 and ``ids`` names its rows. Events have ``event_index`` and frames ``frame_index``, both
(N,) int64; frames have ``pts_seconds`` too, (N,) float64. What the features are of is one JSON object: safetensors
has it under ``figclip`` in its own metadata, with the ids as ``ids``; HDF5 and npz have it as ``metadata``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from figclip_cli.errors import FigclipError, InputError, UsageError
from figclip_cli.evaluate.datasets.common import parse_json
from figclip_cli.files import canonical_json, replacing, require_file
from figclip_cli.models.tensors import save_tensors

FEATURES_FORMAT = "figclip-features"
FEATURES_FORMAT_VERSION = 1
ENDINGS = (".safetensors", ".h5", ".hdf5", ".npz")
# What each level has beside features and ids.
COLUMNS_OF_LEVEL: dict[str, tuple[str, ...]] = {
    "clip": (),
    "event": ("event_index",),
    "frame": ("frame_index", "pts_seconds"),
    "image": (),
    "text": (),
}
_WHAT = "features file"
_HINT = "make it again with figclip embed"
_KNOWN_ENDINGS = f"choose one of {', '.join(ENDINGS)}"
_SAFETENSORS_KEY = "figclip"  # where save_tensors puts metadata
_MOST_HEADER_BYTES = 95_000_000  # readers of safetensors refuse a header of 100 MB
_LENGTH_TOLERANCE = 1e-3

Arrays = dict[str, npt.NDArray[Any]]
_Read = tuple[Arrays, list[str], Any]


@dataclass(frozen=True)
class Embeddings:
    """Features with the names of their rows.

    Attributes:
        features: (N, D) float32.
        ids: Clip ids, names of images, or ids of texts, one for each row.
        columns: ``event_index`` or ``frame_index`` (N,) int64, and ``pts_seconds`` (N,) float64, as the level has.
        about: What the features are of: level, model, protocol, source, counts, and what is missing with reasons.
    """

    features: npt.NDArray[np.float32]
    ids: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    about: dict[str, Any]

    @property
    def missing(self) -> dict[str, str]:
        """What has no features, and why."""
        return dict(self.about["missing"])


def check_output_name(path: Path) -> None:
    """Refuse a name whose ending names no format.

    Raises:
        UsageError: Lists the endings.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--output {path}: its ending is no known format of features", _KNOWN_ENDINGS)


def write_features(path: Path, embeddings: Embeddings) -> None:
    """Write features in the format of the name's ending, whole or not at all; equal ones give equal bytes.

    Raises:
        UsageError: The ending is unknown, or there are more ids than safetensors takes.
        MachineError: The disk is full or the folder cannot be written.
    """
    check_output_name(path)
    writers = {".safetensors": _write_safetensors, ".npz": _write_npz}
    arrays = {"features": embeddings.features, **embeddings.columns}
    about = {**embeddings.about, "format": FEATURES_FORMAT, "format_version": FEATURES_FORMAT_VERSION}
    writers.get(path.suffix.lower(), _write_hdf5)(path, arrays, embeddings.ids, about)


def read_features(path: Path) -> Embeddings:
    """Read and check what :func:`write_features` wrote.

    Raises:
        InputError: The file is missing, damaged, of another format or version, holds a pickle, or does not hold what
            it says.
    """
    require_file(path, _WHAT, _HINT)
    readers: dict[str, Callable[[Path], _Read]] = {".safetensors": _read_safetensors, ".npz": _read_npz}
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{_WHAT} {path}: its ending is no known format of features", _KNOWN_ENDINGS)
    with _explaining_damage(path):
        arrays, ids, about = readers.get(ending, _read_hdf5)(path)
        problem = _problem(arrays, ids, about)
    if problem:
        raise InputError(f"{_WHAT} {path}: {problem}", _HINT)
    features = arrays.pop("features")
    return Embeddings(features, tuple(ids), arrays, about)


def _write_safetensors(path: Path, arrays: Arrays, ids: Sequence[str], about: dict[str, Any]) -> None:
    metadata = {**about, "ids": list(ids)}
    # JSON inside JSON: every quotation mark costs one byte more.
    if len(canonical_json(canonical_json(metadata)).encode()) > _MOST_HEADER_BYTES:
        raise UsageError(f"{path}: safetensors takes no {len(ids):,} ids", "choose a name that ends in .h5")
    save_tensors(path, {name: torch.from_numpy(array) for name, array in arrays.items()}, metadata)


def _read_safetensors(path: Path) -> _Read:
    with safe_open(path, framework="np") as file:
        metadata = (file.metadata() or {}).get(_SAFETENSORS_KEY)
        if metadata is None:
            raise ValueError("it has no metadata of figclip")
        about = parse_json(metadata, f"{_WHAT} {path}, metadata", _HINT)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return arrays, about.pop("ids"), about


def _write_npz(path: Path, arrays: Arrays, ids: Sequence[str], about: dict[str, Any]) -> None:
    texts = {"ids": np.array(ids, dtype=np.str_), "metadata": np.array(canonical_json(about))}
    everything: dict[str, Any] = {**arrays, **texts}
    with replacing(path) as temporary, temporary.open("wb") as file:  # a name would be given the ending .npz
        np.savez(file, **everything)


def _read_npz(path: Path) -> _Read:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # Of what is not compressed there cannot be more than the file has: no small file fills the memory.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    ids, metadata = arrays.pop("ids"), arrays.pop("metadata")
    if ids.dtype.kind != "U" or ids.ndim != 1 or metadata.dtype.kind != "U":
        raise ValueError("ids or metadata are no text")
    return arrays, ids.tolist(), parse_json(str(metadata), f"{_WHAT} {path}, metadata", _HINT)


def _write_hdf5(path: Path, arrays: Arrays, ids: Sequence[str], about: dict[str, Any]) -> None:
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = about["format"]
        file.attrs["format_version"] = about["format_version"]
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        _write_texts(file, "ids", ids)
        # Not an attribute: HDF5 takes 64 KB of those, and a list of what is missing may be longer.
        _write_texts(file, "metadata", canonical_json(about))


def _write_texts(file: h5py.File, name: str, texts: Sequence[str] | str) -> None:
    """Write texts of one length, filled with zeros: a damaged heap of texts of many makes HDF5 loop without end."""
    encoded = np.char.encode(np.array(texts, dtype=np.str_), "utf-8")
    file.create_dataset(name, data=encoded.astype(h5py.string_dtype(length=encoded.dtype.itemsize)))


def _read_hdf5(path: Path) -> _Read:
    with h5py.File(path, "r") as file:
        found = {name: _plain(file, name) for name in file}
        ids, metadata = found.pop("ids"), found.pop("metadata")
        if found["features"].shape[:1] != ids.shape or metadata.shape != ():
            raise ValueError(f"features have shape {found['features'].shape}, ids {ids.shape}")
        arrays = {name: np.asarray(dataset[()]) for name, dataset in found.items()}
        text = metadata.asstr()[()]
        return arrays, ids.asstr()[:].tolist(), parse_json(text, f"{_WHAT} {path}, metadata", _HINT)


def _plain(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose data is in this file, as much as it claims."""
    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} is no dataset of this file")
    if dataset.dtype.hasobject:
        raise ValueError(f"{name} holds neither numbers nor texts of one length")
    if dataset.id.get_storage_size() != dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"{name} is compressed or not filled")
    return dataset


@contextmanager
def _explaining_damage(path: Path) -> Iterator[None]:
    """Turn whatever three libraries raise about a damaged or hostile file into one line."""
    try:
        yield
    except FigclipError:
        raise
    except Exception as error:
        said = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise InputError(f"{_WHAT} {path} cannot be read: {said}", _HINT) from error


class _About(msgspec.Struct):
    level: str
    unit_length: bool
    model: dict[str, Any]
    protocol: dict[str, Any]
    source: dict[str, Any]
    n_asked: int
    n_written: int
    missing: dict[str, str]


def _problem(arrays: Arrays, ids: Sequence[Any], about: Any) -> str:
    """Return what is wrong with the content of a file, or nothing."""
    if not isinstance(about, dict) or about.get("format") != FEATURES_FORMAT:
        return f"its metadata is not of the format '{FEATURES_FORMAT}'"
    if about.get("format_version") != FEATURES_FORMAT_VERSION:
        return f"it has format version {about.get('format_version')!r}, this figclip reads {FEATURES_FORMAT_VERSION}"
    try:
        known = msgspec.convert(about, type=_About)
    except msgspec.ValidationError as error:
        return f"its metadata is damaged: {error}"
    columns = COLUMNS_OF_LEVEL.get(known.level)
    if columns is None or arrays.keys() != {"features", *columns}:
        return f"level '{known.level}' does not go with {', '.join(sorted(arrays))}"
    return (
        _problem_of_features(arrays["features"], unit_length=known.unit_length)
        or _problem_of_ids(ids, len(arrays["features"]))
        or next(filter(None, (_problem_of_column(name, arrays[name], len(ids)) for name in columns)), "")
    )


def _problem_of_features(features: npt.NDArray[Any], *, unit_length: bool) -> str:
    if features.dtype != np.float32 or features.ndim != 2 or not features.size:
        return f"features have shape {features.shape} and type {features.dtype}"
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    if not np.isfinite(lengths).all():
        return f"{int((~np.isfinite(lengths)).sum())} features are not finite"
    wrong = int((np.abs(lengths - 1) > _LENGTH_TOLERANCE).sum()) if unit_length else 0
    return f"{wrong} features are not of unit length" if wrong else ""


def _problem_of_ids(ids: Sequence[Any], count: int) -> str:
    if not isinstance(ids, list) or len(ids) != count or not all(isinstance(name, str) and name for name in ids):
        return f"its ids are not {count} texts"
    try:
        "".join(ids).encode()
    except UnicodeEncodeError:
        return "an id is not Unicode"
    return ""


def _problem_of_column(name: str, column: npt.NDArray[Any], count: int) -> str:
    kind = np.float64 if name == "pts_seconds" else np.int64
    if column.dtype != kind or column.shape != (count,):
        return f"{name} has shape {column.shape} and type {column.dtype}"
    return f"{name} is negative" if kind is np.int64 and (column < 0).any() else ""
