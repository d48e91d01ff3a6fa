"""The stage: what it writes, that it learns, that it goes on bit for bit, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file

from figclip_cli.adapt import AdaptOptions, Execution, SourceFiles, adapt
from figclip_cli.adapt import step as step_module
from figclip_cli.adapt import trainer as trainer_module
from figclip_cli.errors import InputError, MachineError, UsageError, VerificationError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import attach_run, load_base, load_contextualizer
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.run_folder import RunFolder, newest_finished_run

QUICK = AdaptOptions(rank=2, epochs=2, batch_clips=3, learning_rate=1e-2, contextualizer_layers=1)


def run_adapt(prepared, folder, options=QUICK, **flags):
    source = ModelSource(str(prepared / "base-model"))
    run = RunFolder(folder)
    files = [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    return adapt(files, run, source=source, options=options, **flags)


def metrics_of(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def weights_of(run):
    return load_file(run.adapter_file) | load_file(run.contextualizer_file)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_folder_holds_everything_and_done_last(finished_run):
    names = {path.name for path in finished_run.path.iterdir()}
    assert names == {
        "config.json", "environment.json", "metrics.jsonl", "adapter.safetensors", "contextualizer.safetensors",
        "checkpoints", "README.md", "DONE",
    }  # fmt: skip
    done = finished_run.done_file.stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= done for path in finished_run.path.iterdir())
    config = finished_run.load_config()
    assert config["model"]["model_cfg"]["quick_gelu"] is True and len(config["model"]["sha256"]) == 64
    assert config["clips"] == {**config["clips"], "annotated": 6, "used": 6, "not_ok": 0}
    assert len(config["lora"]["modules"]) == 2 and config["sources"][0]["frames"]["recipe"]["size"] == 32
    assert "| LoRA | rank 2" in finished_run.card_file.read_text()


def test_adapter_names_are_one_a_and_b_per_projection(finished_run):
    state = load_file(finished_run.adapter_file)
    block = "visual.transformer.resblocks.0.attn"
    assert {name for name in state if name.startswith(block)} == {
        f"{block}.{part}.lora_{side}" for part in "qkv" for side in "AB"
    }
    assert state[f"{block}.q.lora_A"].shape == (2, 32) and state[f"{block}.q.lora_B"].shape == (32, 2)
    assert all(state[name].abs().max() > 0 for name in state)  # B starts at zero, so training moved it


def test_metrics_have_a_line_per_step_with_all_terms(finished_run):
    lines = metrics_of(finished_run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and [line["epoch"] for line in lines] == [1, 1, 2, 2]
    for line in lines:
        parts = line["clip_event"] + line["vc_event"] + 0.25 * (line["clip_video"] + line["vc_video"])
        assert line["loss"] == pytest.approx(parts, rel=1e-5) and line["gradient_norm"] > 0


def test_training_lowers_the_loss(prepared, tmp_path):
    summary = run_adapt(prepared, tmp_path / "run", dataclasses.replace(QUICK, epochs=12))
    losses = [line["loss"] for line in metrics_of(summary.run)]
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])


def test_only_the_image_tower_changes(prepared, finished_run):
    clip = load_base(finished_run)
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    images, texts = clip.encode_frames(pixels).detach(), clip.encode_texts(["a dog"])
    adapted = attach_run(clip, finished_run)
    assert (adapted.encode_frames(pixels) - images).abs().max() > 1e-4
    assert torch.equal(adapted.encode_texts(["a dog"]), texts) and adapted.name == "quick"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(prepared, finished_run, tmp_path):
    again = run_adapt(prepared, tmp_path / "quick").run
    for name in ("adapter.safetensors", "contextualizer.safetensors", "metrics.jsonl"):
        assert (again.path / name).read_bytes() == (finished_run.path / name).read_bytes(), name
    other = run_adapt(prepared, tmp_path / "other", dataclasses.replace(QUICK, seed=1)).run
    assert not same(weights_of(other), weights_of(again))


def test_worker_processes_change_nothing(prepared, finished_run, tmp_path):
    run = run_adapt(prepared, tmp_path / "quick", execution=Execution(workers=2)).run
    assert (run.path / "adapter.safetensors").read_bytes() == finished_run.adapter_file.read_bytes()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_epochs_and_two_more_equal_four_bit_for_bit(prepared, tmp_path, dropout):
    options = dataclasses.replace(QUICK, lora_dropout=dropout)
    whole = run_adapt(prepared, tmp_path / "whole", dataclasses.replace(options, epochs=4)).run
    run_adapt(prepared, tmp_path / "parts", options)
    torch.manual_seed(99)  # a new process would not have the old generator's state
    summary = run_adapt(prepared, tmp_path / "parts", dataclasses.replace(options, epochs=4), resume=True)
    assert same(weights_of(summary.run), weights_of(whole))
    assert metrics_of(summary.run) == metrics_of(whole) and summary.steps == 8


def test_killed_midway_and_resumed_gives_the_same_weights(prepared, tmp_path, warm_figclip):
    flags = ["--rank", "2", "--epochs", "40", "--batch-clips", "3", "--lr", "1e-2", "--contextualizer-layers", "1"]
    command = [warm_figclip, "adapt", *flags, "--runs", str(tmp_path), "--name", "killed"]
    run = RunFolder(tmp_path / "killed")
    process = subprocess.Popen(command, cwd=prepared, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if run.metrics_file.is_file() and run.metrics_file.read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not run.is_done
    options = dataclasses.replace(QUICK, epochs=40)
    run_adapt(prepared, tmp_path / "killed", options, resume=True)
    whole = run_adapt(prepared, tmp_path / "whole", options).run
    for first, second in zip(
        metrics_of(run)[:1] + metrics_of(run)[-1:], metrics_of(whole)[:1] + metrics_of(whole)[-1:], strict=True
    ):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)
    assert len(metrics_of(run)) == len(metrics_of(whole)) == 80


def test_a_run_cut_off_before_its_first_checkpoint_starts_anew(prepared, finished_run, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "quick")
    shutil.rmtree(tmp_path / "quick" / "checkpoints")
    (tmp_path / "quick" / "DONE").unlink()
    summary = run_adapt(prepared, tmp_path / "quick", resume=True)
    assert same(weights_of(summary.run), weights_of(finished_run)) and summary.run.is_done


def test_an_existing_run_is_neither_overwritten_nor_mixed(prepared, finished_run, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "quick")
    with pytest.raises(UsageError, match="already exists") as caught:
        run_adapt(prepared, tmp_path / "quick")
    assert "--resume" in caught.value.hint and "--overwrite" in caught.value.hint
    with pytest.raises(UsageError, match="started with another learning_rate, seed"):
        run_adapt(prepared, tmp_path / "quick", dataclasses.replace(QUICK, seed=4, learning_rate=1.0), resume=True)
    assert same(weights_of(RunFolder(tmp_path / "quick")), weights_of(finished_run))
    run_adapt(prepared, tmp_path / "quick", dataclasses.replace(QUICK, seed=4), overwrite=True)
    assert not same(weights_of(RunFolder(tmp_path / "quick")), weights_of(finished_run))


def test_a_loss_that_is_not_finite_stops_with_its_clips_and_keeps_the_checkpoint(prepared, tmp_path, monkeypatch):
    real, calls = step_module.objective, []

    def breaks_in_the_second_epoch(*arguments, **options):
        terms = real(*arguments, **options)
        calls.append(1)
        return dataclasses.replace(terms, total=terms.total * float("nan")) if len(calls) == 3 else terms

    monkeypatch.setattr(step_module, "objective", breaks_in_the_second_epoch)
    with pytest.raises(VerificationError, match="loss is nan at step 3, on the clips v_clip"):
        run_adapt(prepared, tmp_path / "run")
    monkeypatch.undo()
    run = RunFolder(tmp_path / "run")
    assert run.checkpoint_file.is_file() and not run.is_done
    assert run_adapt(prepared, tmp_path / "run", resume=True).steps == 4


def test_too_little_memory_says_what_to_lower(prepared, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step_module, "objective", full)
    with pytest.raises(MachineError, match="out of memory with 3 clips") as caught:
        run_adapt(prepared, tmp_path / "run")
    assert "a step needs at least" in caught.value.message and "of 60 frames" in caught.value.message
    assert caught.value.hint.startswith("pass --micro-batch-clips 1 (at least ")


def test_bf16_and_no_contextualizer_and_no_negatives_run(prepared, tmp_path):
    options = dataclasses.replace(QUICK, precision="bf16", contextualizer=False, hard_negatives=False, epochs=1)
    summary = run_adapt(prepared, tmp_path / "run", options)
    assert not summary.run.contextualizer_file.exists() and summary.contextualizer_parameters == 0
    assert set(metrics_of(summary.run)[0]) >= {"clip_event", "clip_video"}
    with pytest.raises(InputError, match="without a contextualizer"):
        load_contextualizer(summary.run)


def test_the_contextualizer_is_loadable(finished_run):
    contextualizer = load_contextualizer(finished_run)
    assert contextualizer(torch.randn(1, 5, 4, 32))[1].shape == (1, 5, 32)


def test_frames_and_prompts_without_a_common_clip_show_one_of_each(prepared, tmp_path):
    annotation = json.loads((prepared / "vidsitu" / "vsann_train_lb.json").read_text())
    for record in annotation:
        for event in record.values():
            event["vid_seg_int"] = "v_other" + event["vid_seg_int"][2:]
    (tmp_path / "vsann_x_lb.json").write_text(json.dumps(annotation))
    build([tmp_path / "vsann_x_lb.json"], tmp_path / "prompts.jsonl", options=PromptOptions())
    source = ModelSource(str(prepared / "base-model"))
    with pytest.raises(InputError, match="no clip in common: 'v_clip.* in the frames, 'v_other.* in the prompts"):
        adapt(
            [SourceFiles((prepared / "frames.h5",), tmp_path / "prompts.jsonl")],
            RunFolder(tmp_path / "run"),
            source=source,
            options=QUICK,
        )
    assert not (tmp_path / "run").exists()


def test_events_whose_frames_are_of_other_times_are_refused(prepared, tmp_path):
    (clip_id, *_) = FramesReader(prepared / "frames.h5").clip_ids
    pts = FramesReader(prepared / "frames.h5").pts_seconds(clip_id)
    events = [{"clip": clip_id, "event": n, "verb": "walk.01", "roles": {"Arg0": f"man {n}"}} for n in range(len(pts))]
    for event, times in zip(events, pts, strict=True):
        event.update(start_seconds=max(0.0, float(times.min()) - 0.1), end_seconds=float(times.max()) + 0.1)
    (tmp_path / "right.json").write_text(json.dumps(events))
    events[1].update(start_seconds=8.5, end_seconds=9.75)
    (tmp_path / "wrong.json").write_text(json.dumps(events))
    source = ModelSource(str(prepared / "base-model"))
    for name in ("right", "wrong"):
        build([tmp_path / f"{name}.json"], tmp_path / f"{name}.jsonl")
        run = RunFolder(tmp_path / name)
        arguments = [SourceFiles((prepared / "frames.h5",), tmp_path / f"{name}.jsonl")], run
        if name == "right":
            adapt(*arguments, source=source, options=QUICK)
        else:
            with pytest.raises(
                InputError, match=f"1 of 5 events have frames of other times: event 1 of clip {clip_id}"
            ):
                adapt(*arguments, source=source, options=QUICK)
            assert not (tmp_path / name).exists()


def test_clips_without_frames_are_left_out_and_counted(prepared, tmp_path):
    videos = sorted((prepared / "vidsitu").glob("*.mp4"))[:4]
    data = videos[3].read_bytes()
    (tmp_path / videos[3].name).write_bytes(data[: len(data) // 2])
    extract([*videos[:3], tmp_path / videos[3].name], tmp_path / "frames.h5", recipe=SamplingRecipe(size=32), workers=1)
    source = ModelSource(str(prepared / "base-model"))
    files = [SourceFiles((tmp_path / "frames.h5",), prepared / "prompts.jsonl")]
    summary = adapt(files, RunFolder(tmp_path / "run"), source=source, options=QUICK)
    assert (summary.coverage.prompts, summary.coverage.used, summary.coverage.not_ok) == (6, 3, 1)
    assert (
        summary.coverage.describe()
        == "training on 3 of 6 annotated clips (50.0 %); 2 without frames; 1 short or failed"
    )


def test_frames_of_another_size_or_with_fewer_events_are_refused(prepared, tmp_path):
    source = ModelSource(str(prepared / "base-model"))
    for recipe, message in (
        (SamplingRecipe(size=48), "48 x 48"),
        (SamplingRecipe(size=32, events=3), "has 5 events a clip, .* has 3"),
    ):
        output = tmp_path / f"{recipe.size}-{recipe.events}.h5"
        extract([prepared / "vidsitu"], output, recipe=recipe, workers=1)
        with pytest.raises(InputError, match=message):
            files = [SourceFiles((output,), prepared / "prompts.jsonl")]
            adapt(files, RunFolder(tmp_path / "run"), source=source, options=QUICK)


def test_several_annotations_of_a_clip_are_chosen_by_seed_epoch_and_clip(prepared, tmp_path):
    annotation = json.loads((prepared / "vidsitu" / "vsann_train_lb.json").read_text())
    again = json.loads(json.dumps(annotation).replace("street", "kitchen"))
    (tmp_path / "vsann_x_lb.json").write_text(json.dumps(annotation + again))
    build([tmp_path / "vsann_x_lb.json"], tmp_path / "prompts.jsonl", options=PromptOptions())
    source, weights = ModelSource(str(prepared / "base-model")), []
    for name in ("a", "b"):
        run = RunFolder(tmp_path / name)
        files = [SourceFiles((prepared / "frames.h5",), tmp_path / "prompts.jsonl")]
        adapt(files, run, source=source, options=QUICK)
        weights.append(weights_of(run))
    assert same(*weights)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_clips": 1},
        {"learning_rate": 0.0},
        {"contextualizer_layers": 0},
        {"rank": -1},
        {"targets": ("x",)},
    ],
)
def test_options_that_cannot_be_meant_are_refused(values):
    with pytest.raises(UsageError):
        AdaptOptions(**values)


def test_the_base_model_must_be_the_one_the_run_started_from(finished_run, tiny_timm_model, tmp_path):
    with pytest.raises(InputError, match="is not the base model of"):
        load_base(finished_run, source=ModelSource(str(tiny_timm_model)))


def test_damaged_and_unfinished_runs_are_refused(finished_run, tmp_path):
    copy = RunFolder(shutil.copytree(finished_run.path, tmp_path / "quick"))
    data = copy.adapter_file.read_bytes()
    copy.adapter_file.write_bytes(data[:100])
    with pytest.raises(InputError, match="adapter .* cannot be read"):
        attach_run(load_base(copy), copy)
    copy.adapter_file.unlink()
    with pytest.raises(InputError, match="adapter .* does not exist"):
        attach_run(load_base(copy), copy)
    copy.done_file.unlink()
    with pytest.raises(InputError, match="is not finished"):
        copy.load_config()
    copy.config_file.write_text('{"format": "other"}')
    with pytest.raises(InputError, match="not the configuration of a figclip run"):
        copy.load_config()
    copy.config_file.write_text('{"format": "figclip-run", "format_version": 9}')
    with pytest.raises(InputError, match="run format 9"):
        copy.load_config()
    with pytest.raises(InputError, match="does not exist"):
        RunFolder(tmp_path / "absent").load_config()


def test_the_newest_finished_run_is_found(finished_run, tmp_path):
    assert newest_finished_run(tmp_path) is None
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "DONE").touch()
        time.sleep(0.02)
    (tmp_path / "unfinished").mkdir()
    assert newest_finished_run(tmp_path).name == "new"


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(prepared, tmp_path, monkeypatch):
    """On the very last step, where no later loss would show it."""
    real, calls = trainer_module.nn.utils.get_total_norm, []

    def last_one_overflows(gradients):
        calls.append(1)
        return real(gradients) * float("inf") if len(calls) == 4 else real(gradients)

    monkeypatch.setattr(trainer_module.nn.utils, "get_total_norm", last_one_overflows)
    with pytest.raises(VerificationError, match="gradient norm is inf at step 4"):
        run_adapt(prepared, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").is_done
