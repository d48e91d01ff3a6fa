"""Flags of the page that ``figclip evaluate situation`` can write besides its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError
from figclip_cli.option_fields import flag, refuse_below

if TYPE_CHECKING:
    from figclip_cli.evaluate.situation.task import SituationInputs
    from figclip_cli.frames import FramesReader

_PAGE = "Page to look at"


@dataclass(frozen=True)
class SituationPageOptions:
    """What is shown; see each field's help."""

    page: Path | None = flag(None, "Also write this HTML file: clips, what is predicted and what is right.", _PAGE)
    page_clips: tuple[str, ...] = flag((), "Clips that it shows.", _PAGE, written="list", metavar="ID,...")
    page_count: int | None = flag(
        None,
        "Show so many that gained most and so many that lost most; of one model, best and worst. Default: 5",
        _PAGE,
    )
    frames: list[Path] | None = flag(
        None, "Frames file with the page's pictures; repeat for several.", _PAGE, metavar="<path>"
    )

    def __post_init__(self) -> None:
        refuse_below(self, 1, "page_count", verb="evaluate situation")
        asked = {"--page-clips": self.page_clips, "--page-count": self.page_count, "--frames": self.frames}
        first = next((name for name, value in asked.items() if value), None)
        if self.page is None and first is not None:
            raise UsageError(f"{first} is for --page", "for example --page page.html")
        if self.page_clips and self.page_count is not None:
            raise UsageError("--page-clips and --page-count both choose the clips", "pass one of them")
        if self.page is not None and self.page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"the page {self.page} is no .html", "the name's ending says what it is")

    def check(self, split: Path, inputs: Sequence[Path | Sequence[Path] | None], *, overwrite: bool) -> None:
        """Check, before anything is computed, that the page can be made.

        Args:
            split: List of the clips that there are.
            inputs: What the flags name to be read, which is never overwritten.

        Raises:
            UsageError: It is there already or is an input, or a clip is not of the split.
            InputError: The split or the frames cannot be read.
            MachineError: It cannot be written there.
        """
        from figclip_cli.files import check_output, named_files

        if self.page is None:
            return
        check_output(self.page, overwrite=overwrite, inputs=named_files(*inputs, self.frames))
        if self.page_clips:
            from figclip_cli.evaluate.datasets.vidsitu import read_split
            from figclip_cli.evaluate.situation_page.choice import nearest_clip

            known = read_split(split)
            odd = next((clip_id for clip_id in self.page_clips if clip_id not in known), None)
            if odd is not None:
                raise UsageError(f"--page-clips: no clip '{odd}' is in {split}", nearest_clip(odd, known))
        self._open_frames()

    def write(self, terminal: Terminal, inputs: SituationInputs) -> None:
        """Write the page, if one is asked for.

        Raises:
            UsageError: A clip is not of the split.
            InputError: The frames are of other clips or events, or damaged.
        """
        if self.page is None:
            return
        from figclip_cli.evaluate.situation_page.make import DEFAULT_COUNT, write_situation_page

        shown = write_situation_page(
            self.page,
            inputs,
            clip_ids=self.page_clips,
            count=self.page_count or DEFAULT_COUNT,
            frames=self._open_frames(),
        )
        terminal.info(f"{self.page} shows {len(shown)} clips")

    def _open_frames(self) -> FramesReader | None:
        from figclip_cli.frames import FramesReader

        return FramesReader(self.frames) if self.frames else None
