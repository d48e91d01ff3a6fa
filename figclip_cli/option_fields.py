"""Fields of options classes that are also flags: one place for a default, its help and its check. No torch here."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any

from figclip_cli.errors import UsageError, nearest


def flag(default: Any, text: str, panel: str | None, **extra: Any) -> Any:
    """Return a dataclass field with the metadata that ``commands/option_flags.py`` makes a flag of.

    Args:
        text: Help of the flag.
        panel: Heading of the help under which it stands; None is the first.
        extra: ``choices``, ``min``, ``also``, ``written`` and ``metavar``, as that module explains them.
    """
    metadata = {"help": text, "panel": panel, **extra}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def spelled(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def refuse_below(options: Any, least: int, *names: str, verb: str) -> None:
    """Refuse options of which one of ``names`` is below ``least``; None passes.

    Args:
        verb: For the hint, for example ``adapt``.

    Raises:
        UsageError: Names the flag and its value.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"{spelled(name)} must be at least {least}, got {value}", f"see figclip {verb} --help")


def check_choices(options: Any) -> None:
    """Refuse options of which a field with ``choices`` has another value; None passes where it is the default.

    Raises:
        UsageError: Names the flag, its value and the nearest choice.
    """
    for item in fields(options):
        choices, value = item.metadata.get("choices"), getattr(options, item.name)
        if choices and value not in choices and not (value is None and item.default is None):
            raise UsageError(f"{spelled(item.name)} cannot be '{value}'", nearest(str(value), choices))


def of_text(item: Field[Any], text: str) -> tuple[str, ...] | dict[str, float]:
    """Return the value of a field that is written as a list (``a,b``) or a mapping (``a=1,b=2``).

    Raises:
        UsageError: The text is not written so.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if item.metadata["written"] == "list":
        return tuple(parts)
    pairs = [_pair(item.name, part) for part in parts]
    twice = next((name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{spelled(item.name)} names {twice} twice", "give each one weight")
    return dict(pairs)


def _pair(name: str, text: str) -> tuple[str, float]:
    kind, _, number = text.partition("=")
    try:
        return kind.strip(), float(number)
    except ValueError:
        flag_name = spelled(name)
        raise UsageError(f"{flag_name} {text} is not KIND=WEIGHT", f"for example {flag_name} feature=1") from None
