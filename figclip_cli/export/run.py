"""The stage: merge, write, re-load, compare, and only then give the folder its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from figclip_cli.errors import UsageError, VerificationError
from figclip_cli.export.open_clip_folder import write_open_clip_folder
from figclip_cli.export.samples import TEXTS, sample_images
from figclip_cli.export.verify import (
    MAX_DIFFERENCE,
    check_differences,
    largest_differences,
    reference_features,
    reloaded_features,
)
from figclip_cli.files import clear, explaining_disk_errors, refuse_existing, write_json
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.lora import merge_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder


@dataclass(frozen=True)
class ExportSummary:
    """What was exported and how close it came.

    Attributes:
        folder: The finished folder.
        differences: Largest difference of unit-length features, for ``image`` and ``text``.
        merged_tensors: Names of the tensors that differ from the base model's.
        tensors: Number of tensors in all.
    """

    folder: Path
    differences: dict[str, float]
    merged_tensors: tuple[str, ...]
    tensors: int


def export_open_clip(
    run: RunFolder,
    folder: Path,
    *,
    source: ModelSource | None = None,
    scale: float = 1.0,
    frames: Sequence[Path] = (),
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> ExportSummary:
    """Merge a run's adapter into its base in float32 and write an open_clip folder.

    Args:
        run: A finished run.
        folder: Folder to write. It gets this name only once it is whole and verified.
        source: Where the base model is now, if it moved.
        scale: How far to go from the base (0) to the adapted weights (1).
        frames: Frames files to compare on; seeded pictures otherwise.

    Raises:
        UsageError: The scale is not between 0 and 1, or the folder exists.
        VerificationError: The re-loaded model differs; the folder is left as ``FOLDER.unfit`` for inspection.
    """
    if not 0 <= scale <= 1:
        raise UsageError(f"--scale must be from 0 (the base) to 1 (the adapted weights), got {scale:g}", "try 0.5")
    refuse_existing(folder, overwrite=overwrite)
    base = load_base(run, source=source, reporter=reporter)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    images = sample_images(base.preprocess.size, frames=frames)
    adapted = attach_run(base, run, scale=scale)
    reference = reference_features(adapted, images, TEXTS)
    merge_lora(adapted.model)
    state = adapted.model.state_dict()
    changed = _changed(before, state)

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with explaining_disk_errors(folder):
            partial.mkdir(parents=True)
        write_open_clip_folder(partial, adapted, state)
        reporter.info("re-loading with open_clip in a fresh process")
        differences = largest_differences(reference, reloaded_features(partial, images, TEXTS))
        _write_report(partial, run, scale, differences, changed)
        try:
            check_differences(differences, folder.with_name(folder.name + ".unfit"))
        except VerificationError:
            _give_name(partial, folder.with_name(folder.name + ".unfit"))
            raise
        _give_name(partial, folder)
    finally:
        clear(partial)
    return ExportSummary(folder, differences, changed, len(state))


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of the tensors that merging changed; the set of names itself must not change.

    Raises:
        VerificationError: A tensor was lost or gained, which would break every reader.
    """
    differing = sorted(set(before) ^ set(after))
    if differing:
        raise VerificationError(f"merging lost or gained the tensor {differing[0]}", "please report this")
    return tuple(name for name in sorted(before) if not torch.equal(before[name], after[name].cpu()))


def _write_report(
    folder: Path, run: RunFolder, scale: float, differences: dict[str, float], changed: tuple[str, ...]
) -> None:
    config = run.load_config()
    finite = {kind: (value if value == value else None) for kind, value in differences.items()}
    write_json(
        folder / "figclip_export.json",
        {
            "run": run.name,
            "base_sha256": config["model"]["sha256"],
            "lora": {key: config["lora"][key] for key in ("rank", "alpha", "targets", "blocks", "towers")},
            "scale": scale,
            "largest_difference": finite,
            "bound": MAX_DIFFERENCE,
            "changed_tensors": list(changed),
        },
    )


def _give_name(partial: Path, folder: Path) -> None:
    with explaining_disk_errors(folder):
        clear(folder)
        partial.rename(folder)
