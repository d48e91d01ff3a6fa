"""Exported programs: right for any batch, the same bytes twice, silent, and found out when they are wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from program_exports import by_the_card, found_in, made_of, problem_of

from figclip_cli.errors import InputError
from figclip_cli.export.formats import format_named
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.verify import compare, reloaded

NAME = "torch-export"
FILES = ("image.pt2", "text.pt2", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def made(finished_run, tmp_path_factory):
    return made_of(finished_run, tmp_path_factory.mktemp(NAME), NAME)


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
    assert "image features" in problem_of(made, folder)


def test_a_lost_adapter_is_found(made, tmp_path):
    """The folder against the base's features: the same difference, seen from the other side."""
    lost = replace(made.reference, adapted=made.base_outputs)
    said = compare(lost, found_in(made, made.folder)).problem
    assert said is not None and "image features" in said


def test_a_fixed_batch_is_found(made, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export, "Dim", lambda *_, **__: None)
    format_named(NAME).write(tmp_path, made.material)
    with pytest.raises(Exception, match=r"(?i)dimension|shape|guard|size"):
        problem_of(made, tmp_path)


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


def test_the_lines_on_the_card_do_what_they_say(made):
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    names = by_the_card(made, pixels=pixels)
    model = made.material.clip.model
    with torch.no_grad():
        image = model.encode_image(pixels)
        text = model.encode_text(made.material.clip.tokenizer(["a photo of a dog"]))
    for feature, expected in (("image_features", image), ("text_features", text)):
        assert torch.allclose(torch.as_tensor(names[feature]), expected, atol=1e-5)
