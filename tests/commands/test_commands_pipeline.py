"""The program as a lab uses it: the lines of the README, default names, pipes, and every documented error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from samples import PREPROCESS_CFG, TINY_MODEL_CFG, save_model

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("warm_figclip")


@pytest.fixture(scope="module")
def lab(inputs, tmp_path_factory, warm_figclip) -> Path:
    """A folder with videos, prompts and a base model that takes 224 pixels, as the default recipe makes them."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(inputs / "vidsitu", folder / "vidsitu")
    config = {**TINY_MODEL_CFG, "vision_cfg": {**TINY_MODEL_CFG["vision_cfg"], "image_size": 224, "patch_size": 32}}
    save_model(folder / "base-model", config)
    return folder


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def done(lab) -> dict[str, subprocess.CompletedProcess[str]]:
    """The five stages by the README's own lines, in order, with only a small number of epochs added by a file."""
    readme = (ROOT / "README.md").read_text()
    block = readme.split("## Five stages")[1].split("```")[1]
    lines = [line.split("#")[0].strip() for line in block.strip().splitlines()]
    assert [line.split()[1] for line in lines] == ["extract-frames", "build-prompts", "adapt", "evaluate", "export"]
    (lab / "quick.toml").write_text("[adapt]\nepochs = 2\n")
    outputs = {}
    for line in lines:
        verb = line.split()[1]
        outputs[verb] = shell(line + (" --config quick.toml" if verb == "adapt" else ""), lab)
    return outputs


def test_every_line_of_the_readme_works_as_written(done, lab):
    assert {verb: output.returncode for verb, output in done.items()} == dict.fromkeys(done, 0), [
        output.stderr for output in done.values()
    ]
    for made in ("frames.h5", "prompts.jsonl", "runs/base-model-rank8/DONE",
                 "results/retrieval-prompts-base-model-rank8.json", "export/base-model-rank8/open-clip"):  # fmt: skip
        assert (lab / made).exists()


def test_the_default_names_that_were_used_are_said(done):
    assert "output: frames.h5 (default)" in done["extract-frames"].stderr
    assert "prompts: prompts.jsonl (default)" in done["build-prompts"].stderr
    for said in ("base model: base-model/", "frames: frames.h5", "prompts: prompts.jsonl", "runs/base-model-rank8"):
        assert said in done["adapt"].stderr
    for said in ("run: runs/base-model-rank8", "captions: prompts.jsonl", "results: results/"):
        assert said in done["evaluate"].stderr
    assert "output: export/base-model-rank8/open-clip" in done["export"].stderr


def test_results_are_on_stdout_and_the_rest_is_not(done):
    assert "t2v R@10" in done["evaluate"].stdout and "delta" in done["evaluate"].stdout
    assert "(default)" not in done["evaluate"].stdout
    assert "largest difference" in done["export"].stdout
    adapt = done["adapt"]
    assert "visual.transformer.resblocks.1.attn" in adapt.stdout and "LoRA on q, k, v of 2 modules" in adapt.stderr
    assert not any("\r" in output.stderr + output.stdout or "\x1b" in output.stderr for output in done.values())


def test_json_goes_through_a_pipe(done, lab):
    line = (
        "set -euo pipefail; figclip evaluate retrieval --json --quiet --overwrite | "
        'python3 -c \'import json, sys; print(json.load(sys.stdin)["n_evaluated"]["clips"])\''
    )
    output = shell(line, lab)
    assert (output.returncode, output.stdout, output.stderr) == (0, "6\n", "")


@pytest.mark.parametrize(
    "line",
    [
        "extract-frames vidsitu -o {}/frames.h5",
        "build-prompts vidsitu/vsann_train_lb.json -o {}/prompts.jsonl",
        "adapt --epochs 1 --runs {}",
        "export -o {}/export",
    ],
)
def test_the_other_verbs_print_one_json_document_too(done, lab, tmp_path, line):
    output = shell(f"figclip {line.format(tmp_path)} --json --quiet", lab)
    assert output.returncode == 0 and output.stderr == "", output.stderr
    assert isinstance(json.loads(output.stdout), dict)


def example_pipeline(inputs: Path, videos: Path, out: Path) -> subprocess.CompletedProcess[str]:
    annotation = inputs / "vidsitu" / "vsann_train_lb.json"
    words = ["bash", ROOT / "examples" / "pipeline.sh", videos, annotation, inputs / "base-model", out]
    return shell(" ".join(map(str, words)) + " --rank 4 --epochs 1", out.parent)


def test_the_example_pipeline_runs(inputs, tmp_path):
    output = example_pipeline(inputs, inputs / "vidsitu", tmp_path / "out")
    assert output.returncode == 0, output.stderr
    assert output.stdout.strip().splitlines()[-1] == f"exported to {tmp_path}/out/export"


def test_the_example_pipeline_goes_on_when_some_clips_are_broken_and_stops_at_real_errors(inputs, tmp_path):
    shutil.copytree(inputs / "vidsitu", tmp_path / "videos")
    (tmp_path / "videos" / "broken.mp4").write_text("no video")
    assert example_pipeline(inputs, tmp_path / "videos", tmp_path / "out").returncode == 0
    output = example_pipeline(inputs, tmp_path / "absent", tmp_path / "other")
    assert output.returncode == 3 and "error: " in output.stderr


def fails(line: str, cwd: Path, code: int) -> str:
    """Run a line that must fail with one error line and one hint; return what it said."""
    output = shell(line, cwd)
    assert output.returncode == code, output.stderr
    assert output.stdout == "" and "Traceback" not in output.stderr
    errors = [row for row in output.stderr.splitlines() if row.startswith(("error: ", "hint: "))]
    assert [row.split(":")[0] for row in errors] == ["error", "hint"], output.stderr
    return "\n".join(errors)


@pytest.fixture
def text_as_video(tmp_path) -> Path:
    (tmp_path / "notes.mp4").write_text("hello\n" * 50)
    return tmp_path


def test_error_missing_path(tmp_path):
    assert "absent does not exist" in fails("figclip extract-frames absent", tmp_path, 3)


def test_error_empty_folder(tmp_path):
    assert "no video found" in fails("figclip extract-frames", tmp_path, 3)


def test_error_text_file_named_mp4(text_as_video):
    assert "notes.mp4: not a video" in fails("figclip extract-frames notes.mp4", text_as_video, 3)


def test_error_annotation_with_a_missing_key_or_a_wrong_type(inputs, tmp_path):
    good = json.loads((inputs / "vidsitu" / "vsann_train_lb.json").read_text())
    for change, words in (
        (lambda event: event.pop("VerbID"), ("VerbID", "Ev2", "record 2")),
        (lambda event: event.update(Args=[]), ("Args", "Ev2", "record 2")),
    ):
        bad = json.loads(json.dumps(good))
        change(bad[2]["Ev2"])
        (tmp_path / "vsann_bad_lb.json").write_text(json.dumps(bad))
        said = fails("figclip build-prompts vsann_bad_lb.json --strict", tmp_path, 3)
        assert all(word in said for word in words), said
        assert not (tmp_path / "prompts.jsonl").exists()
        lenient = shell("figclip build-prompts vsann_bad_lb.json -o rest.jsonl --overwrite", tmp_path)
        assert lenient.returncode == 4
        assert all(word in lenient.stderr for word in words), lenient.stderr
        assert json.loads((tmp_path / "rest.jsonl").read_text().splitlines()[0])["counts"]["clips"] == len(good) - 1


def test_error_frames_and_prompts_without_a_common_clip(done, lab, tmp_path):
    shutil.copy(lab / "vidsitu" / "v_clip0000001_seg_0_10.mp4", tmp_path / "other.mp4")
    shell(f"figclip extract-frames other.mp4 -o {tmp_path}/other.h5", tmp_path)
    assert "no clip in common" in fails(f"figclip adapt --frames {tmp_path}/other.h5 --name none", lab, 3)
    assert not (lab / "runs" / "none").exists()


def test_error_model_name_that_does_not_exist(done, lab):
    said = fails("figclip adapt --model ViT-B-23 --pretrained openai", lab, 3)
    assert "'ViT-B-23' does not exist" in said and "ViT-B-32" in said or "did you mean" in said


def test_error_weights_that_cannot_be_had_offline(done, lab):
    """The page's own line for named weights, on a machine without network."""
    line = "figclip adapt --rank 64 --model ViT-B-32-quickgelu --pretrained openai"
    assert line in (ROOT / "docs" / "adapt.md").read_text()
    said = fails(line, lab, 3)
    assert "not on this machine" in said and "open_clip_model.safetensors" in said and "--pretrained FILE" in said


def test_error_no_model_named_and_none_there(done, lab, tmp_path):
    for name in ("frames.h5", "prompts.jsonl"):
        shutil.copy(lab / name, tmp_path)
    assert "no model was named" in fails("figclip adapt --rank 8", tmp_path, 2)


def test_error_unknown_configuration_key(lab):
    (lab / "typo.toml").write_text("[adapt]\nepoch = 3\n")
    said = fails("figclip adapt --config typo.toml", lab, 2)
    assert "unknown key 'epoch'" in said and "did you mean 'epochs'?" in said


def test_error_run_folder_that_exists(done, lab):
    said = fails("figclip adapt --rank 8 --config quick.toml", lab, 2)
    assert "runs/base-model-rank8 already exists" in said and "--resume" in said


def test_error_outputs_that_exist(done, lab):
    for line in (
        "extract-frames vidsitu/",
        "build-prompts vidsitu/vsann_train_lb.json",
        "evaluate retrieval",
        "export",
    ):
        assert "already exists" in fails(f"figclip {line}", lab, 2)


def test_error_frames_of_another_size_than_the_model(done, lab):
    shell("figclip extract-frames vidsitu/ --size 32 -o small.h5 --overwrite", lab)
    assert "--size 224" in fails("figclip adapt --frames small.h5 --name small", lab, 3)
    assert "--size 224" in fails("figclip evaluate retrieval --frames small.h5 -o r.json", lab, 3)


def test_error_clips_without_frames_are_exit_4_after_the_result(done, lab, tmp_path):
    ids = [path.stem for path in sorted((lab / "vidsitu").glob("*.mp4"))]
    (tmp_path / "captions.csv").write_text(
        "video_id,sentence\n" + "\n".join(f"{i},x {i}" for i in [*ids, "gone"]) + "\n"
    )
    output = shell(f"figclip evaluate retrieval --captions {tmp_path}/captions.csv -o {tmp_path}/r.json", lab)
    assert output.returncode == 4 and "6 of 7 clips" in output.stdout
    assert "error: 1 clips were not evaluated, the first is gone: not in the frames file" in output.stderr
    assert json.loads((tmp_path / "r.json").read_text())["missing"] == {"gone": "not in the frames file"}


def test_error_missing_inputs_name_the_stage_that_makes_them(lab, tmp_path):
    shutil.copytree(lab / "base-model", tmp_path / "base-model")
    assert "figclip extract-frames" in fails("figclip adapt", tmp_path, 3)
    assert "no finished run" in fails("figclip export", tmp_path, 3)
    assert "does not exist" in fails("figclip export runs/absent", tmp_path, 3)


def test_error_contradicting_flags(lab):
    fails("figclip evaluate retrieval --base-only --run runs/x", lab, 2)
    fails("figclip adapt --pretrained openai", lab, 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_error_full_disk_is_one_line_and_the_run_goes_on(done, lab, tmp_path):
    """A 1 MB file system for the run folder; the metrics of the finished part are kept."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        said = fails(f"figclip adapt --rank 8 --epochs 1 --runs {tmp_path}", lab, 1)
        assert "no space left" in said
        said = fails(f"figclip extract-frames vidsitu -o {tmp_path}/frames.h5", lab, 1)
        assert "no space left" in said
        subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path)], check=True)
        assert shell(f"figclip extract-frames vidsitu -o {tmp_path}/frames.h5", lab).returncode == 0
        assert shell(f"figclip adapt --rank 8 --epochs 1 --runs {tmp_path} --resume", lab).returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_preprocessing_of_the_fixture_is_not_open_clips_default():
    """Otherwise a stage that forgets mean and std would pass."""
    assert PREPROCESS_CFG["mean"] != [0.48145466, 0.4578275, 0.40821073]
