"""Labels, examples, losses and the head of situation recognition, on made features."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu_annotations import (
    EVENTS,
    RELATIONS,
    ROLES,
    SituationArgument,
    SituationEvent,
)
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.held_out import held_out_clips
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.situation.examples import make_examples
from figclip_cli.heads.situation.head import (
    RELATED,
    HeadSizes,
    all_there,
    parameter_counts,
    related_rows,
)
from figclip_cli.heads.situation.labels import labels_of, load_labels, phrase_of, roles_of
from figclip_cli.heads.situation.loading import LoadedHead, load_head, parts_to_predict
from figclip_cli.heads.situation.losses import accuracies, hidden_senses, losses
from figclip_cli.heads.situation.options import PARTS, TASK, PredictOptions, SituationOptions
from figclip_cli.heads.situation.predicting import predict_clips
from figclip_cli.heads.situation.task import ClipSet, SituationTask, score_of
from figclip_cli.heads.situation.train import make_head
from figclip_cli.heads.training import fit
from figclip_cli.heads.vocabulary import padded, save_vocabulary, train_bpe

WIDTH, FRAMES = 12, 2
SMALL = {"width": 32, "decoder_layers": 1, "attention_heads": 2, "max_tokens": 8}
KEYS = {role: f"{role} (x)" for role in ROLES}


def event(sense, roles=(), relation=""):
    """Return an event; roles are pairs of a name and a phrase."""
    arguments = tuple(SituationArgument(KEYS[name], name, value, place) for place, (name, value) in enumerate(roles))
    return SituationEvent(sense.split(".")[0], sense, arguments, relation)


WHO = ("Man with short hair", "woman in red", "a dog", "two boys")
VERBS = ("walk.01", "push.01", "hit.01", "look.01", "run.02")


def annotation_of(number):
    """Return five events, other ones for each of four clips."""
    events = []
    for place in range(5):
        sense = VERBS[(number + place) % 5]
        roles = [("Arg0", WHO[(number + place) % 4]), ("AScn", f"street {number}")]
        if sense in ("push.01", "hit.01"):
            roles.insert(1, ("Arg1", WHO[number]))
        events.append(event(sense, roles, "" if place == 2 else RELATIONS[(number + place) % 4]))
    return tuple(events)


CLIPS = tuple(f"v_{name}_seg_0_10" for name in "abcd")
ANNOTATED = {clip_id: (annotation_of(number),) for number, clip_id in enumerate(CLIPS)}


class Made:
    """Random features of clips, other ones for each of them."""

    def __init__(self, seed=0, clip_ids=CLIPS, frames=FRAMES):
        draw = torch.Generator().manual_seed(seed)
        shapes = (WIDTH,), (5, WIDTH), (5, frames, WIDTH)
        self.of = {clip_id: tuple(torch.randn(*shape, generator=draw) for shape in shapes) for clip_id in clip_ids}

    def take(self, clip_ids):
        return tuple(torch.stack([self.of[clip_id][part] for clip_id in clip_ids]) for part in range(3))


class Setup:
    """A head for some annotation."""

    def __init__(self, annotated=ANNOTATED, *, parts=PARTS, seed=0, frames=FRAMES, dropout=0.0, **changed):
        self.options = SituationOptions(parts=parts, **{**SMALL, **changed})
        events = [one for of_clip in annotated.values() for each in of_clip for one in each]
        self.labels = labels_of(events)
        self.vocabulary = train_bpe([text for one in events for text in roles_of(one).values()], size=300)
        sizes = HeadSizes(
            WIDTH, frames, len(self.labels.senses), self.vocabulary.size, self.options.width, self.options.event_layers,
            self.options.context_layers, self.options.decoder_layers, self.options.attention_heads,
            self.options.max_tokens, dropout, parts,
        )  # fmt: skip
        self.module = make_head(sizes, self.labels, seed=seed)
        self.examples = make_examples(
            annotated, tuple(annotated), self.labels, self.vocabulary, max_tokens=self.options.max_tokens,
            max_roles=self.options.max_roles,
        )  # fmt: skip
        self.pad_id = self.vocabulary.pad_id

    def task(self, how, features=None, held_out=None):
        features = features or Made()
        held = None if held_out is None else ClipSet(held_out, features)
        return SituationTask(
            self.module, ClipSet(self.examples, features), held, self.options, how, self.vocabulary.pad_id
        )

    def loaded(self, folder=None):
        module = copy.deepcopy(self.module).double().eval()
        return LoadedHead(folder, {"options": self.options.as_dict()}, module, self.labels, self.vocabulary)

    def encoded(self, features=None, clip_ids=CLIPS):
        return self.module.eval().encode(*(features or Made()).take(clip_ids))


def predict(head, clip_ids=CLIPS, *, features=None, references=(), parts=None, **options):
    how = PredictOptions(**options)
    return predict_clips(head, features or Made(), clip_ids, how, parts or head.parts, references)


# Labels


def test_phrases_keep_their_case_and_say_something():
    assert phrase_of("  Man \n with  Hat ") == "Man with Hat"
    assert phrase_of("...") == phrase_of("") == phrase_of("  ") == "" and phrase_of("....") == "...."


def test_roles_are_in_order_and_the_first_of_two_keys_counts():
    one = event("a.01", [("AScn", "Sea"), ("Arg0", "..."), ("Arg1", ""), ("Arg0", "Boy"), ("Arg0", "girl")])
    assert list(roles_of(one).items()) == [("AScn", "Sea"), ("Arg0", "Boy")]


def test_what_is_known_of_roles_by_hand(tmp_path):
    labels = labels_of([event("b.01"), event("a.01", [("Arg0", "x")]), event("a.01", [("Arg0", "y")])])
    assert labels.senses == ("a.01", "b.01") and labels.events == (2, 1)
    assert labels.number("b.01") == 1 and labels.number("c.01") == labels.unknown == 2
    odds = labels.role_log_odds()
    # The rate of all events is 2/3 and counts as much as four events.
    rates = [(2 + 4 * 2 / 3) / 6, (0 + 4 * 2 / 3) / 5, 2 / 3]
    assert odds[:, ROLES.index("Arg0")].tolist() == pytest.approx([math.log(p / (1 - p)) for p in rates], rel=1e-5)
    assert odds[:, ROLES.index("Arg5")].tolist() == pytest.approx([math.log(0.01 / 0.99)] * 3, rel=1e-5)
    labels.save(tmp_path / "labels.json")
    assert load_labels(tmp_path / "labels.json") == labels


@pytest.mark.parametrize(
    "harm",
    [
        lambda d: d.pop("format"),
        lambda d: d.update(format_version=2),
        lambda d: d.update(senses=[]),
        lambda d: d.update(senses=None),
        lambda d: d["senses"].reverse(),
        lambda d: d["senses"].append(d["senses"][-1]),
        lambda d: d["senses"][0].update(events=True),
        lambda d: d["senses"][0].update(sense=7),
        lambda d: d["senses"][0]["roles"].update(Arg0=99),
        lambda d: d["senses"][0]["roles"].update(Arg0=-1),
        lambda d: d["senses"][0]["roles"].pop("AScn"),
    ],
)
def test_damaged_labels_are_refused(tmp_path, harm):
    path = tmp_path / "labels.json"
    labels_of([event("a.01", [("Arg0", "x")]), event("b.01")]).save(path)
    document = json.loads(path.read_text())
    harm(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError):
        load_labels(path)


# Examples


def test_annotators_share_an_event_and_what_says_nothing_is_left_out():
    one = tuple(event("a.01", [("Arg0", "Big Man"), ("Arg1", "..."), ("Arg2", "")], "Causes") for _ in EVENTS)
    two = tuple(event("z.09", [("AScn", "sea")], "" if place < 2 else "NoRel") for place in range(5))
    setup = Setup({"v": (one, one), "w": (one,)})
    made = make_examples({"v": (one, two), "w": (one,)}, ("v", "w"), setup.labels, setup.vocabulary,
                         max_tokens=8, max_roles=6)  # fmt: skip
    events, phrases, relations = made.rows
    assert len(made) == 2 and made.bounds.tolist() == [[0, 0, 0], [10, 10, 6], [15, 15, 10]]
    assert events.share.tolist() == [0.5] * 10 + [1.0] * 5 and events.clip.tolist() == [0] * 10 + [1] * 5
    assert events.place.tolist() == [0, 1, 2, 3, 4] * 3 and events.sense.tolist() == [0] * 5 + [1] * 5 + [0] * 5
    assert events.roles.sum(1).tolist() == [1.0] * 15 and events.roles[0, ROLES.index("Arg0")] == 1
    assert [setup.vocabulary.decode(row[1:].tolist()) for row in phrases.tokens[:6]] == ["Big Man"] * 5 + ["sea"]
    assert phrases.event.tolist() == list(range(15))
    # Event 3 has none; those of the second annotator's first two events are empty.
    assert relations.event.tolist() == [0, 1, 3, 4, 8, 9, 10, 11, 13, 14]
    assert relations.third.tolist() == [2] * 4 + [7] * 2 + [12] * 4
    assert relations.related.tolist() == [0, 1, 2, 3, 2, 3, 0, 1, 2, 3]
    assert [RELATIONS[label] for label in relations.label] == ["Causes"] * 4 + ["NoRel"] * 2 + ["Causes"] * 4


def test_six_roles_of_an_event_get_phrases_and_long_ones_are_cut():
    many = event("a.01", [(role, " ".join(["word"] * 20) if role == "Arg0" else role) for role in ROLES])
    annotation = (many, *(event("a.01") for _ in range(4)))
    setup = Setup({"v": (annotation,)})
    assert setup.examples.rows.phrases.role.tolist() == list(range(6)) and setup.examples.overlong == 1
    assert setup.examples.rows.events.roles[0].tolist() == [1.0] * len(ROLES)
    assert setup.examples.rows.phrases.tokens.shape[1] <= SMALL["max_tokens"] + 1
    few = make_examples({"v": (annotation,)}, ("v",), setup.labels, setup.vocabulary, max_tokens=8, max_roles=2)
    assert few.rows.phrases.role.tolist() == [0, 1]


@pytest.mark.parametrize("order", [[2], [3, 0], [1, 3, 2, 0], []])
def test_some_clips_are_what_they_would_be_alone(order):
    annotated = {c: (annotation_of(n),) * (1 + n % 3) for n, c in enumerate(CLIPS)}
    setup = Setup(annotated)
    taken = setup.examples.take(torch.tensor(order, dtype=torch.int64))
    ids = [CLIPS[row] for row in order]
    alone = make_examples(annotated, ids, setup.labels, setup.vocabulary, max_tokens=8, max_roles=6).rows
    for own, other in zip(taken, alone, strict=True):
        for name, tensor in own._asdict().items():
            if name == "tokens":  # as wide as the longest of all
                tensor = tensor[:, : other.tokens.shape[1]]
                assert not (own.tokens[:, other.tokens.shape[1] :] != setup.pad_id).any()
            assert torch.equal(tensor, getattr(other, name)), name


# The network and its losses


def test_losses_by_hand():
    one, two = annotation_of(0), annotation_of(1)
    unseen = (event("unseen.01", [("Arg0", "a dog")], "Causes"), *two[1:])
    setup = Setup({"a": (one,), "b": (two,)})
    annotated = {"a": (one, two), "b": (unseen,)}
    rows = make_examples(annotated, ("a", "b"), setup.labels, setup.vocabulary, max_tokens=8, max_roles=6).rows
    encoded = setup.encoded(Made(clip_ids="ab"), "ab")
    found = losses(setup.module, encoded, rows, unknown_verbs=0.0, pad_id=setup.pad_id)

    scores = setup.module.verb_logits(encoded).log_softmax(-1).detach()
    total, weight = 0.0, 0.0
    for clip, of_clip in enumerate(annotated.values()):
        for each in of_clip:
            for place, own in enumerate(each):
                if own.sense in setup.labels.senses:
                    total -= float(scores[clip, place, setup.labels.senses.index(own.sense)]) / len(of_clip)
                    weight += 1 / len(of_clip)
    assert weight == 9 and float(found["verbs"].detach()) == pytest.approx(total / weight, rel=1e-5)

    names, phrases, relations = [], [], []
    for clip, of_clip in enumerate(annotated.values()):
        for each in of_clip:
            number_of = [setup.labels.number(own.sense) for own in each]
            for place, own in enumerate(each):
                sense = torch.tensor([number_of[place]])
                logits = setup.module.role_logits(encoded.events[clip, place][None], sense)[0]
                names += [
                    -F.logsigmoid(x if role in roles_of(own) else -x) for role, x in zip(ROLES, logits, strict=True)
                ]
                for role, text in roles_of(own).items():
                    tokens = padded(setup.vocabulary, [text], 8)
                    at = torch.tensor([clip]), torch.tensor([place]), sense, torch.tensor([ROLES.index(role)])
                    memory = setup.module.memory(encoded, *at)
                    logits = setup.module.decoder(memory, all_there(memory), tokens[:, :-1])[0].log_softmax(-1)
                    phrases += [-logits[step, token] for step, token in enumerate(tokens[0, 1:].tolist())]
                if place in RELATED:
                    at = torch.tensor([clip]), torch.tensor([RELATED.index(place)]), sense
                    logits = setup.module.relation_logits(encoded, *at, torch.tensor([number_of[2]]))[0]
                    relations.append(-logits.log_softmax(-1)[RELATIONS.index(own.relation)])
    for name, own in (("role_names", names), ("phrases", phrases), ("relations", relations)):
        assert float(found[name].detach()) == pytest.approx(float(torch.stack(own).mean().detach()), rel=1e-4), name


def test_padding_and_weights_of_losses():
    setup = Setup(roles_weight=2.0, verbs_weight=0.0, role_names_weight=0.5, relations_weight=3.0, unknown_verbs=0.0)
    task = setup.task(TrainingOptions(batch_size=4))
    (batch,) = task.batches(0)
    setup.module.eval()
    total, parts = task.loss(batch)
    assert set(parts) == {"verbs", "phrases", "role_names", "relations"}
    expected = 2 * parts["phrases"] + 0.5 * parts["role_names"] + 3 * parts["relations"]
    assert float(total) == pytest.approx(expected, rel=1e-5)
    tokens = batch.rows.phrases.tokens
    wider = F.pad(tokens[:, : int((tokens != setup.pad_id).sum(1).max())], (0, 3), value=setup.pad_id)[:, :9]
    rows = batch.rows._replace(phrases=batch.rows.phrases._replace(tokens=wider))
    encoded = setup.module.encode(batch.videos, batch.events, batch.frames)
    again = losses(setup.module, encoded, rows, unknown_verbs=0.0, pad_id=setup.pad_id)
    assert float(again["phrases"]) == pytest.approx(parts["phrases"], rel=1e-5)


def test_about_so_many_verbs_are_hidden():
    torch.manual_seed(0)
    senses = torch.arange(10_000) % 7
    assert torch.equal(hidden_senses(senses, 7, 0.0), senses)
    hidden = hidden_senses(senses, 7, 0.25)
    assert 0.23 < float((hidden == 7).float().mean()) < 0.27 and bool((hidden == senses)[hidden != 7].all())


@pytest.mark.parametrize("part", PARTS)
def test_a_head_of_one_part_has_that_part_alone(part):
    setup = Setup(parts=(part,))
    made = parameter_counts(setup.module)
    assert ("verbs" in made) == (part == "verbs") and ("decoder" in made) == (part == "roles")
    assert ("relations" in made) == (part == "relations")
    found = losses(setup.module, setup.encoded(), setup.examples.rows, unknown_verbs=0.0, pad_id=setup.pad_id)
    assert set(found) == ({"role_names", "phrases"} if part == "roles" else {part})
    rows = setup.examples.rows
    nothing = rows._replace(relations=type(rows.relations)(*(tensor[:0] for tensor in rows.relations)))
    left = losses(setup.module, setup.encoded(), nothing, unknown_verbs=0.0, pad_id=setup.pad_id)
    assert set(left) == set(found) - {"relations"}


def test_at_first_the_senses_alone_say_which_roles_there_are():
    setup = Setup()
    senses = torch.arange(len(setup.labels.senses) + 1)
    logits = setup.module.role_logits(torch.randn(len(senses), SMALL["width"]), senses)
    spread = logits - setup.labels.role_log_odds()
    assert torch.allclose(spread, setup.module.role_names[-1].bias.expand_as(spread), atol=1e-6)


def test_tokens_of_a_clip_see_each_other_and_no_other_clip():
    module = Setup().module.double().eval()
    seen = [tensor.double() for tensor in Made().take(CLIPS)]
    whole = module.encode(*seen)
    for row in range(len(CLIPS)):
        alone = module.encode(*(tensor[row : row + 1] for tensor in seen))
        for own, other in zip(alone, whole, strict=True):
            assert torch.allclose(own[0], other[row], atol=1e-12)
    changed = [tensor.clone() for tensor in seen]
    changed[2][0, 4] += torch.randn(FRAMES, WIDTH, generator=torch.Generator().manual_seed(5))
    moved = module.encode(*changed)
    assert not torch.allclose(moved.events[0, 0], whole.events[0, 0], atol=1e-6)
    assert torch.equal(moved.events[1:], whole.events[1:])
    apart = Setup(context_layers=0).module.double().eval()
    assert torch.equal(apart.encode(*changed).events[0, :4], apart.encode(*seen).events[0, :4])


def test_the_order_of_frames_and_events_matters():
    module = Setup().module.double().eval()
    videos, events, frames = (tensor.double() for tensor in Made().take(CLIPS))
    whole = module.encode(videos, events, frames)
    assert not torch.allclose(module.encode(videos, events, frames.flip(2)).events, whole.events, atol=1e-6)
    turned = module.encode(videos, events.flip(1), frames.flip(1))
    assert not torch.allclose(turned.events.flip(1), whole.events, atol=1e-6)


def test_one_frame_of_an_event_is_enough():
    setup = Setup(frames=1)
    made = predict(setup.loaded(), features=Made(frames=1))
    assert all(len(one.verbs) == 5 for one in made)


# Predictions


def references():
    return list(ANNOTATED.values())


@pytest.mark.parametrize("options", [{}, {"beams": 3}, {"verbs": "given", "roles": "given"}, {"role_threshold": 0.2}])
def test_predictions_do_not_depend_on_what_is_predicted_together(options):
    head = Setup(seed=3).loaded()
    given = references() if "verbs" in options else ()
    whole = predict(head, references=given, batch_size=4, **options)
    for batch_size in (1, 3):
        assert predict(head, references=given, batch_size=batch_size, **options) == whole


def test_predictions_have_the_shape_of_the_leaderboard():
    setup = Setup(seed=1)
    for one in predict(setup.loaded()):
        assert [len(verbs) for verbs in one.verbs] == [5] * 5 and {len(set(verbs)) for verbs in one.verbs} == {5}
        assert one.senses == [verbs[0] for verbs in one.verbs]
        for scores in one.verb_scores:
            assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)
        assert [len(row) for row in one.relations] == [3] * 4 and {len(set(row)) for row in one.relations} == {1}
        assert {label for row in one.relations for label in row} <= set(RELATIONS)


def asked_roles(monkeypatch, head, **options):
    """Return how many roles of each event are written."""
    import figclip_cli.heads.situation.predicting as module

    seen = []
    original = module._Batch._predicted_roles

    def spy(self, senses):
        seen.append(original(self, senses))
        return seen[-1]

    monkeypatch.setattr(module._Batch, "_predicted_roles", spy)
    predict(head, **options)
    return torch.bincount(seen[0].clips * 5 + seen[0].places, minlength=20).tolist(), seen[0].roles.tolist()


def test_as_many_roles_are_predicted_as_are_likely_and_six_at_most(monkeypatch):
    head = Setup(seed=1).loaded()
    assert asked_roles(monkeypatch, head, role_threshold=0.0)[0] == [6] * 20
    assert asked_roles(monkeypatch, head, role_threshold=1.0)[0] == [0] * 20
    assert predict(head, role_threshold=1.0)[0].roles == [{}] * 5
    odds = head.labels.role_log_odds()
    counts, _ = asked_roles(monkeypatch, head)
    senses = [sense for one in predict(head) for sense in one.senses]
    bias = head.module.role_names[-1].bias
    likely = [(odds[head.labels.number(s)] + bias >= 0).sum().item() for s in senses]
    assert counts == likely


def test_given_verbs_and_roles_are_those_of_the_first_reference():
    head = Setup(seed=2).loaded()
    given = predict(head, references=references(), verbs="given", roles="given", role_threshold=1.0)
    for one, (annotation,) in zip(given, references(), strict=True):
        assert one.senses == [own.sense for own in annotation]
        for roles, own in zip(one.roles, annotation, strict=True):
            assert set(roles) <= {argument.name for argument in own.arguments}
    verbs_alone = predict(head, references=references(), verbs="given", parts=("roles",))
    for one, (annotation,) in zip(verbs_alone, references(), strict=True):
        assert one.relations == [] and one.senses == [own.sense for own in annotation]
    # What is predicted for verbs is not touched by what is given.
    assert [one.verbs for one in given] == [one.verbs for one in predict(head)]


def test_relations_are_told_the_verbs_of_each_reference():
    head = Setup(seed=2).loaded()
    three = [(annotation_of(0), annotation_of(1), annotation_of(3))] * 4
    made = predict(head, references=three, verbs="given")
    for column in range(3):
        alone = predict(head, references=[(one[column],) for one in three], verbs="given")
        for own, other in zip(made, alone, strict=True):
            assert [row[column] for row in own.relation_scores] == [row[0] for row in other.relation_scores]
    assert len({row[0] for one in made for row in one.relation_scores}) > 1
    assert any(row[0] != row[1] for one in made for row in one.relation_scores)


def test_a_given_verb_that_was_never_seen_is_unknown():
    head = Setup(seed=2).loaded()
    strange = [(tuple(own._replace(sense="fly.07") for own in annotation),) for (annotation,) in references()]
    made = predict(head, references=strange, verbs="given")
    assert all(one.senses == ["fly.07"] * 5 for one in made)


def test_parts_that_were_not_trained_are_refused():
    assert parts_to_predict(PARTS, PredictOptions(parts=("relations", "verbs"))) == ("verbs", "relations")
    with pytest.raises(UsageError, match="not trained for roles"):
        parts_to_predict(("verbs",), PredictOptions(parts=("roles",)))
    with pytest.raises(UsageError, match="not trained for verbs"):
        parts_to_predict(("roles",), PredictOptions())
    assert parts_to_predict(("roles",), PredictOptions(verbs="given")) == ("roles",)


def test_pairs_of_related_rows():
    clips, related = related_rows(2)
    assert clips.tolist() == [0] * 4 + [1] * 4 and related.tolist() == [0, 1, 2, 3] * 2 and RELATED == (0, 1, 3, 4)


# Training

CONFIG = {
    "format": "figclip-head", "format_version": 1, "task": TASK, "features": "plain",
    "model": {"run": None, "source": {"model": "x"}}, "frames": {"recipe": {}, "recipe_sha256": "0"},
}  # fmt: skip


def trained(
    folder, *, epochs, batch_size=2, lr=5e-3, stop_at=None, resume=False, held_out=False, dropout=0.0, parts=PARTS
):
    """Train on the four clips and finish the folder as the program does."""
    setup = Setup(dropout=dropout, parts=parts)
    how = TrainingOptions(epochs=epochs, batch_size=batch_size, lr=lr, dropout=dropout, weight_decay=0.0)
    task = setup.task(how, held_out=setup.examples if held_out else None)
    head = HeadFolder(folder)
    config = {**CONFIG, "options": setup.options.as_dict(), "sizes": setup.module.sizes.as_dict()}
    resuming = head.check(config, may_change=frozenset(), resume=resume, overwrite=False)
    head.begin(config, resuming=resuming)
    save_vocabulary(head.vocabulary_file, setup.vocabulary)
    setup.labels.save(head.labels_file)
    if stop_at is not None:
        batches = task.batches

        def stopping(epoch):
            for number, batch in enumerate(batches(epoch)):
                if (epoch, number) == stop_at:
                    raise KeyboardInterrupt
                yield batch

        task.batches = stopping
    summary = fit(task, head, how, resuming=resuming)
    head.finish(config, {**summary.as_dict(), "files": head.companions()}, "card")
    return setup, head, task


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("heads") / "four", epochs=70, batch_size=4, lr=1e-2)


def test_it_learns_four_clips_by_heart(overfitted):
    _, folder, _ = overfitted
    made = predict(load_head(folder))
    for one, (annotation,) in zip(made, references(), strict=True):
        assert [verbs[0] for verbs in one.verbs] == [own.sense for own in annotation]
        assert one.roles == [{r: roles_of(own)[r] for r in ROLES if r in roles_of(own)} for own in annotation]
        assert [row[0] for row in one.relations] == [annotation[place].relation for place in RELATED]
    assert [one.roles for one in predict(load_head(folder), beams=3)] == [one.roles for one in made]


def test_given_roles_follow_what_is_seen(overfitted):
    _, folder, _ = overfitted
    made = predict(load_head(folder), references=references(), verbs="given", roles="given")
    assert [one.roles for one in made] == [[roles_of(own) for own in a] for (a,) in references()]
    other = {clip_id: Made().of[CLIPS[row - 1]] for row, clip_id in enumerate(CLIPS)}
    turned = Made()
    turned.of = other
    blind = predict(load_head(folder), features=turned)
    assert [one.verbs[0][0] for one in blind] != [one.verbs[0][0] for one in made]


def test_a_loaded_head_is_the_saved_one(overfitted):
    setup, folder, task = overfitted
    loaded = load_head(folder)
    for name, tensor in task.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor.double())
    assert loaded.labels == setup.labels and loaded.parts == PARTS and not loaded.module.training
    options = {"references": references(), "verbs": "given", "beams": 2}
    assert predict(setup.loaded()) == predict(loaded) and predict(setup.loaded(), **options) == predict(
        loaded, **options
    )
    assert loaded.folder.facts()["name"] == "four" and len(loaded.folder.facts()["weights_sha256"]) == 64


def test_all_is_right_of_what_was_learned_by_heart(overfitted):
    setup, _, task = overfitted
    encoded = task.module.eval().encode(*Made().take(CLIPS))
    found = accuracies(task.module, encoded, setup.examples.rows, setup.pad_id)
    assert {name: counts.share for name, counts in found.items()} == dict.fromkeys(found, 1.0) and len(found) == 4
    assert found["verbs"].of == 20 and found["relations"].of == 16 and found["role_names"].of == 20 * len(ROLES)
    assert score_of(found) == 1.0 and score_of({"relations": found["relations"]}) == 1.0 and score_of({}) == 0.0


def test_what_was_stopped_ends_with_the_same_bytes(tmp_path):
    how = {"epochs": 3, "held_out": True, "dropout": 0.2}
    _, whole, _ = trained(tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop_at=(1, 1), **how)
    assert not (tmp_path / "cut" / "DONE").exists()
    _, cut, _ = trained(tmp_path / "cut", resume=True, **how)
    for name in ("head.safetensors", "metrics.jsonl", "checkpoints/last.safetensors", "labels.json"):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    logged = json.loads(whole.metrics_file.read_text().splitlines()[-1])
    assert set(logged["validation"]) == {
        "score",
        *(f"{n}_accuracy" for n in ("verbs", "phrases", "role_names", "relations")),
    }


def harmed(folder, tmp_path, name, change):
    import shutil

    shutil.copytree(folder.path, tmp_path / "harmed")
    path = tmp_path / "harmed" / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return HeadFolder(tmp_path / "harmed")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda d: d.update(task="dense-captioning")),
        ("config.json", lambda d: d.pop("sizes")),
        ("config.json", lambda d: d.update(sizes=[])),
        ("config.json", lambda d: d["sizes"].update(width=64)),
        ("config.json", lambda d: d["sizes"].update(width="wide")),
        ("config.json", lambda d: d["sizes"].update(parts=["verbs"])),
        ("config.json", lambda d: d.update(model={})),
        ("config.json", lambda d: d.update(frames=None)),
        ("config.json", lambda d: d.update(options=3)),
        ("labels.json", lambda d: d["senses"].pop()),
    ],
)
def test_damaged_heads_are_refused(overfitted, tmp_path, name, change):
    with pytest.raises(InputError):
        load_head(harmed(overfitted[1], tmp_path, name, change))


def test_weights_follow_from_the_seed_alone():
    before = torch.random.get_rng_state()
    states = [Setup(seed=seed).module.state_dict() for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["sense.weight"], states[2]["sense.weight"])


def test_orders_follow_from_seed_and_epoch_alone():
    setup = Setup()

    def order(seed, epoch):
        task = setup.task(TrainingOptions(batch_size=1, seed=seed))
        return [batch.videos[0, 0].item() for batch in task.batches(epoch)]

    assert order(0, 1) == order(0, 1) and sorted(order(0, 1)) == sorted(order(0, 5))
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in range(3)}) > 1


def test_clips_are_held_out_by_their_ids_and_the_seed():
    ids = [f"v_{number}" for number in range(40)]
    some, more = held_out_clips(ids, 0.1, 0), held_out_clips(ids, 0.5, 0)
    assert len(some) == 4 and len(more) == 20 and some < more and held_out_clips(ids[::-1], 0.1, 0) == some
    assert held_out_clips(ids, 0.1, 1) != some and held_out_clips(ids, 0, 0) == held_out_clips(ids[:1], 0.5, 0) == set()
    assert len(held_out_clips(ids[:2], 0.01, 0)) == len(held_out_clips(ids[:2], 0.99, 0)) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"parts": ("verbz",)}, {"parts": ("verbs", "verbs")}, {"parts": ()}, {"width": 30, "attention_heads": 4},
     {"width": 0}, {"vocabulary_size": 200}, {"verbs_weight": -1.0}, {"roles_weight": math.nan},
     {"unknown_verbs": 1.0}, {"valid_share": -0.1}, {"event_layers": -1}, {"vocabulary": "words"}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        SituationOptions(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"beams": 0}, {"batch_size": 0}, {"role_threshold": 1.5}, {"role_threshold": math.nan}, {"verbs": "guessed"},
     {"format": "csv"}, {"parts": ("scenes",)}],
)  # fmt: skip
def test_ways_to_predict_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        PredictOptions(**wrong)
