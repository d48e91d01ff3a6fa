"""``figclip doctor``: what this machine has, and whether the loss is computed right on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_kernels.self_check import PathCheck
    from rich.table import Table

    from figclip_cli.doctor import Report


def doctor(
    terminal: Terminal,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu, cuda, cuda:1, mps. Default: the CPU and every CUDA device."),
    ] = None,
    skip_check: Annotated[bool, typer.Option("--skip-check", help="Compute nothing, only look.")] = False,
) -> None:
    """Say what is installed, how the contrastive loss is computed here, and check it in about ten seconds."""
    from figclip_cli.doctor import examine
    from figclip_cli.errors import VerificationError

    report = examine(device, find_ffmpeg=_find_ffmpeg, check=not skip_check, reporter=terminal)
    tables = [_versions(report), _devices(report), _paths(report)]
    if report.checks:
        tables.append(_checks(report.checks))
    lines = [f"broken: {line}" for line in report.broken] + [f"note: {line}" for line in report.notes]
    terminal.result(report.as_document(), *tables, text="\n".join(lines or ["nothing is missing or broken"]))
    if report.broken:
        names = ", ".join(line.partition(": ")[0] for line in report.broken)
        raise VerificationError(
            f"broken: {names}",
            "each has a line on stdout that says what; please report what a plain install does not mend",
        )


def _find_ffmpeg() -> str:
    from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program

    return ffmpeg_program()


def _versions(report: Report) -> Table:
    made = table("Versions", "what", "version", numbers_from=2)
    for name, version in report.versions.items():
        where = f" ({report.ffmpeg_path})" if name == "ffmpeg" and report.ffmpeg_path else ""
        missing = "none" if name in ("cuda", "cudnn") else "not installed"
        made.add_row(name, f"{version or missing}{where}")
    return made


def _devices(report: Report) -> Table:
    made = table("Devices", "device", "model", "", numbers_from=3)
    for each in report.devices:
        details = (f"{name.replace('_gib', ' GiB').replace('_', ' ')} {value}" for name, value in each.details.items())
        made.add_row(each.device, each.model, ", ".join(details))
    return made


def _paths(report: Report) -> Table:
    made = table("Paths of the contrastive loss", "device", "batch", "features", "path", "why", numbers_from=5)
    for each in report.choices:
        batch = f"{each.size}: {each.rows:,} rows, {each.negatives} negatives each"
        made.add_row(each.device, batch, f"{each.width} {each.dtype}", each.path or "none", each.reason)
    return made


def _checks(checks: list[PathCheck]) -> Table:
    title = "Paths against the reference in float64: largest relative errors"
    made = table(title, "device", "path", "features", "problems", "loss", "gradients", "allowed", "", numbers_from=3)
    made.columns[-1].justify = "left"
    for each in checks:
        errors = (each.loss_error, each.gradient_error, each.tolerance)
        shown = (f"{error:.0e}" if each.cases else "" for error in errors)
        status = each.status if each.complete else f"{each.status} (time was up)"
        made.add_row(each.device, each.path, each.dtype, str(each.cases), *shown, status)
    return made
