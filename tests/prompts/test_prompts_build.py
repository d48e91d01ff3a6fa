"""The stage from end to end, through the library and through the command line."""

from __future__ import annotations

import importlib.util
import json

import pytest
import typer
from typer.testing import CliRunner
from vidsitu_fixture import event, lines_of, record, world, write

from figclip_cli.commands import build_prompts
from figclip_cli.commands.verb import verb
from figclip_cli.errors import InputError, UsageError
from figclip_cli.prompts import Inputs, PromptOptions, build, read_prompts

SIBLINGS = ("adapt", "demo", "evaluate", "export", "extract_frames")


@pytest.fixture
def annotated(tmp_path, monkeypatch):
    """The current folder, with one annotation file of the default name."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "vsann_train_lb.json", *world())
    return tmp_path


def run(*arguments: str):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("build-prompts")(verb(build_prompts.build_prompts))
    # A second command, so that the first keeps its name as in the real program.
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["build-prompts", *arguments])


def test_the_papers_example_comes_out(annotated):
    build([annotated / "vsann_train_lb.json"], annotated / "p.jsonl")
    first = lines_of(annotated / "p.jsonl")[1]
    assert first["text"] == (
        "In this photo, the action is walk, the walker is man with short hair, direction is forward, "
        "manner is slowly, scene is apartment."
    )
    assert first["roles"][0] == {"arg": "Arg0", "name": "walker", "value": "man with short hair"}
    assert (first["verb"], first["verb_sense"], first["lost_roles"]) == ("walk", "walk.01", [])


def test_lines_are_sorted_and_the_reader_gives_them_back(annotated):
    many = write(annotated / "many.json", *reversed(world()), world()[0])
    summary = build([many], annotated / "p.jsonl")
    found = read_prompts(annotated / "p.jsonl")
    keys = [event.key for event in found.events]
    assert keys == sorted(keys)
    assert len(keys) == 20
    assert found.header["counts"] == summary.counts
    assert keys[5] == ("v_a_seg_0_10", 1, 0)


def test_the_header_holds_what_the_file_depends_on_and_no_path_or_time(annotated):
    build([annotated / "vsann_train_lb.json"], annotated / "p.jsonl", options=PromptOptions(seed=7))
    header = lines_of(annotated / "p.jsonl")[0]
    assert header["seed"] == 7
    assert header["options"] == {
        "context_length": 77,
        "balance": False,
        "negatives": {"role-noun": 2, "verb-role": 4},
        "nouns": None,
        "on_overflow": "drop",
        "split": None,
        "template": "paper",
        "template_sha256": "",
        "vinfo": None,
    }
    assert [source["name"] for source in header["sources"]] == ["vsann_train_lb.json"]
    assert str(annotated) not in (annotated / "p.jsonl").read_text()


def test_counts_are_those_of_the_lines(annotated):
    summary = build([annotated / "vsann_train_lb.json"], annotated / "p.jsonl")
    events = lines_of(annotated / "p.jsonl")[1:]
    counts = summary.counts
    assert (counts["clips"], counts["annotations"], counts["events"], counts["verbs"]) == (3, 3, 15, 4)
    negatives = [negative["kind"] for event in events for negative in event["negatives"]]
    assert counts["negatives"] == {kind: negatives.count(kind) for kind in counts["negatives"]}
    assert sum(counts["negatives"].values()) + sum(counts["negatives_missing"].values()) == 15 * 6
    roles = [role["arg"] for event in events for role in event["roles"]]
    assert counts["roles"] == {arg: roles.count(arg) for arg in counts["roles"]}


def test_generic_names_and_lost_roles_are_counted(annotated):
    long = event({"Arg0": "man", "Arg4": "there", "ArgM (goal)": "so " * 80}, verb="zap", sense="zap.99")
    build([write(annotated / "a.json", record("v_x", long))], annotated / "p.jsonl")
    counts = lines_of(annotated / "p.jsonl")[0]["counts"]
    assert counts["generic_roles"]["Arg0"] == 5
    assert counts["generic_roles"]["Arg4"] == 5
    assert counts["roles_lost"]["goal"] == 5
    assert counts["overflow"]["events"] == 5
    assert sum(counts["roles_lost"].values()) == 5


def test_truncated_prompts_are_counted_and_said(annotated):
    long = event({"Arg0 (walker)": "man " * 90})
    write(annotated / "vsann_train_lb.json", record("v_x", long))
    done = run("--on-overflow", "truncate")
    assert done.exit_code == 0
    assert "5 prompts are over the context: the model will not see their end" in done.stderr
    counts = lines_of(annotated / "prompts.jsonl")[0]["counts"]
    assert counts["overflow"]["truncated"] == 5
    assert sum(counts["roles_lost"].values()) == 0


def test_an_agent_cut_short_is_counted_and_said(annotated):
    write(annotated / "vsann_train_lb.json", record("v_x", event({"Arg0 (walker)": "man " * 90, "Arg1": "road"})))
    done = run()
    assert "roles left out of long prompts: Arg1 5" in done.stderr
    assert "5 prompts were still too long: words of their agent were cut" in done.stderr
    assert lines_of(annotated / "prompts.jsonl")[0]["counts"]["overflow"]["agent_words_cut"] == 5


def test_on_overflow_error_names_clip_event_and_tokens_and_writes_nothing(annotated):
    write(annotated / "vsann_train_lb.json", record("v_x", event(), event({"Arg0 (walker)": "man " * 90})))
    done = run("--on-overflow", "error")
    assert done.exit_code == 3
    assert "error: clip v_x, annotation 0, event 1: the prompt has 105 tokens, the model takes 77" in done.stderr
    assert [path.name for path in annotated.iterdir()] == ["vsann_train_lb.json"]


def test_a_split_keeps_its_clips_and_counts_the_missing(annotated):
    (annotated / "split.json").write_text(json.dumps(["v_a_seg_0_10", "v_c_seg_0_10", "v_gone"]))
    done = run("--split", "split.json", "--json")
    assert done.exit_code == 4
    assert "error: 1 of 3 clips of split.json are not annotated, the first is v_gone" in done.stderr
    document = json.loads(done.stdout)
    assert document["missing_clips"] == ["v_gone"]
    assert document["counts"]["clips"] == 2
    assert document["counts"]["clips_missing"] == 1
    header, *events = lines_of(annotated / "prompts.jsonl")
    assert {event["clip_id"] for event in events} == {"v_a_seg_0_10", "v_c_seg_0_10"}
    assert header["options"]["split"]["name"] == "split.json"


def test_negatives_are_made_of_the_clips_of_the_split_alone(annotated):
    (annotated / "split.json").write_text(json.dumps(["v_a_seg_0_10", "v_b_seg_0_10"]))
    whole = [annotated / "vsann_train_lb.json"]
    build(Inputs(whole, split=annotated / "split.json"), annotated / "split.jsonl")
    alone = write(annotated / "alone.json", *world()[:2])
    build([alone], annotated / "alone.jsonl")
    assert lines_of(annotated / "split.jsonl")[1:] == lines_of(annotated / "alone.jsonl")[1:]


def test_a_split_without_annotated_clips_is_refused(annotated):
    (annotated / "split.json").write_text('["v_other"]')
    with pytest.raises(InputError, match="none of the 1 clips of .* is annotated, for example v_other"):
        build(Inputs([annotated / "vsann_train_lb.json"], split=annotated / "split.json"), annotated / "p.jsonl")


def test_options_that_cannot_be_meant_are_refused():
    with pytest.raises(UsageError, match="below zero"):
        PromptOptions(negatives={"role-noun": -1})
    with pytest.raises(UsageError, match="no rule 'dorp'") as caught:
        PromptOptions(on_overflow="dorp")  # type: ignore[arg-type]
    assert caught.value.hint == "did you mean 'drop'?"


def test_without_a_path_the_default_names_are_used_and_said(annotated):
    done = run()
    assert done.exit_code == 0, done.stderr
    assert "annotations: vsann_train_lb.json (default)" in done.stderr
    assert "prompts: prompts.jsonl (default)" in done.stderr
    assert "negatives: verb-role" in done.stdout
    assert len(lines_of(annotated / "prompts.jsonl")) == 16


def test_no_annotation_file_is_an_input_error_and_several_kinds_a_usage_error(annotated):
    write(annotated / "vsann_valid_lb.json", *world())
    done = run()
    assert done.exit_code == 2
    assert "several annotation files in the current folder: vsann_train_lb.json, vsann_valid_lb.json" in done.stderr
    for path in annotated.iterdir():
        path.unlink()
    done = run()
    assert done.exit_code == 3
    assert "error: no vsann_*_lb.json in the current folder" in done.stderr


def test_an_existing_file_is_kept_unless_told_to_overwrite(annotated):
    (annotated / "prompts.jsonl").write_text("mine")
    done = run("vsann_train_lb.json")
    assert done.exit_code == 2
    assert "prompts.jsonl already exists" in done.stderr
    assert (annotated / "prompts.jsonl").read_text() == "mine"
    assert run("vsann_train_lb.json", "--overwrite").exit_code == 0
    with pytest.raises(UsageError, match="already exists"):
        build([annotated / "vsann_train_lb.json"], annotated / "prompts.jsonl")


def test_flags_reach_the_texts_and_json_is_one_document(annotated):
    arguments = ("--negatives", "verb-role=1,role-noun=0", "--seed", "9", "-o", "few.jsonl", "--json")
    done = run("vsann_train_lb.json", *arguments)
    document = json.loads(done.stdout)
    assert document["output"] == "few.jsonl"
    assert document["counts"]["negatives"] == {"verb-role": 15}
    assert lines_of(annotated / "few.jsonl")[0]["seed"] == 9


def test_a_broken_record_is_left_out_reported_and_makes_the_exit_code_4(annotated):
    broken = record("v_x", event({"ArgX (y)": "man"}))
    write(annotated / "vsann_train_lb.json", *world(), broken)
    done = run("--json")
    assert done.exit_code == 4
    problem = "vsann_train_lb.json, record 3 (clip v_x): Ev1, Args: 'ArgX (y)' is not a role"
    assert f"warning: {problem}" in done.stderr
    document = json.loads(done.stdout)
    assert document["problems"][0].startswith(problem)
    assert (document["counts"]["records"], document["counts"]["records_left_out"]) == (4, 1)
    whole = (annotated / "prompts.jsonl").read_text().splitlines()[1:]
    build([write(annotated / "good.json", *world())], annotated / "good.jsonl")
    assert whole == (annotated / "good.jsonl").read_text().splitlines()[1:]


def test_with_strict_a_broken_record_leaves_with_code_3_and_two_lines(annotated):
    write(annotated / "vsann_train_lb.json", record("v_x", event({"ArgX (y)": "man"})))
    done = run("--quiet", "--strict")
    assert done.exit_code == 3
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: vsann_train_lb.json, record 0 (clip v_x): Ev1, Args: 'ArgX (y)' is not a role")
    assert hint.startswith("hint: ")
    assert not (annotated / "prompts.jsonl").exists()


def test_statistics_and_samples_are_shown_with_the_change_marked(annotated):
    done = run("--stats", "--sample", "2", "--seed", "3")
    assert done.exit_code == 0, done.stderr
    for said in (
        "Roles",
        "lost to the context",
        "tokens of a prompt with all its roles, median",
        "annotation 0, event",
    ):
        assert said in done.stdout
    marked = [line for line in done.stdout.splitlines() if line.startswith("  verb-role")]
    assert len(marked) == 8
    assert all("[" in line and "]" in line for line in marked)
    again = run("--sample", "2", "--seed", "3", "--json", "--overwrite", "--workers", "2")
    samples = json.loads(again.stdout)["samples"]
    assert [f"{s['clip_id']}, annotation 0, event {s['event_index']}" in done.stdout for s in samples] == [True, True]


def test_captions_are_turned_into_annotation_in_a_step_of_their_own(annotated):
    captions = [
        {"clip": "v1", "caption": "the action is walk, the walker is man"},
        {"clip": "v2", "caption": "A man."},
    ]
    (annotated / "captions.json").write_text(json.dumps(captions))
    done = run("--from-captions", "captions.json")
    assert done.exit_code == 4
    assert "annotations: annotations.json (default)" in done.stderr
    assert "1 events; now: figclip build-prompts annotations.json" in done.stderr
    assert "captions.json, record 1: caption: it does not say 'the action is VERB'" in done.stderr
    assert run("annotations.json").exit_code == 0
    assert run("annotations.json", "--from-captions", "captions.json").exit_code == 2


def test_unlabelled_records_are_counted_and_make_the_exit_code_4(annotated):
    unlabelled = {f"Ev{n}": {"vid_seg_int": "v_t"} for n in range(1, 6)}
    write(annotated / "vsann_train_lb.json", *world(), unlabelled)
    done = run()
    assert done.exit_code == 4
    assert "error: 1 records have no labels (VidSitu's test files)" in done.stderr


def test_an_event_that_cannot_be_shortened_is_left_out_and_strict_stops(annotated):
    write(annotated / "vsann_train_lb.json", *world(), record("v_x", event({"Arg0 (x)": "xq" * 300}), event()))
    assert run("--strict").exit_code == 3
    done = run("--json")
    assert done.exit_code == 4
    document = json.loads(done.stdout)
    assert document["problems"] == [
        "clip v_x, annotation 0, event 0: verb and agent alone are over the model's 77 tokens"
    ]
    assert document["counts"]["events"] == 19
    assert document["counts"]["events_left_out"] == 1


def test_building_imports_neither_torch_nor_h5py(annotated, figclip):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from figclip_cli.prompts import build;"
        "build([Path('vsann_train_lb.json')]); assert not {'torch', 'h5py', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=annotated, check=True)


def test_the_real_program_writes_the_same_bytes_as_the_library(annotated, figclip):
    missing = [name for name in SIBLINGS if importlib.util.find_spec(f"figclip_cli.commands.{name}") is None]
    if missing:
        pytest.skip(f"the program does not start yet: {', '.join(missing)}")
    build([annotated / "vsann_train_lb.json"], annotated / "library.jsonl")
    for seed in ("0", "random"):
        done = figclip("build-prompts", "--overwrite", cwd=annotated, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        assert (annotated / "prompts.jsonl").read_bytes() == (annotated / "library.jsonl").read_bytes()
