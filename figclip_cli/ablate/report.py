"""What an ablation leaves for people and programs: tables, charts, ``ablation.json`` and ``ablation.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from figclip_cli.ablate.averages import Estimate
from figclip_cli.ablate.chart import write_chart
from figclip_cli.ablate.collect import Answer, Collected, CollectedRow
from figclip_cli.ablate.folder import FORMAT, FORMAT_VERSION, AblationFolder
from figclip_cli.ablate.plan import Plan
from figclip_cli.ablate.views import markdown, rule_of_thumb, view_of
from figclip_cli.files import write_json, write_text
from figclip_cli.run_folder import environment

_COSTS = (
    "trainable_parameters",
    "tower_parameters",
    "contextualizer_parameters",
    "base_parameters",
    "clips",
    "steps",
    "step_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "process_peak_bytes",
    "train_seconds",
    "seconds",
    "device",
    "threads",
    "cells_at_once",
)


def write_report(plan: Plan, folder: AblationFolder, collected: Collected) -> dict[str, Any]:
    """Write tables and charts where something is finished, and both summaries; return what ``ablation.json`` holds.

    Tables and charts of questions that are no longer asked, or have no answer, are removed: they would be believed.
    """
    written = set()
    for answer in collected.answers:
        if answer.best is not None:
            name = answer.question.name
            write_chart(answer, folder.chart_file(name))
            write_text(folder.table_file(name), markdown(view_of(answer), folder.chart_file(name).name))
            written |= {folder.chart_file(name), folder.table_file(name)}
    for pattern in ("table-*.md", "chart-*.svg"):
        for path in set(folder.path.glob(pattern)) - written:
            path.unlink(missing_ok=True)
    write_text(folder.csv_file, _csv(collected))
    document = as_document(plan, folder, collected)
    write_json(folder.summary_file, document)
    return document


def as_document(plan: Plan, folder: AblationFolder, collected: Collected) -> dict[str, Any]:
    """Return everything as plain JSON values."""
    spec = plan.inputs.spec
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": {"name": spec.name, "title": spec.title, "file": str(spec.path), "sha256": spec.sha256},
        "recipe": spec.recipe,
        "model": plan.inputs.source.as_dict(),
        "inputs": {**plan.inputs.hashes, "annotations": plan.inputs.annotations},
        "evaluation_sha256": plan.inputs.evaluation_sha256,
        "questions": [_question(answer, folder) for answer in collected.answers],
        "incomplete": collected.incomplete({cell.number for cell in plan.cells}),
        "cells": {
            folder.cell(cell).path.name: dict(collected.records[cell.sha256])
            for cell in plan.cells
            if cell.sha256 in collected.records
        },
        "missing": [cell.name for cell in collected.missing],
        "failed": {cell.name: collected.failed[cell.sha256] for cell in plan.cells if cell.sha256 in collected.failed},
        "environment": environment(),
    }


def _question(answer: Answer, folder: AblationFolder) -> dict[str, Any]:
    question = answer.question
    return {
        "name": question.name,
        "title": question.title,
        "metric": question.metric,
        "cost": question.cost,
        "higher_is_better": dict(answer.higher_is_better),
        "titles": dict(answer.titles),
        "base": _quality(answer.base),
        "evaluated": {
            task: {"asked": dict(asked), "evaluated": dict(evaluated)}
            for task, (asked, evaluated) in answer.counts.items()
        },
        "problem": answer.problem,
        "rows": [_row(row, folder) for row in answer.rows],
        "best": None if answer.best is None else answer.rows[answer.best].name,
        "rule_of_thumb": {
            "rule": "the cheapest setting within one standard error of the best",
            "setting": None if answer.taken is None else answer.rows[answer.taken].name,
            "left_out": [row.name for row in answer.left_out],
            "said": rule_of_thumb(answer),
        },
        "measured_on": [list(place) for place in answer.places],
        "table": folder.table_file(question.name).name if answer.best is not None else None,
        "chart": folder.chart_file(question.name).name if answer.best is not None else None,
    }


def _row(row: CollectedRow, folder: AblationFolder) -> dict[str, Any]:
    return {
        "setting": row.name,
        "values": dict(row.row.setting.values),
        "features": row.row.features,
        "cells": {str(cell.options.seed): folder.cell(cell).path.name for cell in row.row.cells},
        "seeds_finished": [cell.options.seed for cell, _ in row.done],
        "quality": _quality(row.quality),
        "delta": _quality(row.deltas),
        "data": {str(cell.options.seed): record["data"] for cell, record in row.done},
        "cost": dict(row.cost),
    }


def _quality(quality: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in quality.items()}


def _csv(collected: Collected) -> str:
    """Return one row for each question, setting and finished seed, with all costs and all metrics."""
    rows = list(_csv_rows(collected))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns = columns or ["question", "setting", "features", "seed"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_rows(collected: Collected) -> Iterator[dict[str, Any]]:
    for answer in collected.answers:
        for row in answer.rows:
            for cell, record in row.done:
                made = {
                    "question": answer.question.name,
                    "setting": row.name,
                    "features": row.row.features,
                    "seed": cell.options.seed,
                    "cell": cell.key,
                    **{name: record["cost"].get(name) for name in _COSTS},
                }
                for name, task in record["quality"][row.row.features]["tasks"].items():
                    for one in task["metrics"]:
                        made[f"{name} {one['name']}"] = one["value"]
                        made[f"{name} {one['name']} base"] = one["base_value"]
                    for kind, number in task["asked"].items():
                        made[f"{name} {kind} asked"] = number
                        made[f"{name} {kind} evaluated"] = task["evaluated"].get(kind)
                yield made
