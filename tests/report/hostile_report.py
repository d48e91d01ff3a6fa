"""A report in which every text of every file is hostile, and what reads it back."""

from __future__ import annotations

from html.parser import HTMLParser

import crafted

from figclip_cli.report import ReportMaterial, SituationFiles, write_report

VOID = {"meta", "link", "img", "br"}
CLIP_IDS = ["v_<img src=x onerror=window.owned=1>&_a", "v_\U0001f98a]]>_b"]
RUN_NAMES = ["<script>window.owned=1<", "_\u202e$\\frac{1}{0}$&\"'onload=x"]
VERBS = [["push.01"] * 5, ["walk.01"] * 5]


def write_hostile_report(folder):
    """Write two runs with everything that a report shows; return the page's path and its summary."""
    frames, content = crafted.write_frames(folder, CLIP_IDS)
    looks = [f"{clip_id}#{event}" for clip_id in CLIP_IDS for event in range(5)]
    texts = [*crafted.HOSTILE, *(f"{text} again" for text in crafted.HOSTILE)]
    runs = [
        crafted.craft_run(
            folder,
            name,
            seed=seed,
            modules=(f"{crafted.HOSTILE[seed]}.attn", *crafted.MODULES),
            epochs=3,
            terms=(crafted.HOSTILE[2], "vc_event"),
        )
        for seed, name in enumerate(RUN_NAMES)
    ]
    for number, run in enumerate(runs):
        name = f"retrieval-{number}-<img src=x onerror=owned>"
        crafted.write_retrieval(folder, run, texts, looks, name=name, frames=content, dataset_id=crafted.ALL)
        crafted.write_compositional(
            folder, run, crafted.HOSTILE, texts, CLIP_IDS, name=f"kinds-{number}", frames=content
        )
        crafted.write_scales(folder, run, name=f"gained-{number}", gain=5.0 + number, dataset_id=crafted.HOSTILE[1])
        crafted.write_scales(
            folder, run, "zero-shot action recognition", name=f"kept-{number}", gain=-1.0, dataset_id=crafted.HOSTILE[0]
        )
    wrong = [[[crafted.HOSTILE[0], "be.01"]] * 5, [["be.01", crafted.HOSTILE[1]]] * 5]
    right = [[[verb]] * 5 for verb in ("push.01", "walk.01")]
    folders = [crafted.write_predictions(folder, "base-<b>", None, wrong, frames=content)]
    folders += [crafted.write_predictions(folder, "run-<b>", runs[1], right, frames=content)]
    split, vinfo = crafted.write_truth(folder, CLIP_IDS, VERBS)
    material = ReportMaterial(
        results=[folder / "results"],
        frames=[frames],
        predictions=folders,
        situation=SituationFiles(split, vinfo=vinfo),
    )
    page = folder / "report.html"
    return page, write_report(runs, page, material)


class Page(HTMLParser):
    """What a page holds, and whether it is well formed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.headings, self.links, self.images, self.labelled = set(), [], [], [], [], []
        self.handlers, self.problems, self.text, self._open = [], [], [], []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.add(tag)
        self.handlers += [name for name in found if name.startswith("on")]
        if "id" in found:
            self.ids.append(found["id"])
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))
        self.links += [found[name] for name in ("href", "src", "action", "xlink:href") if name in found]
        if tag == "img":
            self.images.append(found)
        self.labelled += found.get("aria-labelledby", "").split()
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data):
        self.text.append(data)
