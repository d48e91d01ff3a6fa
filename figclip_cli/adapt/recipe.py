"""Recipes: named settings of a whole run, as TOML files that come with the package. Nothing here imports torch."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.errors import UsageError, nearest
from figclip_cli.option_fields import of_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).with_name("recipes")


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def recipe_file(name: str) -> Path:
    """Return the file of a recipe.

    Raises:
        UsageError: There is no such recipe.
    """
    if name not in recipe_names():
        raise UsageError(f"there is no recipe '{name}'", nearest(name, recipe_names()))
    return FOLDER / f"{name}.toml"


def options_of_recipe(name: str, **changes: Any) -> AdaptOptions:
    """Return a recipe's options, with some of them changed; what it says of the model is left out."""
    document: dict[str, Any] = tomllib.loads(recipe_file(name).read_text(encoding="utf-8"))
    known = {item.name: item for item in fields(AdaptOptions)}
    values = {key.replace("-", "_"): value for key, value in document.items()}
    options = {key: value for key, value in values.items() if key in known}
    for key in options:
        if "written" in known[key].metadata:
            options[key] = of_text(known[key], options[key])
    return AdaptOptions(**{**options, **changes})
