"""``figclip predict``: one task each."""

from __future__ import annotations

import typer

from figclip_cli.commands import head_dense_captioning, head_situation
from figclip_cli.commands.verb import verb

app = typer.Typer(
    help="Predict with a trained head, in the files that benchmarks ask for.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("situation")(verb(head_situation.predict))
app.command("dense-captioning")(verb(head_dense_captioning.predict))
