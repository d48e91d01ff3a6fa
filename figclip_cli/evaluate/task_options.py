"""Choices of each task beside the protocol; the command line's flags are made of them. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from figclip_cli.errors import UsageError
from figclip_cli.option_fields import check_choices, flag

TIES = ("average", "optimistic", "pessimistic")
MULTI_CAPTION = ("max-per-video", "min-rank")
CHOICE_TIES = ("official", "strict", "lenient")
PROMPT_SETS = ("bare", "photo", "video", "openai", "openai-ucf101", "openai-kinetics")
AVERAGINGS = ("l2-mean-l2", "l2-mean", "mean-l2")
NAME_STYLES = ("split", "raw")
PLAIN, TOKENS = FEATURES = ("plain", "tokens")  # pooled frames, or tokens of a run's contextualizer
_METRICS, _PROMPTS, _PROTOCOL = "Metrics", "Prompts", "Protocol"
_FEATURES_HELP = "How the adapted model reads clips; tokens: through the run's contextualizer; plain: pooled frames."


class ReadsClips:
    """What options have in common whose task can read clips through a contextualizer."""

    features: str

    def named(self, dataset: str) -> str:
        """Return a data set's name, for that of a file, told apart from the same one read with pooled frames."""
        return dataset if self.features == PLAIN else f"{dataset}-{self.features}"


@dataclass(frozen=True)
class RetrievalOptions(ReadsClips):
    """Choices of retrieval; all are written into the result. See each field's help."""

    ties: str = flag("average", "What a tie counts.", _METRICS, choices=TIES)
    multi_caption: str = flag(
        "max-per-video", "Video to text where a clip has several texts.", _METRICS, choices=MULTI_CAPTION
    )
    features: str = flag(PLAIN, _FEATURES_HELP, _PROTOCOL, choices=FEATURES)

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True)
class ActionOptions:
    """Choices of action recognition; None leaves the protocol's. See each field's help."""

    prompts: str | None = flag(
        None, "Prompt set; openai is its 48 for UCF101 and HMDB51, else its 28.", _PROMPTS, choices=PROMPT_SETS
    )
    templates: Path | None = flag(None, "Prompts of your own: one template a line, each with one {}.", _PROMPTS)
    prompt_averaging: str | None = flag(
        None, "How the prompts of a class become one; read from left to right.", _PROMPTS, choices=AVERAGINGS
    )
    class_names: str | None = flag(
        None, "split says 'Apply Eye Makeup', raw what the list writes.", _PROMPTS, choices=NAME_STYLES
    )
    ties: str = flag("average", "What a tie of two classes counts.", _METRICS, choices=TIES)

    def __post_init__(self) -> None:
        check_choices(self)
        if self.templates is not None and self.prompts is not None:
            raise UsageError("--templates and --prompts contradict each other", "leave one of them out")


@dataclass(frozen=True)
class CompositionalOptions(ReadsClips):
    """Choices of the compositional benchmarks; see each field's help."""

    ties: str = flag(
        "official",
        "What a tie of the right text and a wrong one counts; strict is wrong.",
        _METRICS,
        choices=CHOICE_TIES,
    )
    order_seed: int = flag(0, "Seed of the shuffled captions of ARO's order tests.", _METRICS)
    features: str = flag(PLAIN, _FEATURES_HELP, _PROTOCOL, choices=FEATURES)

    def __post_init__(self) -> None:
        check_choices(self)
