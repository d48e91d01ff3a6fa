"""Choices of dense captioning; the command line's flags are made of them. Nothing here imports numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from figclip_cli.errors import UsageError
from figclip_cli.option_fields import check_choices, flag, refuse_below

VARIANTS = ("2018", "2021")
METEOR = ("auto", "on", "off")
SODA_REFERENCES = ("merged", "best")
SODA_METEOR = ("swapped", "plain")
SODA_VIDEOS = ("both", "all")
_METRICS, _SODA = "Metrics", "SODA_c"


@dataclass(frozen=True)
class DenseCaptioningOptions:
    """Choices of dense captioning; all are written into the result. See each field's help."""

    variant: str = flag(
        "2018",
        "What a proposal without a match is compared with: abc123!@# (2018), or 10 to 20 random letters (2021).",
        _METRICS,
        choices=VARIANTS,
    )
    tiou: tuple[str, ...] = flag(
        ("0.3", "0.5", "0.7", "0.9"), "Overlaps that captions are matched at.", _METRICS, written="list"
    )
    max_proposals: int = flag(1000, "Of a video's proposals so many count, the first ones.", _METRICS, min=1)
    meteor: str = flag("auto", "METEOR and SODA_c, with Java; auto is where it can.", _METRICS, choices=METEOR)
    rouge: bool = flag(False, "Also ROUGE-L.", _METRICS)
    soda_references: str = flag(
        "merged", "All reference sets in one list, or the one with the best F1.", _SODA, choices=SODA_REFERENCES
    )
    soda_meteor: str = flag(
        "swapped",
        "Which sentence METEOR takes for the reference: swapped is the prediction.",
        _SODA,
        choices=SODA_METEOR,
    )
    soda_videos: str = flag(
        "both", "Mean over videos in both files, or all, missing ones 0.", _SODA, choices=SODA_VIDEOS
    )

    def __post_init__(self) -> None:
        check_choices(self)
        refuse_below(self, 1, "max_proposals", verb="evaluate dense-captioning")
        if not self.thresholds:
            raise UsageError("--tiou names no overlap", "for example --tiou 0.3,0.5,0.7,0.9")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The overlaps as numbers.

        Raises:
            UsageError: One is no number between 0 and 1, or is named twice.
        """
        made = tuple(_threshold(text) for text in self.tiou)
        names = [f"{one:g}" for one in made]  # what each is called in results
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"--tiou names {twice} twice", "leave one out")
        return made


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:  # no overlap is 1, and at 0 everything matches everything
        raise UsageError(f"--tiou {text} is not a number between 0 and 1", "for example --tiou 0.3,0.5,0.7,0.9")
    return number
