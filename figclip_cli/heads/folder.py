"""``heads/NAME/``: what ``train-head`` leaves behind and ``predict`` reads."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import canonical_json, require_writable, sha256_of_file
from figclip_cli.models.tensors import load_tensors
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
    schema: ClassVar[type | None] = None

    @property
    def weights_file(self) -> Path:
        """Trained weights."""
        return self.path / "head.safetensors"

    @property
    def vocabulary_file(self) -> Path:
        """The tokens of captions."""
        return self.path / "vocabulary.json"

    @property
    def labels_file(self) -> Path:
        """Names of what is predicted, for tasks that have such."""
        return self.path / "labels.json"

    def check(self, config: Mapping[str, Any], *, may_change: Set[str], resume: bool, overwrite: bool) -> bool:
        """As a run folder's; also refuse, before work is spent and anything is lost, what could not go on.

        Raises:
            UsageError: Also where the head to resume has finished and no checkpoint is left.
            InputError: The checkpoint to go on from is damaged.
            MachineError: The folder cannot be written.
        """
        canonical_json(dict(config))
        resuming = super().check(config, may_change=may_change, resume=resume, overwrite=overwrite)
        require_writable(self.config_file)
        if resuming and self.checkpoint_file.is_file():
            load_tensors(self.checkpoint_file, "checkpoint")
        elif resuming and self.is_done:
            raise UsageError(f"{self.path} is finished and has no checkpoint", "pass --overwrite to start anew")
        return resuming

    def facts(self) -> dict[str, Any]:
        """Return the head's name and the hash of its weights."""
        return {"name": self.name, "weights_sha256": sha256_of_file(self.weights_file)}

    def load_config_for(self, task: str) -> dict[str, Any]:
        """Return the configuration of a finished head for a task.

        Raises:
            InputError: As :meth:`load_config`; also where the head is for another task.
        """
        config = self.load_config()
        if config.get("task") != task:
            raise InputError(f"the head {self.path} is for {config.get('task')}, not for {task}", "name another --head")
        return config

    def companions(self) -> dict[str, str]:
        """Return the hashes of the files without which the weights mean something else."""
        files = (self.vocabulary_file, self.labels_file)
        return {file.name: sha256_of_file(file) for file in files if file.is_file()}

    def require_companions(self, config: Mapping[str, Any]) -> None:
        """Refuse a head whose vocabulary or labels are not those that were written with it.

        Raises:
            InputError: Names the file.
        """
        result = config.get("result")
        known = result.get("files") if isinstance(result, dict) else None
        written: dict[str, str] = known if isinstance(known, dict) else {}
        found = self.companions()
        odd = next((name for name in sorted({*found, *written}) if written.get(name) != found.get(name)), None)
        if odd is not None:
            message = f"{self.path / odd} is not the file that was written with this head"
            raise InputError(message, "put it back, or train the head again")


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
