"""Run the same per-clip function on a Ray cluster; every node must see the videos under the same path."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.frames.clip import ClipResult, Source, failed, process_clip
from figclip_cli.frames.pool import DEFAULT_TIMEOUT_SECONDS
from figclip_cli.frames.sampling import SamplingRecipe

_RETRIES = 3  # of a clip whose worker or node was lost
_POLL_SECONDS = 1.0


def process_clips_on_ray(
    sources: Sequence[Source],
    recipe: SamplingRecipe,
    *,
    workers: int,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Iterator[tuple[Source, ClipResult]]:
    """Yield each source with its result as soon as it is there.

    Joins the cluster that ``RAY_ADDRESS`` names or that is running here, else starts one of ``workers`` processors on
    this machine. As many clips are under way as the cluster has processors, so that a clip's time is its own and not
    spent in a queue.

    Args:
        sources: Clips.
        recipe: What to take of each.
        workers: Processors of a cluster started here.
        timeout_seconds: Wall-clock limit for one clip; its worker is killed then.

    Raises:
        InputError: Ray is not installed.
    """
    ray = _connect(workers)
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(process_clip)
    waiting = deque(sources)
    flying: dict[Any, tuple[Source, float]] = {}
    try:
        while waiting or flying:
            while waiting and len(flying) < _processors(ray):
                source = waiting.popleft()
                flying[task.remote(source, recipe)] = (source, time.monotonic())
            ready, _ = ray.wait(list(flying), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                source, _ = flying.pop(reference)
                yield source, _result(ray, reference, source, recipe)
            for reference in [r for r, (_, begun) in flying.items() if time.monotonic() - begun > timeout_seconds]:
                source, _ = flying.pop(reference)
                ray.cancel(reference, force=True)
                yield source, failed(source, recipe, f"no result after {timeout_seconds:g} s", status="timeout")
    finally:
        for reference in flying:
            ray.cancel(reference, force=True)


def _connect(workers: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray needs Ray", "pip install 'figclip-cli[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto" if "RAY_ADDRESS" not in os.environ else None, log_to_driver=False)
        except ConnectionError:  # no cluster is running
            ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    return ray


def _processors(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _result(ray: Any, reference: Any, source: Source, recipe: SamplingRecipe) -> ClipResult:
    try:
        result: ClipResult = ray.get(reference)
    except ray.exceptions.WorkerCrashedError:
        return failed(source, recipe, f"the decoder crashed {_RETRIES + 1} times")
    except ray.exceptions.RayError as error:
        return failed(source, recipe, f"unexpected {type(error).__name__}: {str(error).splitlines()[0]}")
    return result
