"""``runs/NAME/``: what ``adapt`` leaves behind and later stages read.

Files: ``config.json`` (resolved), ``environment.json``, ``metrics.jsonl``, ``adapter.safetensors``,
``contextualizer.safetensors``, ``checkpoints/``, ``README.md`` (model card) and ``DONE``, written last.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from figclip_cli import __version__
from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import canonical_json, clear, explaining_disk_errors, read_json, write_json
from figclip_cli.run_schema import RunConfig

RUN_FORMAT = "figclip-run"
RUN_FORMAT_VERSION = 2
_RESULT = "result"
DEFAULT_RUNS = Path("runs")
_PACKAGES = ("torch", "open_clip_torch", "loralib", "av", "h5py", "numpy", "safetensors", "triton")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and how such a folder begins, goes on and ends.

    Attributes:
        path: The folder.
        format: What its configuration says it is, with ``format_version``.
        what: What it is called in messages, and ``maker`` the command that makes one.
        schema: What its configuration must hold when it is finished.
    """

    path: Path
    format: ClassVar[str] = RUN_FORMAT
    format_version: ClassVar[int] = RUN_FORMAT_VERSION
    what: ClassVar[str] = "run"
    maker: ClassVar[str] = "figclip adapt"
    schema: ClassVar[type | None] = RunConfig

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.resolve().name

    @property
    def config_file(self) -> Path:
        """Resolved configuration."""
        return self.path / "config.json"

    @property
    def environment_file(self) -> Path:
        """Versions, machine and command."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON line per training step."""
        return self.path / "metrics.jsonl"

    @property
    def adapter_file(self) -> Path:
        """LoRA matrices."""
        return self.path / "adapter.safetensors"

    @property
    def contextualizer_file(self) -> Path:
        """Weights of the video contextualizer."""
        return self.path / "contextualizer.safetensors"

    @property
    def checkpoint_file(self) -> Path:
        """State to go on from."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best_file(self) -> Path:
        """Trained weights with the best validation score so far."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def failure_file(self) -> Path:
        """State from before a step whose loss or gradient was not finite."""
        return self.path / "checkpoints" / "before-failure.safetensors"

    @property
    def tokens_file(self) -> Path:
        """The contextualizer's tokens of all clips, where they were asked for."""
        return self.path / "tokens.h5"

    @property
    def card_file(self) -> Path:
        """Model card."""
        return self.path / "README.md"

    @property
    def done_file(self) -> Path:
        """Empty file that exists only in a finished run."""
        return self.path / "DONE"

    @property
    def is_done(self) -> bool:
        """Whether the run finished."""
        return self.done_file.is_file()

    def check(self, config: Mapping[str, Any], *, may_change: Set[str], resume: bool, overwrite: bool) -> bool:
        """Return whether an earlier run goes on; touch nothing.

        Args:
            may_change: Keys of the configuration that may differ from the run that is resumed.

        Raises:
            UsageError: The folder exists and neither flag allows touching it, the run to resume was made with another
                configuration, or what would be replaced is not a run.
        """
        if resume and overwrite:
            raise UsageError("--resume and --overwrite contradict each other", "leave one out")
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        if not (overwrite or resume):
            raise UsageError(
                f"the {self.what} folder {self.path} already exists",
                "pass --resume to go on with it, --overwrite to start anew, or --name for another folder",
            )
        if not self.path.is_dir() or not self._is_ours():
            raise UsageError(f"{self.path} is not a {self.what} of figclip, and is left alone", "choose another --name")
        if resume:
            self._refuse_other_config(config, may_change)
        return resume

    def begin(self, config: Mapping[str, Any], *, resuming: bool) -> None:
        """Make the folder, or take it up again; what stood in its place is gone. Call :meth:`check` first.

        Raises:
            MachineError: The folder cannot be written.
        """
        with explaining_disk_errors(self.path):
            if not resuming:
                clear(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self.done_file.unlink(missing_ok=True)
            # Of a program that was killed while writing; the second form is safetensors' own.
            for folder in (self.path, self.checkpoint_file.parent):
                for torn in (*folder.glob(".*.tmp"), *folder.glob(".tmp*")):
                    torn.unlink(missing_ok=True)
        write_json(self.config_file, dict(config))
        now, earlier = environment(), {}
        if resuming and self.environment_file.is_file():
            earlier = read_json(self.environment_file, f"environment of the {self.what}")
            now = {**earlier, "resumed": [*earlier.get("resumed", ()), now]}
        write_json(self.environment_file, now)

    def _is_ours(self) -> bool:
        """Return whether the folder holds a run, of whatever version, or the beginnings of one."""
        if not self.config_file.is_file():
            return False
        config = read_json(self.config_file, f"{self.what} configuration")
        return isinstance(config, dict) and config.get("format") == self.format

    def _refuse_other_config(self, config: Mapping[str, Any], may_change: Set[str]) -> None:
        stored = read_json(self.config_file, f"{self.what} configuration")
        keys = {*stored, *config} - may_change - {_RESULT}
        differing = sorted(key for key in keys if stored.get(key) != config.get(key))
        if differing:
            raise UsageError(
                f"{self.path} was started with another {', '.join(differing)}",
                f"resume with the flags and files of that {self.what}, or choose another --name",
            )

    def finish(self, config: Mapping[str, Any], result: Mapping[str, Any], card: str) -> None:
        """Write how the run ended, its model card, and ``DONE``."""
        write_json(self.config_file, {**config, _RESULT: dict(result)})
        with explaining_disk_errors(self.path):
            self.card_file.write_text(card, encoding="utf-8")
            self.done_file.touch()

    def load_config(self) -> dict[str, Any]:
        """Return the configuration of a finished run.

        Raises:
            InputError: The folder is not a run, the run is not finished, or its configuration is damaged.
        """
        if not self.path.is_dir():
            raise InputError(f"the {self.what} folder {self.path} does not exist", f"make one with {self.maker}")
        config = read_json(self.config_file, f"{self.what} configuration")
        if not isinstance(config, dict) or config.get("format") != self.format:
            raise InputError(f"{self.config_file} is not the configuration of a figclip {self.what}", "check the path")
        version = config.get("format_version")
        if version != self.format_version:
            which = f"{self.what} format {version}, this version reads {self.format_version}"
            raise InputError(f"{self.path} has {which}", "use the figclip version that made it")
        if not self.is_done:
            raise InputError(f"the {self.what} {self.path} is not finished", f"go on with {self.maker} --resume")
        try:
            canonical_json(config).encode()
            msgspec.convert(config, self.schema or dict)
        except (msgspec.ValidationError, ValueError) as error:  # NaN, half a surrogate
            raise InputError(f"{self.config_file} is damaged: {error}", "is it as figclip wrote it?") from error
        return config


def newest_finished_run(runs: Path = DEFAULT_RUNS) -> RunFolder | None:
    """Return the run whose ``DONE`` is newest, or None where there is none."""
    done = newest_done(runs)
    return RunFolder(done[0]) if done else None


def newest_done(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that have a ``DONE``, the newest first."""
    done = sorted(folder.glob("*/DONE"), key=lambda file: (file.stat().st_mtime_ns, file.parent.name))
    return [file.parent for file in reversed(done)]


def environment() -> dict[str, Any]:
    """Return versions, machine and command, for ``environment.json`` and results."""
    return {
        "figclip": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": ["figclip", *sys.argv[1:]],
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
