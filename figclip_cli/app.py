"""The Typer app: it registers the verbs. Nothing here or below ``commands/`` imports torch at start-up."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from figclip_cli import __version__
from figclip_cli.commands import (
    adapt,
    audit_negatives,
    build_prompts,
    compare,
    demo,
    doctor,
    embed,
    evaluate,
    export,
    extract_frames,
    inspect,
    merge_frames,
    schema,
    search,
)
from figclip_cli.commands.verb import verb

_ORDER = (
    "extract-frames",
    "merge-frames",
    "inspect",
    "build-prompts",
    "audit-negatives",
    "schema",
    "adapt",
    "evaluate",
    "compare",
    "search",
    "embed",
    "export",
    "demo",
    "doctor",
)


class _InStageOrder(TyperGroup):
    """Lists the verbs in the order in which data passes through them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


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
app.command("extract-frames")(verb(extract_frames.extract_frames))
app.command("merge-frames")(verb(merge_frames.merge_frames))
app.command("inspect")(verb(inspect.inspect))
app.command("build-prompts")(verb(build_prompts.build_prompts))
app.command("audit-negatives")(verb(audit_negatives.audit_negatives))
app.command("schema")(verb(schema.schema))
app.command("adapt")(verb(adapt.adapt))
app.add_typer(evaluate.app, name="evaluate")
app.command("compare")(verb(compare.compare))
app.command("search")(verb(search.search))
app.command("embed")(verb(embed.embed))
app.command("export")(verb(export.export))
app.command("demo")(verb(demo.demo))
app.command("doctor")(verb(doctor.doctor))


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
