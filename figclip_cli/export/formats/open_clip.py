"""An open_clip model folder: ``open_clip_config.json`` and ``open_clip_model.safetensors``."""

from __future__ import annotations

from pathlib import Path

from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.tensor_file import write_tensors
from figclip_cli.files import write_json
from figclip_cli.models.source import CONFIG_NAME, WEIGHTS_NAME

_USAGE = """import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
model, tokenizer = model.eval(), open_clip.get_tokenizer("local-dir:FOLDER")
image_features = model.encode_image(preprocess(picture)[None])
text_features = model.encode_text(tokenizer(["a photo of a dog"]))"""


def write_open_clip_folder(folder: Path, material: Material) -> None:
    """Write a folder that ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` opens.

    The activation (``quick_gelu``) and the preprocessing are written out even where they are open_clip's
    defaults, so that no reader has to guess.
    """
    clip = material.clip
    write_json(folder / CONFIG_NAME, {"model_cfg": clip.model_config, "preprocess_cfg": clip.preprocess.as_dict()})
    write_tensors(folder / WEIGHTS_NAME, material.cast(material.state))


FORMAT = Format(
    name="open-clip",
    library="open_clip_torch",
    holds="weights",
    write=write_open_clip_folder,
    usage=lambda material: _USAGE,
    reload=reload_program("with_open_clip"),
)
