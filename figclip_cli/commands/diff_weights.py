"""``figclip diff-weights``: two models -> the tensors that differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.model_flags import ActivationFlag
from figclip_cli.commands.tables import one_line, table
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.export.weights_diff import WeightsDiff

_PLACE = "Model folder, run folder, or file of weights."


def diff_weights(
    terminal: Terminal,
    first: Annotated[Path, typer.Argument(help=_PLACE)],
    second: Annotated[Path, typer.Argument(help=_PLACE)],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="Pattern of names that may differ, as '*.in_proj_weight.[qv]'; repeat for several."
        ),
    ] = None,
    activation: ActivationFlag = None,
) -> None:
    """Name the tensors that differ between two models, and by how much.

    Exit code 5 where something differs that must not: settings, names, shapes, or, between an export or a run and
    another model, any tensor but the adapted projections.
    """
    from figclip_cli.errors import VerificationError
    from figclip_cli.export.weights_diff import diff_weights as diff
    from figclip_cli.export.weights_diff import read_weights

    stated = activation.value if activation else None
    found = diff(read_weights(first, activation=stated), read_weights(second, activation=stated), only=only or ())
    wrong = found.unexpected
    problem = None if wrong is None else VerificationError(f"{first} and {second}: {wrong}", "see the table")
    terminal.result(_document(found), *_tables(found), text=_summary(found), then=problem)


def _document(found: WeightsDiff) -> dict[str, Any]:
    return {
        "differing": [
            {
                "name": one.name,
                "largest_difference": _finite(one.largest),
                "relative_difference": _finite(one.relative),
                "by_rounding": one.by_rounding,
                "expected": one.expected if found.known else None,
            }
            for one in found.tensors
        ],
        "compared": found.compared,
        "only_in_first": list(found.only_first),
        "only_in_second": list(found.only_second),
        "other_shape": {name: [list(one), list(other)] for name, (one, other) in found.reshaped.items()},
        "other_setting": {key: [one, other] for key, (one, other) in found.facts.items()},
        "unexpected": found.unexpected,
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _tables(found: WeightsDiff) -> list[Table]:
    tables = []
    if found.tensors:
        made = table("Tensors that differ", "tensor", "largest difference", "relative", "")
        for one in found.tensors:
            note = "by rounding alone" if one.by_rounding else "" if one.expected or not found.known else "unexpected"
            relative = "" if one.relative is None else f"{one.relative:.1e}"
            made.add_row(one_line(one.name), f"{one.largest:.1e}", relative, note)
        tables.append(made)
    others = [(name, "in the first only") for name in found.only_first]
    others += [(name, "in the second only") for name in found.only_second]
    others += [(name, f"shape {one} and {other}") for name, (one, other) in found.reshaped.items()]
    others += [(key, f"{one} and {other}") for key, (one, other) in found.facts.items()]
    if others:
        made = table("What else differs", "name", "how", numbers_from=2)
        for name, how in others:
            made.add_row(one_line(name), one_line(how))
        tables.append(made)
    return tables


def _summary(found: WeightsDiff) -> str:
    names = {one.tensor for one in found.tensors}
    return f"{len(names)} of {found.compared} tensors differ"
