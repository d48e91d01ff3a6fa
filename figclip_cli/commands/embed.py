"""``figclip embed``: features of clips, events, frames, images or texts, for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.scored_model import (
    NoCacheFlag,
    ScoredModelOptions,
    VideosFlag,
    frames_source,
    open_frames,
    scored_model,
)
from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError, UsageError
from figclip_cli.evaluate.protocols import ProtocolOptions

if TYPE_CHECKING:
    from figclip_cli.evaluate.embedding_files import Embeddings


class LevelChoice(str, Enum):
    """What has a feature."""

    clip = "clip"
    event = "event"
    frame = "frame"


@with_flags_of(ScoredModelOptions, ProtocolOptions)
def embed(
    terminal: Terminal,
    frames: Annotated[
        list[Path] | None, typer.Option("--frames", help="Frames file; repeat for several. Default: frames.h5")
    ] = None,
    videos: VideosFlag = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Instead: a folder of images, with the folders below it.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help='Instead: a .txt with a text a line, or a .jsonl with "text" and "id".'),
    ] = None,
    level: Annotated[
        LevelChoice | None, typer.Option("--level", help="What of a clip has a feature. Default: clip")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .safetensors, .h5, .hdf5 or .npz file. Default: features.safetensors"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file of features.")] = False,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Write features of clips, events, frames, images or texts to a file that other programs read."""
    from figclip_cli.evaluate.embed import embed_clips, embed_images, embed_texts
    from figclip_cli.evaluate.embed_inputs import image_names, read_texts
    from figclip_cli.evaluate.embedding_files import check_output_name, write_features
    from figclip_cli.evaluate.encoders import Encoding, encoders
    from figclip_cli.files import check_output, named_files

    _refuse_several({"--frames": frames, "--videos": videos, "--images": images, "--texts": texts})
    if level is not None and (images or texts):
        raise UsageError("--level is for clips, not for images or texts", "leave it out")
    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    protocol = options_from(ProtocolOptions, values).resolve()
    output = terminal.default(output, Path("features.safetensors"), "output")
    check_output_name(output)
    looked_at = frames or videos or images or texts or Path("frames.h5")
    check_output(output, overwrite=overwrite, inputs=named_files(looked_at, scored.model, scored.pretrained))
    # What is wrong with the inputs is said before a model is loaded for them.
    asked_texts = read_texts(texts) if texts else None
    if images:
        image_names(images)
    opened = None if images or asked_texts else open_frames(terminal, frames, videos)
    clip, chosen = scored_model(terminal, scored)
    *_, encoder = encoders(clip, chosen, Encoding(protocol, None if no_cache else Path(), terminal))
    if asked_texts:
        found = embed_texts(encoder, asked_texts)
    elif images:
        found = embed_images(encoder, images)
    else:
        source = frames_source(terminal, opened, videos, protocol=protocol, clip=clip)
        found = embed_clips(encoder, source, level=level.value if level else "clip")
    write_features(output, found)
    _finish(terminal, found, output)


def _refuse_several(sources: dict[str, Any]) -> None:
    given = [flag for flag, value in sources.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", "features are of one of them")


def _finish(terminal: Terminal, found: Embeddings, output: Path) -> None:
    rows, width = found.features.shape
    about = found.about
    unit = about["source"]["unit"]
    shown = table("Features", "what", "value")
    shown.add_row("model", f"{about['model']['name']} ({about['model']['label']})")
    shown.add_row("level", about["level"])
    shown.add_row(unit, f"{about['n_written']:,} of {about['n_asked']:,}")
    shown.add_row("rows", f"{rows:,}")
    shown.add_row("width", f"{width:,}")
    shown.add_row("unit length", "yes" if about["unit_length"] else "no")
    document = {**about, "output": str(output), "shape": [rows, width]}
    terminal.result(document, shown, text=str(output), then=_left_out(found, output))


def _left_out(found: Embeddings, output: Path) -> PartialError | None:
    if not found.missing:
        return None
    about, first = found.about, next(iter(found.missing))
    unit, left_out = about["source"]["unit"], about["n_asked"] - about["n_written"]
    return PartialError(
        f"{left_out} of {about['n_asked']} {unit} are not complete, the first is {first}: {found.missing[first]}",
        f'all of them are listed under "missing" in the metadata of {output}',
    )
