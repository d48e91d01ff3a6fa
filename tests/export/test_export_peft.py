"""The PEFT export: an adapter on transformers' model, applied and merged by PEFT itself."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from crafted_run import GELU_MODEL_CFG, craft_run, material_of, outputs_here, save_model
from PIL import Image
from safetensors.torch import load_file, save_file

from figclip_cli.errors import UsageError
from figclip_cli.export import ExportOptions
from figclip_cli.export.formats import format_named
from figclip_cli.export.formats.peft import CONFIG_NAME, TEMPERATURE_NAME, WEIGHTS_NAME, adapter_config, base_name
from figclip_cli.export.verify import compare, reloaded
from figclip_cli.models.source import ModelSource


@pytest.fixture(scope="module")
def made():
    return format_named("peft")


@pytest.fixture(scope="module")
def crafted(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft")
    return material_of(craft_run(finished_run, folder / "run", save_model(folder / "base", GELU_MODEL_CFG)))


@pytest.fixture(scope="module")
def base(made, crafted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft") / "base"
    folder.mkdir()
    made.base_writer(folder, dataclasses.replace(crafted[0], state=crafted[0].base_state))
    return folder


@pytest.fixture(scope="module")
def written(made, crafted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft") / "out"
    folder.mkdir()
    made.write(folder, crafted[0])
    return folder


def test_peft_gives_the_adapted_models_features_in_a_fresh_process(made, written, crafted, base):
    _, samples, reference = crafted
    comparison = compare(reference, reloaded(made, written, samples, base=base))
    assert comparison.problem is None and set(comparison.differences) == {"image", "text", "logits"}


def test_modules_go_by_their_whole_names_in_both_towers(written):
    config = json.loads((written / CONFIG_NAME).read_text())
    parts = [f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp.fc1", "mlp.fc2"]
    blocks = ["vision_model.encoder.layers.0", "vision_model.encoder.layers.1", "text_model.encoder.layers.0"]
    assert config["target_modules"] == sorted(f"{block}.{part}" for block in blocks for part in parts)
    assert config["r"] == 2 and config["lora_alpha"] == 6 and config["base_model_name_or_path"] is None
    state = load_file(written / WEIGHTS_NAME)
    assert set(state) == {
        f"base_model.model.{module}.lora_{matrix}.weight" for module in config["target_modules"] for matrix in "AB"
    }


def test_a_learned_temperature_lies_beside_the_adapter(made, written, crafted, tmp_path):
    assert load_file(written / TEMPERATURE_NAME) == {"logit_scale": torch.tensor(3.0)}
    adapter = {name: tensor for name, tensor in crafted[0].adapter.items() if name != "logit_scale"}
    material = dataclasses.replace(crafted[0], adapter=adapter)
    made.write(tmp_path, material)
    assert not (tmp_path / TEMPERATURE_NAME).exists() and "logit_scale" not in made.usage(material).split("outputs")[0]


@pytest.mark.parametrize(("dtype", "expected"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_adapter_is_cast_and_the_temperature_is_not(made, crafted, tmp_path, dtype, expected):
    made.write(tmp_path, dataclasses.replace(crafted[0], options=ExportOptions(dtype=dtype)))
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS_NAME).values()} == {expected}
    assert load_file(tmp_path / TEMPERATURE_NAME)["logit_scale"].dtype == torch.float32


def test_the_base_is_named_as_the_user_says_or_as_the_folder_it_was(crafted, base):
    material = crafted[0]
    named = dataclasses.replace(material, options=ExportOptions(base_name="openai/clip-vit-base-patch32"))
    assert adapter_config(named)["base_model_name_or_path"] == "openai/clip-vit-base-patch32"
    started_there = dataclasses.replace(material.clip, source=ModelSource(str(base)))
    assert base_name(dataclasses.replace(material, clip=started_there)) == str(base)
    assert base_name(material) is None


def test_auto_peft_model_finds_a_named_base(made, crafted, base, tmp_path):
    from peft import AutoPeftModel

    made.write(tmp_path, dataclasses.replace(crafted[0], options=ExportOptions(base_name=str(base))))
    model = AutoPeftModel.from_pretrained(str(tmp_path))
    assert type(model.get_base_model()).__name__ == "CLIPModel"


def swap_q_and_k(folder):
    path = folder / WEIGHTS_NAME
    state = load_file(path)
    for name in [name for name in state if ".q_proj." in name]:
        other = name.replace(".q_proj.", ".k_proj.")
        state[name], state[other] = state[other], state[name]
    save_file(state, path)


def forget_alpha(folder):
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 2}))


def forget_the_text_tower(folder):
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text())
    config["target_modules"] = [name for name in config["target_modules"] if name.startswith("vision")]
    path.write_text(json.dumps(config))


def forget_the_temperature(folder):
    (folder / TEMPERATURE_NAME).unlink()


@pytest.mark.parametrize("mistake", [swap_q_and_k, forget_alpha, forget_the_text_tower, forget_the_temperature])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PEFT, about tensors left over
def test_a_mistake_is_found(made, written, crafted, base, tmp_path, mistake):
    _, samples, reference = crafted
    folder = shutil.copytree(written, tmp_path / "copy")
    mistake(folder)
    assert compare(reference, outputs_here(made, folder, samples, base=base)).problem is not None


def test_merging_that_gives_other_features_is_refused(made, written, crafted, base, tmp_path, monkeypatch):
    from peft.tuners.lora import LoraModel

    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(SystemExit, match="merging the adapter moves the image features"):
        outputs_here(made, shutil.copytree(written, tmp_path / "copy"), crafted[1], base=base)


@pytest.mark.parametrize("base_given", [True, False])
def test_the_lines_on_the_card_do_what_they_say(made, written, crafted, base, base_given):
    options = ExportOptions(base_name=str(base) if base_given else None)
    lines = made.usage(dataclasses.replace(crafted[0], options=options))
    names = {"picture": Image.fromarray(crafted[1].images[0].numpy())}
    exec(lines.replace("FOLDER", str(written)).replace('"BASE"', f'"{base}"'), names)
    expected = torch.nn.functional.normalize(crafted[2].adapted["image"][:1], dim=-1)
    assert torch.allclose(names["outputs"].image_embeds.detach(), expected, atol=1e-5)
    assert names["model"].base_model.model.logit_scale == torch.tensor(3.0)


def test_a_run_tuned_in_full_is_refused(made):
    with pytest.raises(UsageError, match="there is no adapter for --to peft") as caught:
        made.check({"lora": {"rank": 0}}, ExportOptions())
    assert caught.value.hint == "--to transformers holds the weights"
