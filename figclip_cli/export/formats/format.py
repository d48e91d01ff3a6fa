"""What every format says of itself; one module beside this one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions

# What a folder holds decides what it is compared with: all weights; an adapter for somebody else's weights; a
# program that computes in the type of its weights; the contextualizer.
Holds = Literal["weights", "adapter", "program", "contextualizer"]


def _nothing(config: Mapping[str, Any], options: ExportOptions) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: As ``--to`` has it.
        library: Name of the package that opens it, as it is installed.
        holds: See :data:`Holds`.
        write: Writes the files into an existing folder.
        usage: Returns the lines of Python that open the folder, called ``FOLDER`` in them.
        reload: A program that does so: ``python RELOAD FOLDER SAMPLES.safetensors TEXTS.json OUT.safetensors BASE``.
            SAMPLES has ``images`` (n, S, S, 3) uint8 and, where there is a contextualizer, ``frames`` (n, P, T, D)
            float32; BASE is the unadapted model, for those that hold an adapter. OUT gets
            what the library makes of them, in float32: ``image`` (n, D), ``text`` (m, D), not normalised, and
            ``logits`` (n, m); of the contextualizer ``video`` (n, D) and ``events`` (n, P, D).
        packages: Modules that must be importable, beyond what figclip depends on.
        check: Refuses, before anything is computed, a run that the format cannot hold.
        base_writer: Writes the unadapted model as BASE; an open_clip folder where there is none.
    """

    name: str
    library: str
    holds: Holds
    write: Callable[[Path, Material], None]
    usage: Callable[[Material], str]
    reload: Path
    packages: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any], ExportOptions], None] = _nothing
    base_writer: Callable[[Path, Material], None] | None = None


def reload_program(name: str) -> Path:
    """Return the path of a program in ``export/reload``."""
    return Path(__file__).resolve().parents[1] / "reload" / f"{name}.py"
