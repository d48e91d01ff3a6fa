"""What this machine has, which way it computes the contrastive loss, and whether it computes it right.

Nothing here may rely on an installation that is whole: each library is imported on its own, and what that throws is
part of the answer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figclip_cli import __version__
from figclip_cli.errors import FigclipError, InputError, UsageError, nearest
from figclip_cli.reporting import SILENT, Reporter

if TYPE_CHECKING:
    from figclip_kernels.self_check import PathCheck

CHECK_SECONDS = 10.0
_GIB = 1 << 30
_KINDS = ("cpu", "cuda", "mps")
_NVIDIA_NODE = Path("/dev/nvidiactl")
# Import name -> name in a registry.
_PACKAGES = {
    "torch": "torch",
    "triton": "triton",
    "torchvision": "torchvision",
    "open_clip": "open_clip_torch",
    "av": "av",
    "h5py": "h5py",
    "safetensors": "safetensors",
}
_SIZES = {"the method's own": 100, "large batch": 16_384}  # rows
_NEGATIVES, _WIDTH = 4, 512


@dataclass(frozen=True)
class Device:
    """A device that torch can compute on.

    Attributes:
        device: torch's name for it, such as ``cuda:0``.
        model: What it is, in its maker's words.
        details: More by name: ``cores``, ``threads`` and ``capability`` (vector instructions) of a CPU;
            ``compute_capability`` and ``memory_gib`` of a CUDA device.
    """

    device: str
    model: str
    details: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Which path computes the contrastive loss of a batch, and why.

    Attributes:
        device: Where.
        size: What kind of batch, in words.
        rows: Positive pairs.
        negatives: Private negatives of a row.
        width: Of the features.
        dtype: Of the features.
        path: Name of the path; none if not even the choice can be made.
        reason: Why, as a clause.
    """

    device: str
    size: str
    rows: int
    negatives: int
    width: int
    dtype: str
    path: str | None
    reason: str


@dataclass
class Report:
    """All that was found.

    Attributes:
        versions: By name; none for what is not there.
        ffmpeg_path: The program that ``--decoder ffmpeg`` runs.
        devices: CPU first.
        choices: Paths of the loss by device, size and dtype.
        checks: What the self-check of each path said.
        checked: Whether the self-check was begun.
        broken: What must not be relied on, a line each.
        notes: What could be better, a line each.

    A line of ``broken`` or ``notes`` begins with a name and a colon.
    """

    versions: dict[str, str | None] = field(default_factory=dict)
    ffmpeg_path: str | None = None
    devices: list[Device] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    checks: list[PathCheck] = field(default_factory=list)
    checked: bool = False
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_document(self) -> dict[str, Any]:
        """Return it for JSON; an error that is not finite becomes null."""
        return {
            "versions": self.versions,
            "ffmpeg_path": self.ffmpeg_path,
            "devices": [{"device": each.device, "model": each.model, **each.details} for each in self.devices],
            "paths": [asdict(choice) for choice in self.choices],
            "checked": self.checked,
            "checks": [
                {
                    **asdict(check),
                    "status": check.status,
                    "loss_error": _finite(check.loss_error),
                    "gradient_error": _finite(check.gradient_error),
                }
                for check in self.checks
            ],
            "broken": self.broken,
            "notes": self.notes,
            "ok": not self.broken,
        }


def examine(
    device: str | None = None,
    *,
    find_ffmpeg: Callable[[], str],
    check: bool = True,
    reporter: Reporter = SILENT,
) -> Report:
    """Look at libraries and devices, ask which paths compute the loss, and check these against the reference.

    Args:
        device: ``cpu``, ``cuda`` for all CUDA devices, one such as ``cuda:1``, or ``mps``; by default the CPU and all
            CUDA devices.
        find_ffmpeg: Returns the path of the ffmpeg program, or raises.
        check: Whether to run the self-check; all devices together take about :data:`CHECK_SECONDS`.
        reporter: Where progress goes.

    Raises:
        UsageError: ``device`` is no name of a device.
        InputError: This machine has no such device.
    """
    if device is not None and device.partition(":")[0] not in _KINDS:
        raise UsageError(f"--device {device} is no device", nearest(device, _KINDS))
    report = Report(versions={"figclip": __version__, "python": platform.python_version()})
    _add_packages(report)
    _add_ffmpeg(report, find_ffmpeg)
    if any(line.startswith("torch:") for line in report.broken):
        return report
    _add_torch(report)
    chosen = _chosen(report, device)
    for name in chosen:
        report.choices += _choices(name)
    report.broken += [
        f"path of the loss on {each.device}: {each.reason}" for each in report.choices if each.path is None
    ]
    if check:
        _add_checks(report, chosen, reporter)
    return report


def _first_line(error: BaseException) -> str:
    """Return an error's name and the first line of its message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _add_packages(report: Report) -> None:
    """Import every library; a version alone does not say that it can be."""
    for name, distribution in _PACKAGES.items():
        report.versions[name] = None
        try:
            report.versions[name] = _version(importlib.import_module(name), distribution)
        except Exception as error:  # A library that does not fit another can throw anything.
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                problem = f"{name}: not installed; pip install {distribution}"
            else:
                report.versions[name] = _version(None, distribution)
                problem = f"{name}: cannot be imported: {_first_line(error)}"
            # Whether Triton matters depends on the devices, which are not known yet.
            if name != "triton":
                report.broken.append(problem)
            elif report.versions[name] is not None:
                report.notes.append(problem)


def _version(module: Any, distribution: str) -> str:
    said = getattr(module, "__version__", None)
    if said is not None:
        return str(said)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _add_ffmpeg(report: Report, find_ffmpeg: Callable[[], str]) -> None:
    report.versions["ffmpeg"] = None
    try:
        program = find_ffmpeg()
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (FigclipError, ImportError, OSError, subprocess.SubprocessError) as error:
        said = error.message if isinstance(error, FigclipError) else _first_line(error)
        report.notes.append(f"ffmpeg: {said}; extract-frames works with --decoder pyav only")
        return
    words = said.split()
    report.versions["ffmpeg"] = words[2] if words[:2] == ["ffmpeg", "version"] and len(words) > 2 else "unknown"
    report.ffmpeg_path = program


def _add_torch(report: Report) -> None:
    """Add what torch was built with, the devices it sees, and what keeps it from seeing or using more."""
    import torch

    report.versions["cuda"] = torch.version.cuda
    if torch.version.hip is not None:
        report.versions["rocm"] = torch.version.hip
    try:
        cudnn = torch.backends.cudnn.version()
        report.versions["cudnn"] = None if cudnn is None else str(cudnn)
    except RuntimeError as error:  # The library that is found is not the one torch was built for.
        report.versions["cudnn"] = None
        report.broken.append(f"cuDNN: {_first_line(error)}")
    report.devices += _devices()
    if not torch.cuda.is_available():
        if _NVIDIA_NODE.exists():
            report.notes.append(f"CUDA: {_why_no_cuda()}, although this machine has an NVIDIA device")
        return
    if report.versions["triton"] is None:
        report.notes.append("triton: not installed, so large batches on CUDA use plain torch; pip install triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        report.notes.append("TRITON_INTERPRET: it is set to 1, so kernels are interpreted, far too slowly; unset it")


def _why_no_cuda() -> str:
    import torch

    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return f"torch cannot use it: {_first_line(error)}"
    return "torch sees no CUDA device; CUDA_VISIBLE_DEVICES may hide it"


def _devices() -> Iterator[Device]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    capability = torch.backends.cpu.get_cpu_capability()
    yield Device("cpu", _cpu(), {"cores": usable, "threads": torch.get_num_threads(), "capability": capability})
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        version = f"{found.major}.{found.minor}"
        memory = round(found.total_memory / _GIB, 1)
        yield Device(f"cuda:{index}", found.name, {"compute_capability": version, "memory_gib": memory})
    if torch.backends.mps.is_available():
        yield Device("mps", f"Apple {platform.machine()}")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _chosen(report: Report, device: str | None) -> list[str]:
    known = [each.device for each in report.devices]
    if device is None:
        return [name for name in known if name != "mps"]
    matching = [name for name in known if device in (name, name.partition(":")[0])]
    if matching:
        return matching
    if device == "cuda":
        raise InputError(f"--device cuda: {_why_no_cuda()}", "use --device cpu")
    raise InputError(f"--device {device}: there is none", f"torch sees {', '.join(known)}")


def _choices(device: str) -> Iterator[Choice]:
    """Ask which path is taken, by a problem that has a batch's shape but holds one number for all rows."""
    import torch
    from figclip_kernels.choose import explain
    from figclip_kernels.problem import Problem

    dtypes = (torch.float32, torch.bfloat16) if device.startswith("cuda") else (torch.float32,)
    for size, rows in _SIZES.items():
        for dtype in dtypes:
            path: str | None = None
            try:
                features = torch.zeros(1, _WIDTH, dtype=dtype, device=device).expand(rows, _WIDTH)
                negatives = features[:, None].expand(rows, _NEGATIVES, _WIDTH)
                scale = torch.ones((), dtype=torch.float32, device=device)
                path, reason = explain(Problem((features,), features, scale, negatives=negatives), "auto")
            except Exception as error:  # A broken driver or Triton is what this looks for.
                reason = _first_line(error)
            name = str(dtype).removeprefix("torch.")
            yield Choice(device, size, rows, _NEGATIVES, _WIDTH, name, path, reason)


def _add_checks(report: Report, devices: list[str], reporter: Reporter) -> None:
    from figclip_kernels.self_check import self_check

    report.checked = True
    for device in devices:
        reporter.info(f"checking the contrastive loss on {device}")
        try:
            report.checks += self_check(device, CHECK_SECONDS / len(devices))
        except Exception as error:  # Not a path, but the reference or the device itself.
            report.broken.append(f"self-check on {device}: {_first_line(error)}")
    for each in report.checks:
        if each.failure:
            report.broken.append(f"path {each.path} on {each.device} with {each.dtype}: {each.failure}")
