"""What to adapt: rank, targets, blocks and towers, checked as far as they can be without a model."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from figclip_cli.errors import UsageError

ATTENTION_PARTS = ("q", "k", "v")
TARGETS = (*ATTENTION_PARTS, "o", "fc", "proj")
TOWERS: dict[str, tuple[str, ...]] = {"image": ("image",), "text": ("text",), "both": ("image", "text")}

_END = re.compile(r"(first|last)-([1-9]\d*)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class LoraConfig:
    """How to adapt.

    Attributes:
        rank: r, the rank of the update; 64 in the paper. 0 tunes every weight of the chosen towers instead, and
            then ``alpha``, ``targets`` and ``blocks`` mean nothing.
        alpha: The update is scaled by alpha / rank; equal to the rank by default, a scale of one.
        dropout: Dropout probability on the input of the low-rank path, in training only.
        targets: Which projections to adapt: ``q``, ``k``, ``v`` and ``o`` (output) of the attention, ``fc`` and
            ``proj``, the first and the second linear layer of the MLP.
        blocks: Which transformer blocks of each chosen tower: ``all``, ``last-N``, ``first-N``, or numbers and
            ranges counted from 0, such as ``0-3,11``.
        towers: ``image``, ``text`` or ``both``.

    Raises:
        UsageError: A value that cannot be meant.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ATTENTION_PARTS
    blocks: str = "all"
    towers: str = "image"

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise UsageError(
                f"LoRA rank must not be negative, got {self.rank}",
                "the paper uses --rank 64; --rank 0 tunes every weight of the tower",
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"LoRA dropout must be in [0, 1), got {self.dropout}", "0 is the default")
        if self.rank == 0 and self.dropout > 0:
            raise UsageError("LoRA dropout means nothing with rank 0, which tunes every weight", "drop one of the two")
        if self.rank > 0 and not math.isfinite(self.alpha):
            raise UsageError(f"LoRA alpha must be a finite number, got {self.alpha}", "the rank is a good value")
        self._check_places()

    def _check_places(self) -> None:
        if not self.targets or any(target not in TARGETS for target in self.targets):
            raise UsageError(
                f"LoRA targets must be among {', '.join(TARGETS)}, got {','.join(self.targets) or 'none'}", "try q,k,v"
            )
        if self.towers not in TOWERS:
            raise UsageError(f"LoRA towers must be image, text or both, got {self.towers}", "image is the default")
        if not _is_block_list(self.blocks):
            raise UsageError(
                f"LoRA blocks '{self.blocks}' cannot be read", "try all, last-4, first-2, or numbers from 0: 0-3,11"
            )


def _is_block_list(text: str) -> bool:
    return text == "all" or _END.fullmatch(text) is not None or bool(_ranges(text))


def _ranges(text: str) -> list[tuple[int, int]]:
    """Read ``0-3,11`` as [(0, 3), (11, 11)]; return nothing if any part of it cannot be read."""
    matches = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    pairs = [(int(m[1]), int(m[2] or m[1])) for m in matches if m is not None]
    return pairs if len(pairs) == len(matches) and all(low <= high for low, high in pairs) else []


def choose_blocks(blocks: str, count: int, tower: str) -> list[int]:
    """Return the numbers of the chosen blocks, in order.

    Args:
        blocks: As in :class:`LoraConfig`.
        count: How many blocks the tower has.
        tower: Its name, for the message.

    Raises:
        UsageError: A block is asked for that the tower does not have.
    """
    if blocks == "all":
        return list(range(count))
    if match := _END.fullmatch(blocks):
        wanted = int(match[2])
        highest, chosen = wanted - 1, range(wanted) if match[1] == "first" else range(count - wanted, count)
    else:
        numbers = {number for low, high in _ranges(blocks) for number in range(low, min(high, count) + 1)}
        highest, chosen = max(high for _, high in _ranges(blocks)), sorted(numbers)  # type: ignore[assignment]
    if highest >= count:
        raise UsageError(
            f"LoRA blocks '{blocks}': the {tower} tower has {count} block{'s' * (count != 1)}",
            f"they are numbered 0 to {count - 1}",
        )
    return list(chosen)
