"""Results as the records that CLIP_benchmark (LAION-AI/CLIP_benchmark, MIT) writes and ``clip_benchmark build`` reads.

A record is one model on one data set; its numbers are shares from 0 to 1. Numbers that CLIP_benchmark defines in
another way are left out rather than passed off as its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.results import ALL_ITEMS, MODELS, Metric, Results
from figclip_cli.files import write_json

_RECALL = re.compile(r"(t2v|v2t) R@(\d+)")
_RECALL_NAMES = {"t2v": "image_retrieval_recall", "v2t": "text_retrieval_recall"}
_CLASSIFICATION = {"top-1": "acc1", "top-5": "acc5", "per-class mean": "mean_per_class_recall"}
_SELECTION = {"text score": "text_acc", "image score": "image_acc", "group score": "acc"}
_DATASETS = {"sugarcrepe": "sugar_crepe"}
_LANGUAGE = "en"


def clip_benchmark_records(results: Results) -> list[dict[str, Any]]:
    """Return a record for each model and data set: ``dataset``, ``model``, ``pretrained``, ``task``, ``metrics``.

    - Retrieval: ``image_retrieval_recall@K`` is text to video. ``text_retrieval_recall@K`` counts a hit for any of a
      clip's texts among all texts; it is left out where clips have several texts and were ranked by their best one.
    - Classification: ``acc1``, ``acc5``, ``mean_per_class_recall``.
    - Pairs of captions and images (Winoground): ``text_acc``, ``image_acc``, and ``acc`` for both.
      Its code puts the right text first and takes the first of equal scores, so a tie counts as right.
    - Other accuracies of parts: ``acc`` of a data set named ``<data set>/<part>``, as with ``sugar_crepe/add_obj``.
    """
    records = []
    for model in MODELS:
        if model in results.models:
            records += [
                {
                    "dataset": dataset,
                    "model": results.base_name,
                    "pretrained": _pretrained(results, model),
                    "task": task,
                    "metrics": metrics,
                    "language": _LANGUAGE,
                }
                for dataset, task, metrics in _by_dataset(results, model)
            ]
    return records


def write_records(folder: Path, results: Results) -> list[Path]:
    """Write one JSON file for each record, and return their paths.

    Raises:
        InputError: None of the numbers is one that CLIP_benchmark has.
    """
    records = clip_benchmark_records(results)
    if not records:
        raise InputError(f"none of the numbers of {results.task} is one of CLIP_benchmark's", "leave the records out")
    paths = []
    for record in records:
        name = "_".join(record[key] for key in ("dataset", "pretrained", "model", "language", "task"))
        paths.append(folder / f"{re.sub(r'[^A-Za-z0-9.@-]+', '_', name)}.json")
        write_json(paths[-1], record)
    return paths


def _pretrained(results: Results, model: str) -> str:
    """Return the run's name, or the base model's checkpoint where the results name it."""
    if model == "adapted":
        return str(results.adapted_name)
    return str(results.models[model].get("pretrained") or model)


def _by_dataset(results: Results, model: str) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield data set, task and numbers."""
    named: tuple[tuple[str, Callable[[Metric], str | None]], ...] = (
        ("zeroshot_retrieval", lambda metric: _recall_name(metric, results)),
        ("zeroshot_classification", lambda metric: _CLASSIFICATION.get(metric.name)),
        ("image_caption_selection", lambda metric: _SELECTION.get(metric.name)),
    )
    found = False
    by_name = {metric.name: metric for metric in results.groups if metric.group == "ties lenient"}
    lenient = [by_name.get(metric.name, metric) for metric in results.metrics]
    for task, name_of in named:
        metrics = {name: _share(metric, model) for metric in lenient if (name := name_of(metric))}
        if metrics:
            found = True
            yield results.dataset_id, task, metrics
    if not found:
        dataset = _DATASETS.get(str(results.protocol.get("benchmark")), results.dataset_id)
        for metric in lenient:
            if metric.name == ALL_ITEMS:
                continue
            if metric.statistic == "mean" and metric.higher_is_better and not _RECALL.fullmatch(metric.name):
                accuracy = {"acc": _share(metric, model)}
                yield f"{dataset}/{metric.name}", "image_caption_selection", accuracy


def _share(metric: Metric, model: str) -> float:
    value = metric.base_value if model == "base" and metric.base_value is not None else metric.value
    return value / 100.0


def _recall_name(metric: Metric, results: Results) -> str | None:
    match = _RECALL.fullmatch(metric.name)
    if match is None:
        return None
    one_text_each = len(set(results.evaluated.values())) == 1
    any_text_counts = results.protocol.get("video_to_text_multi_caption") == "min-rank"
    if match[1] == "v2t" and not (one_text_each or any_text_counts):
        return None
    return f"{_RECALL_NAMES[match[1]]}@{match[2]}"
