"""A folder of transformers' ``CLIPModel``: configuration, weights, image processor, and a vocabulary to compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import read_json
from figclip_cli.models.model_sizes import shown, shown_key
from figclip_cli.models.preprocess_config import preprocess_of_processor
from figclip_cli.models.presence import is_there
from figclip_cli.models.stored_weights import StoredWeights, open_shards, open_weights, require_ordinary
from figclip_cli.models.tokens import clip_vocabulary
from figclip_cli.models.transformers_config_reader import model_config_of

CONFIG, WEIGHTS, INDEX, PICKLE = "config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
CONTENTS = (
    f"a transformers CLIP folder holds {CONFIG}, {WEIGHTS} (or {INDEX} and its files, or {PICKLE}) "
    f"and {PREPROCESSOR} (or {PROCESSOR})"
)
_MOST_BYTES = 64 << 20
_MOST_SHARDS = 1000


def read_transformers_folder(
    folder: Path, activation: str | None
) -> tuple[dict[str, Any], dict[str, Any], StoredWeights]:
    """Return open_clip's ``model_cfg`` and ``preprocess_cfg``, and the weights, of a folder.

    Raises:
        InputError: A file is missing, damaged, or of a model that open_clip does not compute alike.
        UsageError: The configuration does not say the activation and the user does not, or they contradict.
    """
    config = _object(folder / CONFIG, "model configuration")
    model_config = model_config_of(config, activation, where=str(folder / CONFIG))
    stored = _weights(folder)
    preprocess = _preprocess(folder, model_config["vision_cfg"]["image_size"])
    _check_vocabulary(folder)
    return model_config, preprocess, stored


def _object(path: Path, what: str) -> Mapping[str, Any]:
    require_ordinary(path, what, CONTENTS, most_bytes=_MOST_BYTES)
    document = read_json(path, what)
    if not isinstance(document, Mapping):
        raise InputError(f"{what} {path} must hold an object, got {shown(document)}", "is it the right file?")
    return document


def _weights(folder: Path) -> StoredWeights:
    if is_there(folder / WEIGHTS):
        return open_weights(folder / WEIGHTS)
    if is_there(folder / INDEX):
        return _shards(folder)
    if is_there(folder / PICKLE):
        return open_weights(folder / PICKLE)
    raise InputError(f"{folder} has no weights: {WEIGHTS} is missing", CONTENTS)


def _shards(folder: Path) -> StoredWeights:
    """Open the files that an index lists, which must be names of files in the folder and nothing else."""
    index = folder / INDEX
    weight_map = _object(index, "index of the weights").get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise InputError(f"{index} has no usable weight_map", "is the file complete?")
    for tensor, name in weight_map.items():
        plain = isinstance(name, str) and name.isprintable() and not set(name) & {"/", "\\"} and name[:1] != "."
        if not plain or not name.endswith(".safetensors"):
            raise InputError(
                f"{index} places the tensor {shown_key(tensor)} in {shown(name)}, which is no name of a safetensors "
                "file in the folder",
                "is it the right file?",
            )
    names = sorted(set(weight_map.values()))
    if len(names) > _MOST_SHARDS:
        raise InputError(f"{index} lists {len(names)} files, more than {_MOST_SHARDS}", "is it the right file?")
    return open_shards(index, [folder / name for name in names], weight_map)


def _preprocess(folder: Path, image_size: int) -> dict[str, Any]:
    found = []
    if is_there(folder / PREPROCESSOR):
        path = folder / PREPROCESSOR
        found.append(preprocess_of_processor(_object(path, "image processor"), image_size, path))
    if is_there(folder / PROCESSOR):
        path = folder / PROCESSOR
        nested = _object(path, "processor").get("image_processor")
        if nested is not None or not found:  # before version 5 the file names only the classes
            found.append(preprocess_of_processor(nested, image_size, path))
    if not found:
        raise InputError(f"{folder} does not say how images are prepared: {PREPROCESSOR} is missing", CONTENTS)
    if len(found) == 2 and found[0] != found[1]:
        raise InputError(
            f"{folder} prepares images in two ways: {PREPROCESSOR} and {PROCESSOR} differ", "remove the wrong file"
        )
    return found[0]


def _check_vocabulary(folder: Path) -> None:
    """Compare the folder's tokenizer, if it has one, with CLIP's, which is the one that texts are read with."""
    vocabulary, tokenizer = folder / "vocab.json", folder / "tokenizer.json"
    if is_there(vocabulary):
        _compare(_object(vocabulary, "vocabulary"), None, vocabulary)
    if is_there(tokenizer):
        model = _object(tokenizer, "tokenizer").get("model")
        if not isinstance(model, Mapping) or not isinstance(model.get("vocab"), Mapping):
            raise InputError(f"{tokenizer} has no vocabulary", "is it the right file?")
        _compare(model["vocab"], model.get("merges"), tokenizer)


def _compare(found: Mapping[str, Any], merges: Any, path: Path) -> None:
    vocabulary, expected = clip_vocabulary()
    differs = found != vocabulary or any(type(number) is not int for number in found.values())
    if not differs and merges is not None:  # pairs, which older files write as one text
        listed = merges if isinstance(merges, list) else []
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in listed]
        differs = pairs != [list(pair) for pair in expected]
    if differs:
        raise InputError(f"{path} is not CLIP's vocabulary", "choose a model with CLIP's own tokenizer")
