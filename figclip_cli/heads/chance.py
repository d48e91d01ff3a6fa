"""Where torch's random choices come from: a seed and what is chosen, never what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(seed: int, *names: object) -> int:
    """Return a seed for one purpose, for example an epoch's order."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def generator_for(seed: int, *names: object) -> torch.Generator:
    """Return a generator of its own for one purpose."""
    return torch.Generator().manual_seed(seed_of(seed, *names))


@contextmanager
def seeded(seed: int, *names: object) -> Iterator[None]:
    """Seed torch's own generator within the block, and put it back after."""
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed_of(seed, *names))
        yield
    finally:
        torch.random.set_rng_state(state)
