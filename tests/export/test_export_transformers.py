"""The transformers export: opened by transformers itself with its own processor and tokenizer."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from crafted_run import GELU_MODEL_CFG, TINY_MODEL_CFG, craft_run, material_of, outputs_here, save_model
from PIL import Image
from safetensors.torch import load_file, save_file

from figclip_cli.errors import UsageError
from figclip_cli.export import ExportOptions
from figclip_cli.export.formats import format_named
from figclip_cli.export.formats import transformers as transformers_format
from figclip_cli.export.formats.transformers import processor_config
from figclip_cli.export.samples import TEXTS
from figclip_cli.export.verify import compare
from figclip_cli.models.clip import Preprocess
from figclip_cli.models.transformers_clip import from_transformers

PREPROCESS = Preprocess(32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic", "shortest")


@pytest.fixture(scope="module")
def made():
    return format_named("transformers")


@pytest.fixture(scope="module")
def crafted(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers")
    return material_of(craft_run(finished_run, folder / "run", save_model(folder / "base", GELU_MODEL_CFG)))


@pytest.fixture(scope="module")
def written(made, crafted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers") / "out"
    folder.mkdir()
    made.write(folder, crafted[0])
    return folder


@pytest.fixture(scope="module")
def tokenizer(written):
    from transformers import CLIPTokenizerFast

    return CLIPTokenizerFast.from_pretrained(written)


def test_transformers_gives_the_adapted_models_features(made, written, crafted):
    _, samples, reference = crafted
    comparison = compare(reference, outputs_here(made, written, samples))
    assert comparison.problem is None and set(comparison.differences) == {"image", "text", "logits"}


def test_the_weights_are_the_merged_ones_bit_for_bit(written, crafted):
    material = crafted[0]
    back = from_transformers(load_file(written / "model.safetensors"), material.clip.model_config)
    assert back.keys() == material.state.keys()
    assert all(torch.equal(tensor, material.state[name]) for name, tensor in back.items())


def test_the_configuration_leaves_nothing_to_a_default(written):
    config = json.loads((written / "config.json").read_text())
    assert {config[f"{tower}_config"]["hidden_act"] for tower in ("text", "vision")} == {"gelu"}
    assert config["torch_dtype"] == "float32" and config["text_config"]["eos_token_id"] == 49407


def change_weights(folder, change):
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def swap_q_and_k(folder):
    def change(state):
        for name in [name for name in state if name.startswith("vision_model") and ".q_proj." in name]:
            other = name.replace(".q_proj.", ".k_proj.")
            state[name], state[other] = state[other], state[name]

    change_weights(folder, change)


def transpose_a_projection(folder):
    def change(state):
        state["text_projection.weight"] = state["text_projection.weight"].t().contiguous()

    change_weights(folder, change)


def forget_the_activation(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for tower in ("text_config", "vision_config"):
        del config[tower]["hidden_act"]
    path.write_text(json.dumps(config))


def forget_the_normalisation(folder):
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text())
    del config["image_mean"]
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "mistake", [swap_q_and_k, transpose_a_projection, forget_the_activation, forget_the_normalisation]
)
def test_a_mistake_is_found(made, written, crafted, tmp_path, mistake):
    _, samples, reference = crafted
    folder = shutil.copytree(written, tmp_path / "copy")
    mistake(folder)
    assert compare(reference, outputs_here(made, folder, samples)).problem is not None


@pytest.mark.parametrize(("dtype", "name"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_weights_are_cast_and_the_configuration_says_so(made, crafted, tmp_path, monkeypatch, dtype, name):
    monkeypatch.setattr(transformers_format, "write_tokenizer_files", lambda *_: None)
    made.write(tmp_path, dataclasses.replace(crafted[0], options=ExportOptions(dtype=dtype)))
    state = load_file(tmp_path / "model.safetensors")
    assert state.pop("logit_scale").dtype == torch.float32  # one number, on which every logit hangs
    assert {tensor.dtype for tensor in state.values()} == {getattr(torch, name)}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == name


TOO_LONG = "a small dog and a big cat " * 20


def test_tokens_are_open_clips(tokenizer):
    from open_clip.tokenizer import SimpleTokenizer

    texts = [*TEXTS, TOO_LONG, "", "It's 10:45, we'll\tsee  you  NOT there!! #1", "日本語 and émigré"]
    ours = SimpleTokenizer()(texts)
    found = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    assert found["input_ids"].shape == ours.shape == (len(texts), 77)
    for text, row, mask, expected in zip(texts, found["input_ids"], found["attention_mask"], ours, strict=True):
        length = int(expected.argmax()) + 1  # open_clip fills up with 0, CLIP's own tokenizer with the end
        assert row[:length].tolist() == expected[:length].tolist(), text
        assert set(row[length - 1 :].tolist()) == {49407} and int(mask.sum()) == length
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 49407)


def test_the_fast_tokenizer_file_alone_gives_the_same_ids(written, tokenizer):
    from tokenizers import Tokenizer

    alone = Tokenizer.from_file(str(written / "tokenizer.json"))
    assert all(alone.encode(text).ids == tokenizer(text)["input_ids"] for text in TEXTS)


def test_the_vocabulary_files_say_the_same(written):
    vocabulary = json.loads((written / "vocab.json").read_text(encoding="utf-8"))
    merges = (written / "merges.txt").read_text(encoding="utf-8").splitlines()
    model = json.loads((written / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert model["vocab"] == vocabulary and model["merges"] == merges[1:] and len(vocabulary) == 49408
    assert all(merge.replace(" ", "") in vocabulary for merge in merges[1:])


def test_auto_classes_find_the_processor(written):
    from transformers import AutoProcessor, AutoTokenizer

    assert type(AutoProcessor.from_pretrained(written)).__name__ == "CLIPProcessor"
    assert AutoTokenizer.from_pretrained(written).model_max_length == 77


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_pictures_of_any_shape_are_prepared_alike(tmp_path, resize_mode):
    """transformers 5 resizes with torchvision, which rounds to another grey level here and there."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from transformers import CLIPImageProcessor

    preprocess = dataclasses.replace(PREPROCESS, resize_mode=resize_mode)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor_config(preprocess)))
    rows, columns = np.mgrid[0:180, 0:320]
    picture = Image.fromarray(np.stack([rows, columns * 0.8, (rows + columns) % 256], -1).astype(np.uint8))
    ours = image_transform_v2(PreprocessCfg(**preprocess.as_dict()), is_train=False)(picture)
    theirs = CLIPImageProcessor.from_pretrained(tmp_path)(images=picture, return_tensors="pt")["pixel_values"][0]
    assert theirs.shape == ours.shape == (3, 32, 32)
    assert (theirs - ours).abs().max() < 1.01 / 255 / min(preprocess.std)


def configuration(model_cfg=TINY_MODEL_CFG, **preprocess):
    return {
        "lora": {"rank": 2},
        "model": {"model_cfg": model_cfg, "preprocess_cfg": {**PREPROCESS.as_dict(), **preprocess}},
    }


OTHER_TOWERS = {
    "timm": {**TINY_MODEL_CFG, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224}},
    "resnet": {**TINY_MODEL_CFG, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}},
    "coca": {**TINY_MODEL_CFG, "multimodal_cfg": {"width": 32}},
    "text": {**TINY_MODEL_CFG, "text_cfg": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}},
    "tokenizer": {**TINY_MODEL_CFG, "text_cfg": {**TINY_MODEL_CFG["text_cfg"], "hf_tokenizer_name": "t5-base"}},
}


@pytest.mark.parametrize("name", ["transformers", "peft"])
@pytest.mark.parametrize("other", OTHER_TOWERS)
def test_other_towers_and_tokenizers_are_refused(name, other):
    with pytest.raises(UsageError) as caught:
        format_named(name).check(configuration(OTHER_TOWERS[other]), ExportOptions())
    assert "CLIPModel" in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["transformers", "peft"])
@pytest.mark.parametrize("preprocess", [{"resize_mode": "longest"}, {"interpolation": "random"}, {"resize_mode": None}])
def test_other_preprocessing_is_refused(name, preprocess):
    with pytest.raises(UsageError, match="CLIPImageProcessor has no counterpart of"):
        format_named(name).check(configuration(**preprocess), ExportOptions())


def test_a_run_tuned_in_full_is_held(made):
    made.check({**configuration(), "lora": {"rank": 0}}, ExportOptions())


def test_the_lines_on_the_card_do_what_they_say(made, written, crafted):
    picture = Image.fromarray(crafted[1].images[0].numpy())
    names = {"picture": picture}
    exec(made.usage(crafted[0]).replace("FOLDER", str(written)), names)
    outputs = names["outputs"]
    expected = torch.nn.functional.normalize(crafted[2].adapted["image"][:1], dim=-1)
    assert torch.allclose(outputs.image_embeds.detach(), expected, atol=1e-5)
    assert outputs.logits_per_image.shape == (1, 1)
