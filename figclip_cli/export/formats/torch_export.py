"""Two programs of ``torch.export``: ``image.pt2`` and ``text.pt2``, which torch opens without the model's code."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.programs import check_programs, programs, quiet, write_beside
from figclip_cli.files import replacing

_USAGE = """import torch
from tokenizers import Tokenizer

image = torch.export.load("FOLDER/image.pt2").module()
text = torch.export.load("FOLDER/text.pt2").module()
tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
ids = torch.tensor([line.ids for line in tokenizer.encode_batch(["a photo of a dog"])])
image_features = image(pixels)  # (batch, 3, S, S) float32, resized and normalised as config.json says
text_features = text(ids)"""


def _write(folder: Path, material: Material) -> None:
    for program in programs(material, material.dtype):
        program.exported.example_inputs = None
        whole = io.BytesIO()  # torch does not say why a file cannot be written
        with quiet():
            torch.export.save(program.exported, whole)
        with replacing(folder / f"{program.name}.pt2") as temporary:
            temporary.write_bytes(whole.getbuffer())
    about = {"format": "figclip-torch-export", "torch": torch.__version__.split("+")[0]}
    write_beside(folder, material, ".pt2", about, material.dtype)


FORMAT = Format(
    name="torch-export",
    library="torch",
    holds="program",
    write=_write,
    usage=lambda material: _USAGE,
    reload=reload_program("with_torch_export"),
    packages=("tokenizers",),
    check=check_programs,
)
