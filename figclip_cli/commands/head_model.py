"""What all heads share on the command line: frames, and the model that a head was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.model_flags import (
    ACTIVATION_HELP,
    DEVICE_HELP,
    MODEL_HELP,
    PRETRAINED_HELP,
    Activation,
    Device,
)
from figclip_cli.commands.scored_model import ScoredModelOptions, frames_source, load_scored
from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError, UsageError
from figclip_cli.option_fields import flag

if TYPE_CHECKING:
    from figclip_cli.evaluate.visuals import StoredClips
    from figclip_cli.frames import FramesReader
    from figclip_cli.heads.folder import HeadFolder
    from figclip_cli.heads.seen_model import SeenModel
    from figclip_cli.heads.training import TrainSummary
    from figclip_cli.models.clip import Clip
    from figclip_cli.run_folder import RunFolder


@dataclass(frozen=True)
class HeadModelOptions:
    """Where the model is that a head was trained on; see each field's help."""

    run: Path | None = flag(None, "Run folder, if it moved. Default: the one the head was trained on.", None)
    model: str | None = flag(None, f"Base model, if it moved: {MODEL_HELP.split('.')[0]}.", None)
    pretrained: str | None = flag(None, PRETRAINED_HELP, None)
    activation: str | None = flag(None, ACTIVATION_HELP, None, choices=tuple(one.value for one in Activation))
    device: str = flag("auto", DEVICE_HELP, None, choices=tuple(one.value for one in Device))


@dataclass(frozen=True)
class HeadFolderOptions:
    """Where a head is trained; see each field's help."""

    heads: Path = flag(Path("heads"), "Folder of heads.", "Output")
    name: str | None = flag(None, "Head's folder. Default: TASK-RUN", "Output")
    resume: bool = flag(False, "Go on after the last finished epoch.", "Output")
    overwrite: bool = flag(False, "Replace an existing head.", "Output")

    def __post_init__(self) -> None:
        name = self.name
        if name is not None and (name in ("", ".", "..") or Path(name).name != name):
            raise UsageError(f"--name '{name}' is not the name of a folder", "pass --heads for another place")

    def folder(self, terminal: Terminal, task: str, run: RunFolder | None) -> HeadFolder:
        """Return the folder of a head for a task, on a run or the base model; by its default name, which is said."""
        from figclip_cli.heads.folder import HeadFolder

        named = self.heads / self.name if self.name else None
        default = self.heads / f"{task}-{'base' if run is None else run.name}"
        return HeadFolder(terminal.default(named, default, "head folder"))


FramesFlag = Annotated[
    list[Path] | None,
    typer.Option("--frames", help="Frames file; repeat for several. Default: frames.h5", rich_help_panel="Data"),
]


def head_to_use(terminal: Terminal, head: Path | None, task: str) -> HeadFolder:
    """Return the head that is named, else the newest finished one for a task, which is said.

    Raises:
        InputError: None is named, and there is none.
    """
    from figclip_cli.heads.folder import HeadFolder, newest_head

    if head is not None:
        return HeadFolder(head)
    newest = newest_head(task)
    terminal.info(f"head: {newest.path} (default: the newest finished one)")
    return newest


def model_folders(config: dict[str, Any], values: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return the run and the base model that a head reads: those of its training, and those that flags name."""
    trained_on = config["model"]
    return trained_on["run"], trained_on["source"]["model"], values["run"], values["model"]


def refuse_inside(output: Path, *folders: Path | str | None) -> None:
    """Refuse an output inside a folder that the command reads as a whole: a head, a run, a base model.

    Raises:
        UsageError: Names the folder.
    """
    for folder in folders:
        if (
            folder is not None
            and Path(folder).is_dir()
            and Path(folder).resolve()
            in (
                output.resolve(),
                *output.resolve().parents,
            )
        ):
            raise UsageError(f"{output} is inside {folder}, which this command reads", "choose another --output")


def stored_clips(terminal: Terminal, opened: FramesReader | None, clip: Clip) -> StoredClips:
    """Return the clips of the frames files that are open, all of whose frames are looked at.

    Raises:
        InputError: The frames are not as the model wants them.
    """
    from figclip_cli.evaluate.protocols import PROTOCOLS

    return frames_source(terminal, opened, None, protocol=PROTOCOLS["figclip"], clip=clip)


def model_of_head(
    terminal: Terminal, config: dict[str, Any], options: HeadModelOptions, *, features: str = "plain"
) -> SeenModel:
    """Load the model that a head was trained on, from where it was or where the flags say it is now.

    Args:
        config: Of the head.
        features: ``tokens`` or ``plain``.

    Raises:
        UsageError: A run is named for a head of the base model.
        InputError: The run or the model is not there any more, or is damaged.
    """
    from figclip_cli.errors import InputError
    from figclip_cli.heads.seen_model import seen_model
    from figclip_cli.run_folder import RunFolder

    trained_on = config["model"]
    if trained_on["run"] is None and options.run is not None:
        raise UsageError(f"--run {options.run}: the head was trained on the base model", "leave --run out")
    where = options.run or (None if trained_on["run"] is None else Path(trained_on["run"]))
    run = None if where is None else RunFolder(where)
    if run is not None and options.run is None and not run.path.is_dir():
        raise InputError(f"the head was trained on the run {run.path}, which is not there", "pass --run FOLDER")
    scored = ScoredModelOptions(**{item.name: getattr(options, item.name) for item in fields(HeadModelOptions)})
    if run is None and options.model is None:
        scored = ScoredModelOptions(**{**trained_on["source"], "device": options.device})
    clip = load_scored(terminal, run, scored)
    return seen_model(clip, run, features=features, precision=config["options"]["precision"])


def print_trained(terminal: Terminal, title: str, summary: TrainSummary, about: Mapping[str, Any]) -> None:
    """Print what a training made.

    Args:
        about: What the task says of its clips and sizes.
    """
    fitted = summary.fitted
    document = {
        "head": str(summary.folder.path),
        **about,
        "parameters": fitted.parameters,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "best_score": fitted.best_score,
        "train_seconds": round(fitted.train_seconds, 3),
    }
    shown = table(title, "what", "value")
    for key, value in document.items():
        if key != "head" and value is not None:
            shown.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    terminal.result(document, shown, text=str(summary.folder.path))


def not_predicted(missing: Mapping[str, str], unit: str, listed_in: Path) -> PartialError | None:
    """Return the error that names what was asked for and is not predicted; None where all is.

    Args:
        missing: By clip, why.
        unit: What they are called, in the plural.
        listed_in: The file that lists all of them.
    """
    if not missing:
        return None
    first = next(iter(missing))
    return PartialError(
        f"{len(missing)} {unit} are not predicted, the first is {first}: {missing[first]}",
        f'all of them are listed under "missing" in {listed_in}',
    )
