"""What a task module returns: the results, and what each model made of each item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.samples import Sample

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """Results of one task.

    Attributes:
        results: Everything but the items.
        samples: Makes the items' outcomes, one after another.
    """

    results: Results
    samples: Callable[[], Iterator[Sample]]

    def write(self, path: Path, *, samples: bool = True) -> Results:
        """Write the results and, beside them, the samples; return the results as written."""
        return self.results.write(path, self.samples() if samples else None)
