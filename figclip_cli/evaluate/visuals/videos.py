"""Video files as a source: their frames are extracted as the protocol asks, into a file that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.evaluate.visuals.frame_choice import recipe_of
from figclip_cli.files import sha256_of_json
from figclip_cli.frames import FramesReader, extract
from figclip_cli.frames.sources import find_sources
from figclip_cli.models.clip import Clip
from figclip_cli.reporting import SILENT, Reporter

FRAMES_FOLDER = Path(".figclip") / "frames"


def frames_of_videos(
    paths: Sequence[Path], protocol: Protocol, clip: Clip, *, cache: Path, reporter: Reporter = SILENT
) -> FramesReader:
    """Extract the frames that a protocol takes, or find those extracted before from the same files.

    Args:
        paths: Folders of videos, and video files.
        clip: The model, for its input size and crop.
        cache: The frames go to ``.figclip/frames/`` in this folder.

    Raises:
        InputError: There is no video, or not one could be decoded.
    """
    recipe = recipe_of(protocol, size=clip.preprocess.size, crop=clip.preprocess.crop)
    files = [source.path.resolve() for source in find_sources(paths)]
    listed = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()]
    output = cache / FRAMES_FOLDER / f"{sha256_of_json([recipe.as_dict(), sorted(listed)])[:32]}.h5"
    if output.is_file():
        try:
            reader = FramesReader(output)
        except InputError as error:
            reporter.warn(f"{error.message}; the videos are extracted anew")
            output.unlink()
        else:
            reporter.info(f"frames: {output} (extracted before)")
            return reader
    try:
        summary = extract(paths, output, recipe=recipe, reporter=reporter)
    except UsageError as error:  # the only one that is left: another program writes the same file
        raise UsageError(error.message, "wait for the other evaluation, then run the same command") from error
    reporter.info(f"frames: {summary.by_status.get('ok', 0)} of {summary.listed} videos in {output}")
    return FramesReader(output)
