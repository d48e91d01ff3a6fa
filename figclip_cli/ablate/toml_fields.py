"""Reading TOML whose keys are known: an unknown key or a wrong type is an error that says where and what is meant."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, nearest
from figclip_cli.files import require_file
from figclip_cli.markdown import one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LONGEST_TEXT = 500
_MOST_BYTES = 1 << 20
_HINT = "write keys as in rank = 8, lists as in rank = [1, 2], and tables on a line of their own as in [data]"


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: It is missing, over one MiB, not UTF-8, or not TOML.
    """
    require_file(path, what, "name a file, or a shipped one: figclip ablate --list-specs")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{what} {path} has more than {_MOST_BYTES} bytes", "is it the right file?")
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (ValueError, RecursionError) as error:  # also for text that is not UTF-8
        raise InputError(f"{what} {path} is not TOML: {one_line(str(error))[:200]}", _HINT) from error


class Fields:
    """The keys of one table; dashes and underscores are the same.

    Args:
        values: The table.
        where: What messages call it.
        known: Names that it may have, with underscores.

    Raises:
        InputError: It is no table, has an unknown key, or a key twice.
    """

    def __init__(self, values: Any, where: str, known: Iterable[str]) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise InputError(f"{where} is not a table", _HINT)
        self._values: dict[str, Any] = {}
        names = sorted(known)
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in names:
                hint = nearest(key.replace("_", "-")[:80], (one.replace("_", "-") for one in names))
                raise InputError(f"{where} has the unknown key '{one_line(key)[:80]}'", hint)
            if name in self._values:
                raise InputError(f"{where} has the key '{one_line(key)}' twice", "leave one out")
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str, default: Any = None) -> Any:
        """Return a value of any type."""
        return self._values.get(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text of one line; without a default it must be there."""
        if name not in self._values and default is not None:
            return default
        value = self._values.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT:
            said = "is missing" if name not in self._values else f"is no text of 1 to {_LONGEST_TEXT} letters"
            raise InputError(f"{self.where}: {name.replace('_', '-')} {said}", f'for example {name} = "..."')
        return one_line(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, of one where a text stands alone; none where the key is not there."""
        if name not in self._values:
            return ()
        value = self._values[name]
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(one, str) and one.strip() and len(one) <= _LONGEST_TEXT for one in listed):
            raise InputError(f"{self.where}: {name.replace('_', '-')} is no text or list of texts", _HINT)
        return tuple(listed)

    def tables(self, name: str) -> list[Any]:
        """Return a list of tables; none where the key is not there."""
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise InputError(f"{self.where}: {name} is no list of tables", f"begin each with [[{name}]]")
        return value
