"""``figclip train-head``: one task each."""

from __future__ import annotations

import typer

from figclip_cli.commands import head_dense_captioning, head_situation
from figclip_cli.commands.verb import verb

app = typer.Typer(
    help="Train a small network over frozen features for a task; writes heads/NAME/.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("situation")(verb(head_situation.train))
app.command("dense-captioning")(verb(head_dense_captioning.train))
