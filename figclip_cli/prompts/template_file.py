"""A user's own template: a text file of ``KEY: TEXT`` lines, described in docs/build-prompts.md.

.. code-block:: text

    # how my lab says it
    text: Someone is {verb_ing}{roles}.
    role: ; the {name} is {a_value}
    modifier: ; {name}: {value}
    purpose:
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from figclip_cli.errors import InputError, nearest
from figclip_cli.files import require_file
from figclip_cli.prompts.english import inflected, with_article
from figclip_cli.prompts.roles import GENERIC_NAMES, MODIFIERS, SCENE, Role
from figclip_cli.prompts.templates import Template

_TEXT_FIELDS = frozenset({"verb", "verb_s", "verb_ing", "roles"})
_ROLE_FIELDS = frozenset({"name", "value", "a_value"})
_KEYS = ("text", "role", "modifier", *GENERIC_NAMES, *MODIFIERS, SCENE)


def read_template(path: Path) -> Template:
    """Read a template file.

    Raises:
        InputError: The file is missing, not UTF-8, or a line is no template; the message names the line.
    """
    require_file(path, "template file", "check the path")
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"template file {path} is not UTF-8 text", "is it the right file?") from error
    parts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            key, text = _parsed(line, f"template file {path}, line {number}")
            if key in parts:
                raise InputError(f"template file {path}, line {number}: {key} is there already", "remove one of them")
            parts[key] = text
    for key in ("text", "role"):
        if key not in parts:
            raise InputError(f"template file {path} has no line '{key}: ...'", "docs/build-prompts.md has an example")
    return _made(path.name, parts, hashlib.sha256(content).hexdigest())


def _parsed(line: str, where: str) -> tuple[str, str]:
    """Return key and text of a line; one space after the colon does not count."""
    key, colon, text = line.partition(":")
    key, text = key.strip(), text.removeprefix(" ").rstrip()
    if not colon:
        raise InputError(f"{where}: '{line.strip()}' is not KEY: TEXT", "a comment begins with #")
    if key not in _KEYS:
        raise InputError(f"{where}: no key '{key}'", nearest(key, _KEYS))
    allowed = _TEXT_FIELDS if key == "text" else _ROLE_FIELDS
    try:
        fields = [field for _, field, spec, conversion in string.Formatter().parse(text) if field is not None]
        plain = all(not spec and not conversion for _, _, spec, conversion in string.Formatter().parse(text))
    except ValueError as error:
        raise InputError(f"{where}: {error}", "write {{ and }} for braces in the text") from error
    for field in fields:
        if field not in allowed or not plain:
            hint = ", ".join(f"{{{name}}}" for name in sorted(allowed))
            raise InputError(f"{where}: {key} cannot have {{{field}}}", f"it can have {hint}")
    if key == "text" and "roles" not in fields and not {"verb", "verb_s", "verb_ing"} & set(fields):
        raise InputError(f"{where}: the text has neither a verb nor {{roles}}", "every event would read the same")
    return key, text


def _made(name: str, parts: Mapping[str, str], sha256: str) -> Template:
    numbered = {arg: parts.get(arg, parts["role"]) for arg in GENERIC_NAMES}
    others = {arg: parts.get(arg, parts.get("modifier", parts["role"])) for arg in (*MODIFIERS, SCENE)}
    form = {**numbered, **others}

    def pieces(verb: str, roles: Sequence[Role]) -> list[str]:
        said = "".join(
            form[role.arg].format(name=role.name, value=role.value, a_value=with_article(role.value)) for role in roles
        )
        forms = {"verb": verb, "verb_s": inflected(verb, "VBZ"), "verb_ing": inflected(verb, "VBG")}
        return [" ".join(parts["text"].format(roles=said, **forms).split())]

    return Template(name, pieces, None, sha256=sha256)
