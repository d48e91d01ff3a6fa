"""Which cells a specification asks for: each distinct training once, however many questions it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.ablate.inputs import AblationInputs
from figclip_cli.ablate.settings import Resolved
from figclip_cli.ablate.spec import Question, Setting, Spec
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.errors import FigclipError, InputError, UsageError, nearest
from figclip_cli.files import sha256_of_json
from figclip_cli.frames.shards import Shard
from figclip_cli.prompts.options import PromptOptions
from figclip_cli.run_folder import RUN_FORMAT_VERSION

CELL_VERSION = 2
_HASH_DIGITS, _LONGEST_SLUG = 12, 60
_MOST_CELLS = 10_000


@dataclass
class Cell:
    """One training, and every way in which it is scored.

    Attributes:
        number: In the order of the questions, from 0.
        label: Readable part of its folder's name.
        sha256: Hash of everything that the training depends on.
        options: Of ``adapt``.
        prompts: How its prompts are built; None where they are given.
        prompts_sha256: Hash of all that decides the prompts.
        features: How clips are read when it is scored, in the order asked.
    """

    number: int
    label: str
    sha256: str
    options: AdaptOptions
    prompts: PromptOptions | None
    prompts_sha256: str
    features: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """End of the folder's name, by which it is found."""
        return self.sha256[:_HASH_DIGITS]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{self.label}-{self.key}"


@dataclass(frozen=True)
class Row:
    """One row of a question's table.

    Attributes:
        setting: What the specification says.
        features: How clips are read when it is scored.
        cells: One for each seed.
        keeps_steps: Whether its epochs were chosen so that it has about as many steps as with all clips.
    """

    setting: Setting
    features: str
    cells: tuple[Cell, ...]
    keeps_steps: bool = False


@dataclass(frozen=True)
class Plan:
    """What a specification asks for.

    Attributes:
        inputs: Its files.
        rows: By name of question.
        cells: Each distinct one, numbered.
    """

    inputs: AblationInputs
    rows: dict[str, tuple[Row, ...]]
    cells: tuple[Cell, ...]

    def twins(self) -> Iterator[str]:
        """Yield one line for each two settings of a question that come to the same training, read in the same way."""
        for name, rows in self.rows.items():
            seen: dict[tuple[Any, ...], str] = {}
            for row in rows:
                same = seen.setdefault((row.features, *(cell.sha256 for cell in row.cells)), row.setting.name)
                if same != row.setting.name:
                    yield f"question '{name}': '{row.setting.name}' comes to the same as '{same}'"

    def asked_by(self, only: Sequence[str]) -> tuple[Cell, ...]:
        """Return the cells of some questions; of all where none is named.

        Raises:
            UsageError: There is no such question.
        """
        for name in only:
            if name not in self.rows:
                raise UsageError(
                    f"{self.inputs.spec.path} has no question '{name[:80]}'", nearest(name[:80], self.rows)
                )
        wanted = {cell.number for name in only or self.rows for row in self.rows[name] for cell in row.cells}
        return tuple(cell for cell in self.cells if cell.number in wanted)

    def chosen(self, only: Sequence[str], number: int | None, shard: Shard | None) -> tuple[Cell, ...]:
        """Return the cells of a call: those of some questions, of them all, one, or every N-th.

        Raises:
            UsageError: There is no such question or cell, or two choices contradict each other.
        """
        if number is not None and (shard is not None or only):
            raise UsageError("--cell goes neither with --shard nor with --only", "it names one cell of all")
        cells = self.asked_by(only)
        if number is not None:
            if not 0 <= number < len(cells):
                raise UsageError(f"there is no cell {number}", f"cells are 0 to {len(cells) - 1}: --list")
            return (cells[number],)
        return cells if shard is None else cells[shard.index :: shard.count]


def make_plan(
    spec: Spec,
    root: Path,
    *,
    models: dict[str, Path] | None = None,
    seeds: Sequence[int] | None = None,
) -> Plan:
    """Return the cells that a specification asks for.

    Args:
        root: Where its files are.
        models: Folders that stand for names of models.
        seeds: Instead of the specification's.

    Raises:
        InputError: A file is missing, or options contradict each other; the message names the setting.
    """
    inputs = AblationInputs(spec, root.absolute(), models or {})
    made: dict[str, Cell] = {}
    rows = {
        question.name: tuple(_rows(question, inputs, tuple(seeds or spec.seeds), made)) for question in spec.questions
    }
    if len(made) > _MOST_CELLS:
        raise InputError(f"{spec.path} asks for {len(made)} cells", f"ask for at most {_MOST_CELLS}")
    return Plan(inputs, rows, tuple(made.values()))


def _rows(question: Question, inputs: AblationInputs, seeds: Sequence[int], made: dict[str, Cell]) -> Iterator[Row]:
    spec = inputs.spec
    start = spec.changes.then(question.changes)
    for setting in question.settings:
        cells, features, keeps_steps = [], "", False
        for seed in seeds:
            try:
                resolved = start.then(setting.changes).resolve(
                    spec.options,
                    seed=seed,
                    builds_prompts=spec.data.prompts is None,
                    clips=lambda: inputs.trained_clips,
                )
            except FigclipError as error:
                where = f"{spec.path}, question '{question.name}', setting '{setting.name}'"
                raise InputError(f"{where}: {error.message}", error.hint) from error
            cells.append(_cell(resolved, setting, inputs, made))
            features, keeps_steps = resolved.features, resolved.keeps_steps
        yield Row(setting, features, tuple(cells), keeps_steps)


def _cell(resolved: Resolved, setting: Setting, inputs: AblationInputs, made: dict[str, Cell]) -> Cell:
    """Return the cell of a setting and a seed: the one that is there already where the two are equal."""
    prompts = inputs.prompts_of(resolved.prompts)
    prompts_sha256 = inputs.prompts_sha256(prompts)
    about: dict[str, Any] = {
        "version": CELL_VERSION,
        "run_format": RUN_FORMAT_VERSION,
        "options": resolved.options.as_dict(),
        "inputs": inputs.hashes,
        "prompts": prompts_sha256,
    }
    sha256 = sha256_of_json(about)
    if sha256 not in made:
        label = f"{_slug(setting.name)}-seed{resolved.options.seed}"
        made[sha256] = Cell(len(made), label, sha256, resolved.options, prompts, prompts_sha256)
    cell = made[sha256]
    if resolved.features not in cell.features:
        cell.features.append(resolved.features)
    return cell


def _slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:_LONGEST_SLUG].strip("-.") or "setting"
