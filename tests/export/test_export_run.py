"""Export: opens anywhere, equal to the unmerged model, refused when it is not, and never half there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys

import exporting
import pytest
import torch
from safetensors.torch import load_file

from figclip_cli.errors import InputError, MachineError, UsageError, VerificationError
from figclip_cli.export import ExportOptions, export, planned_folders, possible_formats
from figclip_cli.export import session as session_module
from figclip_cli.export.formats import format_named
from figclip_cli.export.options import read_scales
from figclip_cli.export.samples import draw_samples
from figclip_cli.export.verify import MAX_DIFFERENCE, reloaded
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

here, noise, one_export = exporting.here, exporting.noise, exporting.one_export


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """The one export of this file that is re-loaded in a fresh process, as users' are."""
    folder = tmp_path_factory.mktemp("export") / "open-clip"
    options = ExportOptions()
    (summary,) = export(finished_run, planned_folders(finished_run, options, folder), options)
    return summary


def weights(folder):
    return load_file(folder / "open_clip_model.safetensors")


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_open_clip_opens_it_and_gives_the_adapted_models_features(exported, finished_run, noise):
    import open_clip
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{exported.folder}")
    adapted = attach_run(load_base(finished_run), finished_run)
    images = torch.stack([preprocess(Image.fromarray(picture.numpy())) for picture in noise])
    with torch.no_grad():
        assert torch.allclose(model.eval().encode_image(images), adapted.encode_frames(noise), atol=1e-5)
    assert exported.error is None and set(exported.comparison.differences) == {"image", "text", "logits"}
    assert exported.comparison.differences["image"] < MAX_DIFFERENCE


def test_the_lines_on_the_card_do_what_they_say(exported, finished_run, noise):
    from PIL import Image

    card = (exported.folder / "README.md").read_text()
    lines = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(exported.folder))
    names = {"picture": Image.fromarray(noise[0].numpy())}
    exec(lines, names)
    adapted = attach_run(load_base(finished_run), finished_run)
    assert not names["model"].training
    assert torch.allclose(names["image_features"], adapted.encode_frames(noise[:1]), atol=1e-5)
    assert torch.allclose(names["text_features"], adapted.encode_texts(["a photo of a dog"]), atol=1e-5)


def test_the_folder_says_activation_preprocessing_and_how_close_it_came(exported):
    config = json.loads((exported.folder / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True
    assert config["preprocess_cfg"]["mean"] == [0.5, 0.4, 0.3] and config["preprocess_cfg"]["size"] == [32, 32]
    report = json.loads((exported.folder / "figclip_export.json").read_text())
    assert report["largest_difference"] == exported.comparison.differences and report["activation"] == "quickgelu"
    assert report["compared"]["library"] == "open_clip_torch" and report["bound"]["image"] == MAX_DIFFERENCE


def test_only_the_adapted_projections_differ_from_the_base(exported, prepared):
    base, merged = weights(prepared / "base-model"), weights(exported.folder)
    assert base.keys() == merged.keys()
    changed = sorted(name for name in base if not torch.equal(base[name], merged[name]))
    assert changed == [f"visual.transformer.resblocks.{n}.attn.in_proj_weight" for n in (0, 1)]
    assert list(exported.changed_tensors) == changed


def test_the_hashes_are_those_of_all_files(exported):
    lines = (exported.folder / "SHA256SUMS").read_text().splitlines()
    listed = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    found = hashes(exported.folder)
    assert found.pop("SHA256SUMS") and listed == found


def test_the_export_is_a_model_for_every_stage(exported):
    assert load_clip(ModelSource(str(exported.folder))).model_config["quick_gelu"] is True


def test_several_scales_at_once_go_that_far_from_the_base(here, finished_run, exported, prepared, tmp_path):
    options = ExportOptions(scales=(1.0, 0.0, 0.25))  # the order must not matter
    made = list(export(finished_run, planned_folders(finished_run, options, tmp_path), options))
    assert [one.folder.name for one in made] == ["open-clip", "open-clip-scale-0", "open-clip-scale-0.25"]
    base, adapted = weights(prepared / "base-model"), weights(exported.folder)
    for one in made:
        found, scale = weights(one.folder), one.target.scale
        for name in base:
            expected = base[name] + scale * (adapted[name] - base[name])
            assert torch.allclose(found[name], expected, atol=1e-6), name
        assert json.loads((one.folder / "figclip_export.json").read_text())["scale"] == scale
    assert all(torch.equal(tensor, base[name]) for name, tensor in weights(made[1].folder).items())
    assert made[1].changed_tensors == () and hashes(made[0].folder) == hashes(exported.folder)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_cast_after_merging_and_told_apart_from_it(
    here, one_export, finished_run, exported, tmp_path, dtype
):
    summary = one_export(finished_run, tmp_path / "out", dtype=dtype)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    whole, half = weights(exported.folder), weights(summary.folder)
    assert half.pop("logit_scale").dtype == torch.float32  # one number, on which every logit hangs
    assert all(torch.equal(tensor, whole[name].to(kind)) for name, tensor in half.items())
    comparison = summary.comparison
    assert comparison.from_cast["image"] < 1e-6 < comparison.cast_alone["image"]
    assert 1e-5 < comparison.differences["image"] <= comparison.bounds["image"]
    assert "the same cast of the base" in (summary.folder / "README.md").read_text()


def test_a_value_beyond_float16_is_refused(here, one_export, finished_run, tmp_path, monkeypatch):
    real = session_module.merged

    def with_a_large_value(*arguments):
        material = real(*arguments)
        with torch.no_grad():
            material.state["visual.proj"][0, 0] = 1e5
        return material

    monkeypatch.setattr(session_module, "merged", with_a_large_value)
    with pytest.raises(VerificationError, match="visual.proj does not fit fp16"):
        one_export(finished_run, tmp_path / "out", dtype="fp16")
    assert list(tmp_path.iterdir()) == []


def test_the_contextualizer_opens_without_figclip(one_export, finished_run, tmp_path):
    summary = one_export(finished_run, tmp_path / "out", to="contextualizer")
    assert summary.comparison.differences == {"video": 0.0, "events": 0.0} and summary.error is None
    usage = (summary.folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = "import torch\nframes = torch.ones(2, 5, 4, 32)\n" + usage.replace("FOLDER", str(summary.folder))
    code += "\nprint(tuple(video_tokens.shape), tuple(event_tokens.shape), 'figclip_cli' in sys.modules)"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "(2, 32) (2, 5, 32) False\n", done.stderr
    assert len(usage.strip().splitlines()) <= 12


def test_a_run_without_a_contextualizer_has_none_to_export(finished_run, one_export, tmp_path):
    folder = shutil.copytree(finished_run.path, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "contextualizer": False}))
    with pytest.raises(InputError, match="without a contextualizer"):
        one_export(RunFolder(folder), tmp_path / "out", to="contextualizer")
    assert "contextualizer" not in possible_formats(RunFolder(folder))


def test_a_difference_is_found_and_the_folder_is_marked_unfit(here, one_export, finished_run, tmp_path, monkeypatch):
    """A merge that is off by a thousandth."""
    real = session_module.merged

    def slightly_wrong(*arguments):
        material = real(*arguments)
        with torch.no_grad():
            material.state["visual.transformer.resblocks.0.attn.in_proj_weight"].mul_(1.001)
        return material

    monkeypatch.setattr(session_module, "merged", slightly_wrong)
    summary = one_export(finished_run, tmp_path / "out")
    assert summary.error.exit_code == 5 and "image features differ from the unmerged model's" in summary.error.message
    assert summary.folder == tmp_path / "out.unfit" and not (tmp_path / "out").exists()
    assert "Do not use this" in (summary.folder / "UNFIT").read_text()


def test_a_wrong_cast_is_found(here, one_export, finished_run, tmp_path, monkeypatch):
    """A tensor that is written before it was merged, in half precision."""
    from figclip_cli.export.material import Material

    real = Material.cast

    def of_the_base(self, tensors):
        name = "visual.transformer.resblocks.0.attn.in_proj_weight"
        return real(self, {**tensors, name: self.base_state[name]})

    monkeypatch.setattr(Material, "cast", of_the_base)
    summary = one_export(finished_run, tmp_path / "half", dtype="bf16")
    assert "merged model cast alike" in summary.error.message


def test_a_lost_activation_is_found(exported, tmp_path, noise):
    """The same weights under the other activation are another model."""
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = False
    path.write_text(json.dumps(config))
    with torch.no_grad():
        right, wrong = (load_clip(ModelSource(str(one))).encode_frames(noise) for one in (exported.folder, folder))
    assert (right - wrong).abs().max() > 1e-4


@pytest.mark.parametrize("difference", [2e-5, float("nan"), float("inf")])
def test_any_difference_over_the_bound_or_no_number_is_a_problem(exported, difference):
    comparison = exported.comparison
    over = dataclasses.replace(comparison, differences={**comparison.differences, "text": difference})
    assert "text features" in over.problem and comparison.problem is None
    at = dataclasses.replace(comparison, differences={**comparison.differences, "text": MAX_DIFFERENCE})
    assert at.problem is None
    json.dumps(over.as_dict(), allow_nan=False)


def test_what_the_library_complains_of_is_said_in_one_line(exported, tmp_path):
    program = tmp_path / "reload.py"
    program.write_text("raise RuntimeError('two\\nlines, the last of which is the one that counts')")
    made = dataclasses.replace(format_named("open-clip"), reload=program)
    with pytest.raises(VerificationError, match="open_clip_torch cannot open .*: lines, the last") as caught:
        reloaded(made, exported.folder, draw_samples(32))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("error", [KeyboardInterrupt, VerificationError("no"), OSError(28, "No space left on device")])
def test_an_end_midway_leaves_no_folder_that_looks_finished(one_export, finished_run, tmp_path, monkeypatch, error):
    def ended(*_, **__):
        raise error

    monkeypatch.setattr(session_module, "reloaded", ended)
    expected = MachineError if isinstance(error, OSError) else error if isinstance(error, type) else type(error)
    with pytest.raises(expected):
        one_export(finished_run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(one_export, finished_run, tmp_path):
    """The kernel refuses to write files over 64 KiB, as it refuses any on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(MachineError) as caught:
            one_export(finished_run, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in caught.value.message and list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(here, one_export, finished_run, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".out.{dead.pid}.tmp").mkdir()
    (tmp_path / f".out.{os.getppid()}.tmp").mkdir()  # of one that is alive
    one_export(finished_run, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".out.{os.getppid()}.tmp", "out"]


def test_an_existing_export_is_kept_until_the_new_one_is_proven(
    here, one_export, exported, finished_run, tmp_path, monkeypatch
):
    folder = shutil.copytree(exported.folder, tmp_path / "out")
    with pytest.raises(UsageError, match="already exists"):
        one_export(finished_run, folder)
    (folder / "README.md").write_text("marker")
    with monkeypatch.context() as patch:
        patch.setattr(session_module, "write_sums", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one_export(finished_run, folder, overwrite=True)
    assert (folder / "README.md").read_text() == "marker"
    one_export(finished_run, folder, overwrite=True)
    assert (folder / "README.md").read_text() != "marker" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_that_figclip_did_not_write_or_reads_now_are_never_lost(one_export, exported, finished_run, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "out")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").touch()  # what Python leaves does not count
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds notes.txt, which figclip did not write"):
        one_export(finished_run, folder, overwrite=True)
    (folder / "notes.txt").unlink()
    with pytest.raises(UsageError, match="which is read"):
        one_export(finished_run, folder, overwrite=True, source=ModelSource(str(folder)))
    with pytest.raises(UsageError, match="would lie in the export"):
        one_export(finished_run, folder / "inner")
    unfit = shutil.copytree(exported.folder, tmp_path / "new.unfit")
    (unfit / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds notes.txt"):
        one_export(finished_run, tmp_path / "new")
    for left in (".X.backup.tmp", ".X.99999999999999999999.tmp"):  # of somebody else
        (tmp_path / left).mkdir()


def test_only_exports_are_ever_replaced(one_export, finished_run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    for name in ("thesis", "link", "file", ".", "thesis/..", "a\nb"):
        with pytest.raises(UsageError):
            one_export(finished_run, tmp_path / name, overwrite=True)
    with pytest.raises(UsageError):
        one_export(finished_run, finished_run.path.parent, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work" and finished_run.is_done


@pytest.mark.parametrize(
    "options, said",
    [
        ({"scales": (-0.1,)}, "--scale must be from 0"),
        ({"scales": (1.5,)}, "--scale must be from 0"),
        ({"scales": (float("nan"),)}, "--scale must be from 0"),
        ({"scales": (0.5, 0.5)}, "--scale names one twice"),
        ({"to": ()}, "--to names nothing"),
        ({"to": ("open_clip",)}, "--to open_clip is not a format"),
        ({"dtype": "fp8"}, "--dtype fp8 is not known"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        ExportOptions(**options)


def test_every_scale_has_a_folder_of_its_own_and_the_contextualizer_has_none():
    options = ExportOptions(to=("open-clip", "contextualizer"), scales=(0.1, 0.1000000001, 0.9999999, -0.0))
    names = [target.name for target in options.targets]
    assert names == [f"open-clip-scale-{x}" for x in ("0.1", "0.1000000001", "0.9999999", "0")] + ["contextualizer"]
    assert options.targets[-1].scale == 1.0


def test_scales_are_read_from_one_flag():
    assert read_scales("0,0.25, 1") == (0.0, 0.25, 1.0)
    with pytest.raises(UsageError, match="cannot be read"):
        read_scales("half")


def test_it_is_compared_on_stored_frames_and_prompts(here, one_export, finished_run, prepared, tmp_path):
    summary = one_export(
        finished_run, tmp_path / "out", frames=[prepared / "frames.h5"], prompts=prepared / "prompts.jsonl"
    )
    compared = json.loads((summary.folder / "figclip_export.json").read_text())["compared"]
    assert compared["images_from"] == "frames" and compared["texts_from"] == "prompts" and compared["texts"] > 8
    assert summary.comparison.differences["image"] < MAX_DIFFERENCE


def test_frames_of_another_size_are_refused(finished_run, one_export, prepared, tmp_path):
    from figclip_cli.frames import SamplingRecipe, extract

    extract([prepared / "vidsitu"], tmp_path / "f.h5", recipe=SamplingRecipe(size=48), workers=1)
    with pytest.raises(InputError, match="48 pixels"):
        one_export(finished_run, tmp_path / "out", frames=[tmp_path / "f.h5"])


def test_a_timm_tower_is_exported_too(here, one_export, tiny_timm_model, prepared, tmp_path):
    from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
    from figclip_cli.frames import SamplingRecipe, extract

    extract([prepared / "vidsitu"], tmp_path / "f.h5", recipe=SamplingRecipe(size=224), workers=1)
    run = RunFolder(tmp_path / "run")
    options = AdaptOptions(rank=2, epochs=1, batch_clips=6, learning_rate=1e-3, contextualizer=False)
    source = ModelSource(str(tiny_timm_model))
    files = [SourceFiles((tmp_path / "f.h5",), prepared / "prompts.jsonl")]
    summary = adapt(files, run, source=source, options=options)
    assert len(summary.modules) == 12
    assert one_export(run, tmp_path / "out").comparison.differences["image"] < MAX_DIFFERENCE


def lying_runs():
    """Ways in which a run's configuration can lie, each with what is said of it."""

    def put(*keys_and_value):
        *keys, last, value = keys_and_value

        def change(config):
            for key in keys:
                config = config[key]
            config[last] = value

        return change

    yield put("lora", None), "Expected `object`"
    yield put("lora", "rank", "2"), "Expected `int`"
    yield put("lora", "rank", True), "Expected `int`"
    yield put("lora", "rank", -1), ">= 0"
    yield put("lora", "rank", 3), "made by another run"
    yield put("lora", "rank", 10**9), "made by another run"
    yield put("lora", "alpha", 1.0), "made by another run"
    yield put("lora", "alpha", float("nan")), "is damaged"
    yield put("lora", "targets", ["q"]), "made by another run"
    yield put("learn_temperature", True), "logit_scale was learned"
    yield put("model", "name", "\ud800"), "is damaged"
    yield put("lora", "modules", [1]), "Expected `object`"
    yield put("model", "sha256", "0" * 64), "is not the base model"
    yield put("model", "sha256", "../x"), "damaged"
    yield put("model", "source", {"model": "m", "other": 1}), "unknown field"
    yield put("model", "source", "model", "no/such/folder"), "is not there"
    yield put("seed", 1e400), "damaged|not JSON|Expected"
    yield put("clips", "annotated", 0), ">= 1"
    yield put("sources", {}), "Expected `array`"
    yield put("result", {}), "missing required field"
    yield put("contextualizer", 1), "Expected `bool`"


@pytest.mark.parametrize(("change", "said"), list(lying_runs()))
def test_a_run_that_lies_is_refused_in_one_line_and_nothing_is_written(
    here, one_export, finished_run, tmp_path, change, said
):
    folder = shutil.copytree(finished_run.path, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((InputError, UsageError), match=said) as caught:
        one_export(RunFolder(folder), tmp_path / "out")
    assert "\n" not in caught.value.message and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_contextualizer_that_lies_is_refused_in_one_line(one_export, finished_run, tmp_path):
    from figclip_cli.models.tensors import load_tensors, save_tensors

    folder = shutil.copytree(finished_run.path, tmp_path / "run")
    state, metadata = load_tensors(folder / "contextualizer.safetensors", "contextualizer")
    sizes = metadata["config"]
    for lie in ({}, {"config": 1}, {"config": {**sizes, "width": 64}}, {"config": {**sizes, "layers": 10**9}}):
        save_tensors(folder / "contextualizer.safetensors", state, lie)
        with pytest.raises(InputError, match="does not hold what it says") as caught:
            one_export(RunFolder(folder), tmp_path / "out", to="contextualizer")
        assert "\n" not in caught.value.message and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_names_from_elsewhere_cannot_break_the_card(here, one_export, finished_run, tmp_path):
    folder = shutil.copytree(finished_run.path, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["name"] = "a\n```\n# b | c"
    (folder / "config.json").write_text(json.dumps(config))
    summary = one_export(RunFolder(folder), tmp_path / "out", to="loralib", licence="MIT\n\n# Evil")
    card = (summary.folder / "README.md").read_text()
    assert "# Evil" not in card.splitlines() and not any(line.startswith("# b") for line in card.splitlines())
    assert card.count("\n```") % 2 == 0 or "````" in card


def test_a_damaged_adapter_is_refused_in_one_line(here, one_export, finished_run, tmp_path):
    folder = shutil.copytree(finished_run.path, tmp_path / "run")
    data = finished_run.adapter_file.read_bytes()
    header = (2**60).to_bytes(8, "little") + data[8:]
    for content in (b"", data[: len(data) // 2], header, b"\x80\x04cos\nsystem\n."):
        (folder / "adapter.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read") as caught:
            one_export(RunFolder(folder), tmp_path / "out")
        assert "\n" not in caught.value.message and [path.name for path in tmp_path.iterdir()] == ["run"]
