"""``--config FILE.toml``: flag > file > default, and an unknown key is an error with the nearest name.

A file may serve the whole pipeline: top-level keys belong to the verb being run, and a table named after a
verb (``[adapt]``, ``[evaluate.retrieval]``) belongs to that verb alone. A table named after a group of verbs
(``[evaluate]``) belongs to all of them: each takes the keys that it has a flag for, and a key that none of them has is
an error. The more specific table wins: ``[evaluate.retrieval]`` > ``[evaluate]`` > top level.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
_TOML_HINT = 'write keys as in ties = "average", and tables on a line of their own as in [evaluate.action]'
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
    root: Any = context.find_root().command
    verb = _verb_path(context)
    _refuse_unknown_tables(document, root, path, prefix="")
    flags = _flags_of(context.command)
    spelling = _spelling(context.command)
    resolved: dict[str, Any] = {}
    for words, command, table in _layers(document, root, verb):
        # Top-level keys are meant for the verb being run, like those of its own table.
        is_shared = 0 < len(words) < len(verb)
        for key, value in table.items():
            if isinstance(value, dict):
                continue
            name = spelling.get(key.replace("-", "_"))
            if name is not None:
                resolved[name] = _suited(flags[name], key, value, path)
                continue
            known = _known_below(command) if is_shared else set(spelling)
            if not is_shared or key.replace("-", "_") not in known:
                hint = nearest(key.replace("_", "-"), (one.replace("_", "-") for one in known))
                raise UsageError(f"{path} has the unknown key '{key}' for {' '.join(words or verb)}", hint)
    return resolved


def _layers(document: dict[str, Any], root: Any, verb: list[str]) -> Iterator[tuple[list[str], Any, dict[str, Any]]]:
    """Yield words, command and table of each level, from the top level of the file to the verb's own table."""
    command, table = root, document
    yield [], command, table
    for depth, word in enumerate(verb, start=1):
        below = table.get(word)
        command, table = command.commands[word], below if isinstance(below, dict) else {}
        yield verb[:depth], command, table


def _flags_of(command: Any) -> dict[str, Any]:
    return {parameter.name: parameter for parameter in command.params if parameter.name not in _NOT_FROM_FILE}


def _spelling(command: Any) -> dict[str, str]:
    """Return the Python name for each way to write a key: a flag's (``--json``) and its Python name (``json_output``).

    Dashes are underscores here.
    """
    flags = _flags_of(command)
    spelling = {opt.lstrip("-").replace("-", "_"): name for name, flag in flags.items() for opt in flag.opts}
    return {**spelling, **{name: name for name in flags if name}}


def _known_below(command: Any) -> set[str]:
    """Return the keys that a verb knows, or that any verb of a group knows."""
    below = getattr(command, "commands", None)
    return set(_spelling(command)) if below is None else set().union(*map(_known_below, below.values()))


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
    except (ValueError, RecursionError) as error:  # what tomllib raises, also for text that is not UTF-8
        raise UsageError(f"{path} is not TOML: {error}", _TOML_HINT) from error


def _verb_path(context: typer.Context) -> list[str]:
    """Return the words that name the verb, for example ``["evaluate", "retrieval"]``."""
    words: list[str] = []
    current: Any = context
    while current is not None and current.parent is not None:
        words.insert(0, current.command.name or "")
        current = current.parent
    return words


def _refuse_unknown_tables(document: dict[str, Any], group: Any, path: Path, prefix: str) -> None:
    commands: dict[str, Any] = getattr(group, "commands", {})
    for key, value in document.items():
        if not isinstance(value, dict):
            continue
        if key not in commands:
            raise UsageError(f"{path} has the unknown table [{prefix}{key}]", nearest(key, commands))
        _refuse_unknown_tables(value, commands[key], path, f"{prefix}{key}.")
