"""Which packets must be decoded so that the wanted frames come out, and no others.

A group of pictures begins at a key frame. Of each group, what comes after its last wanted frame (in decode order) is
left out, and whole groups with no wanted frame are. One exception: in an open group, frames that are shown before the
key frame refer back to the group before it, which must then be decoded to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.frames.video import Packets

# Every decoder of these gives the same pictures after a key frame whether or not what came before was decoded.
_RESTARTS_AT_KEYFRAMES = frozenset(
    ("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores")
)
# These can be told, frame by frame, to leave out what nothing refers to.
_SKIPS_UNREFERENCED = frozenset(("h264", "mpeg4", "mpeg2video", "mpeg1video"))
_HVCC_LAYERS_BYTE = 21


@dataclass(frozen=True)
class Run:
    """Packets ``first`` to ``last``, both included, decoded without a break; ``first`` is a key frame."""

    first: int
    last: int


def restarts_at_keyframes(codec: str) -> bool:
    """Return whether decoding may begin at any key frame."""
    return codec in _RESTARTS_AT_KEYFRAMES


def can_skip_unreferenced(codec: str, extradata: bytes | None) -> bool:
    """Return whether frames that nothing refers to may be left out one by one.

    In HEVC "not referred to" holds within one temporal layer only, so the header must say that there is one
    (``numTemporalLayers`` of the hvcC record, ISO/IEC 14496-15, 8.3.3.1).
    """
    if codec == "hevc" and extradata and len(extradata) > _HVCC_LAYERS_BYTE and extradata[0] == 1:
        return (extradata[_HVCC_LAYERS_BYTE] >> 3) & 0b111 == 1
    return codec in _SKIPS_UNREFERENCED


def plan_runs(packets: Packets, wanted: npt.NDArray[np.bool_], *, restarts: bool = True) -> list[Run]:
    """Return the runs of packets to decode, ascending.

    Args:
        packets: All packets in decode order.
        wanted: (n,) bool, frames to get.
        restarts: Decoding may begin at any key frame; otherwise it begins at the first packet.
    """
    if not wanted.any():
        return []
    if not restarts:
        return [Run(0, int(np.flatnonzero(wanted)[-1]))]
    starts = np.unique(np.concatenate([[0], np.flatnonzero(packets.keyframe)]))
    ends = np.append(starts[1:], len(packets))
    last = [_last_wanted(wanted, start, end) for start, end in zip(starts, ends, strict=True)]
    runs: list[Run] = []
    for group in range(len(starts) - 1, -1, -1):
        if last[group] < 0:
            continue
        members = slice(starts[group], ends[group])
        leading = wanted[members] & (packets.ticks[members] < packets.ticks[starts[group]])
        if group > 0 and leading.any():
            last[group - 1] = int(ends[group - 1]) - 1
        runs.append(Run(int(starts[group]), last[group]))
    return _joined(runs[::-1])


def _last_wanted(wanted: npt.NDArray[np.bool_], start: int, end: int) -> int:
    found = np.flatnonzero(wanted[start:end])
    return int(start + found[-1]) if len(found) else -1


def _joined(runs: list[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].last + 1 == run.first:
            joined[-1] = Run(joined[-1].first, run.last)
        else:
            joined.append(run)
    return joined
