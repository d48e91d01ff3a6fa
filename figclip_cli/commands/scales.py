"""``--scales`` of ``figclip evaluate``: the same evaluation between the base and the run, as a curve."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figclip_cli.errors import UsageError
from figclip_cli.option_fields import flag

if TYPE_CHECKING:
    from figclip_cli.evaluate.curve_kept import Kept
    from figclip_cli.run_folder import RunFolder

_CURVE = "Between base and run"
_WHOLE = (1.0,)


@dataclass(frozen=True)
class ScaleOptions:
    """How far to go from the base to the run; see each field's help."""

    scales: str | None = flag(
        None, "Evaluate at these scales between the base, 0, and the run, 1: 0,0.25,0.5,0.75,1", _CURVE, metavar="LIST"
    )
    kept: Path | None = flag(
        None, "Curve of another task of the same run: draw what is gained here against what is kept there.", _CURVE
    )
    curve_metric: str | None = flag(
        None, "Number that is drawn. Default: t2v R@1, top-1, or the macro mean", _CURVE, metavar="NAME"
    )

    def plan(self, run: RunFolder | None, *, base_only: bool) -> ScalePlan:
        """Return what to do, after checking the flags, and the curve of what is to be kept.

        Raises:
            UsageError: The scales are no numbers from 0 to 1, or there is no run for them, or another flag needs them.
            InputError: The other curve is damaged, of another run or base, or has other scales.
        """
        from figclip_cli.evaluate.curve_scales import read_scales

        if self.scales is None:
            if self.kept is not None or self.curve_metric is not None:
                name = "--kept" if self.kept is not None else "--curve-metric"
                raise UsageError(f"{name} is for --scales", "for example --scales 0,0.25,0.5,0.75,1")
            return ScalePlan()
        scales = read_scales(self.scales)
        if run is None:
            why = "--base-only leaves it out" if base_only else "there is none in runs/"
            raise UsageError(f"--scales needs a run, and {why}", "name one with --run")
        if self.kept is None:
            return ScalePlan(scales, run, None, self.curve_metric)
        from figclip_cli.evaluate.curve_kept import read_kept

        return ScalePlan(scales, run, read_kept(self.kept, run, scales), self.curve_metric)


@dataclass(frozen=True)
class ScalePlan:
    """At which scales a run is evaluated.

    Attributes:
        scales: In ascending order; 1 alone without ``--scales``.
        run: The run, where a curve is asked for.
        kept: Curve of what is to be kept.
        metric: Number that the curve is drawn of; None takes what tables lead with.
    """

    scales: tuple[float, ...] = _WHOLE
    run: RunFolder | None = None
    kept: Kept | None = None
    metric: str | None = None

    def check(self, task: str, dataset_sha256: str, names: Collection[str], *, level: Any = None) -> None:
        """Refuse, before anything is computed, a number that is not there and the curve of the same to be kept.

        Args:
            names: The numbers that the task has.
            level: What a query of retrieval is.

        Raises:
            UsageError: There is no such number.
            InputError: The other curve is of the same task and data set.
        """
        from figclip_cli.evaluate.curve import require_metric

        require_metric(self.metric, names)
        if self.kept is not None:
            self.kept.refuse_same((task, dataset_sha256, level))


def curve_place(given: Path | None, stem: str) -> tuple[Path | None, Path]:
    """Return the name that is given and the default one of a curve, which has a folder for what lies beside it.

    Raises:
        UsageError: The name that is given does not end with ``.json``.
    """
    from figclip_cli.evaluate.curve import curve_name_problem

    problem = None if given is None else curve_name_problem(given)
    if problem is not None:
        raise UsageError(f"-o {given} {problem}", "with --scales, the drawing and the results are named after it")
    return given, Path("results") / stem / "curve.json"


def files_beside(curve: Path, scales: Sequence[float], *, samples: bool) -> list[Path]:
    """Return all that is written beside a curve."""
    from figclip_cli.evaluate.curve import drawing_path, results_path
    from figclip_cli.evaluate.results import samples_path

    results = [results_path(curve, scale) for scale in scales]
    return [drawing_path(curve), *results, *(map(samples_path, results) if samples else ())]
