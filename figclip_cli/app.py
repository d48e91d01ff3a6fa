"""The Typer app: which verbs there are. A verb's module is imported when it is run or asked for its own help."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as built

from figclip_cli import __version__

# In the order in which data passes through them: the module below commands/, and what the list of verbs says.
VERBS = {
    "extract-frames": (
        "extract_frames",
        "Sample frames of every video by presentation time: 5 events x 4 frames at the midpoints of equal parts.",
    ),
    "merge-frames": (
        "merge_frames",
        "Merge the shards of one extraction, checking that none is missing and that all have one recipe.",
    ),
    "inspect": (
        "inspect",
        "Say what is inside frames files: recipe, clips by status, times; and draw a contact sheet.",
    ),
    "build-prompts": (
        "build_prompts",
        "Turn annotated events into prompts and hard negatives; writes prompts.jsonl.",
    ),
    "audit-negatives": (
        "audit_negatives",
        "Train classifiers that see texts alone; say how often they tell negatives from prompts, kind by kind.",
    ),
    "schema": ("schema", "Print the JSON schema of figclip's own annotation form, or of a line of prompts.jsonl."),
    "adapt": ("adapt", "Adapt CLIP on clips that have frames and prompts; writes runs/NAME/."),
    "train-head": ("train_head", "Train a small network over frozen features for a task; writes heads/NAME/."),
    "predict": ("predict", "Predict with a trained head, in the files that benchmarks ask for."),
    "evaluate": ("evaluate", "Score base and adapted models."),
    "compare": (
        "compare",
        "Show what flipped between base and adapted, or between two results files: what was won, and what was lost.",
    ),
    "ablate": (
        "ablate",
        "Train and score a grid of settings, resumable and in parallel; one table and one chart for each question.",
    ),
    "search": ("search", "Find the clips or events that are nearest to a text."),
    "embed": ("embed", "Write features of clips, events, frames, images or texts to a file that other programs read."),
    "export": ("export", "Write a run as weights for other libraries, open each in a fresh process and compare it."),
    "report": ("report", "Write what runs learned, and what it is worth, as one HTML file that opens anywhere."),
    "diff-weights": ("diff_weights", "Name the tensors that differ between two models, and by how much."),
    "demo": (
        "demo",
        "Run all five stages offline on a synthetic world, with the tiny base model that is shipped; minutes on a CPU.",
    ),
    "doctor": (
        "doctor",
        "Say what is installed, how the contrastive loss is computed here, and check it in about ten seconds.",
    ),
}


class _Verbs(MutableMapping[str, Any]):
    """Commands by name, each made when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _loaded(name, VERBS[name][0])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


def _loaded(name: str, module: str) -> Any:
    """Return the command of a verb, or the group of a verb that has tasks: an ``app`` of its own."""
    from figclip_cli.commands.verb import verb

    home = import_module(f"figclip_cli.commands.{module}")
    own = getattr(home, "app", None)
    if own is None:
        own = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        own.command(name)(verb(getattr(home, module)))
    made = built(own)
    made.name = name
    return made


class _InStageOrder(TyperGroup):
    """Lists the verbs in the order in which data passes through them, without importing any."""

    _only_names = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Verbs()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if self._only_names:
            return TyperCommand(name, help=VERBS[name][1])
        return self.commands[name] if name in VERBS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._only_names = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._only_names = False


app = typer.Typer(
    name="figclip",
    cls=_InStageOrder,
    help="Adapt CLIP on densely annotated videos: frames -> prompts -> adapt -> evaluate -> export.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"figclip {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Adapt CLIP on densely annotated videos: frames -> prompts -> adapt -> evaluate -> export."""


def main() -> None:
    """Run the program; the exit codes are listed in ``figclip_cli.errors``."""
    app(prog_name="figclip")


if __name__ == "__main__":
    main()
