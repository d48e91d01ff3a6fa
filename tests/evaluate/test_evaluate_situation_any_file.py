"""Files of situation recognition with anything anywhere in them: finite numbers, or one line of what is wrong."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random

import pytest
from situation_naive import World, write_predictions

from figclip_cli.errors import FigclipError
from figclip_cli.evaluate.situation.task import SituationInputs, evaluate_situation

JUNK = [
    None, True, False, 0, -1, 3, 10**40, 1.5, math.nan, math.inf, "", " ", "walk.01", "Ev1", "Arg0", "\ud800",
    "é \u2028", [], [None], [[]], [["walk.01"] * 3] * 5, {}, {"Ev1": {}}, {"Ev1": {"Args": {}}}, {"": ""}, "NoRel",
]  # fmt: skip


def places(value, path=()):
    """Yield the path to every value within."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def spoiled(rng, document):
    """Return a copy with something replaced, removed, repeated or added."""
    document = copy.deepcopy(document)
    path = rng.choice([path for path in places(document) if path])
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    what = rng.randrange(4)
    if what == 0:
        del parent[path[-1]]
    elif what == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    elif what == 2 and isinstance(parent, dict):
        parent[rng.choice(["Ev1", "Ev9", "Arg0", "Arg0 (x)", "Args", "clip_id", "EvRel", "ann_idx"])] = rng.choice(JUNK)
    else:
        parent[path[-1]] = rng.choice(JUNK)
    return document


@pytest.mark.parametrize("seed", range(2))
def test_no_file_ends_in_anything_but_numbers_or_one_line(tmp_path, seed):
    rng = random.Random(seed)
    world = World(seed, clips=3)
    whole = {"split": world.split, "annotations": world.annotations, "vinfo": world.vinfo, **world.predictions(seed)}
    refused = 0
    for turn in range(30):
        documents = dict(whole)
        for name in rng.sample(list(documents), rng.choice([1, 1, 2])):
            documents[name] = spoiled(rng, documents[name])
        for name in ("split", "annotations", "vinfo"):
            (tmp_path / f"{name}.json").write_text(json.dumps(documents.pop(name)))
        folder = write_predictions(tmp_path / "p", documents)
        if turn % 3 == 0:
            (tmp_path / "roles.pkl").write_bytes(pickle.dumps(documents["roles"], protocol=2))
            predictions = [folder / "verbs.json", tmp_path / "roles.pkl"]
        else:
            predictions = [folder]
        files = {name: tmp_path / f"{name}.json" for name in ("split", "annotations", "vinfo")}
        try:
            inputs = SituationInputs(predictions, **files, allow_missing=turn % 2 == 0, by=("role", "verb"))
            evaluation = evaluate_situation(inputs)
            evaluation.write(tmp_path / "r.json")
        except FigclipError as error:
            refused += 1
            assert str(error) and "\n" not in str(error) and len(str(error)) < 400
            continue
        numbers = [number for number in evaluation.official().values() if not isinstance(number, dict)]
        assert all(math.isfinite(number) for number in numbers)
    assert 5 < refused < 30
