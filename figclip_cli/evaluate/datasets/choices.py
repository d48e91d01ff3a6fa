"""What a compositional benchmark is made of: choices between a true text and false ones, and how a part is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Box = tuple[int, int, int, int]
Uses = Literal["images", "clips"]


@dataclass(frozen=True)
class Look:
    """What is looked at: an image or a region of it, or a clip or one of its events.

    Attributes:
        image: Path of the image relative to a root of images; None where a clip is looked at.
        box: Region of the image to crop to, as x, y, width and height in pixels; None for all of it.
        clip_id: The clip; None where an image is looked at.
        event_index: The event of the clip, from 0; None for all of the clip's frames.
    """

    image: str | None = None
    box: Box | None = None
    clip_id: str | None = None
    event_index: int | None = None


@dataclass(frozen=True)
class Choice:
    """One item.

    Attributes:
        id: Unique in the set.
        looks: One; two in Winoground.
        texts: The first is right for the first look, the others are wrong; in Winoground the second is right for the
            second look.
        part: File, test or piece that the item belongs to.
        group: What a macro average within the part is over (a relation, a pair of attributes); "" where there is none.
    """

    id: str
    looks: tuple[Look, ...]
    texts: tuple[str, ...]
    part: str
    group: str = ""


@dataclass(frozen=True)
class PartRule:
    """How the accuracy of a part is computed.

    Attributes:
        headline: ``micro``: mean over items; ``macro``: unweighted mean over the groups' accuracies.
        official_ties: Whether the benchmark's own code counts a tie of the right and a wrong text as wrong (``strict``)
            or right (``lenient``).
        dropped_groups: Groups that do not count.
        min_group_items: Groups with fewer items do not count.
        scoring: ``choice``, or Winoground's text, image and group scores.
    """

    headline: Literal["micro", "macro"]
    official_ties: Literal["strict", "lenient"]
    dropped_groups: frozenset[str] = frozenset()
    min_group_items: int = 0
    scoring: Literal["choice", "winoground"] = "choice"


@dataclass(frozen=True)
class Average:
    """An unweighted mean of headline accuracies.

    Attributes:
        name: Its name in the result; no part has it.
        of: Names of parts, or of averages that come earlier.
    """

    name: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Compositional:
    """A benchmark as read.

    Attributes:
        benchmark: Its name, for example ``sugarcrepe``.
        dataset_id: Name of the file or folder, for tables.
        sha256: Hash over all files read.
        choices: In the order of the files.
        rules: Per part, in the order in which parts are reported; each part has at least one choice.
        averages: In the order in which they can be computed.
        remarks: Plain JSON: what was left out or made, and what a reader of the number has to know.
        uses: Whether images or clips are looked at.
        events_per_clip: Into how many events the annotation cuts a clip, where events are looked at.
    """

    benchmark: str
    dataset_id: str
    sha256: str
    choices: tuple[Choice, ...]
    rules: Mapping[str, PartRule]
    averages: tuple[Average, ...]
    remarks: dict[str, Any]
    uses: Uses
    events_per_clip: int | None = None
