"""What was gained on one task against what was kept on another, at the same scales of the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.curve import Curve
from figclip_cli.evaluate.curve_reading import read_curve
from figclip_cli.evaluate.curve_scales import FEWEST_SCALES, scales_text
from figclip_cli.evaluate.results import Metric
from figclip_cli.files import sha256_of_file
from figclip_cli.run_folder import RunFolder

_SLACK = 1e-9  # of sums in another order


@dataclass(frozen=True)
class Kept:
    """A curve of another task, made from the same run.

    Attributes:
        file: Its file.
        sha256: Hash of the file as read.
        curve: What it holds.
    """

    file: Path
    sha256: str
    curve: Curve

    def refuse_same(self, subject: tuple[str, str, Any]) -> None:
        """Refuse a curve of the very thing that is evaluated now; ``subject`` is that of :class:`Curve`.

        Raises:
            InputError: It is.
        """
        if self.curve.subject == subject:
            raise InputError(
                f"{self.file} is itself a curve of {self.curve.task} on {self.curve.dataset_id}",
                "--kept names a curve of another task or data set, such as action recognition on a general set",
            )


@dataclass(frozen=True)
class TradePoint:
    """Both numbers at one scale."""

    scale: float
    gained: Metric
    kept: Metric


@dataclass(frozen=True)
class TradeOff:
    """A curve and what was kept, at the scales that both have."""

    curve: Curve
    kept: Kept
    points: tuple[TradePoint, ...]

    @property
    def largest_within_one_error(self) -> TradePoint | None:
        """The largest scale at which the kept number is worse than the base's by one standard error at most.

        The error is that of the difference, from the paired bootstrap. None where there is no such scale.
        """
        within = [one for one in self.points if _loss(one.kept) <= (one.kept.delta_standard_error or 0.0) + _SLACK]
        return within[-1] if within else None

    def as_document(self) -> dict[str, Any]:
        """Return what the curve's document says of it."""
        other, best = self.kept.curve, self.largest_within_one_error
        return {
            "kept": {
                "file": self.kept.file.name,
                "sha256": self.kept.sha256,
                "task": other.task,
                "dataset": {"id": other.dataset_id, "sha256": other.dataset_sha256},
                "n_asked": dict(other.asked),
                "n_evaluated": dict(other.evaluated),
                "metric": other.metric,
            },
            "metric": self.curve.metric,
            "points": [
                {"scale": one.scale, "gained": _numbers(one.gained), "kept": _numbers(one.kept)} for one in self.points
            ],
            "largest_scale_within_one_standard_error": None if best is None else best.scale,
        }


def read_kept(path: Path, run: RunFolder, scales: Sequence[float]) -> Kept:
    """Read the curve of what is to be kept, and check that it goes with a run and its scales.

    Raises:
        InputError: It is no curve, of another run or base, or has fewer than two of the scales.
    """
    curve = read_curve(path)
    adapter, base = sha256_of_file(run.adapter_file), run.load_config()["model"]["sha256"]
    if curve.models["adapted"]["adapter_sha256"] != adapter:
        raise InputError(
            f"{path} is of another run ('{curve.run_name}'): its adapter is not that of {run.path}",
            "make it anew from this run",
        )
    if curve.models["base"]["sha256"] != base:
        raise InputError(f"{path} is of another base model ('{curve.base_name}')", "make it anew from this run")
    known = [point.scale for point in curve.points]
    common = sorted(set(known) & set(scales))
    if len(common) < FEWEST_SCALES:
        there = f"{scales_text(common)} alone is" if common else "none is"
        raise InputError(
            f"{path} has the scales {scales_text(known)}: {there} among --scales {scales_text(scales)}",
            "two at least have to be in both",
        )
    return Kept(path, sha256_of_file(path), curve)


def trade_off(curve: Curve, kept: Kept) -> TradeOff:
    """Put the two headline numbers together at the scales that both curves have."""
    other = {point.scale: metric for point, metric in zip(kept.curve.points, kept.curve.headline, strict=True)}
    points = [
        TradePoint(point.scale, metric, other[point.scale])
        for point, metric in zip(curve.points, curve.headline, strict=True)
        if point.scale in other
    ]
    return TradeOff(curve, kept, tuple(points))


def _loss(metric: Metric) -> float:
    change = metric.delta or 0.0
    return -change if metric.higher_is_better else change


def _numbers(metric: Metric) -> dict[str, Any]:
    return {
        "value": metric.value,
        "base_value": metric.base_value,
        "delta": metric.delta,
        "delta_standard_error": metric.delta_standard_error,
        "higher_is_better": metric.higher_is_better,
    }
