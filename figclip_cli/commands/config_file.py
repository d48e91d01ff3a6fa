"""``--config FILE.toml``: flag > file > default, and an unknown key is an error with the nearest name.

A file may serve the whole pipeline: top-level keys belong to the verb being run, and a table named after a
verb (``[adapt]``, ``[evaluate.retrieval]``) belongs to that verb alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import typer

from figclip_cli.adapt.recipe import recipe_file
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MODEL_KEYS = ("model", "pretrained", "activation")
_RECIPE, _CONFIG, _FROM_RECIPE = "figclip.recipe", "figclip.config", "figclip.from_recipe"
_NOT_FROM_FILE = {"config", "help", "install_completion", "show_completion"}


def load_into_context(context: typer.Context, path: Optional[Path]) -> Optional[Path]:  # noqa: UP045
    """Typer callback of ``--config``: put the file's values under the flags, above the defaults.

    Raises:
        typer.Exit: With the code of a usage error, after saying in one line that the file is missing, is not
            TOML, or has a key that no flag answers to.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        values = _values_for(context, path)
    except UsageError as error:
        Terminal().error(error.message, error.hint)
        raise typer.Exit(error.exit_code) from None
    _put(context, _CONFIG, values)
    return path


def load_recipe_into_context(context: typer.Context, name: Optional[str]) -> Optional[str]:  # noqa: UP045
    """Typer callback of ``--recipe``: put a recipe's values under the flags and ``--config``, above the defaults.

    A recipe names a model with the weights that go with it: another ``--model`` drops both.

    Raises:
        typer.Exit: With the code of a usage error, when there is no such recipe.
    """
    if name is None or context.resilient_parsing:
        return name
    try:
        values = _values_for(context, recipe_file(name))
    except UsageError as error:
        Terminal().error(error.message, error.hint)
        raise typer.Exit(error.exit_code) from None
    _put(context, _RECIPE, values)
    return name


def _put(context: typer.Context, layer: str, values: dict[str, Any]) -> None:
    """Put a recipe's or a file's values under the flags; the file wins, whichever of the two is named first."""
    context.meta[layer] = values
    recipe, config = context.meta.get(_RECIPE, {}), context.meta.get(_CONFIG, {})
    if "model" in config:
        recipe = {key: value for key, value in recipe.items() if key not in _MODEL_KEYS}
    context.meta[_FROM_RECIPE] = set(recipe) - set(config)
    context.default_map = {**recipe, **config}


def without_recipe_weights(context: typer.Context, **weights: Any) -> dict[str, Any]:
    """Return the values of ``pretrained`` and ``activation``; none from a recipe whose model a flag replaced."""
    if not _was_typed(context, "model"):
        return weights
    dropped = {key for key in context.meta.get(_FROM_RECIPE, ()) if not _was_typed(context, key)}
    return {key: None if key in dropped else value for key, value in weights.items()}


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _values_for(context: typer.Context, path: Path) -> dict[str, Any]:
    """Return the file's values under the Python names of the verb's flags."""
    document = _read(path)
    verb = _verb_path(context)
    values = {key: value for key, value in document.items() if not isinstance(value, dict)}
    values.update(_table(document, verb, context, path))
    flags = {parameter.name: parameter for parameter in context.command.params if parameter.name not in _NOT_FROM_FILE}
    # A flag's spelling (``--json``) and its Python name (``json_output``) are both accepted.
    spelling = {opt.lstrip("-").replace("-", "_"): name for name, flag in flags.items() for opt in flag.opts}
    spelling.update({name: name for name in flags if name})
    resolved: dict[str, Any] = {}
    for key, value in values.items():
        name = spelling.get(key.replace("-", "_"))
        if name is None:
            hint = nearest(key.replace("_", "-"), (known.replace("_", "-") for known in spelling))
            raise UsageError(f"{path} has the unknown key '{key}' for {' '.join(verb)}", hint)
        resolved[name] = _suited(flags[name], key, value, path)
    return resolved


def _suited(flag: Any, key: str, value: Any, path: Path) -> Any:
    """Return a TOML value as the flag takes it: lists for flags that repeat, ``a,b`` for those written so."""
    if getattr(flag, "multiple", False) or getattr(flag, "nargs", 1) == -1:
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool) and not getattr(flag, "is_flag", False):
        raise UsageError(f"{path}: {key} is not true or false", f"see --{key.replace('_', '-')} in --help")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "pass --config FILE.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "see docs/file-formats.md for an example") from error


def _verb_path(context: typer.Context) -> list[str]:
    """Return the words that name the verb, for example ``["evaluate", "retrieval"]``."""
    words: list[str] = []
    current: Any = context
    while current is not None and current.parent is not None:
        words.insert(0, current.command.name or "")
        current = current.parent
    return words


def _table(document: dict[str, Any], verb: list[str], context: typer.Context, path: Path) -> dict[str, Any]:
    """Return the verb's own table, after checking that every table is some verb's."""
    root: Any = context.find_root().command
    _refuse_unknown_tables(document, root, path, prefix="")
    found: Any = document
    for word in verb:
        found = found.get(word, {})
    return {key: value for key, value in found.items() if not isinstance(value, dict)}


def _refuse_unknown_tables(document: dict[str, Any], group: Any, path: Path, prefix: str) -> None:
    commands: dict[str, Any] = getattr(group, "commands", {})
    for key, value in document.items():
        if not isinstance(value, dict):
            continue
        if key not in commands:
            raise UsageError(f"{path} has the unknown table [{prefix}{key}]", nearest(key, commands))
        _refuse_unknown_tables(value, commands[key], path, f"{prefix}{key}.")
