"""VL-CheckList: captions of Visual Genome, SWiG and HAKE images against a caption with one thing changed.

Format: om-ai-lab/VL-CheckList (Zhao et al., 2022): a yaml in ``corpus/Object/...`` and the like names an annotation
(``ANNO_PATH``), the folder of its images (``IMG_ROOT``) and the annotation's layout (``TYPE``, always ``TUPLE_JSON``).
Object, Attribute or Relation is therefore said by the place of the yaml alone. Only the image-text contrast ("ITC") is
read: the first positive text has to score strictly higher than the first negative one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import (
    assembled,
    known_files,
    macro,
    read_list,
    require_object,
    texts_in,
)
from figclip_cli.evaluate.datasets.choices import Average, Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import (
    check_text,
    quoted,
    read_text,
    refuse_repeated,
    require_str,
    shown_value,
)

TYPES = ("Object", "Attribute", "Relation")
IMAGE_ROOTS = {"hake": "hake/", "swig": "swig/", "vaw": "vg/", "vg": "vg/"}
"""Where the repository's instructions put the images of each data set."""

_TESTS = frozenset("location center mid margin size large medium small color material action state spatial".split())
_RULE = PartRule("micro", "strict")
_WHAT, _YAML = "VL-CheckList annotation", "VL-CheckList yaml"
_PLACES = "a yaml or json lies under Object, Attribute or Relation and is named like hake, swig, vaw or vg"


@dataclass(frozen=True)
class _Annotation:
    """One annotation file, what it is about, and how choices from it are named."""

    path: Path
    kind: str
    dataset: str
    test: str
    stem: str
    image_root: str

    @property
    def part(self) -> str:
        return f"{self.kind}/{self.dataset}"


def read_vl_checklist(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read yamls, annotations, or folders of them; in a folder that has yamls, those say what is read.

    Raises:
        InputError: A file is in no known place, names an annotation that does not exist, or a record is broken.
    """
    given, seen = _files(paths)
    annotations = [
        _from_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _from_place(path) for path in given
    ]
    annotations.sort(key=lambda one: (TYPES.index(one.kind), one.dataset, one.test, one.stem))
    refuse_repeated([str(one.path.resolve()) for one in annotations], "the list of VL-CheckList annotations")
    parts = list(dict.fromkeys(one.part for one in annotations))
    averages = [Average(kind, tuple(part for part in parts if part.startswith(f"{kind}/"))) for kind in TYPES]
    averages = [average for average in averages if average.of]
    whole = [*averages, *macro("macro", TYPES)] if len(averages) == len(TYPES) else averages
    files = list(dict.fromkeys([*(one.path for one in annotations), *given]))
    read = {file.resolve() for file in files}
    return assembled(
        benchmark,
        paths,
        files,
        [choice for one in annotations for choice in _choices(one)],
        dict.fromkeys(parts, _RULE),
        averages=whole,
        remarks={"items": "all; the repository's configurations cut each ITC test to its first 1000"},
        ignored=sorted(name for file, name in seen.items() if file.resolve() not in read),
    )


def _files(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Return the files to read, and all yamls and jsons of the folders with their names there."""
    found: list[Path] = []
    seen: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            found += known_files([path], ("vg.yaml", "vg.json"), _WHAT).paths
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".yaml", ".yml", ".json"))
        placed = [file for file in inside if file.is_file() and _kind(file.absolute()) and _dataset(file.absolute())]
        yamls = [file for file in placed if file.suffix.lower() != ".json"]
        if not placed:
            raise InputError(f"folder {path} has no {_WHAT}", _PLACES)
        found += yamls or placed
        seen.update({file: file.relative_to(path).as_posix() for file in inside})
    if not found:
        raise InputError(f"no {_WHAT} was given", _PLACES)
    return found, seen


def _kind(path: PurePath) -> str | None:
    """Return the last folder of the path that is a type."""
    return next((name for name in reversed(path.parts[:-1]) if name in TYPES), None)


def _dataset(path: PurePath) -> str | None:
    """Return the data set that the file's name begins with, else that one of its folders within the type does."""
    names = [path.stem, *reversed(path.parts[:-1])]
    within = names[: next((place for place, name in enumerate(names) if name in TYPES), len(names))]
    starts = (re.split(r"[_.-]", name.lower())[0] for name in within)
    return next((start for start in starts if start in IMAGE_ROOTS), None)


def _from_place(path: Path, annotation: Path | None = None, image_root: str | None = None) -> _Annotation:
    """Describe an annotation by the place of its file, or of the yaml that names it."""
    kind, dataset = _kind(path.absolute()), _dataset(path.absolute())
    if kind is None or dataset is None:
        raise InputError(f"{path} is in no place that says what it tests", _PLACES)
    parts = path.absolute().with_suffix("").parts
    after = parts[len(parts) - parts[::-1].index(kind) :]
    words = [word for name in after for word in re.split(r"[_.-]", name.lower()) if word in _TESTS]
    root = IMAGE_ROOTS[dataset] if image_root is None else image_root
    return _Annotation(annotation or path, kind, dataset, "/".join(dict.fromkeys(words)), path.stem, root)


def _from_yaml(path: Path) -> _Annotation:
    try:
        document = yaml.safe_load(read_text(path, _YAML, _PLACES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{_YAML} {path} is not yaml ({' '.join(str(error).split()):.120})", _PLACES) from error
    config = require_object(document, f"{_YAML} {path}")
    layout = config.get("TYPE", "TUPLE_JSON")
    if layout != "TUPLE_JSON":
        raise InputError(f"{_YAML} {path}: TYPE is {shown_value(layout)}, expected TUPLE_JSON", "is it VL-CheckList's?")
    name = require_str(config, "ANNO_PATH", f"{_YAML} {path}")
    root = require_str(config, "IMG_ROOT", f"{_YAML} {path}") if config.get("IMG_ROOT") != "" else ""
    # No Path.is_file: it raises for names that are too long.
    for annotation in (path.parent / name, Path(name)):
        if os.path.isfile(annotation):  # noqa: PTH113
            return _from_place(path, annotation, root)
    message = f"{_YAML} {path}: ANNO_PATH {quoted(name)} is neither beside it nor in the working folder"
    raise InputError(message, "run figclip in the folder that ANNO_PATH is relative to, or pass the json files")


def _choices(annotation: _Annotation) -> list[Choice]:
    return [
        _choice(annotation, number, record, f"{_WHAT} {annotation.path}, record {number}")
        for number, record in enumerate(read_list(annotation.path, _WHAT))
    ]


def _choice(annotation: _Annotation, number: int, record: Any, where: str) -> Choice:
    if not isinstance(record, list) or len(record) != 2 or not isinstance(record[0], str) or not record[0].strip():
        raise InputError(f"{where}: {shown_value(record)} is not a pair of image and texts", "is it VL-CheckList's?")
    texts = require_object(record[1], where)
    positive, negative = (texts_in(texts.get(key), where, f"'{key}'")[0] for key in ("POS", "NEG"))
    check_text(record[0], f"{where}: the image")
    image = PurePosixPath(annotation.image_root) / record[0].strip()
    name = "/".join(part for part in (annotation.part, annotation.test, annotation.stem, str(number)) if part)
    return Choice(name, (Look(image=str(image)),), (positive, negative), annotation.part, annotation.test)
