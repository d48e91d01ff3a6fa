"""OpenAI's files: archives with code, of which none is run, and bare state dicts; and archives made to do harm."""

from __future__ import annotations

import copy
import io
import pickle
import pickletools
import warnings
import zipfile

import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.architecture import build_architecture
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource, resolve
from figclip_cli.models.stored_weights import open_weights
from figclip_cli.models.torchscript_archive import ArchiveError, TorchScriptArchive

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
TEXTS = ["a dog on a boat", "two cats"]


def random_model(config, **values):
    torch.manual_seed(3)
    model = build_architecture({**config, **values}).eval().half().float()  # values that half precision holds
    model.register_buffer("input_resolution", torch.tensor(config["vision_cfg"]["image_size"]))
    model.register_buffer("context_length_", torch.tensor(0))
    return model


def save_archive(path, config, **values):
    """Save a model as OpenAI saved theirs: traced, in half precision, its sizes beside the weights."""
    model = random_model(config, **values)
    del model.context_length_
    size, context = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    examples = {
        "forward": (torch.ones(1, 3, size, size), torch.zeros(1, context, dtype=torch.int)),
        "encode_image": (torch.ones(1, 3, size, size),),
        "encode_text": (torch.zeros(1, context, dtype=torch.int),),
    }
    del model.vocab_size, model.context_length
    model.register_buffer("vocab_size", torch.tensor(49408))
    model.register_buffer("context_length", torch.tensor(context))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace_module(model, examples, check_trace=False).half().save(str(path))
    return path


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return {
        word: save_archive(folder / f"{word}.pt", CONFIG, quick_gelu=word == "quickgelu")
        for word in ("gelu", "quickgelu")
    }


@pytest.fixture(scope="module")
def weights():
    state = random_model(CONFIG, quick_gelu=True).state_dict()
    return {name: tensor for name, tensor in state.items() if name not in ("input_resolution", "context_length_")}


@pytest.fixture(scope="module")
def reference(weights, tmp_path_factory):
    """The same weights as an open_clip folder in float32."""
    import json

    folder = tmp_path_factory.mktemp("reference") / "tiny"
    folder.mkdir()
    document = {"model_cfg": {**CONFIG, "quick_gelu": True}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "open_clip_model.safetensors")
    return load_clip(ModelSource(str(folder)))


@pytest.fixture
def registered_name(tmp_path):
    import json

    (tmp_path / "tiny-openai.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / "tiny-openai.json")
    yield "tiny-openai"
    factory._MODEL_CONFIG_PATHS.remove(tmp_path / "tiny-openai.json")
    factory._MODEL_CONFIGS.pop("tiny-openai")


def test_an_archive_needs_nothing_but_its_name(archives, reference):
    clip = load_clip(ModelSource(str(archives["quickgelu"])))
    assert clip.sha256 == reference.sha256
    assert clip.name == "quickgelu" and clip.model_config["quick_gelu"] is True
    assert {parameter.dtype for parameter in clip.model.parameters()} == {torch.float32}
    assert clip.preprocess.mean[0] == pytest.approx(0.48145466) and clip.preprocess.interpolation == "bicubic"
    assert clip.preprocess.crop == "center" and clip.preprocess.size == 32 and clip.context_length == 20
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(clip.encode_texts(TEXTS), reference.encode_texts(TEXTS))
    assert torch.equal(clip.encode_frames(pixels), reference.encode_frames(pixels))


def test_the_activation_is_read_from_the_archive(archives, reference):
    clip = load_clip(ModelSource(str(archives["gelu"])))
    assert clip.model_config["quick_gelu"] is False
    assert not torch.allclose(clip.encode_texts(TEXTS), reference.encode_texts(TEXTS), atol=1e-5)
    with pytest.raises(UsageError, match="contradicts"):
        resolve(ModelSource(str(archives["gelu"]), None, "quickgelu"))
    assert resolve(ModelSource(str(archives["gelu"]), None, "gelu")).model_config["quick_gelu"] is False


def rewritten(source, target, change):
    """Copy an archive with its entries changed: ``change(name, data)`` returns other data, or None to leave out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            data = change(entry.split("/", 1)[1], old.read(entry))
            if data is not None:
                new.writestr(entry, data)
    return target


def test_an_archive_that_shows_no_activation_or_two_is_asked_for(archives, tmp_path):
    hidden = rewritten(
        archives["quickgelu"],
        tmp_path / "hidden.pt",
        lambda name, data: data.replace(b" QuickGELU\n", b" SomeOther\n").replace(b"QuickGELU\n", b"SomeOther\n"),
    )
    both = rewritten(
        archives["quickgelu"],
        tmp_path / "both.pt",
        lambda name, data: data.replace(
            b"__torch__.open_clip.transformer\nQuickGELU\n", b"__torch__.torch.nn.modules.activation\nGELU\n"
        ),
    )
    for path, words in ((hidden, "does not say"), (both, "both GELU and QuickGELU")):
        with pytest.raises(UsageError, match=words) as caught:
            resolve(ModelSource(str(path)))
        assert "--activation" in caught.value.hint
        assert resolve(ModelSource(str(path), None, "quickgelu")).model_config["quick_gelu"] is True


def test_a_name_with_an_archive_takes_the_archives_activation(archives, reference, registered_name):
    file = str(archives["quickgelu"])
    resolved = resolve(ModelSource(registered_name, file))
    assert resolved.model_config["quick_gelu"] is True and "QuickGELU" in resolved.remarks[0]
    clip = load_clip(ModelSource(registered_name, file))
    assert clip.sha256 == reference.sha256 and torch.equal(clip.encode_texts(TEXTS), reference.encode_texts(TEXTS))
    assert resolve(ModelSource(registered_name, str(archives["gelu"]))).remarks == ()
    with pytest.raises(UsageError, match="contradicts"):
        resolve(ModelSource(registered_name, file, "gelu"))
    with pytest.raises(UsageError, match="does not go with the weights file"):
        resolve(ModelSource(file, "openai"))


@pytest.mark.parametrize("form", ["bare", "wrapped", "parallel", "half", "legacy", "safetensors"])
def test_bare_weights_need_the_activation_and_are_the_same_model(form, weights, reference, tmp_path):
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    state = {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor([49408]), **weights}
    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif form == "parallel":
        wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
        torch.save(wrapped, path)
    elif form == "half":
        torch.save({name: one.half() if one.is_floating_point() else one for name, one in state.items()}, path)
    else:
        torch.save({"state_dict": state} if form == "wrapped" else state, path, **LEGACY.get(form, {}))
    with pytest.raises(UsageError, match="GELU or QuickGELU") as caught:
        resolve(ModelSource(str(path)))
    assert "--activation" in caught.value.hint
    clip = load_clip(ModelSource(str(path), None, "quickgelu"))
    assert clip.sha256 == reference.sha256 and clip.model_config["vision_cfg"] == CONFIG["vision_cfg"]


LEGACY = {"legacy": {"_use_new_zipfile_serialization": False}}


def test_a_resnet_is_recognised(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["vision_cfg"] = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 64}
    torch.manual_seed(0)
    model = build_architecture({**config, "quick_gelu": True}).eval()
    torch.save(model.state_dict(), tmp_path / "resnet.pt")
    clip = load_clip(ModelSource(str(tmp_path / "resnet.pt"), None, "quickgelu"))
    assert clip.model_config["vision_cfg"]["layers"] == [1, 2, 1, 1] and clip.preprocess.size == 64
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(clip.model.encode_image(pixels), model.encode_image(pixels))


def test_the_sizes_of_openais_models_are_found_as_open_clip_names_them():
    """From shapes alone; but not where heads of another width would have the same shapes."""
    from figclip_cli.models.openai_clip import openai_model_config
    from figclip_cli.models.stored_weights import StoredWeights, TensorHeader

    for name in ("ViT-B-32", "ViT-L-14-336", "RN50x4"):
        known = open_clip.get_model_config(name)
        with torch.device("meta"):
            state = build_architecture(known).state_dict()
        headers = {key: TensorHeader(tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}
        config = openai_model_config(StoredWeights("file.pt", headers, dict), "quickgelu")
        with torch.device("meta"):
            again = build_architecture(config)
        assert {key: tensor.shape for key, tensor in again.state_dict().items()} == {
            key: tensor.shape for key, tensor in state.items()
        }
        assert config["vision_cfg"]["image_size"] == known["vision_cfg"]["image_size"]
        assert config["text_cfg"]["heads"] == known["text_cfg"]["heads"]
    with torch.device("meta"):
        state = build_architecture(open_clip.get_model_config("ViT-H-14")).state_dict()
    headers = {key: TensorHeader(tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}
    with pytest.raises(InputError, match="heads are not 64 wide"):
        openai_model_config(StoredWeights("file.pt", headers, dict), "quickgelu")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("input_resolution", torch.tensor(224), "input_resolution 224"),
        ("context_length", torch.tensor(77), "context_length 77"),
        ("vocab_size", torch.tensor(7.5), "no whole number"),
        ("positional_embedding", torch.zeros(20, 65), "positional_embedding"),
        ("visual.positional_embedding", torch.zeros(18, 64), "not those of a square image"),
        ("visual.conv1.weight", torch.zeros(3), "visual.conv1.weight"),
        ("ln_final.weight", torch.zeros(65), "heads of 64"),
        ("transformer.resblocks.7.ln_1.weight", torch.zeros(64), "not numbered from 0"),
        ("extra\nname", torch.zeros(1), "extra"),
        ("logit_scale", torch.tensor(float("nan")), "logit_scale has a value that is not finite"),
        ("visual.proj", torch.full((64, 32), float("inf")), "visual.proj has a value that is not finite"),
        ("visual.proj", torch.zeros(64, 32, dtype=torch.int64), "of type int64"),
        ("visual.proj", torch.zeros(1, 1).expand(64, 32), "over and over"),
        ("visual.proj", torch.zeros(64, 32).to_sparse(), "no plain tensor"),
    ],
)
def test_weights_that_do_not_agree_with_themselves_are_refused(name, tensor, message, weights, tmp_path):
    torch.save({**weights, name: tensor}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message) as caught:
        load_clip(ModelSource(str(tmp_path / "weights.pt"), None, "quickgelu"))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": 3}, {1: torch.zeros(1)}, {"a": "text"}, torch.zeros(2)])
def test_files_without_named_tensors_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(ModelSource(str(tmp_path / "weights.pt"), None, "quickgelu"))
    torch.save({"some.weight": torch.zeros(2, 2)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="OpenAI's CLIP") as caught:
        load_clip(ModelSource(str(tmp_path / "weights.pt"), None, "quickgelu"))
    assert "--pretrained FILE" in caught.value.hint


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_no_code_of_an_archive_or_a_pickle_is_run(archives, weights, tmp_path):
    marker = tmp_path / "ran"
    evil = pickle.dumps(Evil(marker), protocol=2)
    for name, content in (
        ("archive.pt", lambda entry, data: evil if entry == "data.pkl" else data),
        ("constants.pt", lambda entry, data: evil if entry in ("data.pkl", "constants.pkl") else data),
        ("saved.pt", lambda entry, data: None if entry == "constants.pkl" else evil if entry == "data.pkl" else data),
    ):
        path = rewritten(archives["quickgelu"], tmp_path / name, content)
        with pytest.raises(InputError, match="cannot be loaded"):
            load_clip(ModelSource(str(path), None, "quickgelu"))
    torch.save({"state_dict": weights, "extra": Evil(marker)}, tmp_path / "extra.pt")
    (tmp_path / "raw.pt").write_bytes(evil)
    for name in ("extra.pt", "raw.pt"):
        with pytest.raises(InputError, match="cannot be loaded"):
            load_clip(ModelSource(str(tmp_path / name), None, "quickgelu"))
    # Code that would not compile is not even looked at.
    broken = rewritten(
        archives["quickgelu"], tmp_path / "code.pt", lambda entry, data: b"(((" if entry.startswith("code/") else data
    )
    assert load_clip(ModelSource(str(broken))).model_config["quick_gelu"] is True
    assert not marker.exists()


def instructions(data):
    """Take a pickle apart into (name, bytes) of its instructions."""
    places = [(opcode.name, position) for opcode, _, position in pickletools.genops(data)]
    ends = [position for _, position in places[1:]] + [len(data)]
    return [[name, data[start:end]] for (name, start), end in zip(places, ends, strict=True)]


def test_an_archives_pickle_is_read_or_refused_whatever_one_instruction_is_replaced_by(archives, tmp_path):
    """Never anything but a result or an ArchiveError, and never more memory than the file has."""
    with zipfile.ZipFile(archives["quickgelu"]) as archive:
        data = archive.read("quickgelu/data.pkl")
    parts = instructions(data)
    generator = torch.Generator().manual_seed(0)
    others = [b"(", b"t", b"R", b"Q", b"\x81", b"b", b"}", b"s", b"u", b"0", b"N", b"h\xff", b"J\xff\xff\xff\x7f", b")"]
    others += [b"cos\nsystem\n", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"X\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"."]
    small = tmp_path / "small.pt"
    for trial in range(76):
        changed = [part for _, part in parts]
        place = int(torch.randint(0, len(parts), (1,), generator=generator))
        changed[place] = others[trial % len(others)]
        with zipfile.ZipFile(small, "w") as archive:
            archive.writestr("a/data.pkl", b"".join(changed))
            archive.writestr("a/constants.pkl", b"")
        with pytest.raises(ArchiveError):  # the numbers are not there, so that even a sound pickle ends here
            TorchScriptArchive(small)


def storage(kind=b"torch\nFloatStorage", count=b"K\x04"):
    """Return the instructions that refer to the numbers ``data/0``."""
    return b"(X\x07\x00\x00\x00storagec" + kind + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + count + b"tQ"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (storage(), "beyond"),
        (storage(kind=b"torch\nEvilStorage"), "unknown kind"),
        (storage(kind=b"os\nFloatStorage"), "unknown kind"),
        (storage(count=b"J\xff\xff\xff\xff"), "unknown kind"),
        (storage(count=b"N"), "unknown kind"),
        (b"N", "no storage"),
    ],
)
def test_tensors_must_lie_within_their_storage(record, message, tmp_path):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    for shape in (b"K\x00(K\x03K\x03t(K\x03K\x01t", b"K\x04(K\x01t(K\x01t", b"K\x00(K\xfft(K\x00t"):
        tensor = rebuild + record + shape + b"\x89ccollections\nOrderedDict\n)RtR"
        data = b"\x80\x02c__torch__\nCLIP\n)\x81}(X\x01\x00\x00\x00a" + tensor + b"ub."
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", data)
            archive.writestr("a/constants.pkl", b"")
            archive.writestr("a/data/0", b"\x00" * 16)
        with pytest.raises(ArchiveError, match=message):
            TorchScriptArchive(tmp_path / "a.pt")
        with pytest.raises(InputError, match="cannot be loaded"):
            open_weights(tmp_path / "a.pt")


def test_a_sound_tensor_of_a_handmade_archive_is_read_in_its_own_order(tmp_path):
    """The negative cases above differ from this one in a single thing each. Transposed strides are allowed."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    tensor = rebuild + storage(count=b"K\x08") + b"K\x02(K\x02K\x03t(K\x01K\x02t"
    data = b"\x80\x02c__torch__\nCLIP\n)\x81}(X\x01\x00\x00\x00a" + tensor + b"\x89NtRX\x01\x00\x00\x00nK\x07ub."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data/0", torch.arange(8.0).numpy().tobytes())
    archive = TorchScriptArchive(tmp_path / "a.pt")
    assert archive.read()["a"].tolist() == [[2.0, 4.0, 6.0], [3.0, 5.0, 7.0]] and archive.numbers == {"n": 7}


def test_archives_that_are_cut_off_compressed_or_without_their_parts_are_refused(archives, tmp_path):
    whole = archives["quickgelu"].read_bytes()
    cases = {"empty": b"", "short": whole[:3], "half": whole[: len(whole) // 2], "end": whole[:-30]}
    for missing in ("data.pkl", "data/0", "data/5"):
        path = rewritten(archives["quickgelu"], tmp_path / "a.pt", lambda n, d, m=missing: None if n == m else d)
        cases[missing] = path.read_bytes()
    cut = rewritten(archives["quickgelu"], tmp_path / "a.pt", lambda n, d: d[:-2] if n == "data/5" else d)
    cases["cut"] = cut.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(archives["quickgelu"]) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    cases["packed"] = packed.getvalue()
    position = whole.index(b"HalfStorage", whole.index(b"data.pkl"))
    cases["flipped"] = whole[:position] + b"XX" + whole[position + 2 :]
    for name, data in cases.items():
        path = tmp_path / f"{name.replace('/', '-')}.pt"
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load_clip(ModelSource(str(path), None, "quickgelu"))
        assert "\n" not in caught.value.message and str(path) in caught.value.message
