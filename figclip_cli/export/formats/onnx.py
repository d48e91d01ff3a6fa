"""Two ONNX graphs, ``image.onnx`` and ``text.onnx``, for any batch size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from figclip_cli.errors import InputError
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.programs import Program, check_programs, programs, quiet, write_beside

OPSET = 18
# A protobuf message ends at 2 GiB; the graph beside the weights takes some.
LARGEST_FILE_BYTES = 2**31 - 2**26

_USAGE = """import numpy as np, onnxruntime
from tokenizers import Tokenizer

image = onnxruntime.InferenceSession("FOLDER/image.onnx", providers=["CPUExecutionProvider"])
text = onnxruntime.InferenceSession("FOLDER/text.onnx", providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
ids = np.array([line.ids for line in tokenizer.encode_batch(["a photo of a dog"])])
[image_features] = image.run(None, {"pixels": pixels})  # (batch, 3, S, S) float32, as config.json says
[text_features] = text.run(None, {"ids": ids})"""


def _write(folder: Path, material: Material) -> None:
    # Weights of a half type are kept in it and computed with in float32: onnxruntime 1.32.0 dies of a segmentation
    # fault as it opens image towers that compute in float16 on a CPU, and has few kernels for bfloat16 there.
    for program in programs(material, torch.float32):
        _write_graph(folder, program, material.dtype)
    write_beside(folder, material, ".onnx", {"format": "figclip-onnx", "opset": OPSET}, torch.float32)


def _write_graph(folder: Path, program: Program, dtype: torch.dtype) -> None:
    import onnx

    graph = _graph(program)
    if dtype != torch.float32:
        _keep_in(dtype, graph.graph)
    path = folder / f"{program.name}.onnx"
    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > LARGEST_FILE_BYTES:
        location = f"{path.name}.data"
        onnx.save_model(graph, str(path), save_as_external_data=True, location=location, size_threshold=1024)
    else:
        path.write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def _graph(program: Program) -> Any:
    """Return the program as an ONNX model, without what tells of the machine that made it."""
    try:
        with torch.no_grad(), quiet():
            made = torch.onnx.export(
                program.exported,
                (program.example,),
                None,
                dynamo=True,
                opset_version=OPSET,
                input_names=[program.input_name],
                output_names=[program.output_name],
                verbose=False,
                external_data=False,
            )
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        said = f"torch cannot write the {program.name} tower as ONNX: {said}"
        raise InputError(said, "export with --to torch-export") from error
    assert made is not None, "given where no file is named"
    model = made.model_proto
    _strip(model)
    return model


def _keep_in(dtype: torch.dtype, graph: Any) -> None:
    """Keep in a half type every tensor of float32 whose numbers it has, as rounded weights are, and cast it on use."""
    from onnx import TensorProto, helper

    kept = {torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16}[dtype]
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < 2:
            continue
        whole = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.float32)
        if torch.equal(whole.to(dtype).float(), whole):
            name = tensor.name
            tensor.name, tensor.data_type = f"{name}_stored", kept
            tensor.raw_data = whole.to(dtype).view(torch.uint8).numpy().tobytes()
            casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def _strip(model: Any) -> None:
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    named = [*graph.input, *graph.output]
    for value in named:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


FORMAT = Format(
    name="onnx",
    library="onnxruntime",
    holds="weights",
    write=_write,
    usage=lambda material: _USAGE,
    reload=reload_program("with_onnxruntime"),
    packages=("onnx", "onnxscript", "onnxruntime"),
    check=check_programs,
)
