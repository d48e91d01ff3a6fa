"""The shipped base model: an ordinary open_clip folder that names things and whose text tower sees word order."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.drawing import SIZE, add_noise, draw
from figclip_cli.demo.poses import Stage
from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, MANNERS, SCENES, SHAPES, VERBS, plan_clip
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

FILES = {"open_clip_config.json", "open_clip_model.safetensors", "README.md", "training_log.jsonl"}
ROLES = Path(__file__).resolve().parents[2] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
TOKENS = "token_embedding.weight"
FRAMES = 240


@pytest.fixture(scope="module")
def base():
    return load_clip(ModelSource(str(base_model_folder())))


@pytest.fixture(scope="module")
def embedding():
    with safe_open(base_model_folder() / "open_clip_model.safetensors", "pt") as file:
        return file.get_tensor(TOKENS)


@pytest.fixture(scope="module")
def shown():
    """Noisy frames of test clips, one of every event: (frames, [(event, scene)])."""
    pictures, facts = [], []
    for number in range(FRAMES):
        plan = plan_clip(99, "test", number // 5)
        event = plan.events[number % 5]
        picture = draw(plan.scene, event, Stage.of(f"{plan.clip_id}/{number}"), 0.6)
        pictures.append(add_noise(picture, number))
        facts.append((event, plan.scene))
    return np.stack(pictures), facts


def similarities(base, pictures, texts):
    images = base.encode_frames(torch.from_numpy(pictures))
    words = base.encode_texts(texts)
    return torch.nn.functional.normalize(images, dim=-1) @ torch.nn.functional.normalize(words, dim=-1).T


def accuracy(base, shown, true_texts, false_texts):
    """Share of frames that prefer their own true text over their own false one; a tie counts against."""
    pictures, _ = shown
    both = similarities(base, pictures, [*true_texts, *false_texts])
    rows = torch.arange(len(pictures))
    return float((both[rows, rows] > both[rows, rows + len(pictures)]).float().mean())


def test_the_folder_holds_what_an_open_clip_folder_holds_and_is_small():
    assert {path.name for path in base_model_folder().iterdir()} >= FILES
    assert sum(path.stat().st_size for path in base_model_folder().iterdir()) < 10_000_000


def test_open_clip_itself_opens_the_folder():
    place = f"local-dir:{base_model_folder()}"
    model, _, preprocess = open_clip.create_model_and_transforms(place)
    model.eval()
    picture = preprocess(Image.new("RGB", (SIZE, SIZE), (200, 40, 40)))
    with torch.no_grad():
        image = model.encode_image(picture[None])
        text = model.encode_text(open_clip.get_tokenizer(place)(["a red circle"]))
    assert picture.shape == (3, SIZE, SIZE)
    assert image.shape == text.shape == (1, 64)
    assert any(type(module).__name__ == "QuickGELU" for module in model.modules())


def test_the_activation_and_the_preprocessing_are_written_out():
    config = json.loads((base_model_folder() / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True
    assert {"size", "mean", "std", "interpolation", "resize_mode"} <= config["preprocess_cfg"].keys()


def test_figclip_and_open_clip_see_the_same_in_a_frame(base, shown):
    picture = shown[0][0]
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{base_model_folder()}")
    with torch.no_grad():
        theirs = model.eval().encode_image(preprocess(Image.fromarray(picture))[None])
    assert torch.allclose(base.encode_frames(torch.from_numpy(picture)[None]), theirs, atol=1e-4)


def test_features_are_finite_and_can_be_normalised(base, shown):
    images = base.encode_frames(torch.from_numpy(shown[0][:8]))
    texts = base.encode_texts(["a red circle", "In this photo, the action is walk, the walker is man."])
    for features in (images, texts):
        assert torch.isfinite(features).all()
        assert (features.norm(dim=-1) > 1e-3).all()


def test_weights_are_half_precision():
    with safe_open(base_model_folder() / "open_clip_model.safetensors", "pt") as file:
        kept = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert set(kept.values()) == {"F16"}


def test_rows_of_tokens_that_no_text_of_the_demo_needs_are_zero(embedding):
    used = (embedding != 0).any(dim=1)
    assert 0.02 < used.float().mean() < 0.5
    foreign = open_clip.get_tokenizer("ViT-B-32")(["\u0436\u0438\u0437\u043d\u044c \u732b \U0001f600"])
    assert not used[foreign[foreign > 0][1:-1]].any()


def test_rows_of_every_word_of_the_world_and_of_propbank_roles_are_not_zero(embedding):
    senses = json.loads(ROLES.read_text())["senses"]
    texts = [f"the {role} is" for sense in senses.values() for role in sense["roles"].values()]
    texts += [f"In this photo, the action is {sense.split('.')[0]}," for sense in senses]
    texts += [
        *COLOURS,
        *SHAPES,
        *SCENES,
        *MANNERS,
        *ACCESSORIES,
        "left right up down with, direction is manner is scene is.",
    ]
    texts += [word for verb in VERBS for word in (verb.word, verb.third_person)]
    tokens = open_clip.get_tokenizer("ViT-B-32")(texts).unique()
    assert (embedding != 0).any(dim=1)[tokens[tokens > 0]].all()


def test_it_names_colours_shapes_and_scenes_of_unseen_combinations(base, shown):
    generator = random.Random(0)
    facts = shown[1]

    def other(values, value):
        return generator.choice([v for v in values if v != value])

    true = [f"a {event.agent.name}" for event, _ in facts]
    colour = [f"a {other(COLOURS, event.agent.colour)} {event.agent.shape}" for event, _ in facts]
    shape = [f"a {event.agent.colour} {other(SHAPES, event.agent.shape)}" for event, _ in facts]
    assert accuracy(base, shown, true, colour) > 0.8
    assert accuracy(base, shown, true, shape) > 0.65
    placed = [f"{text} in the {scene}" for text, (_, scene) in zip(true, facts, strict=True)]
    elsewhere = [f"{text} in the {other(SCENES, scene)}" for text, (_, scene) in zip(true, facts, strict=True)]
    assert accuracy(base, shown, placed, elsewhere) > 0.9


def test_it_finds_the_scene_among_all_scenes(base, shown):
    scenes = sorted(SCENES)
    chosen = similarities(base, shown[0], [f"a picture in the {scene}" for scene in scenes]).argmax(dim=-1)
    right = [scenes[i] == scene for i, (_, scene) in zip(chosen.tolist(), shown[1], strict=True)]
    assert np.mean(right) > 0.6


def test_it_does_not_yet_see_who_does_it_to_whom(base, shown):
    kept = [i for i, (event, _) in enumerate(shown[1]) if event.patient]
    part = (shown[0][kept], [shown[1][i] for i in kept])
    names = [(event.agent.name, event.verb.third_person, event.patient.name) for event, _ in part[1]]
    true = [f"a {agent} {verb} a {patient}" for agent, verb, patient in names]
    false = [f"a {patient} {verb} a {agent}" for agent, verb, patient in names]
    assert 0.3 < accuracy(base, part, true, false) < 0.75


def test_the_text_tower_tells_exchanged_roles_apart(base):
    texts = [
        f"In this photo, the action is push, the pusher is {agent}, the thing pushed is {patient}."
        for agent, patient in (("red circle", "blue star"), ("blue star", "red circle"))
    ]
    one, other = torch.nn.functional.normalize(base.encode_texts(texts), dim=-1)
    assert float(one @ other) < 0.8


def test_the_training_log_shows_that_it_learned():
    lines = [json.loads(line) for line in (base_model_folder() / "training_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert lines[-1]["loss"] < 0.5 * max(line["loss"] for line in lines)  # it rises when frames join the texts


def test_the_card_says_what_it_is_how_it_was_made_and_how_good_it_is():
    card = (base_model_folder() / "README.md").read_text()
    last = json.loads((base_model_folder() / "training_log.jsonl").read_text().splitlines()[-1])
    assert "examples/train_demo_base.py" in card
    assert f"{last['step'] + 1:,} steps" in " ".join(card.split())
    assert "who does it to whom" in card and "%" in card
