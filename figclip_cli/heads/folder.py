"""``heads/NAME/``: what ``train-head`` leaves behind and ``predict`` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from figclip_cli.errors import InputError
from figclip_cli.run_folder import RunFolder, newest_done

HEAD_FORMAT, HEAD_FORMAT_VERSION = "figclip-head", 1
DEFAULT_HEADS = Path("heads")


@dataclass(frozen=True)
class HeadFolder(RunFolder):
    """Paths inside a head's folder: those of a run folder, and the head's own."""

    format: ClassVar[str] = HEAD_FORMAT
    format_version: ClassVar[int] = HEAD_FORMAT_VERSION
    what: ClassVar[str] = "head"
    maker: ClassVar[str] = "figclip train-head"

    @property
    def weights_file(self) -> Path:
        """Trained weights."""
        return self.path / "head.safetensors"

    @property
    def vocabulary_file(self) -> Path:
        """The tokens of captions."""
        return self.path / "vocabulary.json"


def newest_head(task: str, heads: Path = DEFAULT_HEADS) -> HeadFolder:
    """Return the finished head of a task that is newest.

    Raises:
        InputError: There is none, or a newer folder that says it is finished is not a head.
    """
    for found in newest_done(heads):
        head = HeadFolder(found)
        if head.load_config().get("task") == task:
            return head
    raise InputError(f"there is no finished head for {task} in {heads}/", f"make one with figclip train-head {task}")
