"""What a head for dense captioning is told. No torch here, since flags are made from the fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.protocols import PRECISIONS
from figclip_cli.option_fields import check_choices, flag, refuse_below, spelled

TASK = "dense-captioning"
PROPOSALS, GIVEN = MODES = ("proposals", "given")
CAPTIONS, LOSS = BEST_BY = ("captions", "loss")
_MODEL, _LOSS, _VALIDATION, _ASKED = "Head", "Loss", "Validation", "What is predicted"
_WEIGHTS = ("class_weight", "l1_weight", "giou_weight", "count_weight", "caption_weight", "auxiliary_weight")
_TRAIN, _PREDICT = "train-head dense-captioning", "predict dense-captioning"


@dataclass(frozen=True)
class DenseOptions:
    """The head and its losses; see each field's help."""

    mode: str = flag(
        PROPOSALS, "proposals: segments are found; given: they are the annotation's.", _MODEL, choices=MODES
    )
    precision: str = flag("fp32", "Of the towers' arithmetic.", _MODEL, choices=PRECISIONS)
    positions: int = flag(200, "Frames of a video that are looked at, at most, at equal steps.", _MODEL)
    queries: int = flag(20, "Events that can be found in a video.", _MODEL)
    width: int = flag(256, "Of the head's vectors.", _MODEL)
    encoder_layers: int = flag(2, "Transformer layers over a video's frames.", _MODEL)
    decoder_layers: int = flag(2, "Transformer layers over the events; each moves the segments.", _MODEL)
    caption_layers: int = flag(3, "Transformer layers that write captions.", _MODEL)
    attention_heads: int = flag(4, "Of each transformer layer.", _MODEL)
    caption_points: int = flag(16, "Places in and around its segment that a caption is written from.", _MODEL)
    max_tokens: int = flag(30, "Longest caption.", _MODEL)
    vocabulary: str = flag(
        "bpe", "bpe: trained on the captions; clip: CLIP's, in lower case.", _MODEL, choices=("bpe", "clip")
    )
    vocabulary_size: int = flag(5000, "Most tokens of bpe.", _MODEL)
    class_weight: float = flag(2.0, "Of the focal loss, and of the class in the matching.", _LOSS)
    l1_weight: float = flag(2.0, "Of the L1 loss of segments, and in the matching.", _LOSS)
    giou_weight: float = flag(4.0, "Of the generalised IoU of segments, and in the matching.", _LOSS)
    count_weight: float = flag(0.5, "Of the event counter's loss.", _LOSS)
    caption_weight: float = flag(2.0, "Of the captions' loss.", _LOSS)
    auxiliary_weight: float = flag(1.0, "Of the losses of decoder layers before the last.", _LOSS)
    valid_share: float = flag(0.1, "Share of the videos that is held out, where no others are given.", _VALIDATION)
    best_by: str = flag(
        CAPTIONS, "captions: mean of F1 and CIDEr; loss: the losses' sum.", _VALIDATION, choices=BEST_BY
    )

    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("positions", "queries", "width", "encoder_layers", "decoder_layers", "caption_layers")
        refuse_below(self, 1, *sizes, "attention_heads", "caption_points", "max_tokens", verb=_TRAIN)
        refuse_below(self, 260, "vocabulary_size", verb=_TRAIN)
        if self.width % (2 * self.attention_heads):
            raise UsageError(
                f"--width {self.width} cannot be divided among {self.attention_heads} attention heads",
                "choose a multiple of twice --attention-heads",
            )
        for name in _WEIGHTS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{spelled(name)} cannot be {getattr(self, name)}", "0 leaves a loss out")
        if not 0 <= self.valid_share < 1:
            raise UsageError(f"--valid-share must be at least 0 and below 1, got {self.valid_share}", "it is a share")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class DensePredictOptions:
    """What is predicted; see each field's help."""

    beams: int = flag(1, "Captions that are kept while writing; 1 takes the likeliest token.", _ASKED)
    count: int | None = flag(None, "So many events of every video. Default: as many as are counted.", _ASKED)
    caption_score_weight: float = flag(
        0.3, "In an event's score: of its caption's log probability; 0 ranks by segments alone.", _ASKED
    )
    length_power: float = flag(2.0, "That log probability is divided by the words to this power.", _ASKED)
    batch_size: int = flag(16, "Videos at once; what is predicted does not depend on it.", _ASKED)

    def __post_init__(self) -> None:
        refuse_below(self, 1, "beams", "count", "batch_size", verb=_PREDICT)
        for name in ("caption_score_weight", "length_power"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{spelled(name)} cannot be {getattr(self, name)}", f"see figclip {_PREDICT} --help")

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the predictions, as plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}
