"""Situation recognition on VidSitu: prediction files -> verbs, roles and relations as its official scorer has them.

Source: VidSitu (arXiv 2104.00990), section 5, and the behaviour of TheShadow29/VidSitu, vidsitu_code/evl_fns.py. Only
files are read, so anybody's predictions can be scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.common import quoted
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth, read_split, read_truth
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions, read_predictions
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.evaluate.situation.breakdowns import by_frequency, by_role, by_verb, senses_in
from figclip_cli.evaluate.situation.numbers import SituationNumbers
from figclip_cli.evaluate.situation.verbs import HEADLINE_THRESHOLD
from figclip_cli.files import sha256_of_file
from figclip_cli.reporting import SILENT, Reporter

TASK = "situation recognition"
BREAKDOWNS = ("role", "verb", "frequency")


@dataclass(frozen=True)
class SituationInputs:
    """What is scored against what.

    Attributes:
        predictions: Files, or folders of them, of one model.
        split: VidSitu's list of clips.
        annotations: Needed for roles and relations, and for breakdowns of verbs.
        vinfo: Needed for verbs.
        base: Predictions of the model to compare with.
        train_annotations: For the breakdown by frequency.
        allow_missing: Count a clip without a record as wrong instead of refusing the file.
        by: Of :data:`BREAKDOWNS`.
    """

    predictions: Sequence[Path]
    split: Path
    annotations: Path | None = None
    vinfo: Path | None = None
    base: Sequence[Path] = ()
    train_annotations: Path | None = None
    allow_missing: bool = False
    by: Sequence[str] = ()

    def __post_init__(self) -> None:
        if "frequency" in self.by and self.train_annotations is None:
            raise UsageError("--by frequency needs --train-annotations", "VidSitu's vsann_train_lb.json, for example")


@dataclass(frozen=True)
class SituationEvaluation(Evaluation):
    """Results of situation recognition.

    Attributes:
        breakdowns: By name, the numbers of each role, verb or range of frequencies, the largest gain first.
        official: Makes the numbers of the headline model by their official names.
    """

    breakdowns: Mapping[str, Sequence[Metric]]
    official: Callable[[], dict[str, Any]]


def evaluate_situation(inputs: SituationInputs, reporter: Reporter = SILENT) -> SituationEvaluation:
    """Score one model's predictions, or those of two models and their difference.

    Raises:
        InputError: A file is missing or breaks its format, something is predicted for which there is no annotation,
            the two models predict different things, or there is nothing to score.
    """
    models = _models(inputs, reporter)
    kinds = models["base"].kinds
    truth = read_truth(inputs.split, *_needed(inputs, kinds))
    numbers = SituationNumbers(truth, models)
    notes = numbers.notes()
    for note in notes:
        reporter.warn(note)
    breakdowns = {name: _breakdown(name, inputs, truth, numbers) for name in dict.fromkeys(inputs.by)}
    missing = _missing(truth, models)
    metrics, groups = tuple(numbers.metrics()), tuple(numbers.groups())
    listed = {(metric.name, metric.group) for metric in groups}
    found = [metric for made in breakdowns.values() for metric in made]
    results = Results(
        task=TASK,
        dataset_id=_dataset_id(inputs.split),
        dataset_sha256=truth.sha256,
        asked={"clips": len(truth.clip_ids)},
        evaluated={"clips": len(truth.clip_ids) - len(missing)},
        missing=missing,
        protocol={
            "scorer": "as TheShadow29/VidSitu, vidsitu_code/evl_fns.py",
            "scale": "shares in percent; CIDEr, BLEU, ROUGE-L and LEA times 100",
            "predicted": list(kinds),
            "tokens": "white space; case and punctuation count",
            "references": "3, numpy RandomState(5) permutations in the order of the split, the fourth left out",
            "roles": list(numbers.roles.roles) if numbers.roles else [],
            "verbs_with_recall": numbers.verbs.scored_verbs(HEADLINE_THRESHOLD) if numbers.verbs else 0,
            "undecided_relations": numbers.relations.undecided if numbers.relations else 0,
            "notes": notes,
            "allow_missing": inputs.allow_missing,
            "annotation": {name: dict(source) for name, source in truth.sources.items()},
            "by": _seen_in(inputs),
            "bootstrap_draws": numbers.draws,
        },
        models=_facts(inputs, models),
        metrics=metrics,
        groups=(*groups, *(metric for metric in found if (metric.name, metric.group) not in listed)),
        seeds={"bootstrap": numbers.seed},
    )
    headline = results.headline_model
    return SituationEvaluation(results, numbers.samples, breakdowns, lambda: numbers.official(headline))


def official_scores(truth: SituationTruth, predictions: SituationPredictions) -> dict[str, Any]:
    """Return what the official scorer writes for these predictions: ``cider``, ``MacroVb_cider``, ``lea``, ``Top_1``...

    All of its files together, names and scale as there; ``Macro_Top_Dct`` is an object, all others are numbers.

    Raises:
        InputError: The truth lacks what the predictions need, or there is nothing to score.
    """
    return SituationNumbers(truth, {"base": predictions}).official("base")


def _models(inputs: SituationInputs, reporter: Reporter) -> dict[str, SituationPredictions]:
    clip_ids = read_split(inputs.split)
    given = {"base": inputs.base, "adapted": inputs.predictions} if inputs.base else {"base": inputs.predictions}
    models = {
        model: read_predictions(paths, clip_ids, allow_missing=inputs.allow_missing) for model, paths in given.items()
    }
    for predictions in models.values():
        for kind, count in predictions.repeated.items():
            reporter.warn(f"{count} records of {kind} are of a clip that has one before, and are left out")
        if predictions.unknown_roles:
            named = quoted(min(predictions.unknown_roles))
            reporter.warn(f"predicted roles that VidSitu does not have are left out, such as {named}")
    contents = {model: sorted(str(file["sha256"]) for file in one.files) for model, one in models.items()}
    if len(models) > 1 and contents["base"] == contents["adapted"]:
        raise UsageError("--base and --predictions have the same content", "name the files of two models")
    kinds = {model: predictions.kinds for model, predictions in models.items()}
    if len(set(kinds.values())) > 1:
        has = ", ".join(kinds["adapted"])
        raise InputError(f"--predictions has {has}, --base has {', '.join(kinds['base'])}", "name the same of both")
    return models


def _needed(inputs: SituationInputs, kinds: Sequence[str]) -> tuple[Path | None, Path | None]:
    """Return the annotation file and that of the verbs, None where nothing needs it."""
    annotated = {"roles", "relations"} & set(kinds) or {"verb", "frequency"} & set(inputs.by)
    wanted = (("annotations", annotated, inputs.annotations), ("vinfo", "verbs" in kinds, inputs.vinfo))
    for flag, needed, path in wanted:
        if needed and path is None:
            raise UsageError(f"{' and '.join(kinds)} cannot be scored without --{flag}", "or name a --vidsitu folder")
    return inputs.annotations if annotated else None, inputs.vinfo if "verbs" in kinds else None


def _breakdown(name: str, inputs: SituationInputs, truth: SituationTruth, numbers: SituationNumbers) -> list[Metric]:
    if name == "role":
        if numbers.roles is None:
            raise UsageError(
                "--by role is for predicted roles, and there are none", "leave --by role out, or name them"
            )
        return by_role(numbers.roles)
    if numbers.roles is None and numbers.verbs is None:
        raise UsageError(f"--by {name} is for verbs or roles, and there are none", f"leave --by {name} out")
    if name == "verb":
        return by_verb(truth, numbers.verbs, numbers.roles)
    assert inputs.train_annotations is not None
    return by_frequency(truth, numbers.verbs, numbers.roles, senses_in(inputs.train_annotations))


def _missing(truth: SituationTruth, models: Mapping[str, SituationPredictions]) -> dict[str, str]:
    missing: dict[str, list[str]] = {}
    for model, predictions in models.items():
        for number, kinds in predictions.missing().items():
            of_model = f" in {model}" if len(models) > 1 else ""
            missing.setdefault(truth.clip_ids[number], []).append(f"no record of {' and '.join(kinds)}{of_model}")
    return {clip_id: f"{', '.join(reasons)}: counted as wrong" for clip_id, reasons in missing.items()}


def _facts(inputs: SituationInputs, models: Mapping[str, SituationPredictions]) -> dict[str, Mapping[str, Any]]:
    paths = {"base": inputs.base or inputs.predictions, "adapted": inputs.predictions}
    names = {model: predictions_name(paths[model]) for model in models}
    if len(set(names.values())) < len(names):
        names = {model: predictions_name(paths[model], with_folder=True) for model in models}
    return {
        model: {
            "name": names[model],
            "sha256": hashlib.sha256("".join(file["sha256"] for file in predictions.files).encode()).hexdigest(),
            "files": predictions.files,
        }
        for model, predictions in models.items()
    }


def predictions_name(paths: Sequence[Path], *, with_folder: bool = False) -> str:
    """Return a name of a model's predictions: the folder, or the files without their endings."""
    whole = [path.resolve() for path in paths]
    names = "+".join(path.name if path.is_dir() else path.stem for path in whole)
    return f"{whole[0].parent.name}/{names}" if with_folder else names


def _dataset_id(split: Path) -> str:
    return f"vidsitu-{split.stem.removeprefix('vseg_split_').removesuffix('_lb')}"


def _seen_in(inputs: SituationInputs) -> dict[str, Any]:
    train = inputs.train_annotations if "frequency" in inputs.by else None
    file = None if train is None else {"name": train.name, "sha256": sha256_of_file(train)}
    return {"breakdowns": list(dict.fromkeys(inputs.by)), "train_annotations": file}
