"""Compositional benchmarks by name: one reader each, one type out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from figclip_cli.errors import UsageError, nearest
from figclip_cli.evaluate.datasets.aro import read_vg_attribution, read_vg_relation
from figclip_cli.evaluate.datasets.aro_order import read_coco_order, read_flickr_order
from figclip_cli.evaluate.datasets.choices import Compositional
from figclip_cli.evaluate.datasets.own_choices import read_own_choices
from figclip_cli.evaluate.datasets.own_negatives import read_own_negatives
from figclip_cli.evaluate.datasets.sugarcrepe import read_sugarcrepe
from figclip_cli.evaluate.datasets.valse import read_valse
from figclip_cli.evaluate.datasets.velociti import read_velociti
from figclip_cli.evaluate.datasets.vl_checklist import read_vl_checklist
from figclip_cli.evaluate.datasets.winoground import read_winoground

Reader = Callable[[str, Sequence[Path], int], Compositional]

BENCHMARKS: Mapping[str, Reader] = {
    "sugarcrepe": read_sugarcrepe,
    "aro-vg-relation": read_vg_relation,
    "aro-vg-attribution": read_vg_attribution,
    "aro-coco-order": read_coco_order,
    "aro-flickr-order": read_flickr_order,
    "vl-checklist": read_vl_checklist,
    "winoground": read_winoground,
    "valse": read_valse,
    "velociti": read_velociti,
    "prompts": read_own_negatives,
    "choices": read_own_choices,
}
"""Readers by name; each takes the name, the paths given and the seed."""


def require_benchmark(benchmark: str) -> None:
    """Refuse a name that is not in :data:`BENCHMARKS`.

    Raises:
        UsageError: Offers the nearest.
    """
    if benchmark not in BENCHMARKS:
        raise UsageError(f"there is no benchmark '{benchmark}'", nearest(benchmark, BENCHMARKS))


def read_compositional(benchmark: str, paths: Sequence[Path], *, seed: int = 0) -> Compositional:
    """Read a benchmark.

    Args:
        benchmark: A name in :data:`BENCHMARKS`.
        paths: Its files, or a folder that has some or all of them under their usual names.
        seed: Of the shuffled captions of ARO's order tests; other benchmarks make nothing.

    Raises:
        UsageError: There is no benchmark of that name.
        InputError: A file is missing, broken, or not of this benchmark.
    """
    require_benchmark(benchmark)
    return BENCHMARKS[benchmark](benchmark, paths, seed)
