"""Model folders and files made to do harm: each ends in one line, at once, before anything large is made."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models import architecture
from figclip_cli.models.clip import build_architecture, load_clip
from figclip_cli.models.model_config import check_model_config
from figclip_cli.models.source import ModelSource

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


@pytest.fixture
def no_memory(monkeypatch):
    """Fail if a module is built for real."""

    def build(config):
        if torch.empty(1).device.type != "meta":
            raise AssertionError("built for real")
        return build_architecture(config)

    monkeypatch.setattr(architecture, "build_architecture", build)


def edit_config(folder, change):
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(source, error=InputError):
    with pytest.raises(error) as caught:
        load_clip(source if isinstance(source, ModelSource) else ModelSource(str(source)))
    for text in (caught.value.message, caught.value.hint):
        assert "\n" not in text and "\0" not in text and len(text) < 1000
    return caught.value.message


def safetensors(header, data=b"", length=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        safetensors(b""),
        safetensors({"a": F32}, bytes(8), length=1 << 60),
        safetensors({"a": F32}, bytes(8), length=(1 << 64) - 1),
        safetensors({"a": F32}, bytes(4)),
        safetensors({"a": F32}, bytes(16)),
        safetensors({"a": {**F32, "shape": [1 << 40]}}, bytes(8)),
        safetensors({"a": {**F32, "shape": [1 << 62, 1 << 62]}}, bytes(8)),
        safetensors({"a": {**F32, "shape": [-2]}}, bytes(8)),
        safetensors({"a": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
        safetensors({"a": {**F32, "data_offsets": [1 << 50, (1 << 50) + 8]}}, bytes(8)),
        safetensors({"a": F32, "b": F32}, bytes(8)),
        safetensors({"a": {**F32, "dtype": "F7"}}, bytes(8)),
        safetensors({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, bytes(8)),
        safetensors({"a\nb": F32}, bytes(8)),
        safetensors({"a" * 5000: F32}, bytes(8)),
        safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        safetensors(b'{"a":\xff\xfe}'),
        safetensors({"__metadata__": {"a": 1}}),
        b"\x80\x04\x95" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"{" * 1000,
    ],
)
@pytest.mark.parametrize("name", [WEIGHTS, "open_clip_pytorch_model.bin"])
def test_headers_that_lie_are_refused(folder, content, name, no_memory):
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    assert "cannot be loaded" in refused(folder)


def test_truncated_files_are_refused(folder, no_memory):
    whole = (folder / WEIGHTS).read_bytes()
    for length in (1, 8, 100, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:length])
        assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("visual.proj", None, "visual.proj is missing"),
        ("visual.proj", torch.zeros(32, 33), r"visual.proj has shape \(32, 33\), the configuration says \(32, 32\)"),
        ("visual.positional_embedding", torch.zeros(5, 32), "visual.positional_embedding has shape"),
        ("positional_embedding", torch.zeros(78, 32), "positional_embedding has shape"),
        ("visual.proj", torch.zeros(32, 32, dtype=torch.int32), "of type int32"),
        ("visual.proj", torch.zeros(32, 32, dtype=torch.bool), "of type bool"),
        ("one\nmore", torch.zeros(1), "has no tensor"),
        ("image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight", torch.zeros(1), "cannot be loaded"),
        ("vision_model.embeddings.class_embedding", torch.zeros(1), "cannot be loaded"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_the_model_is_built(folder, name, tensor, message, no_memory):
    state = load_file(folder / WEIGHTS)
    state.pop(name, None)
    save_file(state if tensor is None else {**state, name: tensor}, folder / WEIGHTS)
    with pytest.raises(InputError, match=message):
        load_clip(ModelSource(str(folder)))
    refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["logit_scale", "transformer.resblocks.0.mlp.c_fc.bias"])
def test_values_that_are_not_finite_are_refused(folder, value, name):
    state = load_file(folder / WEIGHTS)
    state[name].view(-1)[-1] = value
    save_file(state, folder / WEIGHTS)
    assert f"the tensor {name} has a value that is not finite" in refused(folder)


SIZES = [
    *(("vision_cfg", key) for key in ("layers", "width", "head_width", "patch_size", "image_size", "mlp_ratio")),
    *(("text_cfg", key) for key in ("layers", "width", "heads", "context_length", "vocab_size", "mlp_ratio")),
    ("model_cfg", "embed_dim"),
]
NO_SIZES = [
    10**12,
    10**9,
    10**400,
    -1,
    0,
    True,
    1.5e300,
    float("nan"),
    "32",
    None,
    [],
    {},
    [[[[2]]]],
    [10**9] * 4,
    "a\n",
]


@pytest.mark.parametrize(("part", "key"), SIZES)
def test_sizes_that_are_none_are_refused_before_anything_is_built(folder, part, key, monkeypatch):
    monkeypatch.setattr(architecture, "build_architecture", lambda config: pytest.fail("built"))
    document = json.loads((folder / "open_clip_config.json").read_text())
    for value in NO_SIZES:
        changed = copy.deepcopy(document)
        (changed["model_cfg"] if part == "model_cfg" else changed["model_cfg"][part])[key] = value
        (folder / "open_clip_config.json").write_text(json.dumps(changed))
        assert key in refused(folder)


def test_sizes_within_bounds_that_the_weights_do_not_have_cost_no_memory(folder, no_memory):
    for part, values in (
        ("vision_cfg", {"layers": 512}),
        ("vision_cfg", {"width": 65_536, "head_width": 64}),
        ("vision_cfg", {"image_size": 8192, "patch_size": 1}),
        ("text_cfg", {"vocab_size": 4_000_000, "width": 65_536, "heads": 1}),
        ("text_cfg", {"context_length": 4096}),
    ):
        shutil.copy(folder / "open_clip_config.json", folder / "kept")
        edit_config(folder, lambda document, p=part, v=values: document["model_cfg"][p].update(v))
        message = refused(folder)
        assert "the configuration says" in message or "is missing" in message
        shutil.move(folder / "kept", folder / "open_clip_config.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["model_cfg"].update(quick_gelu="false"),
        lambda config: config["model_cfg"].update(quick_gelu=None),
        lambda config: config["model_cfg"].update(quick_gelu=0),
        lambda config: config["model_cfg"].update(custom_text="no"),
        lambda config: config["model_cfg"].update(vision_cfg=3),
        lambda config: config["model_cfg"].update(text_cfg=None),
        lambda config: config["model_cfg"].update(multimodal_cfg=[]),
        lambda config: config["model_cfg"].update(no_such="x\ny"),
        lambda config: config["model_cfg"].update(init_logit_scale="hot"),
        lambda config: config["model_cfg"]["vision_cfg"].update(head_width=5),
        lambda config: config["model_cfg"]["vision_cfg"].update(layers=[1, 2]),
        lambda config: config["model_cfg"]["text_cfg"].update(heads=3),
        lambda config: config["model_cfg"]["text_cfg"].update({"no\nkey": 1}),
        lambda config: config["model_cfg"]["vision_cfg"].update(pool_type="sum"),
        lambda config: config["model_cfg"]["vision_cfg"].update(attentional_pool=True, attn_pooler_queries=10**12),
        lambda config: config["model_cfg"]["vision_cfg"].update(timm_model_name="hf-hub:someone/evil"),
        lambda config: config["model_cfg"]["vision_cfg"].update(timm_model_name="local-dir:/tmp"),
        lambda config: config["model_cfg"]["vision_cfg"].update(timm_model_name="no_such_model"),
        lambda config: config["model_cfg"]["vision_cfg"].update(timm_model_name=["vit"]),
        lambda config: config["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}),
        lambda config: config["model_cfg"]["text_cfg"].update(tokenizer_kwargs="x"),
        lambda config: config.update(preprocess_cfg="abc"),
        lambda config: config.update(preprocess_cfg=[1]),
        lambda config: config["preprocess_cfg"].update(mean=[0.5, None, 0.5]),
        lambda config: config["preprocess_cfg"].update(mean=[float("nan")] * 3),
        lambda config: config["preprocess_cfg"].update(std=[0.1, 0.0, 0.1]),
        lambda config: config["preprocess_cfg"].update(std=[0.1] * 4),
        lambda config: config["preprocess_cfg"].update(std="abc"),
        lambda config: config["preprocess_cfg"].update(interpolation="random"),
        lambda config: config["preprocess_cfg"].update(resize_mode=["squash"]),
        lambda config: config["preprocess_cfg"].update(mode="L"),
    ],
)
def test_entries_of_the_wrong_kind_are_refused(folder, change, no_memory):
    edit_config(folder, change)
    refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 200_000,
        b"[1]",
        b"null",
        b"7" * 6000,
        b'{"model_cfg": {"embed_dim": ' + b"9" * 6000 + b"}}",
    ],
)
def test_files_that_are_no_configuration_are_refused(folder, content):
    (folder / "open_clip_config.json").write_bytes(content)
    refused(folder)
    (folder / "config.json").write_bytes(content)
    (folder / "open_clip_config.json").unlink()
    refused(folder)


def test_every_architecture_and_tag_of_open_clip_passes_the_checks():
    import open_clip

    from figclip_cli.models.preprocess_config import checked_preprocess

    for name in open_clip.list_models():
        check_model_config(open_clip.get_model_config(name), name)
        for tag in open_clip.list_pretrained_tags_by_model(name):
            checked_preprocess(dict(open_clip.get_pretrained_cfg(name, tag)), tag)


@pytest.mark.parametrize("key", ["hf_model_name", "hf_tokenizer_name"])
@pytest.mark.parametrize(
    "name",
    ["someone/evil", "../evil", "/tmp/evil", "hf-hub:someone/evil", "a\nb", "", 3, "x" * 300, "bert-base-uncased"],
)
def test_a_folder_cannot_make_anything_be_fetched(folder, key, name, tmp_path, monkeypatch):
    import huggingface_hub.file_download as hub

    def fetched(*_, **__):
        raise AssertionError("the network was asked")

    for function in ("hf_hub_download", "_hf_hub_download_to_cache_dir", "get_hf_file_metadata"):
        monkeypatch.setattr(hub, function, fetched)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    edit_config(folder, lambda document: document["model_cfg"]["text_cfg"].update({key: name}))
    assert key in refused(folder)


def test_a_repository_of_the_cache_with_code_of_its_own_is_refused(folder, tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--evil"
    (repository / "snapshots" / "1").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1")
    document = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    for file in ("config.json", "tokenizer_config.json"):
        (repository / "snapshots" / "1" / file).write_text(json.dumps(document))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for key in ("hf_model_name", "hf_tokenizer_name"):
        edit_config(folder, lambda document, k=key: document["model_cfg"]["text_cfg"].update({k: "someone/evil"}))
        assert "code of its own" in refused(folder)


def test_pipes_devices_and_folders_where_files_belong_are_refused_at_once(folder, tmp_path):
    weights, config = folder / WEIGHTS, folder / "open_clip_config.json"
    shutil.copy(config, folder / "kept.json")

    def put(path, kind):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else path if kind == "loop" else tmp_path / "nowhere")

    for path in (weights, config):
        for kind in ("pipe", "device", "folder", "loop", "dangling"):
            put(path, kind)
            message = refused(folder)
            assert path.name in message and ("\n" not in message)
        path.unlink()
        if path is weights:
            (folder / WEIGHTS).write_bytes(b"")
    shutil.move(folder / "kept.json", config)
    for name in ("pipe.pt", "device.pt", "dangling.pt", "loop.pt"):
        put(tmp_path / name, name.removesuffix(".pt"))
        refused(ModelSource(str(tmp_path / name), None, "gelu"))
        refused(ModelSource("ViT-B-32-quickgelu", str(tmp_path / name), "gelu"))


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 5000, "/" * 5000, "", ".", "..", "/dev/zero", "/dev/null", "~"])
def test_names_that_are_no_model_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, UsageError)) as caught:
        load_clip(ModelSource(name))
    assert "\n" not in caught.value.message and len(caught.value.message) < 1000


def test_nothing_is_written_beside_a_refused_model(folder):
    (folder / WEIGHTS).write_bytes(b"\x80")
    before = sorted(path.name for path in Path(folder).iterdir())
    refused(folder)
    assert sorted(path.name for path in Path(folder).iterdir()) == before
