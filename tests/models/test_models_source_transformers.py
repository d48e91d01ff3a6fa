"""Folders of transformers' CLIPModel: what they must hold, in every spelling, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

from figclip_cli.errors import FigclipError, InputError, UsageError
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource, resolve
from figclip_cli.models.transformers_clip import to_transformers, transformers_config

PROCESSOR = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.2, 0.25, 0.3],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 32},
}


@pytest.fixture(scope="module")
def base(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers") / "tiny"
    folder.mkdir()
    write(folder / "config.json", transformers_config(base.model_config))
    write(folder / "preprocessor_config.json", PROCESSOR)
    save_file(to_transformers(base.model.state_dict(), base.model_config), folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    copied = tmp_path / "tiny"
    copied.mkdir()
    for path in made.iterdir():
        (copied / path.name).symlink_to(path)  # as in the cache of the hub
    return copied


def write(path, document):
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(document))


def test_the_same_weights_are_the_same_base_in_either_format(base, folder):
    clip = load_clip(ModelSource(str(folder)))
    assert clip.sha256 == base.sha256 and clip.preprocess == base.preprocess and clip.name == "tiny"
    assert clip.model_config["quick_gelu"] is True
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(clip.encode_frames(pixels), base.encode_frames(pixels))
    assert torch.equal(clip.encode_texts(["a dog"]), base.encode_texts(["a dog"]))


@pytest.mark.parametrize("form", ["sharded", "pickle", "half"])
def test_other_forms_of_the_weights(form, base, folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if form == "sharded":
        names = sorted(weights)
        parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, own in parts.items():
            save_file({name: weights[name] for name in own}, folder / file)
        weight_map = {name: file for file, own in parts.items() for name in own}
        write(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})
    elif form == "pickle":
        weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file({name: tensor.half() for name, tensor in weights.items()}, folder / "model.safetensors")
    clip = load_clip(ModelSource(str(folder)))
    assert (clip.sha256 == base.sha256) is (form != "half")
    assert clip.model.logit_scale.dtype == torch.float32


def test_a_folder_with_both_kinds_of_files_is_open_clips(tiny_model, folder, base):
    for path in tiny_model.iterdir():
        shutil.copy(path, folder)
    write(folder / "config.json", {"model_type": "anything"})
    assert load_clip(ModelSource(str(folder))).sha256 == base.sha256
    # Where only transformers' weights lie beside open_clip's configuration, they are translated.
    (folder / "open_clip_model.safetensors").unlink()
    assert load_clip(ModelSource(str(folder))).sha256 == base.sha256


def test_the_activation_is_asked_for_where_the_file_does_not_say_it(folder, base):
    config = transformers_config(base.model_config)
    del config["text_config"]["hidden_act"], config["vision_config"]["hidden_act"]
    write(folder / "config.json", config)
    with pytest.raises(UsageError, match="does not say which activation"):
        resolve(ModelSource(str(folder)))
    assert resolve(ModelSource(str(folder), None, "gelu")).model_config["quick_gelu"] is False
    write(folder / "config.json", {**config, "transformers_version": "4.30.0"})
    assert resolve(ModelSource(str(folder))).model_config["quick_gelu"] is True


@pytest.mark.parametrize(
    ("change", "mode", "interpolation"),
    [
        ({}, "shortest", "bicubic"),
        ({"size": 32, "crop_size": 32}, "shortest", "bicubic"),
        ({"resample": 2}, "shortest", "bilinear"),
        ({"size": {"height": 32, "width": 32}}, "squash", "bicubic"),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False, "crop_size": 99}, "squash", "bicubic"),
        ({"image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor"}, "shortest", "bicubic"),
    ],
)
def test_every_way_of_preparing_images_that_both_have(folder, change, mode, interpolation):
    values = {key: value for key, value in {**PROCESSOR, **change}.items() if value is not None}
    write(folder / "preprocessor_config.json", values)
    preprocess = load_clip(ModelSource(str(folder))).preprocess
    assert (preprocess.resize_mode, preprocess.interpolation) == (mode, interpolation)
    assert preprocess.size == 32 and preprocess.std == (0.2, 0.25, 0.3)


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"shortest_edge": 36}},
        {"size": {"longest_edge": 32}},
        {"size": {"shortest_edge": 32, "longest_edge": 64}},
        {"size": {}},
        {"size": None},
        {"size": True},
        {"size": {"height": 32, "width": 40}},
        {"crop_size": {"height": 28, "width": 28}},
        {"crop_size": {"height": 32}},
        {"do_center_crop": False},
        {"do_center_crop": "yes"},
        {"do_resize": False},
        {"do_normalize": False},
        {"do_rescale": 0},
        {"rescale_factor": 1.0},
        {"rescale_factor": float("nan")},
        {"resample": 1},
        {"resample": "bicubic"},
        {"resample": True},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": ["a", "b", "c"]},
        {"image_std": [0.2, 0.0, 0.2]},
        {"image_std": [0.2, float("inf"), 0.2]},
        {"image_processor_type": "ViTImageProcessor"},
        {"image_processor_type": ["CLIPImageProcessor"]},
    ],
)
def test_images_prepared_otherwise_are_refused(folder, change):
    write(folder / "preprocessor_config.json", {**PROCESSOR, **change})
    with pytest.raises(InputError) as caught:
        resolve(ModelSource(str(folder)))
    assert "preprocessor_config.json" in caught.value.message and "\n" not in caught.value.message


def test_what_is_not_said_about_images_is_not_assumed(folder):
    for key in ("size", "resample", "image_mean", "image_std"):
        write(folder / "preprocessor_config.json", {name: PROCESSOR[name] for name in PROCESSOR if name != key})
        with pytest.raises(InputError, match=f"does not say {key}"):
            resolve(ModelSource(str(folder)))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="does not say how images are prepared") as caught:
        resolve(ModelSource(str(folder)))
    assert "preprocessor_config.json" in caught.value.hint and "config.json, model.safetensors" in caught.value.hint


def test_the_processor_file_of_version_5(folder):
    (folder / "preprocessor_config.json").unlink()
    write(folder / "processor_config.json", {"image_processor": PROCESSOR, "processor_class": "CLIPProcessor"})
    assert resolve(ModelSource(str(folder))).preprocess["mean"] == (0.5, 0.4, 0.3)
    write(folder / "preprocessor_config.json", PROCESSOR)
    assert resolve(ModelSource(str(folder))).preprocess["mean"] == (0.5, 0.4, 0.3)
    write(folder / "preprocessor_config.json", {**PROCESSOR, "resample": 2})
    with pytest.raises(InputError, match="two ways"):
        resolve(ModelSource(str(folder)))
    write(folder / "processor_config.json", {"processor_class": "CLIPProcessor"})
    assert resolve(ModelSource(str(folder))).preprocess["interpolation"] == "bilinear"
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="no usable image processor"):
        resolve(ModelSource(str(folder)))


def test_a_tokenizer_must_have_clips_vocabulary(folder):
    clip = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in clip.encoder.items()}
    assert vocabulary["<|endoftext|>"] == 49407
    merges = [list(pair) for pair in clip.bpe_ranks]
    write(folder / "vocab.json", vocabulary)
    write(folder / "tokenizer.json", {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}})
    resolve(ModelSource(str(folder)))
    joined = [" ".join(pair) for pair in merges]
    write(folder / "tokenizer.json", {"model": {"type": "BPE", "vocab": vocabulary, "merges": joined}})
    (folder / "vocab.json").unlink()
    resolve(ModelSource(str(folder)))
    for name, document in (
        ("tokenizer.json", {"model": {"vocab": vocabulary, "merges": joined[::-1]}}),
        ("tokenizer.json", {"model": {"vocab": {**vocabulary, "dog</w>": vocabulary["cat</w>"]}, "merges": joined}}),
        ("tokenizer.json", {"model": {"vocab": vocabulary, "merges": 7}}),
        ("tokenizer.json", {"model": {"vocab": vocabulary, "merges": [None, [1, 2], 3]}}),
        ("tokenizer.json", {"model": [1]}),
        ("tokenizer.json", {}),
        ("vocab.json", {"a": 0}),
        ("vocab.json", [1, 2]),
        ("vocab.json", {**vocabulary, "extra": 49408}),
    ):
        (folder / "tokenizer.json").unlink(missing_ok=True)
        write(folder / name, document)
        with pytest.raises(InputError, match=name):
            resolve(ModelSource(str(folder)))


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "sub/model.safetensors",
        "..",
        ".hidden.safetensors",
        "a\nb.safetensors",
        "a\0b.safetensors",
        "pytorch_model.bin",
        "absent.safetensors",
        "x" * 300 + ".safetensors",
        "",
        None,
        3,
        ["model.safetensors"],
        {},
    ],
)
def test_an_index_names_files_of_the_folder_and_nothing_else(folder, name):
    weights = folder / "model.safetensors"
    weights.rename(folder / "one.safetensors")
    write(folder / "model.safetensors.index.json", {"weight_map": {"logit_scale": name}})
    with pytest.raises(InputError) as caught:
        resolve(ModelSource(str(folder)))
    assert "\n" not in caught.value.message and "\0" not in caught.value.message


def test_an_index_that_disagrees_with_its_files_is_refused(folder):
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    for weight_map in (dict.fromkeys(names[1:], "one.safetensors"), dict.fromkeys([*names, "b"], "one.safetensors")):
        write(index, {"weight_map": weight_map})
        with pytest.raises(InputError, match="disagree about the tensor"):
            resolve(ModelSource(str(folder)))
    shutil.copy(folder / "one.safetensors", folder / "two.safetensors")
    write(index, {"weight_map": {name: f"{'one' if name == names[0] else 'two'}.safetensors" for name in names}})
    with pytest.raises(InputError, match="is there twice"):
        resolve(ModelSource(str(folder)))
    for document in ({}, {"weight_map": []}, {"weight_map": {}}, [1], {"weight_map": None}):
        write(index, document)
        with pytest.raises(InputError):
            resolve(ModelSource(str(folder)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "clip_vision_model"}, "clip_vision_model"),
        ({"model_type": "siglip"}, "siglip"),
        ({"projection_dim": 16}, "projection"),
        ({"projection_dim": 10**12}, "projection_dim"),
    ],
)
def test_other_models_and_weights_of_other_sizes_are_refused(folder, base, change, message):
    write(folder / "config.json", {**transformers_config(base.model_config), **change})
    with pytest.raises(FigclipError, match=message) as caught:
        load_clip(ModelSource(str(folder)))
    assert caught.value.exit_code == 3 and "\n" not in caught.value.message


def test_a_folder_that_lacks_a_file_says_what_it_must_hold(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights") as caught:
        resolve(ModelSource(str(folder)))
    assert "pytorch_model.bin" in caught.value.hint
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="is not a model folder") as caught:
        resolve(ModelSource(str(folder)))
    assert "open_clip_model.safetensors" in caught.value.hint and "preprocessor_config.json" in caught.value.hint
    with pytest.raises(UsageError, match="does not go with"):
        resolve(ModelSource(str(folder), "openai"))


def test_values_that_are_not_finite_are_named_as_open_clip_names_them(folder):
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.encoder.layers.1.self_attn.k_proj.weight"][3, 3] = float("nan")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="resblocks.1.attn.in_proj_weight has a value that is not finite"):
        load_clip(ModelSource(str(folder)))
