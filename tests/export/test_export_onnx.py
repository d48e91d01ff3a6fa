"""Exported programs: right for any batch, the same bytes twice, silent, and found out when they are wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from program_exports import by_the_card, found_in, made_of, problem_of

from figclip_cli.errors import InputError
from figclip_cli.export.formats import format_named
from figclip_cli.export.formats import onnx as onnx_format
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.programs import programs
from figclip_cli.export.verify import compare, reloaded

NAME = "onnx"
FILES = ("image.onnx", "text.onnx", "config.json", "tokenizer.json")
for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def made(finished_run, tmp_path_factory):
    return made_of(finished_run, tmp_path_factory.mktemp(NAME), NAME)


def test_a_fresh_process_gives_the_adapted_models_features(made):
    found = reloaded(format_named(NAME), made.folder, made.samples)
    assert compare(made.reference, found).problem is None


def test_writing_again_gives_the_same_bytes_and_no_word(made, capfd):
    program = next(iter(programs(made.material, torch.float32)))
    again = onnx_format._graph(program).SerializeToString(deterministic=True)
    assert capfd.readouterr() == ("", "")
    assert again == (made.folder / "image.onnx").read_bytes()


def test_nothing_tells_of_the_machine(made):
    for name in FILES[:3]:
        content = (made.folder / name).read_bytes()
        for local in (b"site-packages", b".py", str(made.folder.parent).encode(), b"figclip_cli"):
            assert local not in content, (name, local)


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


def test_a_fixed_batch_is_found(made, tmp_path):
    import onnx

    folder = shutil.copytree(made.folder, tmp_path / "copy")
    graph = onnx.load(folder / "image.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(graph, folder / "image.onnx")
    with pytest.raises(Exception, match="invalid dimensions"):
        problem_of(made, folder)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_a_half_type_are_kept_in_it_and_computed_with_in_float32(made, tmp_path, dtype):
    """A number that the type does not have stays what it is: nothing is rounded here."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype).float().numpy()
    odd = np.array([1.702, 1.0], np.float32)
    node = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Mul", ["odd", "odd"], ["y"])]
    shapes = {"x": (4, 4), "xw": (4, 3), "y": (2,)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(odd, "odd")]
    graph = helper.make_graph(node, "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_format.OPSET)], ir_version=10)
    onnx_format._keep_in(dtype, model.graph)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    half = TensorProto.FLOAT16 if dtype == torch.float16 else TensorProto.BFLOAT16
    assert stored == {"w_stored": half, "odd": TensorProto.FLOAT}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product, square = session.run(None, {"x": np.eye(4, dtype=np.float32)})
    assert np.array_equal(product, weights) and np.array_equal(square, odd * odd)


def test_weights_over_the_limit_lie_beside_the_graph(made, tmp_path, monkeypatch):
    import onnx

    folder = shutil.copytree(made.folder, tmp_path / "copy")
    program = SimpleNamespace(name="text")
    monkeypatch.setattr(onnx_format, "_graph", lambda _: onnx.load(made.folder / "text.onnx"))
    monkeypatch.setattr(onnx_format, "LARGEST_FILE_BYTES", 1000)
    onnx_format._write_graph(folder, program, torch.float32)
    assert (folder / "text.onnx.data").stat().st_size > 50 * (folder / "text.onnx").stat().st_size
    assert problem_of(made, folder) is None


def test_the_lines_on_the_card_do_what_they_say(made):
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    names = by_the_card(made, pixels=pixels.numpy())
    model = made.material.clip.model
    with torch.no_grad():
        image = model.encode_image(pixels)
        text = model.encode_text(made.material.clip.tokenizer(["a photo of a dog"]))
    for feature, expected in (("image_features", image), ("text_features", text)):
        assert torch.allclose(torch.as_tensor(names[feature]), expected, atol=1e-5)
