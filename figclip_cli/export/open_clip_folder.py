"""Write an open_clip model folder: ``open_clip_config.json`` and ``open_clip_model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from figclip_cli.files import replacing, write_json
from figclip_cli.models.clip import Clip
from figclip_cli.models.source import CONFIG_NAME, WEIGHTS_NAME


def write_open_clip_folder(folder: Path, clip: Clip, state: Mapping[str, Tensor]) -> None:
    """Write ``state`` as a folder that ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` opens.

    The activation (``quick_gelu``) and the preprocessing are written out even where they are open_clip's
    defaults, so that no reader has to guess.

    Args:
        folder: An existing folder.
        clip: The model the state belongs to; gives configuration and preprocessing.
        state: open_clip's own tensor names.
    """
    write_json(folder / CONFIG_NAME, {"model_cfg": clip.model_config, "preprocess_cfg": clip.preprocess.as_dict()})
    # Clones: safetensors refuses tensors that share memory, which tied or sliced weights do.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(state.items())}
    weights = folder / WEIGHTS_NAME
    with replacing(weights) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
