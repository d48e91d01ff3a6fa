"""VELOCITI: a 10 s clip, a caption that fits a part of it and one that fits none, in eight tests.

Format: the data set katha-ai-iiith/VELOCITI on the Hugging Face hub and katha-ai/VELOCITI (Saravanan et al., 2025). For
CLIP-like models each test is the share of rows whose positive caption scores strictly higher (there "ClassicVLE"), with
the frames of the whole clip for every test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, macro, records
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import clip_id_of, csv_rows, read_text, require_str

CONTROL = "control"
TESTS = (CONTROL, *"agent_random agent_bind coref action_adv action_manner action_bind chrono".split())
_NAMES = tuple(f"{stem}.{ending}" for stem in ("velociti", "test", *TESTS) for ending in ("json", "jsonl", "csv"))
_RULE = PartRule("micro", "strict")
_WHAT = "VELOCITI file"
_ROWS = "rows need test_name, video_id, pos and neg"


def read_velociti(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read rows of a JSON list, JSONL or csv; ``macro`` is the mean of the tests without ``control``.

    Raises:
        InputError: A file is of no such format, or a row is broken.
    """
    found = known_files(paths, _NAMES, _WHAT)
    choices: list[Choice] = []
    for path in found.paths:
        for where, row in _csv_rows(path) if path.suffix.lower() == ".csv" else records(path, _WHAT):
            choices.append(_choice(row, where, len(choices)))
    parts = sorted({choice.part for choice in choices}, key=lambda part: (_place(part), part))
    missing = [test for test in TESTS if test not in parts]
    remarks: dict[str, Any] = {
        "licence": "CC BY-NC-SA 4.0 with the clause that VELOCITI may never be used to tune a model's parameters",
        "leakage": "the clips are VidSitu validation clips: a model trained on those has seen them",
        "macro": "over the tests without control; the authors' code reports each test and no average",
    }
    return assembled(
        benchmark,
        paths,
        found.paths,
        choices,
        dict.fromkeys(parts, _RULE),
        averages=macro("macro", [part for part in parts if part != CONTROL]),
        remarks={**remarks, **({"missing_parts": missing} if missing else {})},
        ignored=found.ignored,
        uses="clips",
    )


def _place(part: str) -> int:
    return TESTS.index(part) if part in TESTS else len(TESTS)


def _choice(row: dict[str, Any], where: str, number: int) -> Choice:
    test, clip_id = require_str(row, "test_name", where), clip_id_of(require_str(row, "video_id", where))
    texts = require_str(row, "pos", where), require_str(row, "neg", where)
    return Choice(f"{test}/{clip_id}/{number}", (Look(clip_id=clip_id),), texts, test)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = csv_rows(read_text(path, _WHAT, _ROWS), f"{_WHAT} {path}")
    header = [column.strip() for column in rows[0][1]] if rows else []
    for number, cells in rows[1:]:
        where = f"{_WHAT} {path}, line {number}"
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} columns, the header has {len(header)}", _ROWS)
        yield where, dict(zip(header, cells, strict=True))
