"""What is gained against what is kept, between the base and the run: the curves that ``evaluate --scales`` makes."""

from __future__ import annotations

from pathlib import Path

from figclip_cli.demo.stages import DemoFolder
from figclip_cli.evaluate.compositional import evaluate_compositional_at
from figclip_cli.evaluate.curve import make_curve, write_curve
from figclip_cli.evaluate.curve_drawing import curve_chart, trade_off_chart
from figclip_cli.evaluate.curve_kept import read_kept, trade_off
from figclip_cli.evaluate.curve_svg import draw
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.datasets.compositional import read_compositional
from figclip_cli.evaluate.retrieval import evaluate_retrieval_at
from figclip_cli.models.adapted import load_base
from figclip_cli.reporting import Reporter

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)


def write_curves(folder: DemoFolder, reporter: Reporter) -> Path:
    """Evaluate coarse captions and hard negatives at several scales; return the folder of both curves."""
    run, made = folder.run, folder.path / "curves"
    clips, encoding = folder.clips("test", reporter)
    queries = read_captions(folder.world / "captions_test.csv")
    coarse = evaluate_retrieval_at(SCALES, load_base(run), clips, queries, encoding=encoding, run=run)
    kept_file = made / "retrieval-coarse" / "curve.json"
    curve = make_curve(coarse, SCALES, kept_file, run_name=run.name, samples=False)
    write_curve(kept_file, {**curve.as_document(), "trade_off": None}, draw(curve_chart(curve)))
    items = read_compositional("prompts", [folder.prompts("test")])
    negatives = evaluate_compositional_at(SCALES, load_base(run), clips, items, encoding=encoding, run=run)
    gained_file = made / "compositional" / "curve.json"
    gained = make_curve(negatives, SCALES, gained_file, run_name=run.name, samples=False)
    trade = trade_off(gained, read_kept(kept_file, run, SCALES))
    write_curve(gained_file, {**gained.as_document(), "trade_off": trade.as_document()}, draw(trade_off_chart(trade)))
    return made
