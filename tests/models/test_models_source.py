"""Where models come from: folders, names, tags and files; and every way in which that goes wrong."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models import source as source_module
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource, default_source, resolve


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def edit_config(folder, change):
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_folder_gives_features_equal_to_open_clips_own_loading(tiny_model):
    import open_clip
    from PIL import Image

    clip = load_clip(ModelSource(str(tiny_model)))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_model}")
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    images = torch.stack([preprocess(Image.fromarray(picture.numpy())) for picture in pixels])
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_model}")(["a dog", "two cats"])
    with torch.no_grad():
        assert torch.allclose(clip.encode_frames(pixels), theirs.eval().encode_image(images), atol=1e-6)
        assert torch.allclose(clip.encode_texts(["a dog", "two cats"]), theirs.encode_text(tokens), atol=1e-6)
    assert clip.preprocess.mean == (0.5, 0.4, 0.3) and clip.model_config["quick_gelu"] is True


def test_the_activation_of_the_folder_is_the_one_that_is_built(folder):
    quick = load_clip(ModelSource(str(folder)))
    edit_config(folder, lambda document: document["model_cfg"].pop("quick_gelu"))
    plain = load_clip(ModelSource(str(folder)))
    assert plain.model_config["quick_gelu"] is False
    pixels = torch.full((1, 32, 32, 3), 90, dtype=torch.uint8)
    assert not torch.allclose(quick.encode_frames(pixels), plain.encode_frames(pixels), atol=1e-5)


def test_equal_weights_have_equal_hashes_and_one_changed_value_another(folder, tiny_model):
    original = load_clip(ModelSource(str(tiny_model))).sha256
    assert load_clip(ModelSource(str(folder))).sha256 == original
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] += 1e-3
    save_file(weights, folder / "open_clip_model.safetensors")
    assert load_clip(ModelSource(str(folder))).sha256 != original


def test_a_name_with_a_local_file_needs_the_activation(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    file.touch()
    with pytest.raises(UsageError, match="GELU or QuickGELU") as error:
        resolve(ModelSource("ViT-B-32", str(file)))
    assert "--activation" in error.value.hint
    assert resolve(ModelSource("ViT-B-32", str(file), "quickgelu")).model_config["quick_gelu"] is True
    assert resolve(ModelSource("ViT-B-32", str(file), "gelu")).model_config["quick_gelu"] is False
    assert resolve(ModelSource("ViT-B-32-quickgelu", str(file))).model_config["quick_gelu"] is True


def test_a_tag_decides_the_activation_even_when_the_name_says_otherwise(monkeypatch, tmp_path):
    import open_clip.pretrained

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", lambda entry: str(tmp_path / "weights.bin"))
    resolved = resolve(ModelSource("ViT-B-32", "openai"))
    assert resolved.model_config["quick_gelu"] is True
    assert "QuickGELU" in resolved.remarks[0]
    assert resolve(ModelSource("ViT-B-32-quickgelu", "openai")).remarks == ()
    assert resolve(ModelSource("ViT-B-32", "laion2b_s34b_b79k")).model_config["quick_gelu"] is False
    with pytest.raises(UsageError, match="contradicts"):
        resolve(ModelSource("ViT-B-32", "openai", "gelu"))


def test_weights_that_cannot_be_had_offline_say_what_to_bring(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match="not on this machine") as error:
        resolve(ModelSource("ViT-B-32-quickgelu", "openai"))
    assert "open_clip_config.json and open_clip_model.safetensors" in error.value.hint
    assert "--pretrained FILE" in error.value.hint


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (ModelSource("ViT-B-23", "openai"), InputError, "'ViT-B-23' does not exist"),
        (ModelSource("models/absent"), InputError, "model folder or name 'models/absent' does not exist"),
        (ModelSource("ViT-B-32", "opanai"), InputError, "neither a weights file nor a pretrained tag"),
        (ModelSource("ViT-B-32"), UsageError, "needs weights"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(asked, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(asked)
    assert caught.value.hint


def test_the_nearest_name_is_offered():
    with pytest.raises(InputError) as caught:
        resolve(ModelSource("ViT-B-32-quikgelu", "openai"))
    assert "'ViT-B-32-quickgelu'" in caught.value.hint


def test_a_folder_without_its_files_says_what_it_must_hold(folder):
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights") as caught:
        resolve(ModelSource(str(folder)))
    assert "open_clip_model.safetensors" in caught.value.hint
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match="open_clip_config.json is missing"):
        resolve(ModelSource(str(folder)))


def test_a_folder_does_not_take_a_tag_nor_a_contradicting_activation(folder):
    with pytest.raises(UsageError, match="does not go with"):
        resolve(ModelSource(str(folder), "openai"))
    with pytest.raises(UsageError, match="contradicts"):
        resolve(ModelSource(str(folder), None, "gelu"))


def test_damaged_or_foreign_weights_are_one_line(folder):
    weights = folder / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_clip(ModelSource(str(folder)))
    assert "\n" not in caught.value.message
    tensors = {"visual.proj": torch.zeros(3, 3)}
    save_file(tensors, weights)
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_clip(ModelSource(str(folder)))
    assert "\n" not in caught.value.message


def test_a_pickle_with_code_is_not_run(folder, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "open_clip_model.safetensors").unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(ModelSource(str(folder)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("model_cfg"),
        lambda document: document["model_cfg"].pop("vision_cfg"),
        lambda document: document.update(model_cfg=[1]),
    ],
)
def test_a_configuration_without_its_parts_is_refused(folder, change):
    edit_config(folder, change)
    with pytest.raises(InputError, match="no usable model_cfg"):
        resolve(ModelSource(str(folder)))


def test_a_configuration_that_cannot_be_built_is_one_line(folder):
    edit_config(folder, lambda document: document["model_cfg"]["vision_cfg"].update(no_such_key=1))
    with pytest.raises(InputError, match="cannot be built"):
        load_clip(ModelSource(str(folder)))


def test_without_a_model_the_default_folder_is_used_or_its_absence_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no model was named") as caught:
        default_source()
    assert "--model" in caught.value.hint
    (tmp_path / source_module.DEFAULT_FOLDER).mkdir()
    assert default_source() == ModelSource("base-model")


def test_frames_of_another_size_are_refused(tiny_model):
    clip = load_clip(ModelSource(str(tiny_model)))
    clip.check_frames(size=32, crop="center", interpolation="bicubic")
    warnings = []
    listening = SimpleNamespace(warn=warnings.append)
    for crop, interpolation in (("center", "bicubic"), ("center-0.875", "bicubic"), ("squash", "bilinear")):
        clip.check_frames(size=32, crop=crop, interpolation=interpolation, reporter=listening)
    assert [warning.split(" was trained with ")[1] for warning in warnings] == [
        "the crop 'center', the frames have 'squash'",
        "the interpolation 'bicubic', the frames have 'bilinear'",
    ]
    with pytest.raises(InputError, match="224 x 224") as caught:
        clip.check_frames(size=224, crop="center", interpolation="bicubic")
    assert "--size 32" in caught.value.hint


def test_an_absent_gpu_is_said():
    from figclip_cli.models.clip import choose_device

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="no CUDA device"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


@pytest.fixture
def registered_name(tiny_model, tmp_path):
    """The tiny architecture under a name of its own in open_clip's registry, GELU by default."""
    import open_clip
    from open_clip import factory

    config = json.loads((tiny_model / "open_clip_config.json").read_text())["model_cfg"]
    del config["quick_gelu"]
    (tmp_path / "tiny-by-name.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-by-name.json")
    yield "tiny-by-name"
    factory._MODEL_CONFIG_PATHS.remove(tmp_path / "tiny-by-name.json")
    factory._MODEL_CONFIGS.pop("tiny-by-name")


def test_a_name_with_a_local_file_loads_with_the_stated_activation(tiny_model, registered_name):
    weights = str(tiny_model / "open_clip_model.safetensors")
    folder = load_clip(ModelSource(str(tiny_model)))
    quick, plain = (load_clip(ModelSource(registered_name, weights, word)) for word in ("quickgelu", "gelu"))
    texts = ["a dog on a boat"]
    assert torch.equal(quick.encode_texts(texts), folder.encode_texts(texts)) and quick.sha256 == folder.sha256
    assert not torch.allclose(plain.encode_texts(texts), folder.encode_texts(texts), atol=1e-5)
    assert quick.name == "tiny-by-name" and quick.preprocess.mean[0] == pytest.approx(0.48145466)
