"""What the results of dense captioning say beside the numbers, and what a person is warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from figclip_cli.evaluate.datasets.dense_captions import DenseCaptions
from figclip_cli.evaluate.datasets.dense_submissions import Submission
from figclip_cli.evaluate.dense_captioning.numbers import RIGHT
from figclip_cli.evaluate.dense_captioning.scores import GARBAGE, GARBAGE_LETTERS, VideoReferences
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.reporting import Reporter


def report_submissions(
    submissions: Mapping[str, Submission],
    references: Mapping[str, VideoReferences],
    reporter: Reporter,
    *,
    soda_leaves_out: bool,
) -> None:
    """Warn of what is not scored, or scored as nothing.

    Args:
        soda_leaves_out: Whether SODA_c is computed over videos with proposals alone.
    """
    without = {model: _missing(submission, references) for model, submission in submissions.items()}
    for model, submission in submissions.items():
        missing, unknown = without[model], _unknown(submission, references)
        if missing:
            but = "; SODA_c leaves them out" if soda_leaves_out else ""
            reporter.warn(
                f"{submission.name}: {len(missing)} of {len(references)} videos have no proposals and count 0{but}"
            )
        ends = [one.segments_seconds.max() for one in submission.videos.values() if len(one.segments_seconds)]
        if max(ends) <= 1:
            reporter.warn(f"{submission.name}: no proposal ends after the first second; timestamps are in seconds")
        if unknown:
            reporter.warn(f"{submission.name}: {len(unknown)} videos are in no reference, such as {unknown[0]}")
        if submission.dropped:
            reporter.warn(
                f"{submission.name}: {submission.dropped} proposals are beyond a video's most and are left out"
            )
        if submission.reversed_segments:
            reporter.warn(f"{submission.name}: {submission.reversed_segments} proposals start after their end")
    if soda_leaves_out and len({tuple(names) for names in without.values()}) > 1:
        reporter.warn("SODA_c of the two is of different videos; --soda-videos all compares them on all")


def _missing(submission: Submission, references: Mapping[str, VideoReferences]) -> list[str]:
    return [name for name in references if name not in submission.videos or not submission.videos[name].sentences]


def _unknown(submission: Submission, references: Mapping[str, VideoReferences]) -> list[str]:
    return [name for name in submission.videos if name not in references]


def facts_of(submission: Submission) -> dict[str, Any]:
    """Return what results say of a submission."""
    return {
        "name": submission.name,
        "file": submission.path.name,
        "sha256": submission.sha256,
        "version": submission.version,
        "external_data": submission.external_data,
    }


def protocol_of(
    options: DenseCaptioningOptions,
    sets: Sequence[DenseCaptions],
    submissions: Mapping[str, Submission],
    references: Mapping[str, VideoReferences],
    without_meteor: str | None,
) -> dict[str, Any]:
    """Return every choice that the numbers depend on, and counts of what was scored.

    Args:
        without_meteor: Why METEOR is not computed; None where it is.
    """
    low, high = GARBAGE_LETTERS
    by_model = {model: _counts(submission, references) for model, submission in submissions.items()}
    return {
        "definition": "densevid_eval: pairs of tIoU >= t, per video, mean over videos, mean over tIoUs",
        "variant": options.variant,
        "without_match": GARBAGE if options.variant == "2018" else f"{low} to {high} random letters",
        "tiou": list(options.thresholds),
        "max_proposals": options.max_proposals,
        "references": [one.choices for one in sets],
        "text": "what is not ASCII is a space; figclip's PTB tokens, lower case, without punctuation",
        "cider": "CIDEr-D, idf of the pairs of a video",
        "bleu": "of all pairs of a video together",
        "rouge": options.rouge,
        "recall_precision": "tIoU > t; the better set of references of each video",
        "meteor": {
            "computed": without_meteor is None,
            "why_not": without_meteor,
            "version": "1.5, -l en -norm",
            "of": "all pairs of a video together",
        },
        "soda_c": {
            "computed": without_meteor is None,
            "references": options.soda_references,
            "meteor_arguments": options.soda_meteor,
            "mean_over_videos_in": options.soda_videos,
        },
        "submissions": by_model,
        "right": RIGHT,
    }


def _counts(submission: Submission, references: Mapping[str, VideoReferences]) -> dict[str, int]:
    return {
        "videos": len(submission.videos),
        "proposals": sum(len(one.sentences) for one in submission.videos.values()),
        "videos_without_proposals": len(_missing(submission, references)),
        "videos_in_no_reference": len(_unknown(submission, references)),
        "dropped_proposals": submission.dropped,
        "reversed_proposals": submission.reversed_segments,
        "renamed_ids": submission.renamed_ids,
    }
