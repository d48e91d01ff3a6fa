"""The loralib export: the tensors and layers that loralib itself would make, merged by loralib to the same model."""

from __future__ import annotations

import dataclasses
import json
import shutil

import loralib
import pytest
import torch
from crafted_run import GELU_MODEL_CFG, TINY_MODEL_CFG, craft_run, material_of, outputs_here, save_model
from safetensors.torch import load_file, save_file
from torch import nn

from figclip_cli.errors import UsageError
from figclip_cli.export import ExportOptions
from figclip_cli.export.formats import format_named
from figclip_cli.export.formats.loralib import CONFIG_NAME, WEIGHTS_NAME, loralib_layers
from figclip_cli.export.verify import compare

RESNET = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "patch_size": None}


@pytest.fixture(scope="module")
def made():
    return format_named("loralib")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("loralib") / "base", GELU_MODEL_CFG)


@pytest.fixture(scope="module")
def crafted(base, finished_run, tmp_path_factory):
    return material_of(craft_run(finished_run, tmp_path_factory.mktemp("loralib") / "run", base))


@pytest.fixture(scope="module")
def written(made, crafted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loralib") / "out"
    folder.mkdir()
    made.write(folder, crafted[0])
    return folder


def module_tree(rows):
    """A model whose adapted layers are loralib's, under their names."""
    root = nn.Module()
    for row in rows:
        node = root
        *parents, last = row["name"].split(".")
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, nn.Module())
            node = getattr(node, parent)
        node.add_module(last, getattr(loralib, row["kind"])(**row["arguments"]))
    return root


def merged_by_loralib(material):
    tensors, rows = loralib_layers(material)
    for row in rows:
        layer = getattr(loralib, row["kind"])(**row["arguments"])
        layer.weight.data = material.base_state[row["weight"]].clone()
        layer.lora_A.data, layer.lora_B.data = (tensors[f"{row['name']}.{key}"] for key in ("lora_A", "lora_B"))
        layer.eval()
        yield row, layer.weight.data


def test_loralib_gives_the_adapted_models_features(made, written, crafted, base):
    _, samples, reference = crafted
    comparison = compare(reference, outputs_here(made, written, samples, base=base))
    assert comparison.problem is None and set(comparison.differences) == {"image", "text", "logits"}


def test_the_tensors_are_those_of_loralibs_own_state_dict(written):
    config, state = json.loads((written / CONFIG_NAME).read_text()), load_file(written / WEIGHTS_NAME)
    expected = loralib.lora_state_dict(module_tree(config["modules"]))
    assert set(state) == {*expected, "logit_scale"}
    assert all(state[name].shape == tensor.shape for name, tensor in expected.items())
    assert {(row["name"].rpartition(".")[2], row["kind"]) for row in config["modules"]} == {
        ("in_proj", "MergedLinear"), ("out_proj", "Linear"), ("c_fc", "Linear"), ("c_proj", "Linear")
    }  # fmt: skip
    assert config["rank"] == 2 and config["alpha"] == 6.0
    for row in config["modules"]:
        assert row["shapes"] == {key: list(state[f"{row['name']}.{key}"].shape) for key in ("lora_A", "lora_B")}


def test_a_fused_layer_stacks_the_parts_in_order(crafted):
    tensors, _ = loralib_layers(crafted[0])
    name = "visual.transformer.resblocks.1.attn"
    parts = [crafted[0].adapter[f"{name}.{part}.lora_B"] for part in "qkv"]
    assert torch.equal(tensors[f"{name}.in_proj.lora_B"], torch.cat(parts))
    assert tensors[f"{name}.in_proj.lora_A"].shape == (6, 32) and parts[0].shape == (32, 2)


@pytest.mark.parametrize("targets", [("v",), ("q", "v"), ("k", "o"), ("fc",)])
def test_some_of_the_projections_are_enough(finished_run, base, tmp_path, targets):
    material, _, _ = material_of(
        craft_run(finished_run, tmp_path / "run", base, targets=targets, towers="image"), compared=False
    )
    for row, weight in merged_by_loralib(material):
        assert torch.allclose(weight, material.state[row["weight"]], atol=1e-6), row["name"]
        enabled = row["arguments"].get("enable_lora")
        assert enabled is None or enabled == [part in targets for part in "qkv"]


@pytest.mark.parametrize("vision", [None, RESNET], ids=["timm", "resnet"])
def test_other_towers_are_held_too(finished_run, tiny_timm_model, tmp_path, vision):
    model = save_model(tmp_path / "rn", {**TINY_MODEL_CFG, "vision_cfg": vision}) if vision else tiny_timm_model
    targets = ("q", "k", "v", "o") if vision else ("q", "v", "o", "fc", "proj")
    material, _, _ = material_of(
        craft_run(finished_run, tmp_path / "run", model, targets=targets, towers="image"), compared=False
    )
    rows = list(merged_by_loralib(material))
    assert {row["weight"] for row, _ in rows} == set(material.changed) - {"logit_scale"}
    for row, weight in rows:
        assert torch.allclose(weight, material.state[row["weight"]], atol=1e-6), row["name"]
    last_names = {row["name"].rpartition(".")[2] for row, _ in rows}
    assert last_names == ({"q_proj", "k_proj", "v_proj", "c_proj"} if vision else {"qkv", "proj", "fc1", "fc2"})


def swap_q_and_k(folder):
    path = folder / WEIGHTS_NAME
    state = load_file(path)
    for name in [name for name in state if "in_proj" in name]:
        q, k, v = state[name].chunk(3)
        state[name] = torch.cat([k, q, v])
    save_file(state, path)


def forget_alpha(folder):
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text())
    for row in config["modules"]:
        row["arguments"]["lora_alpha"] = config["rank"]
    path.write_text(json.dumps(config))


def forget_the_temperature(folder):
    path = folder / WEIGHTS_NAME
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "logit_scale"}, path)


@pytest.mark.parametrize("mistake", [swap_q_and_k, forget_alpha, forget_the_temperature])
def test_a_mistake_is_found(made, written, crafted, base, tmp_path, mistake):
    _, samples, reference = crafted
    folder = shutil.copytree(written, tmp_path / "copy")
    mistake(folder)
    assert compare(reference, outputs_here(made, folder, samples, base=base)).problem is not None


def test_a_missing_tensor_or_one_too_many_is_refused(made, written, crafted, base, tmp_path):
    folder = shutil.copytree(written, tmp_path / "copy")
    save_file({**load_file(written / WEIGHTS_NAME), "extra.lora_A": torch.zeros(1)}, folder / WEIGHTS_NAME)
    with pytest.raises(SystemExit, match="no extra.lora_A"):
        outputs_here(made, folder, crafted[1], base=base)


@pytest.mark.parametrize(("dtype", "expected"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_adapter_is_cast_and_the_temperature_is_not(made, crafted, tmp_path, dtype, expected):
    made.write(tmp_path, dataclasses.replace(crafted[0], options=ExportOptions(dtype=dtype)))
    state = load_file(tmp_path / WEIGHTS_NAME)
    assert state.pop("logit_scale") == torch.tensor(3.0) and {tensor.dtype for tensor in state.values()} == {expected}


def test_the_lines_on_the_card_do_what_they_say(made, written, crafted, base):
    material, samples, _ = crafted
    lines = made.usage(material).replace("FOLDER", str(written)).replace("local-dir:BASE", f"local-dir:{base}")
    names = {}
    exec(lines, names)
    state = names["model"].state_dict()
    assert all(torch.allclose(state[name], tensor, atol=1e-6) for name, tensor in material.state.items())
    assert len(lines.splitlines()) <= 13


def test_a_run_tuned_in_full_is_refused(made):
    with pytest.raises(UsageError, match="there is no adapter for --to loralib") as caught:
        made.check({"lora": {"rank": 0}}, ExportOptions())
    assert "open-clip" in caught.value.hint
