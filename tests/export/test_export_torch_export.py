"""Exported programs: right for any batch, the same bytes twice, silent, and found out when they are wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from figclip_cli.errors import InputError
from figclip_cli.export.formats import format_named
from figclip_cli.export.material import attach, merged
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.references import Reference, clip_outputs
from figclip_cli.export.samples import draw_samples
from figclip_cli.export.verify import compare, reloaded
from figclip_cli.models.adapted import load_base

NAME = "torch-export"
FILES = ("image.pt2", "text.pt2", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def made(finished_run, tmp_path_factory):
    """One folder, what it was made of, and what it must give."""
    base = load_base(finished_run)
    state = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    samples = draw_samples(32)
    base_outputs = clip_outputs(base, samples)
    adapted = attach(base, state, finished_run, 1.0)
    outputs = clip_outputs(adapted, samples)
    material = merged(finished_run, ExportOptions(to=(NAME,)), 1.0, adapted, state, None)
    folder = tmp_path_factory.mktemp(NAME)
    format_named(NAME).write(folder, material)
    reference = Reference(outputs, {}, None, material.logit_scale, 2.0**-24)
    return SimpleNamespace(
        folder=folder, material=material, base_outputs=base_outputs, samples=samples, reference=reference
    )


def found_in(made, folder, tmp_path):
    """Run the program that opens the folder, in this process."""
    spec = importlib.util.spec_from_file_location("opened", format_named(NAME).reload)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    save_file({"images": made.samples.images.contiguous()}, tmp_path / "in")
    (tmp_path / "texts").write_text(json.dumps(list(made.samples.texts)))
    program.main(str(folder), str(tmp_path / "in"), str(tmp_path / "texts"), str(tmp_path / "out"), "")
    return load_file(tmp_path / "out")


def problem_of(made, folder, tmp_path):
    return compare(made.reference, found_in(made, folder, tmp_path)).problem


def test_a_fresh_process_gives_the_adapted_models_features(made):
    found = reloaded(format_named(NAME), made.folder, made.samples)
    assert compare(made.reference, found).problem is None


def test_writing_twice_gives_the_same_bytes_and_no_word(made, tmp_path, capfd):
    format_named(NAME).write(tmp_path, made.material)
    assert capfd.readouterr() == ("", "")
    for name in FILES:
        content = (tmp_path / name).read_bytes()
        assert content == (made.folder / name).read_bytes(), name
        assert b"site-packages" not in content and str(tmp_path).encode() not in content, name
        assert b'.py"' not in content, name


def test_a_wrong_mean_is_found(made, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["preprocess"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "config.json").write_text(json.dumps(config))
    assert "image features" in problem_of(made, folder, tmp_path)


def test_a_lost_adapter_is_found(made, tmp_path):
    """The folder against the base's features: the same difference, seen from the other side."""
    lost = replace(made.reference, adapted=made.base_outputs)
    said = compare(lost, found_in(made, made.folder, tmp_path)).problem
    assert said is not None and "image features" in said


def test_a_fixed_batch_is_found(made, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export, "Dim", lambda *_, **__: None)
    format_named(NAME).write(tmp_path, made.material)
    with pytest.raises(Exception, match=r"(?i)dimension|shape|guard|size"):
        problem_of(made, tmp_path, tmp_path)


def test_the_tokenizer_file_gives_open_clips_ids(made):
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer

    texts = [*made.samples.texts, "", "it's 12 dogs' 3rd re-run!!  two  spaces", "word " * 100, "naïve Ärger ÉTÉ"]
    ids = [line.ids for line in Tokenizer.from_file(str(made.folder / "tokenizer.json")).encode_batch(texts)]
    assert ids == SimpleTokenizer(context_length=77)(texts).tolist()


def test_a_tokenizer_of_its_own_is_refused():
    config = {"model": {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "x"}, "vision_cfg": {}}}}
    with pytest.raises(InputError, match="tokenizer of its own"):
        format_named(NAME).check(config, ExportOptions(to=(NAME,)))
