"""The learning rate as a function of the step: nothing of it to save, nothing to restore."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, *, warmup_steps: int, schedule: str, total_steps: int) -> float:
    """Return what the learning rate is multiplied by in a step.

    Args:
        step: Finished steps; 0 is the first step.
        warmup_steps: The factor rises linearly to one over these steps.
        schedule: ``constant``, or ``cosine`` down to zero at ``total_steps``.
        total_steps: Steps of the whole run.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
