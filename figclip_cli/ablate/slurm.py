"""An ablation as a Slurm job array: a script that is ready for ``sbatch``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from figclip_cli.errors import UsageError


def slurm_script(name: str, tasks: int, arguments: Sequence[str], making: Sequence[str] = (), *, uses_gpu: bool) -> str:
    """Return a script whose N tasks make every N-th cell each.

    Args:
        name: Of the ablation.
        tasks: Tasks of the array, at least one.
        arguments: Of ``figclip ablate``: the specification, ``--root``, ``--output``, ``--seeds``, ``--only``.
        making: More of them, which say how cells are made and mean nothing for tables.
        uses_gpu: Whether each task asks for one GPU.

    Raises:
        UsageError: An argument has a line break or another control character, which ends a line of the script.
    """
    for word in (*arguments, *making):
        if any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029" for letter in word):
            raise UsageError(f"{word[:80]!r} has a control character", "a path in a script has none: rename the folder")
    command = shlex.join(["figclip", "ablate", *arguments])
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=figclip-{name}",
        f"#SBATCH --array=0-{tasks - 1}",
        *(["#SBATCH --gpus=1"] if uses_gpu else []),
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=32G",
        "#SBATCH --time=24:00:00",
        f"#SBATCH --output=figclip-{name}-%A_%a.log",
        "#SBATCH --requeue",
        "# Two minutes before the end a task is told to stop: it leaves a checkpoint. Submit again to go on.",
        "#SBATCH --signal=TERM@120",
        "set -euo pipefail",
        f"exec srun {shlex.join(['figclip', 'ablate', *arguments, *making])} --shard slurm",
        "# When all tasks are done, the tables and charts:",
        f"#   {command} --report-only",
        "",
    ]
    return "\n".join(lines)
