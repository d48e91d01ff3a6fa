"""The effect over several seeds: as many worlds and adaptations, one base model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.adapt import AdaptOptions
from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.effect import EffectRow, effect, write_effect
from figclip_cli.demo.effect_drawing import effect_svg
from figclip_cli.demo.folders import new_folder
from figclip_cli.demo.scenario import WORLD_VERSION
from figclip_cli.demo.stages import DemoFolder, adapt_base, make_inputs, recipe_options, score
from figclip_cli.evaluate.results import Results, read_results
from figclip_cli.files import sha256_of_file, write_text
from figclip_cli.reporting import SILENT, Reporter

# Three times those of the short form: at 1,000 the gains are far from their end (docs/ablations.md).
CLIPS = {"train": 3000, "valid": 60, "test": 200}
SEEDS = 5
# Three times as many steps: at the recipe's step size some runs of that length lose, and win back, what they learned.
_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class FullSummary:
    """What came of all seeds.

    Attributes:
        folder: Where each seed's files are, and ``effect.json``.
        effect: The rows over all seeds.
        of_seeds: The rows of each seed alone.
    """

    folder: Path
    effect: list[EffectRow]
    of_seeds: dict[int, list[EffectRow]]


def run_full(
    path: Path, *, seed: int = 0, seeds: int = SEEDS, workers: int = 2, overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> FullSummary:  # fmt: skip
    """Measure what adapting changes, over several worlds; run again after an interruption, it goes on.

    Args:
        path: Folder where everything goes: new, begun by the same command, or a demo folder with ``overwrite``.
        seed: The first seed.
        seeds: How many.
        workers: Processes that decode video.

    Raises:
        UsageError: The folder has something else in it.
    """
    new_folder(path, overwrite=overwrite, settings=_settings(seed, seeds))
    results = {}
    for number in range(seed, seed + seeds):
        reporter.info(f"seed {number}: {number - seed + 1} of {seeds}")
        results[number] = _one_seed(DemoFolder(path / f"seed-{number}"), number, workers, reporter)
    rows = effect(list(results.values()))
    write_effect(path / "effect.json", rows, {"seeds": list(results), "clips": dict(CLIPS)})
    write_text(path / "effect.svg", effect_svg(rows))
    return FullSummary(path, rows, {number: effect([of_seed]) for number, of_seed in results.items()})


def _settings(seed: int, seeds: int) -> dict[str, Any]:
    """Return everything that the numbers follow from, so that no folder mixes old ones with new ones."""
    return {
        "seed": seed,
        "seeds": seeds,
        "clips": dict(CLIPS),
        "world": WORLD_VERSION,
        "options": _options(seed).as_dict(),
        "base_model_sha256": sha256_of_file(base_model_folder() / "open_clip_model.safetensors"),
    }


def _options(seed: int) -> AdaptOptions:
    return recipe_options(seed, learning_rate=_LEARNING_RATE)


def _one_seed(folder: DemoFolder, seed: int, workers: int, reporter: Reporter) -> dict[str, Results]:
    complete = folder.path / "complete"
    if complete.is_file():
        names = complete.read_text(encoding="utf-8").split()
        return {name: read_results(folder.results(name)) for name in names}
    make_inputs(folder, seed=seed, counts=CLIPS, workers=workers, reporter=reporter)
    if not folder.run.is_done:
        adapt_base(folder, _options(seed), reporter=reporter)
    results = score(folder, reporter=reporter)
    write_text(complete, "\n".join(results))
    return results
