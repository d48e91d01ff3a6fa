"""TorchScript archives, the form of OpenAI's releases, read as data: nothing in them is run or looked up.

``torch.jit.load`` would compile and run the archive's code. What is wanted is in two places alone: ``data.pkl``, a
pickle of the module tree, and ``data/0``, ``data/1`` and so on, the numbers. The pickle's instructions are carried out
here by a machine of our own that knows the few that TorchScript writes; classes and functions stay names.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAX_PICKLE_BYTES = 64 << 20
MAX_MODULES = 200_000  # shared ones counted as often as they are reached
MAX_DEPTH = 40
MAX_DIMENSIONS = 8

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_PUSH_ARGUMENT = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


class ArchiveError(Exception):
    """The archive is damaged, or holds what no archive of a CLIP needs."""


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names; it is never looked up."""

    module: str
    name: str


@dataclass
class ArchivedModule:
    """A module of the archive: the name of its class, and its attributes."""

    class_module: str
    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    length: int


class ArchivedTensor(NamedTuple):
    """A tensor whose numbers are still in the file: where they begin in a storage, and how they lie there."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""
        return self.storage.dtype


class TorchScriptArchive:
    """An archive whose module tree is read, and whose tensors can be.

    Attributes:
        tensors: By dotted attribute name, such as ``visual.conv1.weight``.
        numbers: Whole numbers that are attributes, likewise.
        class_names: Names of the classes of all modules, such as ``QuickGELU``, with those of torch itself as
            ``torch.nn.modules.activation.GELU``.
    """

    def __init__(self, path: Path) -> None:
        """Read the module tree.

        Raises:
            ArchiveError: The archive is damaged or out of bounds.
        """
        self._path = path
        with _opened(path) as archive:
            self._prefix = _prefix(archive)
            self._records = {info.filename: info for info in archive.infolist()}
            data = self._record(archive, "data.pkl", most_bytes=MAX_PICKLE_BYTES)
            has_order = f"{self._prefix}byteorder" in self._records
            if has_order and self._record(archive, "byteorder", most_bytes=16).strip() != b"little":
                raise ArchiveError("its numbers are not in little-endian order")
        root = _Machine().run(data)
        if not isinstance(root, ArchivedModule):
            raise ArchiveError("it holds no module")
        self.tensors: dict[str, ArchivedTensor] = {}
        self.numbers: dict[str, int] = {}
        self.class_names: set[str] = set()
        for name, value in self._walk(root):
            if isinstance(value, ArchivedTensor):
                self.tensors[name] = value
            elif type(value) is int:
                self.numbers[name] = value
        self._check_storages({tensor.storage for tensor in self.tensors.values()})

    def _walk(self, root: ArchivedModule) -> Iterator[tuple[str, Any]]:
        waiting, done = [("", root, 0)], 0
        while waiting:
            name, module, depth = waiting.pop()
            done += 1
            if done > MAX_MODULES or depth > MAX_DEPTH:
                raise ArchiveError("its modules are too many or nested too deep")
            self.class_names.add(_plain_class_name(module))
            for key, value in module.attributes.items():
                if isinstance(value, ArchivedModule):
                    waiting.append((f"{name}{key}.", value, depth + 1))
                else:
                    yield f"{name}{key}", value

    def read(self, names: Mapping[str, ArchivedTensor] | None = None) -> dict[str, Tensor]:
        """Return tensors with memory of their own, by default all; each storage is read once.

        Raises:
            ArchiveError: A storage is missing, compressed, or smaller than what lies in it.
        """
        wanted = self.tensors if names is None else names
        by_storage: dict[_Storage, list[str]] = {}
        for name, tensor in wanted.items():
            by_storage.setdefault(tensor.storage, []).append(name)
        result: dict[str, Tensor] = {}
        with _opened(self._path) as archive:
            for storage, users in by_storage.items():
                flat = self._numbers(archive, storage)
                for name in users:
                    _, offset, shape, strides = wanted[name]
                    result[name] = flat.as_strided(shape, strides, offset).clone(memory_format=torch.contiguous_format)
        return {name: result[name] for name in wanted}

    def _check_storages(self, storages: Iterable[_Storage]) -> None:
        total = 0
        for storage in storages:
            info = self._records.get(f"{self._prefix}data/{storage.key}")
            needed = storage.length * storage.dtype.itemsize
            if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size < needed:
                raise ArchiveError(f"the numbers data/{ascii(storage.key)[1:-1][:40]} are missing or cut off")
            total += needed
        if total > self._path.stat().st_size:
            raise ArchiveError("it says it holds more numbers than it does")

    def _numbers(self, archive: zipfile.ZipFile, storage: _Storage) -> Tensor:
        needed = storage.length * storage.dtype.itemsize
        if needed == 0:
            return torch.empty(0, dtype=storage.dtype)
        data = self._record(archive, f"data/{storage.key}")
        return torch.frombuffer(bytearray(data), dtype=storage.dtype, count=storage.length)

    def _record(self, archive: zipfile.ZipFile, name: str, *, most_bytes: int | None = None) -> bytes:
        info = self._records.get(f"{self._prefix}{name}")
        if info is None:
            raise ArchiveError(f"it has no {name}")
        if most_bytes is not None and info.file_size > most_bytes:
            raise ArchiveError(f"its {name} is larger than {most_bytes >> 20} MiB")
        try:
            with archive.open(info) as file:
                data = file.read(info.file_size + 1)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise ArchiveError(f"its {name} cannot be read: {error}") from error
        if len(data) != info.file_size:
            raise ArchiveError(f"its {name} is cut off")
        return data


def is_zip(path: Path) -> bool:
    """Say whether a file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def is_torchscript(path: Path) -> bool:
    """Say whether a zip archive is TorchScript's, which torch recognises by the same record.

    Raises:
        ArchiveError: It is no whole zip archive.
    """
    with _opened(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def check_stored(path: Path) -> None:
    """Refuse a zip archive that would unpack to more than its own size.

    Raises:
        ArchiveError: It is damaged, or an entry is compressed, or the entries overlap.
    """
    with _opened(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ArchiveError("its entries are compressed, as torch never writes them")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ArchiveError("it says it holds more than it does")


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ArchiveError(f"it is no whole archive ({error})") from error


def _prefix(archive: zipfile.ZipFile) -> str:
    """Return the archive's own folder, with a slash; it has any name, and all entries are in it."""
    found = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ArchiveError("it has no data.pkl of its own")
    return found[0].removesuffix("data.pkl")


def _plain_class_name(module: ArchivedModule) -> str:
    """Return the class without the marks that TorchScript puts between to tell equal names apart."""
    parts = [part for part in module.class_module.split(".") if not part.startswith("___torch_mangle_")]
    own = parts[1:2] == ["torch"]  # parts[0] is __torch__
    return ".".join([*parts[1:], module.class_name]) if own else module.class_name


class _Machine:
    """Carries out the instructions that TorchScript's pickler writes; any other is refused."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except ArchiveError:
            raise
        except Exception as error:  # a broken pickle ends in almost any exception
            raise ArchiveError(f"its data.pkl is broken ({type(error).__name__})") from error
        raise ArchiveError("its data.pkl is cut off")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "PROTO":
            return
        if name in _PUSH_ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_Name(*argument.split(" ", 1)))
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        stack = self._stack
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT"):
            stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple([stack.pop() for _ in range(int(name[-1]))][::-1]))
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [stack.pop()]
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            _of(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = _of(tuple, stack.pop())
            stack.append(_called(_of(_Name, stack.pop()), arguments))
        elif name == "NEWOBJ":
            if _of(tuple, stack.pop()):
                raise ArchiveError("its data.pkl makes an object out of something")
            of = _of(_Name, stack.pop())
            stack.append(_made(of))
        elif name == "BUILD":
            _fill(stack.pop(), stack[-1])
        else:
            raise ArchiveError(f"its data.pkl has the instruction {name}")

    def _to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ArchiveError("its data.pkl is broken")
    return value


def _made(of: _Name) -> ArchivedModule:
    if of.module.split(".")[0] != "__torch__":
        raise ArchiveError(f"its data.pkl makes an object of {ascii(f'{of.module}.{of.name}')[1:-1][:80]}")
    return ArchivedModule(of.module, of.name)


def _fill(state: Any, target: Any) -> None:
    if not isinstance(target, ArchivedModule) or type(state) is not dict or target.attributes:
        raise ArchiveError("its data.pkl gives something other than a module attributes")
    if not all(type(key) is str for key in state):
        raise ArchiveError("its data.pkl has an attribute without a name")
    target.attributes.update(state)


def _called(of: _Name, arguments: tuple[Any, ...]) -> Any:
    """Return what the four functions that TorchScript names would return; no function is called."""
    full = f"{of.module}.{of.name}"
    if full == "torch._utils._rebuild_tensor_v2":
        return _tensor(*arguments[:4])
    if full == "collections.OrderedDict" and not arguments:
        return {}
    if of.module == "torch.jit._pickle" and of.name.startswith(("build_", "restore_type_tag")):
        return arguments[0] if arguments else None
    raise ArchiveError(f"its data.pkl would call {ascii(full)[1:-1][:80]}")


def _storage(identity: Any) -> _Storage:
    if type(identity) is tuple and len(identity) == 5:
        word, kind, key, _, count = identity
        dtype = _DTYPES.get(kind.name) if isinstance(kind, _Name) and kind.module == "torch" else None
        if word == "storage" and dtype is not None and type(key) is str and _is_count(count):
            return _Storage(key, dtype, count)
    raise ArchiveError("it refers to numbers of an unknown kind")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> ArchivedTensor:
    """Return a tensor that lies within its storage and in which no number is used twice over."""
    if not isinstance(storage, _Storage) or not _is_count(offset):
        raise ArchiveError("a tensor lies in no storage")
    lists = all(type(item) is tuple and all(_is_count(one) for one in item) for item in (shape, strides))
    if not lists or len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise ArchiveError("a tensor has no shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    count = math.prod(shape)
    if count and (last >= storage.length or count > storage.length):
        raise ArchiveError("a tensor reaches beyond its storage")
    return ArchivedTensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
