"""The formats, by the name that ``--to`` has for them; each module is imported when its format is asked for."""

from __future__ import annotations

import importlib
import importlib.util

from figclip_cli.errors import UsageError
from figclip_cli.export.formats.format import Format

__all__ = ["Format", "format_named"]


def format_named(name: str) -> Format:
    """Return the format of this name.

    Raises:
        UsageError: A package that it needs is not installed.
    """
    made: Format = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    for package in made.packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"--to {name} needs {package}, which is not installed", "pip install 'figclip-cli[export]'"
            )
    return made
