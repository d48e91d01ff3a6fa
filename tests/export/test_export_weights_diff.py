"""Two models compared tensor by tensor: what differs, by how much, and what must not."""

from __future__ import annotations

import json
import shutil

import exporting
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from figclip_cli.app import app
from figclip_cli.errors import InputError
from figclip_cli.export.weights_diff import Weights, diff_weights, read_weights

exported_here = exporting.exported_here

BLOCKS = "visual.transformer.resblocks"


def weights(**tensors):
    return Weights("a place", tensors, dict.fromkeys(tensors, torch.float32))


def changed_copy(folder, to, change):
    path = shutil.copytree(folder, to) / "open_clip_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return to


def test_by_how_much_is_worked_out_by_hand():
    found = diff_weights(weights(a=torch.tensor([3.0, 4.0])), weights(a=torch.tensor([3.0, 4.5])))
    (one,) = found.tensors
    assert (one.name, one.largest, one.relative) == ("a", 0.5, 0.1) and found.compared == 1
    assert found.unexpected is None  # nothing says which tensors may differ
    assert diff_weights(weights(a=torch.zeros(2)), weights(a=torch.ones(2))).tensors[0].relative is None


def test_q_k_and_v_are_told_apart():
    one = {"attn.in_proj_weight": torch.zeros(6, 2)}
    other = {"attn.in_proj_weight": torch.tensor([[0.0, 0]] * 4 + [[0, 0], [0, 2]])}
    found = diff_weights(weights(**one), weights(**other), only=["*.v"])
    assert [one.name for one in found.tensors] == ["attn.in_proj_weight.v"] and found.unexpected is None
    found = diff_weights(weights(**one), weights(**other), only=["*.[qk]"])
    assert found.unexpected == "attn.in_proj_weight.v differs, and is not among what may"


def test_names_and_shapes_that_only_one_has_are_said():
    found = diff_weights(weights(a=torch.zeros(2), b=torch.zeros(1)), weights(a=torch.zeros(3), c=torch.zeros(1)))
    assert (found.only_first, found.only_second, found.reshaped) == (("b",), ("c",), {"a": ((2,), (3,))})
    assert found.unexpected == "only the first has b" and found.compared == 0


def test_base_and_export_differ_in_the_adapted_projections_alone(prepared, exported_here, finished_run):
    base, adapted = read_weights(prepared / "base-model"), read_weights(exported_here)
    for one, other in ((base, adapted), (adapted, base), (base, read_weights(finished_run.path))):
        found = diff_weights(one, other)
        expected = [f"{BLOCKS}.{n}.attn.in_proj_weight.{part}" for n in (0, 1) for part in "kqv"]
        assert sorted(difference.name for difference in found.tensors) == expected and found.unexpected is None
    assert diff_weights(adapted, read_weights(finished_run.path)).tensors == ()


@pytest.mark.parametrize(
    "name",
    [f"{BLOCKS}.0.attn.out_proj.weight", f"{BLOCKS}.1.attn.in_proj_bias", "token_embedding.weight", "visual.proj"],
)
def test_a_tensor_that_must_not_differ_is_found(prepared, exported_here, tmp_path, name):
    def touch(tensors):
        tensors[name].view(-1)[0] += 1e-3

    touched = changed_copy(exported_here, tmp_path / "touched", touch)
    found = diff_weights(read_weights(prepared / "base-model"), read_weights(touched))
    assert found.unexpected is not None and found.unexpected.startswith(name)


def test_a_projection_that_was_not_asked_for_is_found(prepared, exported_here, tmp_path):
    """k of a run that adapted q and v."""
    copy = shutil.copytree(exported_here, tmp_path / "copy")
    report = json.loads((copy / "figclip_export.json").read_text())
    report["lora"]["targets"] = ["q", "v"]
    (copy / "figclip_export.json").write_text(json.dumps(report))
    found = diff_weights(read_weights(prepared / "base-model"), read_weights(copy))
    assert found.unexpected == f"{BLOCKS}.0.attn.in_proj_weight.k differs, and is not among what may, and 1 more"


def test_another_activation_is_a_difference_though_no_tensor_differs(exported_here, tmp_path):
    copy = shutil.copytree(exported_here, tmp_path / "copy")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = False
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    found = diff_weights(read_weights(exported_here), read_weights(copy))
    assert found.tensors == () and found.unexpected == "quick_gelu is True in one and False in the other"


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("vision_cfg", "pool_type", "avg"), ("text_cfg", "no_causal_mask", True), ("text_cfg", "pool_type", "first")],
)
def test_another_way_of_computing_is_a_difference_though_no_tensor_differs(exported_here, tmp_path, part, key, value):
    copy = shutil.copytree(exported_here, tmp_path / "copy")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"][part][key] = value
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    found = diff_weights(read_weights(exported_here), read_weights(copy))
    assert found.tensors == () and f"{part}.{key}" in found.unexpected


def test_the_two_folder_forms_of_one_model_do_not_differ(exported_here, finished_run, tmp_path):
    from crafted_run import material_of

    from figclip_cli.export.formats.transformers import write_transformers_folder

    material, _, _ = material_of(finished_run, compared=False)
    (tmp_path / "folder").mkdir()
    write_transformers_folder(tmp_path / "folder", material)
    found = diff_weights(read_weights(exported_here), read_weights(tmp_path / "folder"))
    assert found.tensors == () and found.facts == {} and found.unexpected is None


def test_rounding_to_a_half_type_is_told_from_a_change(exported_here, tmp_path):
    def halve(tensors):
        tensors.update({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()})

    half = changed_copy(exported_here, tmp_path / "half", halve)
    found = diff_weights(read_weights(exported_here), read_weights(half))
    assert found.tensors and all(one.by_rounding for one in found.tensors) and found.unexpected is None

    def shift(tensors):
        tensors["visual.proj"].view(-1)[0] += 0.5

    shifted = changed_copy(half, tmp_path / "shifted", shift)
    assert "visual.proj" in diff_weights(read_weights(exported_here), read_weights(shifted)).unexpected


def test_a_change_of_a_float32_tensor_is_not_taken_for_the_rounding_of_another(exported_here, tmp_path):
    def one_of_them(tensors):
        tensors["visual.proj"] = tensors["visual.proj"].to(torch.bfloat16)

    def shift(tensors):
        one_of_them(tensors)
        tensors["ln_final.weight"][0] += 1e-3

    first = changed_copy(exported_here, tmp_path / "first", one_of_them)
    second = changed_copy(exported_here, tmp_path / "second", shift)
    (one,) = diff_weights(read_weights(first), read_weights(second)).tensors
    assert one.name == "ln_final.weight" and not one.by_rounding


def test_files_are_compared_by_their_own_names(finished_run, tmp_path):
    adapter = finished_run.adapter_file
    tensors = load_file(adapter)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, tmp_path / "other.safetensors")
    found = diff_weights(read_weights(adapter), read_weights(tmp_path / "other.safetensors"))
    assert [one.name for one in found.tensors] == [name]


def test_what_is_not_there_or_damaged_is_one_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "absent")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(InputError) as caught:
        read_weights(tmp_path / "cut.safetensors")
    assert "\n" not in caught.value.message


def test_the_command_prints_a_table_or_json_and_ends_with_5(prepared, exported_here, tmp_path):
    def touch(tensors):
        tensors["visual.proj"].view(-1)[0] = 7.0

    base, touched = str(prepared / "base-model"), str(changed_copy(exported_here, tmp_path / "touched", touch))
    done = CliRunner().invoke(app, ["diff-weights", base, str(exported_here)])
    assert done.exit_code == 0 and "2 of" in done.stdout and "in_proj_weight.q" in done.stdout
    done = CliRunner().invoke(app, ["diff-weights", base, touched, "--json"])
    document = json.loads(done.stdout)
    assert document["unexpected"].startswith("visual.proj") and document["only_in_first"] == []
    assert [one["name"] for one in document["differing"] if not one["expected"]] == ["visual.proj"]
