"""What all sources of pixels can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class LookSource(Protocol):
    """Where the pixels of looks come from; a look is a clip, an event of a clip, or an image.

    Attributes:
        unit: What they are called, in the plural.
        reads_to_identify: Whether naming a look by its content takes time worth showing.
    """

    unit: str
    reads_to_identify: bool

    def check(self, looks: Sequence[Any]) -> None:
        """Refuse looks that this source can never have, whatever is missing.

        Raises:
            InputError: For example an event beyond those that were extracted.
        """
        ...

    def why_missing(self, name: str) -> str | None:
        """Return why the clip or image ``name``, which is the first part of a look, is not there; None if it is."""
        ...

    def example(self) -> str:
        """Say what there is, for a message."""
        ...

    def identity(self, look: Any) -> str:
        """Return what names a look by its content: equal texts mean equal pixels.

        Raises:
            InputError: There is no such look.
        """
        ...

    def read(self, look: Any) -> Pixels:
        """Return (frames, size, size, 3) uint8 RGB; safe to call from several threads.

        Raises:
            InputError: There is no such look, or it is damaged.
        """
        ...
