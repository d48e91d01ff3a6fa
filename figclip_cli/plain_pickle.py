"""Pickles that hold lists, dicts, texts and numbers, read without running anything and within bounds.

Unpickling a file from elsewhere can run any code, and a few bytes can ask for terabytes. Three steps keep a file
harmless: its instructions are walked through before any is carried out, no class or function is ever looked up, and
what comes out is measured with every shared part counted as often as it is reached.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from figclip_cli.errors import InputError
from figclip_cli.files import require_file

MAX_FILE_BYTES = 256 << 20
MAX_INSTRUCTIONS = 20_000_000
MAX_VALUES = 20_000_000  # shared parts counted each time
MAX_LETTERS = 500_000_000
MAX_DEPTH = 50
_MAX_INT_BITS = 64

_HINT = "only lists, dicts, texts and numbers are read from a pickle; save it again as those, or as JSON"
# How much follows an instruction: a number of bytes, a line, or a count and that many bytes.
_ARGUMENT = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_WIDTH_OF_COUNT = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_LINES = {ord("c"): 2, ord("i"): 2}  # GLOBAL and INST name a module and a class, a line each
_MEMO_PUTS = frozenset(b"qr")  # BINPUT, LONG_BINPUT
_MEMO_PUT_TEXT = ord("p")
_STOP = ord(".")
# Sets, byte arrays, codes of registered classes and buffers kept elsewhere: no plain data needs them.
_REFUSED = frozenset(b"\x82\x83\x84\x8f\x90\x91\x96\x97\x98")


def read_plain_pickle(path: Path, what: str) -> Any:
    """Read a pickle of plain data; a pickle of Python 2 too, whose texts are read as UTF-8, else as Latin-1.

    Args:
        what: What the file is to the user, for example ``"captions file"``.

    Returns:
        None, bool, int (64 bits), float (NaN and infinities too), str, list or dict; tuples become lists. Keys of
        dicts are such scalars. Parts that the file shares are shared.

    Raises:
        InputError: The file is missing, cut off, no pickle, holds anything else, or is out of bounds.
    """
    require_file(path, what, "check the path")
    where = f"{what} {path}"
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{where} is a pickle of more than {MAX_FILE_BYTES >> 20} MiB", "save it as JSON")
    data = path.read_bytes()
    try:
        _walk(data)
        return _Plain().of(_loaded(data))
    except _Refused as refusal:
        raise InputError(f"{where} is no pickle of plain data: {refusal}", _HINT) from refusal
    except Exception as error:  # a broken pickle ends in almost any exception, MemoryError and RecursionError too
        raise InputError(f"{where} is a broken pickle ({type(error).__name__})", "is the file complete?") from error


class _Refused(Exception):
    """The pickle does something that plain data does not need."""


def _walk(data: bytes) -> None:
    """Go through the instructions without carrying any out.

    Python's unpickler trusts the counts it reads: it reserves memory for a text before it has seen it, and makes a
    table as long as the highest number in it. Here a count must lie within the file and a number within the
    instructions so far, as they do in any pickle that Python writes.
    """
    position, end, done = 0, len(data), 0
    while position < end:
        code = data[position]
        follows = _ARGUMENT.get(code)
        if follows is None:
            raise _Refused(f"byte {position + 1} is no instruction")
        if code in _REFUSED:
            raise _Refused(f"it has the instruction {_NAMES[code]}")
        position, done = position + 1, done + 1
        if follows >= 0:
            if code in _MEMO_PUTS and int.from_bytes(data[position : position + follows], "little") > done:
                raise _Refused("it numbers its parts beyond their count")
            position += follows
        elif follows == pickletools.UP_TO_NEWLINE:
            start = position
            for _ in range(_LINES.get(code, 1)):
                position = data.find(b"\n", position) + 1 or end + 1
            if code == _MEMO_PUT_TEXT and int(data[start : position - 1]) > done:
                raise _Refused("it numbers its parts beyond their count")
        else:
            width = _WIDTH_OF_COUNT[follows]
            position += width + int.from_bytes(data[position : position + width], "little")
        if code == _STOP:
            break
        if done > MAX_INSTRUCTIONS:
            raise _Refused(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
    else:
        raise _Refused("it is cut off" if data else "it is empty")
    if position < end:
        raise _Refused(f"{end - position} bytes follow its end")


class _Unpickler(pickle.Unpickler):
    """Looks nothing up: without a class or a function there is nothing that an instruction could call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _Refused(f"it holds {ascii(f'{module}.{name}')[:80]}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("it refers to something kept elsewhere")


def _loaded(data: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(data), encoding="utf-8").load()
    except UnicodeDecodeError:
        return _Unpickler(io.BytesIO(data), encoding="latin-1").load()


class _Measured(NamedTuple):
    """A plain value with the number of values in it, of letters in them, and how deep it is nested."""

    value: Any
    values: int = 1
    letters: int = 0
    height: int = 0


class _Plain:
    """Checks a value and makes its tuples lists, each part once however often it is shared."""

    def __init__(self) -> None:
        self._done: dict[int, _Measured] = {}

    def of(self, value: Any) -> Any:
        return self._measured(value, 0).value

    def _measured(self, value: Any, depth: int) -> _Measured:
        kind = type(value)
        if kind is str:
            return _Measured(value, letters=len(value))
        if kind is int and value.bit_length() > _MAX_INT_BITS:
            raise _Refused(f"it holds a whole number of more than {_MAX_INT_BITS} bits")
        if value is None or kind in (bool, int, float):
            return _Measured(value)
        if kind not in (list, tuple, dict):
            raise _Refused(f"it holds {kind.__name__}")
        made = self._done.get(id(value))
        if depth + (made.height if made else 0) >= MAX_DEPTH:  # a list that holds itself ends here too
            raise _Refused(f"it is nested more than {MAX_DEPTH} deep")
        if made is None:
            self._done[id(value)] = made = self._container(value, depth + 1)
        return made

    def _container(self, value: Any, depth: int) -> _Measured:
        is_dict = isinstance(value, dict)
        if is_dict and any(isinstance(key, tuple) for key in value):
            raise _Refused("it holds a dict with a tuple for a key")
        parts = [self._measured(one, depth) for one in (value.values() if is_dict else value)]
        every = [*parts, *(self._measured(key, depth) for key in value)] if is_dict else parts
        values, letters = 1 + sum(part.values for part in every), sum(part.letters for part in every)
        if values > MAX_VALUES:
            raise _Refused(f"it holds more than {MAX_VALUES:,} values, shared ones counted each time")
        if letters > MAX_LETTERS:
            raise _Refused(f"it holds more than {MAX_LETTERS:,} letters, shared ones counted each time")
        plain = [part.value for part in parts]
        height = 1 + max((part.height for part in parts), default=0)
        return _Measured(dict(zip(value, plain, strict=True)) if is_dict else plain, values, letters, height)
