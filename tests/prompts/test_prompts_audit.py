"""Balanced negatives, and the audit that shows what balance is for."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from vidsitu_fixture import event, lines_of, record, world, write

from figclip_cli.errors import InputError
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.prompts.audit import audit
from figclip_cli.prompts.balance import exchanged
from figclip_cli.prompts.roles import propbank
from figclip_cli.reporting import SILENT

KINDS = {"verb-role": 2, "role-noun-replace": 1, "same-video": 1}


@pytest.fixture(scope="module")
def skewed(tmp_path_factory) -> Path:
    """Annotation in which a few verbs and nouns are frequent and many are rare, as everywhere."""
    senses = [sense for sense, roles in sorted(propbank().items()) if {"Arg0", "Arg1"} <= roles.keys()][::7]
    nouns = "dog car gun tree sword phone table ball book horse robot glass bottle rope boat drum lamp".split()
    choose = random.Random(0)
    weights = [1 / (1 + place) for place in range(len(senses))]

    def one() -> dict:
        sense = choose.choices(senses, weights)[0]
        agent, patient = choose.choices(nouns, [1 / (1 + n) for n in range(len(nouns))], k=2)
        roles = propbank()[sense]
        args = {f"Arg0 ({roles['Arg0']})": agent, f"Arg1 ({roles['Arg1']})": patient}
        return event(args, verb=sense.rpartition(".")[0], sense=sense)

    folder = tmp_path_factory.mktemp("skewed")
    return write(folder / "a.json", *(record(f"v_{n:03}", *(one() for _ in range(5))) for n in range(120)))


def made(annotations: Path, output: Path, **options) -> Path:
    build([annotations], output, options=PromptOptions(negatives=KINDS, **options))
    return output


def test_balanced_negatives_have_the_verbs_and_nouns_of_the_prompts(skewed, tmp_path):
    events = lines_of(made(skewed, tmp_path / "p.jsonl", balance=True))[1:]
    verbs = Counter(event["verb"] for event in events)
    others = Counter(n["change"]["verb"]["to"] for e in events for n in e["negatives"] if n["kind"] == "verb-role")
    assert others.total() >= 0.98 * 2 * verbs.total()
    assert all(others[verb] <= 2 * count for verb, count in verbs.items())
    assert sum((Counter({v: 2 * c for v, c in verbs.items()}) - others).values()) <= 0.02 * others.total()
    taken, given = Counter(), Counter()
    for line in events:
        for negative in line["negatives"]:
            for role, value in negative["change"].get("values", {}).items():
                taken[role, value["from"]] += 1
                given[role, value["to"]] += 1
    assert sum((taken - given).values()) <= 0.02 * taken.total()


def test_the_audit_finds_the_skew_and_balance_takes_it_away(skewed, tmp_path):
    said = []

    class Ear:
        warn = staticmethod(said.append)
        track = staticmethod(SILENT.track)

    plain = {k.kind: k for k in audit(made(skewed, tmp_path / "p.jsonl"), reporter=Ear).kinds}
    assert plain["verb-role"].accuracy_percent > 70
    assert plain["verb-role"].suspicious
    assert any(line.startswith("verb-role: ") for line in said)
    assert plain["same-video"].accuracy_percent < 60
    balanced = {k.kind: k for k in audit(made(skewed, tmp_path / "q.jsonl", balance=True)).kinds}
    assert balanced["verb-role"].accuracy_percent < 60
    assert balanced["role-noun-replace"].accuracy_percent < 60
    report = audit(tmp_path / "q.jsonl", limit=100)
    assert report.as_dict() == audit(tmp_path / "q.jsonl", limit=100).as_dict()
    assert all(k.train_pairs + k.held_out_pairs == 100 for k in report.kinds)


def test_features_of_a_model_are_asked_too(skewed, tmp_path):
    import numpy as np

    path = made(skewed, tmp_path / "p.jsonl")
    prompts = {line["text"] for line in lines_of(path)[1:]}

    def knowing(texts):
        return np.array([[float(text in prompts), len(text)] for text in texts], dtype=np.float32)

    found = [k for k in audit(path, encode=knowing).kinds if k.features == "model" and k.kind == "verb-role"]
    # Not all: a few negatives are, word for word, prompts of other clips.
    assert found[0].accuracy_percent > 95
    assert found[0].pairwise_percent > 95


def test_too_few_pairs_are_not_judged_and_a_file_without_negatives_is_refused(tmp_path):
    path = write(tmp_path / "a.json", *world())
    report = audit(made(path, tmp_path / "p.jsonl"))
    assert report.kinds == ()
    assert report.too_few["verb-role"] == 15
    build([path], tmp_path / "none.jsonl", options=PromptOptions(negatives={}))
    with pytest.raises(InputError, match="has no negatives"):
        audit(tmp_path / "none.jsonl")


def test_an_exchange_is_a_permutation_in_which_everything_suits():
    items = [number % 7 for number in range(200)]
    given, spare = exchanged(items, lambda place, item: item != items[place], random.Random(1))
    assert sorted(given) == sorted(items)
    assert spare == []
    assert all(item != items[place] for place, item in enumerate(given))
    given, spare = exchanged([1, 1, 1], lambda place, item: False, random.Random(1))
    assert (given, spare) == ([None] * 3, [1, 1, 1])


@pytest.mark.parametrize("balance", [False, True])
def test_the_number_of_workers_changes_no_byte(skewed, tmp_path, balance):
    for workers in (1, 2, 3):
        build(
            [skewed],
            tmp_path / f"{workers}.jsonl",
            options=PromptOptions(balance=balance, negatives={**KINDS, "temporal": 1}),
            joined=tmp_path / f"j{workers}.jsonl",
            workers=workers,
        )
    for name in ("", "j"):
        assert len({(tmp_path / f"{name}{workers}.jsonl").read_bytes() for workers in (1, 2, 3)}) == 1


def test_the_command_prints_a_table_or_json_and_takes_a_model(skewed, tmp_path, figclip, tiny_model):
    made(skewed, tmp_path / "prompts.jsonl")
    done = figclip("audit-negatives", "--model", str(tiny_model), "--limit", "200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "prompts: prompts.jsonl (default)" in done.stderr
    assert "warning: verb-role: " in done.stderr
    assert "words" in done.stdout
    assert "model" in done.stdout
    done = figclip("audit-negatives", "--json", "--quiet", cwd=tmp_path)
    assert {kind["kind"] for kind in json.loads(done.stdout)["kinds"]} == KINDS.keys()
