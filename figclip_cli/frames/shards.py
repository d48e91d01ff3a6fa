"""A share of the clips for each of many programs, the same share whoever asks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from figclip_cli.errors import UsageError
from figclip_cli.frames.clip import Source

_HINT = "write --shard 0/8 for the first of eight, or --shard slurm in a job array"


@dataclass(frozen=True)
class Shard:
    """Share ``index`` (from 0) of ``count``."""

    index: int
    count: int

    @property
    def suffix(self) -> str:
        """What the default output's name carries, so that shards never write over one another."""
        return f"-{self.index:05d}-of-{self.count:05d}"

    def pick(self, sources: Sequence[Source]) -> list[Source]:
        """Return this shard's clips; a clip's shard depends on its id alone."""
        return [source for source in sources if shard_of(source.clip_id, self.count) == self.index]


def shard_of(clip_id: str, count: int) -> int:
    """Return the shard that a clip belongs to, by the SHA-256 of its id."""
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big") % count


def ids_sha256(sources: Sequence[Source]) -> str:
    """Return a hash of all clip ids, which shards of one listing share."""
    return hashlib.sha256("\0".join(sorted(source.clip_id for source in sources)).encode()).hexdigest()


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Read ``I/N``, or ``slurm`` for this task of a Slurm job array.

    Raises:
        UsageError: It is empty or no share; a variable that was not set must not mean "everything".
    """
    if text.strip().lower() == "slurm":
        return _from_slurm(environment)
    index, slash, count = text.partition("/")
    if not slash or not _is_number(index) or not _is_number(count) or not int(index) < int(count):
        raise UsageError(f"--shard '{text}' is no share I/N with 0 <= I < N", _HINT)
    return Shard(int(index), int(count))


def _from_slurm(environment: Mapping[str, str]) -> Shard:
    values = {}
    for name in ("ID", "MIN", "MAX", "COUNT"):
        value = environment.get(f"SLURM_ARRAY_TASK_{name}", "")
        if not _is_number(value):
            raise UsageError(
                f"--shard slurm: SLURM_ARRAY_TASK_{name} is {value or 'empty'}", "submit with sbatch --array=0-7"
            )
        values[name] = int(value)
    if values["MAX"] - values["MIN"] + 1 != values["COUNT"]:
        raise UsageError("--shard slurm: the array has gaps or steps", "submit with sbatch --array=0-7")
    return Shard(values["ID"] - values["MIN"], values["COUNT"])


def _is_number(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdigit()
