"""Flags made from the fields of an options class, so that a default and its help stand in one place.

A field's metadata holds ``help`` and ``panel``; ``choices`` makes an enumeration, ``min`` a bound, ``also`` a second
spelling; ``written`` is ``list`` for ``a,b`` and ``mapping`` for ``a=1,b=2``, with ``metavar`` for the help.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from figclip_cli.option_fields import of_text


def with_flags_of(*classes: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a function's ``**values`` by one flag for each field of these classes.

    :func:`options_from` makes the objects from the values.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = inspect.signature(function).parameters.values()
        kept = [p.replace(annotation=hints[p.name]) for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        kinds = {owner: get_type_hints(owner) for owner in classes}
        made = [_parameter(item, kinds[owner][item.name]) for owner in classes for item in fields(owner)]

        @functools.wraps(function)
        def run(*arguments: Any, **values: Any) -> None:
            function(*arguments, **values)

        signature = inspect.Signature(kept + made)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        del run.__wrapped__
        return run

    return decorate


def options_from(owner: type, values: Mapping[str, Any]) -> Any:
    """Return an object of an options class from the values of its flags.

    Raises:
        UsageError: A value is not written as its flag says, or the class refuses it.
    """
    return owner(**{item.name: _parsed(item, values[item.name]) for item in fields(owner)})


def _parameter(item: Field[Any], kind: Any) -> inspect.Parameter:
    about, spelled = item.metadata, item.name.replace("_", "-")
    default = item.default if item.default is not MISSING else {}
    names = [f"--{spelled}/--no-{spelled}"] if kind is bool and default else [f"--{spelled}"]
    if "also" in about:
        names.append(about["also"])
    settings: dict[str, Any] = {"help": about["help"], "rich_help_panel": about["panel"]}
    settings |= {name: about[name] for name in ("min", "metavar") if name in about}
    if "written" in about:
        kind, default = str, _written(default)
    elif "choices" in about:
        kind = _choices(item.name, about["choices"])
        if default is None:
            kind = Optional[kind]  # noqa: UP045  (Typer on Python 3.10 wants Optional)
        else:
            default = kind(default)
    elif kind in (float | None, int | None, str | None, Path | None):
        kind = Optional[next(one for one in (float, int, str, Path) if kind == one | None)]  # noqa: UP045
    annotation = Annotated[kind, typer.Option(*names, **settings)]
    return inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _choices(name: str, values: Sequence[str]) -> Any:
    made: Any = Enum(name, {value: value for value in values}, type=str)  # type: ignore[misc]
    return made


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={number:g}" for name, number in value.items())
    return ",".join(value)


def _parsed(item: Field[Any], value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    written = item.metadata.get("written")
    if written is None:
        return value
    return of_text(item, value)
