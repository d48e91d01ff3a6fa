"""Export: opens anywhere, equal to the unmerged model, refused when it is not, and never half there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from figclip_cli.errors import InputError, UsageError, VerificationError
from figclip_cli.export import export_open_clip
from figclip_cli.export import run as run_module
from figclip_cli.export.verify import MAX_DIFFERENCE, check_differences, reloaded_features
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "open-clip"
    return export_open_clip(finished_run, folder)


def test_open_clip_opens_it_and_gives_the_adapted_models_features(exported, finished_run):
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{exported.folder}")
    adapted = attach_run(load_base(finished_run), finished_run)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    from PIL import Image

    images = torch.stack([preprocess(Image.fromarray(picture.numpy())) for picture in pixels])
    with torch.no_grad():
        assert torch.allclose(model.eval().encode_image(images), adapted.encode_frames(pixels), atol=1e-5)
    assert exported.differences["image"] < MAX_DIFFERENCE and exported.differences["text"] < MAX_DIFFERENCE


def test_the_folder_says_activation_and_preprocessing(exported):
    config = json.loads((exported.folder / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True
    assert config["preprocess_cfg"]["mean"] == [0.5, 0.4, 0.3] and config["preprocess_cfg"]["size"] == [32, 32]
    report = json.loads((exported.folder / "figclip_export.json").read_text())
    assert report["largest_difference"] == exported.differences and report["bound"] == MAX_DIFFERENCE


def test_only_the_adapted_projections_differ_from_the_base(exported, prepared):
    base = load_file(prepared / "base-model" / "open_clip_model.safetensors")
    merged = load_file(exported.folder / "open_clip_model.safetensors")
    assert base.keys() == merged.keys()
    changed = sorted(name for name in base if not torch.equal(base[name], merged[name]))
    assert changed == [f"visual.transformer.resblocks.{n}.attn.in_proj_weight" for n in (0, 1)]
    assert list(exported.merged_tensors) == changed


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_a_scale_goes_that_far_from_the_base(finished_run, exported, prepared, tmp_path, scale):
    folder = export_open_clip(finished_run, tmp_path / "out", scale=scale).folder
    base = load_file(prepared / "base-model" / "open_clip_model.safetensors")
    found, adapted = (load_file(where / "open_clip_model.safetensors") for where in (folder, exported.folder))
    for name in base:
        assert torch.allclose(found[name], base[name] + scale * (adapted[name] - base[name]), atol=1e-6), name
    assert json.loads((folder / "figclip_export.json").read_text())["scale"] == scale


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan")])
def test_a_scale_beyond_base_and_adapted_is_refused(finished_run, tmp_path, scale):
    with pytest.raises(UsageError, match="--scale must be from 0"):
        export_open_clip(finished_run, tmp_path / "out", scale=scale)
    assert not (tmp_path / "out").exists()


def test_the_export_is_a_model_for_every_stage(exported):
    assert load_clip(ModelSource(str(exported.folder))).model_config["quick_gelu"] is True


def test_it_can_be_compared_on_stored_frames(finished_run, prepared, tmp_path):
    summary = export_open_clip(finished_run, tmp_path / "out", frames=[prepared / "frames.h5"])
    assert summary.differences["image"] < MAX_DIFFERENCE


def test_a_difference_is_found_and_the_folder_is_marked_unfit(finished_run, tmp_path, monkeypatch):
    """A merge that is off by a thousandth of the update."""
    real = run_module.merge_lora

    def slightly_wrong(model):
        names = real(model)
        with torch.no_grad():
            model.visual.transformer.resblocks[0].attn.in_proj_weight.mul_(1.001)
        return names

    monkeypatch.setattr(run_module, "merge_lora", slightly_wrong)
    with pytest.raises(VerificationError, match="image features of the re-loaded export differ") as caught:
        export_open_clip(finished_run, tmp_path / "out")
    assert caught.value.exit_code == 5 and not (tmp_path / "out").exists()
    assert (tmp_path / "out.unfit" / "open_clip_model.safetensors").is_file()


def test_a_lost_activation_is_found(exported, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = False
    path.write_text(json.dumps(config))
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    right, wrong = (reloaded_features(f, images, ["a dog"]) for f in (exported.folder, folder))
    assert (right["image"] - wrong["image"]).abs().max() > 1e-4


@pytest.mark.parametrize("difference", [2e-5, float("nan"), float("inf")])
def test_any_difference_over_the_bound_or_no_number_is_refused(tmp_path, difference):
    with pytest.raises(VerificationError):
        check_differences({"image": 0.0, "text": difference}, tmp_path)
    check_differences({"image": MAX_DIFFERENCE, "text": 0.0}, tmp_path)


def test_a_folder_that_open_clip_cannot_open_is_said_in_one_line(exported, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    save_file({"x": torch.zeros(1)}, folder / "open_clip_model.safetensors")
    with pytest.raises(VerificationError, match="open_clip cannot open") as caught:
        reloaded_features(folder, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), ["a"])
    assert "\n" not in caught.value.message


def test_an_interrupt_leaves_no_folder_that_looks_finished(finished_run, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "reloaded_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_open_clip(finished_run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_until_the_new_one_is_proven(exported, finished_run, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "out")
    with pytest.raises(UsageError, match="already exists"):
        export_open_clip(finished_run, folder)
    (folder / "marker").touch()
    export_open_clip(finished_run, folder, overwrite=True)
    assert not (folder / "marker").exists()


def test_frames_of_another_size_are_refused(finished_run, prepared, tmp_path):
    from figclip_cli.frames import SamplingRecipe, extract

    extract([prepared / "vidsitu"], tmp_path / "f.h5", recipe=SamplingRecipe(size=48), workers=1)
    with pytest.raises(InputError, match="48 pixels"):
        export_open_clip(finished_run, tmp_path / "out", frames=[tmp_path / "f.h5"])


def test_a_timm_tower_is_exported_too(tiny_timm_model, prepared, tmp_path):
    from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
    from figclip_cli.frames import SamplingRecipe, extract
    from figclip_cli.run_folder import RunFolder

    extract([prepared / "vidsitu"], tmp_path / "f.h5", recipe=SamplingRecipe(size=224), workers=1)
    run = RunFolder(tmp_path / "run")
    options = AdaptOptions(rank=2, epochs=1, batch_clips=6, learning_rate=1e-3, contextualizer=False)
    source = ModelSource(str(tiny_timm_model))
    files = [SourceFiles((tmp_path / "f.h5",), prepared / "prompts.jsonl")]
    summary = adapt(files, run, source=source, options=options)
    assert len(summary.modules) == 12
    assert export_open_clip(run, tmp_path / "out").differences["image"] < MAX_DIFFERENCE
