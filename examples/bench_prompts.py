"""Measure build-prompts on made-up annotation of VidSitu's size and shape: seconds, memory, and what an audit says.

Verbs are PropBank's senses, as frequent as the n-th word usually is (1/n); roles have PropBank's names, about one value
in seven occurs once. Nothing here is VidSitu's, whose annotation cannot be passed on.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from figclip_cli.prompts.roles import propbank

ADJECTIVES = "tall old young short blonde big small red blue black white dark bald wooden metal".split()
NOUNS = (
    "man woman boy girl soldier dog car truck door gun sword crowd table phone book ball tree horse king robot waiter "
    "singer doctor pilot chair window glass bottle hat knife rope box bag bike boat"
).split()
ENDINGS = ("in a red shirt", "with long hair", "wearing a hat", "with glasses", "in the car", "on the street", "")
MANNERS = "slowly quickly angrily happily carefully nervously gently loudly calmly".split()
DIRECTIONS = ("forward", "backward", "left", "right", "up", "down", "toward the door", "away from the camera")
SCENES = ("apartment", "street", "forest", "office", "bar", "kitchen", "beach", "desert", "castle", "hallway")
REQUEST = "verb-role=4,role-noun=4"
CHILD = """
import resource, sys, time
from pathlib import Path
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.prompts.negatives import parse_requests
started = time.perf_counter()
options = PromptOptions(negatives=parse_requests(sys.argv[3]), balance=sys.argv[5] == "balanced")
build([Path(sys.argv[1])], Path(sys.argv[2]), options=options, workers=int(sys.argv[4]), overwrite=True)
seconds = time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def noun_phrase(choose: random.Random) -> str:
    """Return a value such as annotators write."""
    words = [choose.choice(("", "", "the", "a"))]
    words += [choose.choice(ADJECTIVES)] if choose.random() < 0.6 else []
    words += [choose.choice(NOUNS), choose.choice(ENDINGS) if choose.random() < 0.5 else ""]
    words += [str(choose.randrange(2000))] if choose.random() < 0.15 else []
    return " ".join(filter(None, words))


def record(choose: random.Random, clip_id: str, senses: list[str], weights: list[float]) -> dict[str, Any]:
    """Return one clip's record in VidSitu's format."""
    scene = choose.choice(SCENES)
    events = {}
    for number in range(1, 6):
        sense = choose.choices(senses, weights)[0]
        names = list(propbank()[sense].items())[:3]
        args = {f"{arg} ({name})": noun_phrase(choose) if choose.random() < 0.85 else "" for arg, name in names}
        for key, values, share in (("direction", DIRECTIONS, 0.4), ("manner", MANNERS, 0.7)):
            if choose.random() < share:
                args[f"ArgM ({key})"] = choose.choice(values)
        if choose.random() < 0.3:
            args["ArgM (goal)"] = noun_phrase(choose)
        args["Scene of the Event"] = scene
        order = {key: place for place, key in enumerate(args)}
        verb = sense.rpartition(".")[0]
        events[f"Ev{number}"] = {
            "vid_seg_int": clip_id, "Verb": verb, "VerbID": sense, "Args": args, "Arg_List": order,
        }  # fmt: skip
    return events


def write_annotation(path: Path, clips: int) -> None:
    """Write the made-up annotation."""
    choose = random.Random(0)
    senses = sorted(propbank())
    choose.shuffle(senses)
    weights = [1 / (place + 5) for place in range(len(senses))]
    path.write_text(json.dumps([record(choose, f"v_{n:06}_seg_0_10", senses, weights) for n in range(clips)]))


def measured(
    annotation: Path, output: Path, request: str, *, workers: int = 1, balance: str = ""
) -> tuple[float, float]:
    """Return seconds and peak MiB of one build in a process of its own."""
    words = [sys.executable, "-c", CHILD, str(annotation), str(output), request, str(workers), balance]
    seconds, mebibytes = map(float, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    return seconds, mebibytes


def main() -> None:
    """Print a table of builds, then audits without and with balance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=23_626)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--audit-clips", type=int, default=6000)
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.clips} clips x 5 events, {REQUEST}")
    with tempfile.TemporaryDirectory() as name:
        annotation, output = Path(name) / "annotation.json", Path(name) / "prompts.jsonl"
        write_annotation(annotation, options.clips)
        for title, workers, balance in (
            ("1 worker", 1, ""),
            ("2 workers", 2, ""),
            ("1 worker, balanced", 1, "balanced"),
        ):
            runs = [
                measured(annotation, output, REQUEST, workers=workers, balance=balance) for _ in range(options.repeats)
            ]
            seconds = sorted(run[0] for run in runs)
            print(f"{title:20} {median(seconds):6.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f}) {runs[0][1]:5.0f} MiB")
        if options.audit_clips:
            from figclip_cli.prompts.audit import audit

            write_annotation(annotation, options.audit_clips)
            every = (
                "verb-role=1,role-noun-swap=1,role-noun-replace=1,attribute-swap=1,manner-replace=1,"
                "direction-replace=1,scene-replace=1,same-video=1"
            )
            for title in ("", "balanced"):
                measured(annotation, output, every, balance=title)
                for kind in audit(output).kinds:
                    found = f"{kind.accuracy_percent:5.1f} % +/- {kind.accuracy_standard_error:.1f}"
                    print(f"{kind.kind:20} {title:9} {found}")


if __name__ == "__main__":
    main()
