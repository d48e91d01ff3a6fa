"""VidSitu in small, with everything awkward in it, and its official scorer once more in plain loops."""

from __future__ import annotations

import functools
import json
import random
from collections import Counter
from itertools import combinations

import numpy as np

EVENTS = ["Ev1", "Ev2", "Ev3", "Ev4", "Ev5"]
RELATED = ["Ev1", "Ev2", "Ev4", "Ev5"]
SCORED = ["Arg0", "Arg1", "Arg2", "ALoc", "AScn"]
SENSES = [f"{verb}.01" for verb in ("walk", "run", "look", "hold", "talk", "sit", "stand", "open")]
KEYS = {
    "Arg0 (walker)": "Arg0",
    "Arg1 (thing held)": "Arg1",
    "Arg2 (listener, if any)": "Arg2",
    "Arg3 (start)": "Arg3",
    "ArgM (direction)": "ADir",
    "ArgM (manner)": "AMnr",
    "ArgM (location)": "ALoc",
    "ArgM (location inside)": "ALoc",
    "Scene of the Event": "AScn",
}
LABELS = ["Causes", "Reaction To", "Enables", "NoRel"]
PHRASES = [
    "man",
    "Man",
    "the man in a suit",
    "a woman",
    "woman with long hair",
    "door",
    "in a room .",
    "room",
    "",
    "...",
    "a  man",
]
WORDS = ["a", "the", "man", "Man", "woman", "dog", ".", "dog.", "in", "room", "red", "tall", "car,"]


def clip_id(number):
    return f"v_clip{number:04d}_seg_{number}_{number + 10}"


def phrase(rng):
    if rng.random() < 0.6:
        return rng.choice(PHRASES)
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 7)))


class World:
    """Files of a split, and predictions of it."""

    def __init__(self, seed, clips=12, annotations=(3, 4, 5, 6)):
        rng = random.Random(seed)
        self.split = [clip_id(number) for number in range(clips)]
        self.annotations, self.vinfo = [], []
        records = []
        for clip in self.split:
            keys = [[key for key in KEYS if rng.random() < 0.6] or ["Arg0 (walker)"] for _ in EVENTS]
            senses = [rng.choice(SENSES) for _ in EVENTS]
            for _ in range(rng.choice(annotations)):
                records.append(self._record(rng, clip, keys, senses))
            favourites = [rng.sample(SENSES, 3) for _ in EVENTS]
            named = {event: [rng.choice(of) for _ in range(12)] for event, of in zip(EVENTS, favourites, strict=True)}
            self.vinfo.append({"vid_seg_int": clip, "vbid_lst": named})
        records += [self._record(rng, "v_other_seg_0_10", [["Arg0 (walker)"]] * 5, [SENSES[0]] * 5)]
        rng.shuffle(records)
        self.annotations = records

    def _record(self, rng, clip, keys, senses):
        record, names = {}, [phrase(rng) for _ in range(4)]
        for event, own, sense in zip(EVENTS, keys, senses, strict=True):
            shuffled = rng.sample(own, len(own))
            args = {key: rng.choice(names) if rng.random() < 0.7 else phrase(rng) for key in shuffled}
            order = {key: place if rng.random() < 0.5 else str(place) for place, key in enumerate(sorted(own))}
            record[event] = {
                "vid_uid": clip[:5], "vid_seg_int": clip, "Verb": f"{sense[:-3]} (to)",
                "VerbID": sense if rng.random() < 0.8 else rng.choice(SENSES), "Arg_List": order, "Args": args,
            }  # fmt: skip
            if event != "Ev3":
                record[event]["EvRel"] = rng.choice(LABELS[: rng.randint(1, 4)])
        return record

    def predictions(self, seed, *, repeated=True):
        rng = random.Random(seed)
        verbs, roles, relations = [], [], []
        for index, clip in enumerate(self.split):
            of_clip = [record for record in self.annotations if record["Ev1"]["vid_seg_int"] == clip]
            verbs.append({"ann_idx": index, "pred_vbs_ev": [rng.choices(SENSES, k=rng.randint(3, 6)) for _ in EVENTS]})
            output, names = {}, [phrase(rng) for _ in range(4)]
            for event in EVENTS:
                truth = rng.choice(of_clip)[event]["Args"]
                said = {name: rng.choice(names) for name in sorted({*KEYS.values()}) if rng.random() < 0.7}
                said |= {KEYS[key]: text for key, text in truth.items() if rng.random() < 0.4}
                output[event] = {"vb_id": rng.choice(SENSES), **said}
            roles.append({"ann_idx": index, "vb_output": output})
            relations.append({"ann_idx": index, "pred_evrels_ev": [rng.choices(LABELS, k=3) for _ in RELATED]})
        made = {"verbs": verbs, "roles": roles, "relations": relations}
        for records in made.values():
            if repeated:  # the second record of a clip says something else
                records.append({**records[0], "ann_idx": 2})
            rng.shuffle(records)
        return made

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {"vseg_split_valid_lb": self.split, "vsann_valid_lb": self.annotations, "vinfo_valid_lb": self.vinfo}
        for name, document in names.items():
            (folder / f"{name}.json").write_text(json.dumps(document))
        return folder


def write_predictions(folder, predictions):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, records in predictions.items():
        (folder / f"{kind}.json").write_text(json.dumps(records))
    return folder


def first_records(records):
    found = {}
    for record in records:
        found.setdefault(record["ann_idx"], record)
    return found


def mean(numbers):
    return sum(numbers) / len(numbers) if numbers else 0.0


def verb_scores(world, records):
    predicted, votes = first_records(records), {record["vid_seg_int"]: record["vbid_lst"] for record in world.vinfo}
    scores, hits = {}, {}
    for k in range(1, 6):
        events, clips = [], []
        for index, clip in enumerate(world.split):
            found = []
            for place, event in enumerate(EVENTS):
                top = predicted[index]["pred_vbs_ev"][place][:k]
                found.append(any(verb in votes[clip][event][:10] for verb in top))
            events += found
            clips.append(all(found))
        scores[f"Per_Ev_Top_{k}"], scores[f"Per_Vid_Top_{k}"] = mean(events), mean(clips)
    scores["acc"] = scores["Per_Ev_Top_5"]
    for index, clip in enumerate(world.split):
        for place, event in enumerate(EVENTS):
            for verb, count in Counter(votes[clip][event][:10]).items():
                if count >= 2:
                    hits.setdefault(verb, []).append(verb in predicted[index]["pred_vbs_ev"][place][:5])
    for threshold in range(10):
        often = [mean(found) for found in hits.values() if len(found) > threshold]
        scores[f"recall_macro_1_th_{threshold}"], scores[f"num_vbs_thresh_{threshold}"] = mean(often), len(often)
    return scores


def relation_scores(world, records):
    predicted, by_clip = first_records(records), annotations_by_clip(world)
    right, by_label = [], {}
    for index, clip in enumerate(world.split):
        for place, event in enumerate(RELATED):
            labels = [record[event]["EvRel"] for record in by_clip[clip]][:3]
            best, count = Counter(labels).most_common(1)[0]
            if count < 2:
                continue
            for column, label in enumerate(labels):
                if label == best:
                    hit = predicted[index]["pred_evrels_ev"][place][column] == label
                    right.append(hit)
                    by_label.setdefault(label, []).append(hit)
    of_labels = {label: mean(found) for label, found in by_label.items()}
    macro = mean(list(of_labels.values()))
    return {"Top_1": mean(right), "Len": len(right), "Macro_Top_1": macro, "Macro_Top_Dct": of_labels}


def annotations_by_clip(world):
    by_clip = {}
    for record in world.annotations:
        by_clip.setdefault(record["Ev1"]["vid_seg_int"], []).append(record)
    return by_clip


def references(world):
    np.random.seed(5)
    chosen = []
    for clip in world.split:
        own = annotations_by_clip(world)[clip]
        order = list(np.random.permutation(len(own)))
        if len(order) > 3:
            del order[3]
        chosen.append([own[place] for place in order[:3]])
    return chosen


def text_scores(hypotheses, references_of):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts = dict(enumerate(references_of))
    res = {number: [text] for number, text in enumerate(hypotheses)}
    cider, of_items = Cider().compute_score(gts, res)
    bleu, rouge = Bleu(4).compute_score(gts, res, verbose=0)[0], Rouge().compute_score(gts, res)[0]
    return {"cider": cider, "rouge": rouge, **{f"bleu_{n + 1}": score for n, score in enumerate(bleu)}}, of_items


def role_scores(world, records):
    predicted, chosen = first_records(records), references(world)
    items = []
    for index, of_clip in enumerate(chosen):
        output = predicted[index]["vb_output"]
        for event in EVENTS:
            for key in of_clip[0][event]["Args"]:
                if KEYS[key] in SCORED:
                    texts = [reference[event]["Args"][key] for reference in of_clip]
                    said = output.get(event, {}).get(KEYS[key], "")
                    items.append((said, texts, of_clip[0][event]["VerbID"], KEYS[key], index, f"{event}_{KEYS[key]}"))
    scores, of_items = text_scores([item[0] for item in items], [item[1] for item in items])
    for column, prefix in ((2, "MacroVb"), (3, "MacroArg")):
        groups = {}
        for item in items:
            groups.setdefault(item[column], []).append(item)
        of_groups = {name: text_scores([i[0] for i in own], [i[1] for i in own])[0] for name, own in groups.items()}
        for name in ("cider", "rouge", "bleu_1", "bleu_2", "bleu_3", "bleu_4"):
            scores[f"{prefix}_{name}"] = mean([one[name] for one in of_groups.values()])
            if prefix == "MacroArg":
                scores |= {f"{role}_{name}": one[name] for role, one in of_groups.items()}
    cider_of = [{} for _ in world.split]
    for item, cider in zip(items, of_items, strict=True):
        cider_of[item[4]][item[5]] = cider
    return scores | coreference_scores(predicted, chosen, cider_of)


def clusters(mentions):
    by_text = {}
    for name, text in mentions:
        by_text.setdefault(text, []).append(name)
    return list(by_text.values())


def home(clusters_, name):
    found = [number for number, cluster in enumerate(clusters_) if name in cluster]
    return found[-1] if found else None


def lea_part(one, other, weights=None):
    top = bottom = 0.0
    for number, cluster in enumerate(one):
        if len(cluster) == 1:
            there = home(other, cluster[0])
            kept = 1.0 if there is not None and len(other[there]) == 1 else 0.0
        else:
            pairs = list(combinations(cluster, 2))
            kept = sum(home(other, a) is not None and home(other, a) == home(other, b) for a, b in pairs) / len(pairs)
        weight = len(cluster) if weights is None else sum(weights[number])
        top += kept * len(cluster) * (1 if weights is None else weight)
        bottom += len(cluster) * (1 if weights is None else len(weights[number]))
    return top, bottom


def other_parts(one, other):
    """Numerators and denominators of mentions, MUC and B-cubed in one direction."""
    names, there = {n for c in one for n in c}, {n for c in other for n in c}
    muc = sum(len(c) - 1 for c in one)
    linked = 0
    b3 = 0.0
    for cluster in one:
        homes = [home(other, name) for name in cluster if home(other, name) is not None]
        linked += len(homes) - len(set(homes))
        b3 += sum(homes.count(h) for h in homes) / len(cluster)
    return {"mentions": (len(names & there), len(names)), "muc": (linked, muc), "bcub": (b3, sum(map(len, one)))}


def best_alignment(key, response):
    """Try every one-to-one assignment, by recursion with memory of what is taken."""

    @functools.cache
    def best(row, taken):
        if row == len(key):
            return 0.0
        found = best(row + 1, taken)
        for column, cluster in enumerate(response):
            common = sum(name in cluster for name in key[row])
            if common and not taken >> column & 1:
                value = 2 * common / (len(key[row]) + len(cluster))
                found = max(found, value + best(row + 1, taken | 1 << column))
        return found

    return best(0, 0)


def f1(p_top, p_bottom, r_top, r_bottom):
    precision, recall = (p_top / p_bottom if p_bottom else 0), (r_top / r_bottom if r_bottom else 0)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def coreference_scores(predicted, chosen, cider_of):
    names = ("mentions", "muc", "bcub", "ceafe", "lea", "lea_soft")
    per_round = {name: [] for name in names}
    for turn in range(len(chosen[0])):
        sums = {name: np.zeros(4) for name in names}
        for index, of_clip in enumerate(chosen):
            reference, output = of_clip[turn], predicted[index]["vb_output"]
            if "Ev1" not in output:
                continue
            scored = [
                (e, KEYS[key], text)
                for e in EVENTS
                for key, text in reference[e]["Args"].items()
                if KEYS[key] in SCORED
            ]
            key = clusters([(f"{e}_{role}", text) for e, role, text in scored])
            response = clusters([(f"{e}_{role}", output[e][role]) for e, role, _ in scored if role in output[e]])
            weights = [[cider_of[index][name] for name in cluster] for cluster in response]
            sums["lea"] += [*lea_part(response, key), *lea_part(key, response)]
            sums["lea_soft"] += [*lea_part(response, key, weights), *lea_part(key, response)]
            there, back = other_parts(response, key), other_parts(key, response)
            for name in ("mentions", "muc", "bcub"):
                sums[name] += [*there[name], *back[name]]
            similarity = best_alignment(key, response)
            sums["ceafe"] += [similarity, len(response), similarity, len(key)]
        for name in names:
            per_round[name].append(f1(*sums[name]))
    return {name: mean(scores) for name, scores in per_round.items()}
