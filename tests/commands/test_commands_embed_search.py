"""``figclip search`` and ``figclip embed`` as typed: tables, pipes, sheets, the cache, exit codes and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from samples import restate
from typer.testing import CliRunner

from figclip_cli.app import app
from figclip_cli.errors import InputError
from figclip_cli.evaluate.embedding_files import read_features
from figclip_cli.frames import FramesReader
from figclip_cli.frames.contact_sheet import write_contact_sheet
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

QUERY = "a man walks in the street"


@pytest.fixture(scope="module")
def lab(prepared, finished_run, tmp_path_factory):
    """A folder with frames, a base model, a finished run, images, texts, and frames of which some are bad."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("base-model", "runs", "vidsitu"):
        shutil.copytree(prepared / name, folder / name)
    shutil.copy(prepared / "frames.h5", folder)
    config = folder / "runs" / "quick" / "config.json"
    config.write_text(config.read_text().replace(str(prepared / "base-model"), "base-model"))
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"images/{number}.png")
    (folder / "images" / "bad.png").write_bytes(b"no picture")
    (folder / "texts.txt").write_text(f"{QUERY}\nthe dog runs away\n")
    shutil.copy(folder / "frames.h5", folder / "bad.h5")
    with h5py.File(folder / "bad.h5", "r+") as file:
        restate(file, "status", {3: "failed"})
        restate(file, "reason", {3: "no\nvideo"})
    return folder


@pytest.fixture
def typed(lab, monkeypatch):
    """The program in this process, in the lab: what needs no process of its own is tested without."""
    monkeypatch.chdir(lab)

    def run(*arguments):
        output = CliRunner().invoke(app, list(map(str, arguments)))
        output.returncode = output.exit_code
        return output

    return run


def said(output):
    """The error and the hint, of which there is one each, on a line each."""
    lines = [line for line in output.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], output.stderr
    assert "Traceback" not in output.stderr
    return lines[0]


def test_search_prints_the_nearest_clips_of_the_newest_run(figclip, lab):
    output = figclip("embed", "-o", "all.h5", "--overwrite", "--verbose", cwd=lab)
    assert output.returncode == 0 and output.stdout.splitlines()[-1] == "all.h5"
    assert "features of 0 of 6 clips" in output.stderr and "encode clips with quick" in output.stderr
    features = read_features(lab / "all.h5")
    assert features.about["model"]["label"] == "adapted"
    text = load_clip(ModelSource(str(lab / "base-model"))).text_similarity_features([QUERY])[0]
    scores = features.features.astype(np.float64) @ text.double().numpy()
    ranked = [features.ids[row] for row in np.argsort(-scores)]

    # What embed kept is what search takes, and it is not encoded again.
    output = figclip("search", QUERY, "--top", "3", "--verbose", "--sheet", "hits.png", "--overwrite", cwd=lab)
    assert output.returncode == 0, output.stderr
    assert "run: runs/quick (default: the newest finished one)" in output.stderr
    assert "features of 6 of 6 clips are in .figclip/" in output.stderr and "encode clips" not in output.stderr
    rows = [line.split() for line in output.stdout.splitlines() if "v_clip" in line]
    assert [row[2] for row in rows] == ranked[:3] and [row[0] for row in rows] == ["1", "2", "3"]
    assert [row[1] for row in rows] == [f"{score:.4f}" for score in np.sort(scores)[::-1][:3]]
    assert "quick (adapted), 6 of 6 clips" in output.stdout and "vidsitu" in output.stdout
    write_contact_sheet(FramesReader(lab / "frames.h5"), ranked[:3], lab / "expected.png")
    with Image.open(lab / "hits.png") as sheet, Image.open(lab / "expected.png") as expected:
        assert np.array_equal(np.asarray(sheet), np.asarray(expected))


def test_search_through_a_pipe(lab, warm_figclip):
    line = "figclip search --texts texts.txt bad.h5 --level event --top 4 --compare-base --json --quiet"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | {sys.executable} -c 'import json,sys; print(json.load(sys.stdin))'"],
        capture_output=True,
        text=True,
        cwd=lab,
        env=environment,
        check=False,
    )
    assert output.returncode == 4, output.stderr
    lines = output.stderr.splitlines()
    assert lines[0] == "error: 1 of 6 clips are not complete, the first is v_clip0000003_seg_0_10: failed: no video"
    assert len(lines) == 2 and lines[1].startswith("hint: ")
    import ast

    document = ast.literal_eval(output.stdout)
    assert [query["text"] for query in document["queries"]] == [QUERY, "the dog runs away"]
    hits = document["queries"][1]["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4] and all(1 <= hit["base_rank"] <= 25 for hit in hits)
    assert all(len(hit["pts_seconds"]) == 4 and hit["event_index"] in range(5) for hit in hits)
    assert (document["n_asked"], document["n_searched"]) == (6, 5)
    assert document["missing"] == {"v_clip0000003_seg_0_10": "failed: no\nvideo"}


def test_search_says_what_is_not_ok_and_ends_with_4(typed, lab):
    output = typed("search", QUERY, "bad.h5", "--base-only", "--no-cache")
    assert output.returncode == 4 and "base-model (base), 5 of 6 clips" in output.stdout
    assert "1 of 6 clips are not complete, the first is v_clip0000003_seg_0_10: failed: no video" in said(output)
    shutil.copy(lab / "frames.h5", lab / "torn.h5")
    with h5py.File(lab / "torn.h5", "r+") as file:
        begin, end = file["jpeg_offsets"][1:3]
        file["jpeg_bytes"][begin:end] = 0
        file.attrs.modify("content_sha256", b"0" * 64)  # what is kept of the sound file is not of this one
    output = typed("search", QUERY, "torn.h5", "--base-only", "--no-cache")
    assert output.returncode == 4 and "5 of 6 clips" in output.stdout
    assert "1 of 6 clips are not complete, the first is v_clip0000000_seg_0_10" in said(output)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search"], 2, "no text to look for"),
        (["search", "  "], 2, "is empty"),
        (["search", "a <end_of_text> b"], 2, "tokenizer"),
        (["search", QUERY, "absent.h5"], 3, "absent.h5 does not exist"),
        (["search", QUERY, "texts.txt"], 3, "not a readable HDF5 file"),
        (["search", QUERY, "frames.h5", "--videos", "vidsitu"], 2, "contradict"),
        (["search", QUERY, "--sheet", "hits.gif"], 2, "hits.gif is no .png"),
        (["search", QUERY, "--sheet", "images/0.png"], 2, "already exists"),
        (["search", QUERY, "--base-only", "--run", "runs/quick"], 2, "contradict"),
        (["search", QUERY, "--base-only", "--compare-base"], 2, "contradict"),
        (["search", QUERY, "--run", "runs/absent"], 3, "does not exist"),
        (["search", QUERY, "--pretrained", "openai"], 2, "--pretrained without --model"),
        (["search", "--texts", "absent.txt"], 3, "absent.txt does not exist"),
        (["search", QUERY, "--texts", "texts.txt", "frames.h5"], 2, "with --texts all arguments are frames files"),
        (["search", "long " * 100, "--texts", "texts.txt"], 2, "with --texts all arguments are frames files"),
        (["search", QUERY, "x" * 300], 3, "File name too long"),
        (["search", QUERY, "--videos", "x" * 300], 3, "File name too long"),
        (["search", QUERY, "--sheet", "texts.txt/hits.png"], 1, "texts.txt is no folder"),
        (["search", QUERY, "--protocol", "clip4clip"], 3, "asks for 1 frames a second"),
        (["embed", "--images", "images", "--texts", "texts.txt"], 2, "--images and --texts contradict"),
        (["embed", "--images", "images", "--level", "clip"], 2, "--level is for clips"),
        (["embed", "--images", "vidsitu"], 3, "no image found"),
        (["embed", "--texts", "frames.h5"], 3, "not UTF-8"),
        (["embed", "-o", "features.pt"], 2, "no known format"),
        (["embed", "-o", "bad.h5"], 2, "already exists"),
        (["embed", "-o", "/proc/x/features.h5"], 1, "/proc/x/features.h5 cannot be made"),
        (["embed", "-o", f"{'x' * 300}.h5"], 2, "File name too long"),
        (["embed", "--videos", "absent"], 3, "absent does not exist"),
        (["embed", "--level", "event", "--num-frames", "4"], 3, "none for single events"),
    ],
)
def test_what_cannot_be_meant_is_one_line_with_its_exit_code(typed, lab, arguments, code, words):
    output = typed(*arguments)
    assert output.returncode == code, output.stderr
    assert words in said(output) and output.stdout == ""
    assert not (lab / "features.safetensors").exists()


@pytest.fixture
def readable(lab):
    """A file of every kind that is read, each as itself or as the only one."""
    shutil.copy(lab / "frames.h5", lab / "own.h5")
    shutil.copy(lab / "frames.h5", lab / "sheet.png")
    (lab / "m.csv").write_text("clip_id,caption\nv_clip0000001_seg_0_10,a man\nv_clip0000002_seg_0_10,a dog\n")
    (lab / "m.samples.jsonl").write_text("v_clip0000001_seg_0_10\n")
    before = {path: path.read_bytes() for path in lab.iterdir() if path.is_file()}
    yield lab
    assert {path: path.read_bytes() for path in lab.iterdir() if path.is_file()} == before
    for name in ("own.h5", "sheet.png", "m.csv", "m.samples.jsonl"):
        (lab / name).unlink()


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate retrieval --captions m.csv -o m.csv",
        "evaluate retrieval --captions m.csv --ids texts.txt -o images/../texts.txt",
        "evaluate retrieval --captions m.csv --ids m.samples.jsonl -o m.json",  # its samples
        "evaluate retrieval --captions m.csv --frames own.h5 -o own.h5",
        "evaluate retrieval --captions m.csv -o frames.h5",
        "evaluate action --list m.csv -o m.csv",
        "evaluate action --list m.csv --classes texts.txt -o texts.txt",
        "evaluate action --list m.csv --only-classes texts.txt -o texts.txt",
        "evaluate action --list m.csv --exclude-classes texts.txt --class-draws 1x2 -o texts.txt",
        "evaluate action --list m.csv --templates texts.txt -o texts.txt",
        "evaluate compositional --annotations m.csv -o m.csv",
        "embed --frames own.h5 -o own.h5",
        "embed --frames ow*.h5 -o own.h5",
        "embed -o frames.h5",
        "search --texts texts.txt sheet.png --sheet sheet.png",
    ],
)
def test_overwrite_never_reaches_an_input(typed, readable, arguments):
    output = typed(*arguments.split(), "--overwrite", "--base-only")
    assert output.returncode == 2 and "is an input of this command" in said(output)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "m.json"], 2, "m.samples.jsonl already exists"),
        (["-o", "images"], 2, "images is a folder"),
        (["-o", "."], 2, "is a folder"),
        (["-o", "texts.txt/x.json"], 1, "texts.txt is no folder"),
        (["-o", "/proc/x/y.json"], 1, "cannot be made"),
        (["-o", f"{'x' * 248}.json"], 2, "File name too long"),  # with the ending of its samples
        (["--clip-benchmark", "texts.txt"], 1, "texts.txt is no folder"),
        (["-o", "x.json", "--frames", "x" * 300], 3, "File name too long"),
    ],
)
def test_evaluate_refuses_outputs_that_cannot_be_before_the_work(typed, readable, arguments, code, words):
    output = typed("evaluate", "retrieval", "--captions", "m.csv", "--base-only", *arguments)
    assert output.returncode == code and words in said(output)
    assert "encode" not in output.stderr and output.stdout == ""


def test_evaluate_shortens_default_names_and_writes_over_samples_only_when_told(typed, lab, tmp_path):
    captions = tmp_path / f"{'x' * 240}.csv"
    captions.write_text("clip_id,caption\nv_clip0000001_seg_0_10,a man\nv_clip0000002_seg_0_10,a dog\n")
    flags = ["evaluate", "retrieval", "--captions", captions, "--base-only"]
    output = typed(*flags)
    assert output.returncode == 0, output.stderr
    (results,) = (lab / "results").glob("*.json")
    assert output.stdout.strip().splitlines()[-1] == f"results/{results.name}"
    assert results.name.startswith("retrieval-xxx") and len(results.name) <= 205
    results.unlink()
    output = typed(*flags)
    assert output.returncode == 2 and ".samples.jsonl already exists" in said(output)
    assert typed(*flags, "--overwrite").returncode == 0
    assert typed(*flags, "--no-samples", "-o", tmp_path / "x.json").returncode == 0
    shutil.rmtree(lab / "results")


def test_evaluate_shows_its_table_also_where_records_fail(typed, tmp_path, monkeypatch):
    (tmp_path / "m.csv").write_text("clip_id,caption\nv_clip0000001_seg_0_10,a man\nv_clip0000002_seg_0_10,a dog\n")

    def fail(folder, results):
        raise InputError("no number for the records", "hint")

    monkeypatch.setattr("figclip_cli.evaluate.records.write_records", fail)
    flags = ["--captions", tmp_path / "m.csv", "-o", tmp_path / "r.json", "--clip-benchmark", tmp_path / "records"]
    output = typed("evaluate", "retrieval", *flags, "--base-only")
    assert output.returncode == 3 and "no number for the records" in said(output)
    assert "t2v R@1" in output.stdout


@pytest.mark.parametrize("verb", ["search", "evaluate"])
def test_what_is_missing_is_said_where_the_reader_of_stdout_is_gone(lab, warm_figclip, tmp_path, verb):
    (tmp_path / "m.csv").write_text("clip_id,caption\nv_clip0000001_seg_0_10,a man\ngone,a dog\n")
    output = tmp_path / "r.json"
    words = {
        "search": f"search '{QUERY}' bad.h5",
        "evaluate": f"evaluate retrieval --captions {tmp_path}/m.csv -o {output} --clip-benchmark {tmp_path}/records",
    }[verb]
    program = f"{sys.executable} -m figclip_cli" if verb == "search" else "figclip"  # one ends as the interpreter does
    line = f"{program} {words} --base-only --quiet | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=lab, env=environment, check=False)
    assert done.returncode == 4, done.stderr
    assert [part.split(":")[0] for part in done.stderr.splitlines()] == ["error", "hint"]
    assert verb == "search" or (output.is_file() and list((tmp_path / "records").iterdir()))


def test_embed_writes_images_and_what_is_bad_ends_with_4(typed, lab):
    output = typed("embed", "--images", "images", "-o", "images.npz", "--base-only", "--json")
    assert output.returncode == 4
    assert "1 of 4 images are not complete, the first is bad.png: image bad.png " in said(output)
    document = json.loads(output.stdout)
    assert (document["n_asked"], document["n_written"], document["shape"]) == (4, 3, [3, 32])
    found = read_features(lab / "images.npz")
    assert found.ids == ("0.png", "1.png", "2.png") and list(found.missing) == ["bad.png"]


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_embed_twice_gives_equal_bytes_with_and_without_what_was_kept(typed, lab, ending):
    for name, more in (("first", ["--no-cache"]), ("second", [])):
        output = typed("embed", "--level", "frame", "-o", f"{name}.{ending}", "--base-only", *more)
        assert output.returncode == 0, output.stderr
        assert "rows" in output.stdout and "120" in output.stdout
    assert (lab / f"first.{ending}").read_bytes() == (lab / f"second.{ending}").read_bytes()


def test_embed_takes_videos_as_the_protocol_wants_them(typed, lab):
    flags = ["--videos", "vidsitu", "--protocol", "fitclip", "--base-only"]
    output = typed("embed", *flags)
    assert output.returncode == 0 and "output: features.safetensors (default)" in output.stderr
    found = read_features(lab / "features.safetensors")
    (lab / "features.safetensors").unlink()
    assert found.about["source"]["recipe"]["frames_per_event"] == 4 and not found.about["unit_length"]
    assert (np.linalg.norm(found.features, axis=1) < 1 + 1e-6).all()
    output = typed("search", QUERY, *flags, "--top", "1", "-v")
    assert output.returncode == 0 and "(extracted before)" in output.stderr
    assert "features of 6 of 6 clips" in output.stderr


def test_embed_of_texts_takes_the_adapted_run_where_the_text_tower_is_the_base_s(typed, lab):
    output = typed("embed", "--texts", "texts.txt", "-o", "texts.h5", "--run", "runs/quick", "--quiet")
    assert (output.returncode, output.stderr) == (0, "")
    expected = load_clip(ModelSource(str(lab / "base-model"))).text_similarity_features([QUERY])[0].numpy()
    found = read_features(lab / "texts.h5")
    assert np.allclose(found.features[0], expected, atol=1e-6) and found.about["level"] == "text"


def test_ctrl_c_leaves_no_torn_output(lab, warm_figclip, tmp_path):
    output = tmp_path / "features.safetensors"
    # In a precision of its own, so that no other test has kept these features.
    arguments = ["embed", "--level", "frame", "--precision", "bf16", "--base-only", "-v", "-o", str(output)]
    program = subprocess.Popen(
        ["figclip", *arguments],
        cwd=lab,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert any("features of 0 of 120 frames" in line for line in program.stderr)  # read up to here: now it encodes
    program.send_signal(signal.SIGINT)
    rest = program.stderr.read()
    code = program.wait(timeout=120)
    assert code in (0, 130), rest
    assert "Traceback" not in rest and (code == 0 or "error: interrupted" in rest)
    if code == 0:
        assert len(read_features(output).ids) == 120
    else:
        assert list(tmp_path.iterdir()) == []
