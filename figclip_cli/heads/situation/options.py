"""What a head for situation recognition is told. No torch here, since flags are made from the fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from figclip_cli.errors import UsageError, nearest
from figclip_cli.evaluate.protocols import PRECISIONS
from figclip_cli.heads.options import FEATURES
from figclip_cli.option_fields import check_choices, flag, refuse_below

TASK = "situation"
PARTS = ("verbs", "roles", "relations")
PREDICTED, GIVEN = "predicted", "given"
FORMATS = ("json", "pickle", "both")
_MODEL, _LOSS, _ASKED, _OUTPUT = "Head", "Loss", "What is predicted", "Output"


@dataclass(frozen=True)
class SituationOptions:
    """The head and its losses; see each field's help."""

    parts: tuple[str, ...] = flag(
        PARTS, "What is trained, of verbs, roles and relations.", _MODEL, written="list", metavar="PART,..."
    )
    features: str | None = flag(
        None,
        "tokens: the run's contextualizer's, the default where it has one; plain: pooled frames.",
        _MODEL,
        choices=FEATURES,
    )
    precision: str = flag("fp32", "Of the towers' arithmetic.", _MODEL, choices=PRECISIONS)
    width: int = flag(256, "Of the head's vectors.", _MODEL)
    event_layers: int = flag(1, "Transformer layers over an event's frames.", _MODEL)
    context_layers: int = flag(1, "Transformer layers over the events of a clip; 0 leaves each alone.", _MODEL)
    decoder_layers: int = flag(3, "Transformer layers that write phrases.", _MODEL)
    attention_heads: int = flag(4, "Of each transformer layer.", _MODEL)
    max_tokens: int = flag(15, "Longest phrase.", _MODEL)
    max_roles: int = flag(6, "Roles of an event that are trained and predicted.", _MODEL)
    vocabulary: str = flag(
        "bpe", "bpe: trained on the phrases; clip: CLIP's, in lower case.", _MODEL, choices=("bpe", "clip")
    )
    vocabulary_size: int = flag(5000, "Most tokens of bpe.", _MODEL)
    verbs_weight: float = flag(1.0, "Of the verbs' loss.", _LOSS)
    roles_weight: float = flag(1.0, "Of the phrases' loss.", _LOSS)
    role_names_weight: float = flag(1.0, "Of the loss of which roles there are.", _LOSS)
    relations_weight: float = flag(1.0, "Of the relations' loss.", _LOSS)
    unknown_verbs: float = flag(0.1, "Share of verbs that are hidden from roles and relations.", _LOSS)
    valid_share: float = flag(0.1, "Share of the clips that is held out, where no others are given.", "Validation")

    def __post_init__(self) -> None:
        check_choices(self)
        check_parts(self.parts)
        refuse_below(self, 1, "width", "decoder_layers", "attention_heads", "max_tokens", "max_roles", verb=_VERB)
        refuse_below(self, 260, "vocabulary_size", verb=_VERB)
        refuse_below(self, 0, "event_layers", "context_layers", verb=_VERB)
        if self.width % self.attention_heads:
            raise UsageError(
                f"--width {self.width} cannot be divided among {self.attention_heads} attention heads",
                "choose a multiple of --attention-heads",
            )
        for name in ("verbs_weight", "roles_weight", "role_names_weight", "relations_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"--{name.replace('_', '-')} cannot be {getattr(self, name)}", "0 leaves a loss out")
        for name in ("unknown_verbs", "valid_share"):
            if not 0 <= getattr(self, name) < 1:
                spelled = name.replace("_", "-")
                raise UsageError(f"--{spelled} must be at least 0 and below 1, got {getattr(self, name)}", "a share")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "parts": list(self.parts)}


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted and written; see each field's help."""

    verbs: str = flag(PREDICTED, "What roles and relations are told of verbs.", _ASKED, choices=(PREDICTED, GIVEN))
    roles: str = flag(PREDICTED, "Which roles get a phrase.", _ASKED, choices=(PREDICTED, GIVEN))
    parts: tuple[str, ...] = flag(
        (), "Of verbs, roles and relations. Default: all that was trained.", _ASKED, written="list", metavar="PART,..."
    )
    beams: int = flag(1, "Phrases that are kept while writing; 1 takes the likeliest token.", _ASKED)
    role_threshold: float = flag(0.5, "Least probability of a predicted role.", _ASKED)
    batch_size: int = flag(32, "Clips at once; what is predicted does not depend on it.", _ASKED)
    format: str = flag("json", "Of the leaderboard's files.", _OUTPUT, choices=FORMATS)

    def __post_init__(self) -> None:
        check_choices(self)
        check_parts(self.parts, some=False)
        refuse_below(self, 1, "beams", "batch_size", verb="predict situation")
        if not 0 <= self.role_threshold <= 1:
            raise UsageError(f"--role-threshold {self.role_threshold} is no probability", "0.5 is usual")

    @property
    def needs_annotations(self) -> bool:
        """Whether something is given."""
        return GIVEN in (self.verbs, self.roles)

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the predictions, as plain JSON values."""
        values = asdict(self)
        return {name: values[name] for name in ("verbs", "roles", "beams", "role_threshold")}


_VERB = "train-head situation"


def check_parts(parts: tuple[str, ...], *, some: bool = True) -> None:
    """Refuse parts that a head does not have, twice the same, or, with ``some``, none.

    Raises:
        UsageError: Names the part.
    """
    for number, part in enumerate(parts):
        if part not in PARTS:
            raise UsageError(f"--parts knows no '{part}'", nearest(part, PARTS))
        if part in parts[:number]:
            raise UsageError(f"--parts names {part} twice", "name it once")
    if some and not parts:
        raise UsageError("--parts names nothing", f"of {', '.join(PARTS)}")
