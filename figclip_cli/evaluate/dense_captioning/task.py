"""Dense captioning: submissions against timed sentences, as densevid_eval and SODA define it. Needs files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.dense_captions import read_reference_sets
from figclip_cli.evaluate.datasets.dense_submissions import Submission, read_submission
from figclip_cli.evaluate.dense_captioning.facts import facts_of, protocol_of, report_submissions
from figclip_cli.evaluate.dense_captioning.numbers import DenseNumbers
from figclip_cli.evaluate.dense_captioning.scores import (
    GARBAGE_SEED,
    VideoReferences,
    references_of,
    score_submissions,
)
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED, Evaluation
from figclip_cli.evaluate.metrics.meteor import why_unavailable
from figclip_cli.evaluate.results import Results
from figclip_cli.files import sha256_of_json
from figclip_cli.reporting import SILENT, Reporter

TASK = "dense captioning"


def evaluate_dense_captioning(
    predictions: Path,
    annotations: Sequence[Path],
    *,
    base: Path | None = None,
    split: str | None = None,
    options: DenseCaptioningOptions | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Score a submission, and with ``base`` another one and the difference.

    Args:
        predictions: The submission.
        annotations: One set of references or several.
        split: Of the references, where they have splits.

    Raises:
        InputError: A file is not what it should be, no video is in both, or METEOR is insisted on and cannot be
            computed.
        UsageError: There is no such split, or the two submissions are one.
    """
    options = options or DenseCaptioningOptions()
    without_meteor = _why_no_meteor(options)
    sets = read_reference_sets(annotations, split=split)
    references = references_of(sets)
    submissions = _read(predictions, base, references, options)
    leaves_out = options.soda_videos == "both" and not without_meteor
    report_submissions(submissions, references, reporter, soda_leaves_out=leaves_out)
    if without_meteor:
        reporter.warn(f"METEOR and SODA_c are not computed: {without_meteor}")
    values = score_submissions(submissions, references, options, with_meteor=not without_meteor, reporter=reporter)
    numbers = DenseNumbers(
        sets,
        submissions,
        values,
        videos=list(references),
        thresholds=options.thresholds,
        soda_of_all=options.soda_videos == "all",
    )
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    if options.variant == "2021":
        seeds["garbage"] = GARBAGE_SEED
    counts = {"videos": len(references), "events": sum(len(own.flat) for own in references.values())}
    results = Results(
        task=TASK,
        dataset_id="+".join(one.dataset_id for one in sets),
        dataset_sha256=sets[0].sha256 if len(sets) == 1 else sha256_of_json([one.sha256 for one in sets]),
        asked=counts,
        evaluated=counts,
        missing={},
        protocol=protocol_of(options, sets, submissions, references, without_meteor)
        | {"bootstrap_draws": numbers.resampling.draws},
        models={model: facts_of(submission) for model, submission in submissions.items()},
        metrics=tuple(numbers.metrics()),
        groups=tuple(numbers.groups()),
        seeds=seeds,
    )
    return Evaluation(results, numbers.samples)


def _why_no_meteor(options: DenseCaptioningOptions) -> str | None:
    if options.meteor == "off":
        return "--meteor off"
    reason = why_unavailable()
    if reason and options.meteor == "on":
        raise InputError(
            f"--meteor on: {reason}", "pip install 'figclip-cli[meteor]' and install Java, or pass --meteor auto"
        )
    return reason


def _read(
    predictions: Path, base: Path | None, references: Mapping[str, VideoReferences], options: DenseCaptioningOptions
) -> dict[str, Submission]:
    """Return the submissions by model, with the references' ids and names that differ."""
    paths = {"base": predictions} if base is None else {"base": base, "adapted": predictions}
    made = {
        model: read_submission(path, max_proposals=options.max_proposals).renamed(references)
        for model, path in paths.items()
    }
    if base is None:
        return made
    if made["base"].sha256 == made["adapted"].sha256:
        raise UsageError(f"--base {base} and --predictions {predictions} have the same content", "name another file")
    if made["base"].name == made["adapted"].name:
        return {model: replace(one, name=_with_folder(one)) for model, one in made.items()}
    return made


def _with_folder(submission: Submission) -> str:
    return f"{submission.path.resolve().parent.name}/{submission.name}"
