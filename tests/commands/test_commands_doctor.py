"""``figclip doctor`` on whole and on broken installations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from figclip_cli import doctor
from figclip_cli.app import app
from figclip_cli.doctor import examine
from figclip_cli.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"figclip", "python", "torch", "triton", "torchvision", "open_clip", "av", "h5py", "safetensors", "ffmpeg"}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """In this process one problem a path is enough, and none is interpreted."""
    from figclip_kernels import self_check

    # Triton reads its variable once, when it is first imported: that must stay as other tests want it.
    monkeypatch.setattr(self_check, "_interpreted", lambda: False)
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.0)


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def look(**arguments):
    return examine(find_ffmpeg=lambda: "ffmpeg", check=False, **arguments)


def test_the_program_prints_one_json_document_with_all_keys(figclip):
    done = figclip("doctor", "--json", "--device", "cpu", TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {
        *("versions", "ffmpeg_path", "devices", "paths", "checked", "checks", "broken", "notes", "ok")
    }
    assert set(document["versions"]) >= NAMES | {"cuda", "cudnn"} and document["versions"]["torch"]
    cpu = document["devices"][0]
    assert cpu["device"] == "cpu" and cpu["cores"] >= 1 and cpu["threads"] >= 1 and cpu["capability"] and cpu["model"]
    paths = {each["rows"]: each for each in document["paths"]}
    assert set(paths) == {100, 16_384}
    assert paths[100]["path"] == "cpu_small" and paths[16_384]["path"] == "cpu"
    assert all(each["reason"] and each["negatives"] == 4 and each["width"] == 512 for each in paths.values())
    assert document["ok"] and document["checked"] and document["broken"] == []
    assert {each["path"] for each in document["checks"]} == {"cpu_small", "cpu"}
    for each in document["checks"]:
        assert each["status"] in ("ok", "not run") and each["gradient_error"] <= each["tolerance"]
    assert "checking the contrastive loss on cpu" in done.stderr


def test_the_table_names_versions_devices_paths_and_checks():
    done = run("--device", "cpu")
    assert done.exit_code == 0, done.output
    for text in ("torchvision", "16,384 rows, 4 negatives each", "cpu_small", "512 float32", "few rows", "ok", "cores"):
        assert text in done.stdout


def test_a_check_can_be_left_out():
    done = run("--skip-check", "--json", "--quiet")
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and done.stderr == ""
    assert document["checks"] == [] and not document["checked"] and document["paths"]


def test_help_names_the_choices():
    done = CliRunner().invoke(app, ["doctor", "--help"])
    assert done.exit_code == 0 and "--skip-check" in done.output


def test_a_wrong_gradient_ends_with_5_and_names_the_path(monkeypatch):
    from figclip_kernels import cpu
    from figclip_kernels.problem import Gradients

    right = cpu.gradients

    def wrong(*arguments):
        got = right(*arguments)
        return Gradients(got.views, None if got.texts is None else got.texts + 0.1, got.negatives, got.scale)

    monkeypatch.setattr(cpu, "gradients", wrong)
    done = run("--device", "cpu", "--json")
    assert done.exit_code == 5
    document = json.loads(done.stdout)
    failed = [each for each in document["checks"] if each["status"] == "FAILED"]
    assert not document["ok"] and [(each["path"], each["dtype"]) for each in failed] == [("cpu", "float32")]
    assert "gradient of the texts is off" in document["broken"][0]
    assert "error: broken: path cpu on cpu with float32" in done.stderr

    done = run("--device", "cpu")
    assert done.exit_code == 5 and "FAILED" in done.stdout
    assert "broken: path cpu on cpu with float32: gradient of the texts is off" in done.stdout


def test_a_path_that_raises_or_is_not_finite_is_no_traceback(monkeypatch):
    from figclip_kernels import cpu, cpu_small

    def crash(*arguments):
        raise RuntimeError("ptxas is missing\nmore")

    right = cpu_small.gradients

    def nan(*arguments):
        got = right(*arguments)
        got.texts.mul_(float("nan"))
        return got

    monkeypatch.setattr(cpu, "log_sum_exps", crash)
    monkeypatch.setattr(cpu_small, "gradients", nan)
    done = run("--device", "cpu", "--json")
    assert done.exit_code == 5 and "Traceback" not in done.output
    document = json.loads(done.stdout)
    checks = {(each["path"], each["dtype"]): each for each in document["checks"]}
    assert checks["cpu", "float32"]["failure"].startswith("RuntimeError: ptxas is missing (")
    assert checks["cpu_small", "float32"]["gradient_error"] is None


def test_a_self_check_that_fails_itself_is_reported(monkeypatch):
    from figclip_kernels import self_check

    def crash(*arguments):
        raise RuntimeError("device lost")

    monkeypatch.setattr(self_check, "self_check", crash)
    done = run("--device", "cpu")
    assert done.exit_code == 5 and "broken: self-check on cpu: RuntimeError: device lost" in done.stdout


def test_a_library_that_is_missing_or_cannot_be_imported_is_a_line(monkeypatch):
    load = doctor.importlib.import_module

    def imported(name):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\n...")
        return load(name)

    monkeypatch.setattr(doctor.importlib, "import_module", imported)
    report = look()
    assert report.versions["av"] is None and report.versions["torchvision"]
    assert report.broken == [
        "torchvision: cannot be imported: RuntimeError: operator torchvision::nms does not exist",
        "av: not installed; pip install av",
    ]
    assert report.choices and run("--skip-check").exit_code == 5


def test_without_torch_the_rest_is_still_said(monkeypatch):
    load = doctor.importlib.import_module

    def imported(name):
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return load(name)

    monkeypatch.setattr(doctor.importlib, "import_module", imported)
    done = run("--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 5 and document["versions"]["h5py"] and document["devices"] == document["paths"] == []
    assert document["broken"] == ["torch: cannot be imported: OSError: libcudart.so.13: cannot open shared object file"]
    assert not document["checked"]


def test_a_missing_ffmpeg_is_a_note():
    def find():
        raise InputError("no ffmpeg program was found")

    report = examine("cpu", find_ffmpeg=find, check=False)
    assert report.versions["ffmpeg"] is None and report.ffmpeg_path is None and not report.broken
    assert report.notes[0] == "ffmpeg: no ffmpeg program was found; extract-frames works with --decoder pyav only"


def test_an_nvidia_device_that_torch_cannot_use_is_a_note(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(doctor, "_NVIDIA_NODE", tmp_path)
    notes = [note for note in look().notes if note.startswith("CUDA: ")]
    assert len(notes) == 1 and "is built without CUDA, although this machine has an NVIDIA device" in notes[0]
    monkeypatch.setattr(doctor, "_NVIDIA_NODE", tmp_path / "none")
    assert not any(note.startswith("CUDA: ") for note in look().notes)


def test_a_gpu_without_triton_or_with_interpreted_kernels_is_a_note(monkeypatch):
    import torch

    load = doctor.importlib.import_module

    def imported(name):
        if name == "triton":
            raise ModuleNotFoundError("No module named 'triton'", name="triton")
        return load(name)

    monkeypatch.setattr(doctor.importlib, "import_module", imported)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    report = look(device="cpu")
    assert report.versions["triton"] is None and not report.broken
    assert [note.partition(":")[0] for note in report.notes if "ffmpeg" not in note] == ["triton", "TRITON_INTERPRET"]


def test_a_choice_that_cannot_be_made_is_broken(monkeypatch):
    from figclip_kernels import choose

    def crash(*arguments):
        raise ImportError("libtriton.so: undefined symbol")

    monkeypatch.setattr(choose, "explain", crash)
    report = look(device="cpu")
    assert [choice.path for choice in report.choices] == [None, None]
    assert "path of the loss on cpu" in report.broken[0] and "undefined symbol" in report.broken[0]


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    import torch

    with pytest.raises(UsageError, match="no device"):
        look(device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: torch"):
        look(device="cuda")
    with pytest.raises(InputError, match="cuda:7: there is none"):
        look(device="cuda:7")


def test_the_lines_of_the_page_run(figclip):
    section = (ROOT / "docs/troubleshooting.md").read_text().split("## First: what this machine has")[1].split("```")[1]
    lines = [line.split("#")[0].strip() for line in section.strip().splitlines()]
    assert lines == ["figclip doctor", "figclip doctor --json | jq .paths"]
    assert "nothing is missing or broken" in figclip("doctor", OMP_NUM_THREADS="1", TRITON_INTERPRET="0").stdout
    assert json.loads(figclip("doctor", "--json", "--skip-check").stdout)["paths"]
