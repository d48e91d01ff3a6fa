"""The specification of an ablation: data, model, recipe, seeds, and questions; see ``docs/ablate.md``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.ablate.settings import Changes, changes_of, execution_of
from figclip_cli.ablate.tasks import Task, tasks_of
from figclip_cli.ablate.toml_fields import Fields, read_toml
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.recipe import options_of_recipe, recipe_names
from figclip_cli.errors import InputError, nearest
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.files import sha256_of_file
from figclip_cli.markdown import one_line

COSTS = ("trainable_parameters", "step_seconds", "peak_memory_bytes", "seconds", "clips", "steps")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TOP = (
    "name",
    "title",
    "recipe",
    "model",
    "pretrained",
    "activation",
    "seeds",
    "data",
    "evaluate",
    "options",
    "execution",
    "question",
)
_DATA = ("frames", "annotations", "prompts", "prompts_seed", "clips", "exclude", "validation")
_QUESTION = ("name", "title", "metric", "show", "cost", "vary", "setting", "options")
_MOST_SETTINGS, _MOST_SEEDS = 1000, 100


@dataclass(frozen=True)
class Data:
    """What is trained on, as the spec names it; paths are below the root.

    Attributes:
        frames: Frames files.
        annotations: Annotation files that prompts are built from, or none where ``prompts`` is given.
        prompts: A finished prompts file.
        prompts_seed: Seed of the prompts that are built.
        clips, exclude, validation: Lists of clips, as ``figclip adapt`` takes them.
    """

    frames: tuple[str, ...]
    annotations: tuple[str, ...] = ()
    prompts: str | None = None
    prompts_seed: int = 0
    clips: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    validation: str | None = None


@dataclass(frozen=True)
class Setting:
    """One row of a question's table.

    Attributes:
        name: As the table calls it.
        changes: From the question's own start.
        values: What it sets on the axes that the question varies; empty for settings that are named one by one.
    """

    name: str
    changes: Changes
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """One table and one chart.

    Attributes:
        name: Of its files.
        title: The question.
        metric: What decides, a task with one of its metrics.
        show: The metrics of the table, ``metric`` among them.
        cost: One of :data:`COSTS`, by which a setting is cheap.
        changes: From the spec's start, for all settings.
        settings: In the order of the table.
    """

    name: str
    title: str
    metric: str
    show: tuple[str, ...]
    cost: str
    changes: Changes
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Spec:
    """A specification as read.

    Attributes:
        path: Its file.
        name: Of the folder of results.
        recipe: The options that are changed; None are ``adapt``'s defaults.
        options: The recipe's options.
        changes: For all settings of all questions.
        execution: How runs are computed.
    """

    path: Path
    sha256: str
    name: str
    title: str
    recipe: str | None
    options: AdaptOptions
    model: str
    pretrained: str | None
    activation: str | None
    seeds: tuple[int, ...]
    data: Data
    tasks: tuple[Task, ...]
    protocol: str
    changes: Changes
    execution: Execution
    questions: tuple[Question, ...]


def read_spec(path: Path) -> Spec:
    """Read a specification.

    Raises:
        InputError: The file is missing or broken, has an unknown key, or a value that cannot be meant; the message
            says where.
    """
    where = f"spec {path}"
    top = Fields(read_toml(path, "spec"), where, _TOP)
    recipe = top.text("recipe") if "recipe" in top else None
    if recipe is not None and recipe not in recipe_names():
        raise InputError(f"{where}: there is no recipe '{recipe[:80]}'", nearest(recipe[:80], recipe_names()))
    evaluate = Fields(
        top.raw("evaluate"),
        f"{where}, [evaluate]",
        ("frames", "protocol", "prompts", "captions", "naming", "retrieval", "compositional"),
    )
    protocol = evaluate.text("protocol", "figclip")
    if protocol not in PROTOCOLS:
        raise InputError(f"{where}, [evaluate]: there is no protocol '{protocol}'", nearest(protocol, PROTOCOLS))
    tasks = tasks_of(evaluate)
    return Spec(
        path=path,
        sha256=sha256_of_file(path),
        name=_name(top, path.stem),
        title=top.text("title", path.stem),
        recipe=recipe,
        options=AdaptOptions() if recipe is None else options_of_recipe(recipe),
        model=top.text("model"),
        pretrained=top.text("pretrained") if "pretrained" in top else None,
        activation=top.text("activation") if "activation" in top else None,
        seeds=_seeds(top),
        data=_data(Fields(top.raw("data"), f"{where}, [data]", _DATA)),
        tasks=tasks,
        protocol=protocol,
        changes=_changes(top.raw("options", {}), f"{where}, [options]"),
        execution=execution_of(_table(top.raw("execution", {}), f"{where}, [execution]"), f"{where}, [execution]"),
        questions=_questions(top, where, tasks),
    )


def _name(fields: Fields, default: str | None = None) -> str:
    name = fields.text("name", default)
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, dots and dashes, since files are called so"
        raise InputError(f"{fields.where}: the name '{name[:80]}' cannot be a file's", hint)
    return name


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is not a table", "write keys below it, as in rank = 8")
    return value


def _changes(value: Any, where: str) -> Changes:
    return changes_of(_table(value, where), where)


def _seeds(top: Fields) -> tuple[int, ...]:
    seeds = top.raw("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(one) is int and 0 <= one < 1 << 63 for one in seeds):
        raise InputError(f"{top.where}: seeds is no list of whole numbers from 0", "for example seeds = [0, 1, 2]")
    if len(set(seeds)) < len(seeds) or len(seeds) > _MOST_SEEDS:
        raise InputError(f"{top.where}: seeds has one twice, or over {_MOST_SEEDS}", "name each seed once")
    return tuple(seeds)


def _data(data: Fields) -> Data:
    annotations = data.texts("annotations")
    prompts = data.text("prompts") if "prompts" in data else None
    if bool(annotations) == (prompts is not None):
        raise InputError(
            f"{data.where} needs annotations or prompts, one of them", "annotations are built into prompts"
        )
    frames = data.texts("frames")
    if not frames:
        raise InputError(f"{data.where}: frames is missing", 'for example frames = "train-frames.h5"')
    seed = data.raw("prompts_seed", 0)
    if type(seed) is not int or seed < 0:
        raise InputError(f"{data.where}: prompts-seed is no whole number from 0", "for example prompts-seed = 0")
    validation = data.text("validation") if "validation" in data else None
    return Data(frames, annotations, prompts, seed, data.texts("clips"), data.texts("exclude"), validation)


def _questions(top: Fields, where: str, tasks: tuple[Task, ...]) -> tuple[Question, ...]:
    tables = top.tables("question")
    if not tables:
        raise InputError(f"{where} asks no question", "begin one with [[question]]")
    made: list[Question] = []
    for number, table in enumerate(tables, start=1):
        fields = Fields(table, f"{where}, question {number}", _QUESTION)
        question = _question(fields, where, tasks)
        if any(question.name.lower() == other.name.lower() for other in made):
            raise InputError(f"{where}: two questions are called '{question.name}'", "give each its own name")
        made.append(question)
    return tuple(made)


def _question(fields: Fields, where: str, tasks: tuple[Task, ...]) -> Question:
    name = _name(fields)
    fields.where = f"{where}, question '{name}'"
    metric = _metric(fields.text("metric", tasks[0].name), tasks, fields.where)
    show = tuple(_metric(one, tasks, fields.where) for one in fields.texts("show")) or tuple(
        task.default_metric for task in tasks
    )
    cost = fields.text("cost", COSTS[0]).replace("-", "_")
    if cost not in COSTS:
        hint = nearest(cost.replace("_", "-")[:80], (one.replace("_", "-") for one in COSTS))
        raise InputError(f"{fields.where}: there is no cost '{cost[:80]}'", hint)
    settings = tuple(_settings(fields))
    if len({one.name for one in settings}) < len(settings):
        raise InputError(f"{fields.where}: two settings have one name", "give each its own name")
    return Question(
        name=name,
        title=fields.text("title", name),
        metric=metric,
        show=tuple(dict.fromkeys((metric, *show))),
        cost=cost,
        changes=_changes(fields.raw("options", {}), f"{fields.where}, options"),
        settings=settings,
    )


def _metric(text: str, tasks: tuple[Task, ...], where: str) -> str:
    """Return the full name of a metric: its task, and what that measures."""
    task_name, _, rest = one_line(text).partition(" ")
    task = next((one for one in tasks if one.name == task_name), None)
    if task is None:
        raise InputError(
            f"{where}: no task '{task_name[:80]}' is scored", nearest(task_name[:80], [t.name for t in tasks])
        )
    return f"{task_name} {rest.strip()}" if rest.strip() else task.default_metric


def _settings(fields: Fields) -> list[Setting]:
    named = fields.tables("setting")
    vary = fields.raw("vary")
    if bool(named) == (vary is not None):
        raise InputError(f"{fields.where} needs vary or settings, one of them", "for example vary = { rank = [1, 8] }")
    if vary is not None:
        return _product(_table(vary, f"{fields.where}, vary"), fields.where)
    made = []
    for table in named:
        name = Fields({"name": table.get("name")}, f"{fields.where}, a setting", ("name",)).text("name")
        rest = {key: value for key, value in table.items() if key != "name"}
        made.append(Setting(name, changes_of(rest, f"{fields.where}, setting '{name}'")))
    return made


def _product(axes: Mapping[str, Any], where: str) -> list[Setting]:
    """Return a setting for each combination of the axes' values."""
    count = 1
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: vary {one_line(key)[:80]} is no list of values", "for example rank = [1, 8]")
        count *= len(values)
    if not axes or count > _MOST_SETTINGS:
        raise InputError(f"{where}: vary makes {count if axes else 0} settings", f"make 1 to {_MOST_SETTINGS}")
    made = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key.replace('_', '-')} {_said(value)}" for key, value in chosen.items())
        made.append(Setting(name, changes_of(chosen, f"{where}, vary"), chosen))
    return made


def _said(value: Any) -> str:
    """Return a value as the name of a setting has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={number}" for key, number in value.items()) or "none"
    return one_line(str(value)) or "none"
