"""Records in CLIP_benchmark's form: names, shares, and nothing under a name whose definition is another."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.records import clip_benchmark_records, write_records
from figclip_cli.evaluate.results import Metric, Results


def results_of(*names, statistic="mean", evaluated=None, protocol=None, adapted=True, dataset="msrvtt"):
    pair = {"base_value": 40.0, "base_standard_error": 1.0, "delta": 10.0, "delta_standard_error": 1.0}
    return Results(
        task="x",
        dataset_id=dataset,
        dataset_sha256="d",
        asked=evaluated or {"clips": 2, "texts": 2},
        evaluated=evaluated or {"clips": 2, "texts": 2},
        missing={},
        protocol=protocol or {},
        models={"base": {"name": "ViT-B-32"}, **({"adapted": {"name": "rank8"}} if adapted else {})},
        metrics=tuple(
            Metric(name, 50.0, 1.0, "R" not in name or "@" in name, **(pair if adapted else {}), statistic=statistic)
            for name in names
        ),
    )


def test_retrieval_has_a_record_for_each_model():
    records = clip_benchmark_records(results_of("t2v R@1", "v2t R@10", "t2v MdR", "t2v gmean"))
    common = {"dataset": "msrvtt", "model": "ViT-B-32", "task": "zeroshot_retrieval", "language": "en"}
    names = ("image_retrieval_recall@1", "text_retrieval_recall@10")
    assert records == [
        {**common, "pretrained": "base", "metrics": dict.fromkeys(names, 0.4)},
        {**common, "pretrained": "rank8", "metrics": dict.fromkeys(names, 0.5)},
    ]


def test_the_base_model_alone_has_its_own_numbers():
    (record,) = clip_benchmark_records(results_of("t2v R@5", adapted=False))
    assert record["metrics"] == {"image_retrieval_recall@5": 0.5} and record["pretrained"] == "base"


@pytest.mark.parametrize(("rule", "there"), [("max-per-video", False), ("min-rank", True)])
def test_text_retrieval_with_several_texts_is_recorded_only_where_any_text_counts(rule, there):
    results = results_of(
        "t2v R@1",
        "v2t R@1",
        evaluated={"clips": 2, "texts": 40},
        protocol={"video_to_text_multi_caption": rule},
    )
    metrics = clip_benchmark_records(results)[0]["metrics"]
    assert ("text_retrieval_recall@1" in metrics) is there and "image_retrieval_recall@1" in metrics


def test_classification_and_pairs_of_captions_and_images():
    (record, _) = clip_benchmark_records(results_of("top-1", "top-5", "per-class mean"))
    assert record["task"] == "zeroshot_classification"
    assert sorted(record["metrics"]) == ["acc1", "acc5", "mean_per_class_recall"]
    (record, _) = clip_benchmark_records(results_of("text score", "image score", "group score"))
    assert record["task"] == "image_caption_selection"
    assert sorted(record["metrics"]) == ["acc", "image_acc", "text_acc"]


def test_parts_are_data_sets_of_their_own():
    records = clip_benchmark_records(results_of("add_obj", "swap_att", dataset="sugar_crepe"))
    assert [(r["dataset"], r["pretrained"]) for r in records] == [
        ("sugar_crepe/add_obj", "base"),
        ("sugar_crepe/swap_att", "base"),
        ("sugar_crepe/add_obj", "rank8"),
        ("sugar_crepe/swap_att", "rank8"),
    ]
    assert records[2]["metrics"] == {"acc": 0.5}
    assert clip_benchmark_records(results_of("Replace", statistic="mean of parts")) == []


def test_records_are_written_one_to_a_file(tmp_path):
    paths = write_records(tmp_path / "records", results_of("add_obj", dataset="sugar_crepe"))
    assert [path.name for path in paths] == [
        "sugar_crepe_add_obj_base_ViT-B-32_en_image_caption_selection.json",
        "sugar_crepe_add_obj_rank8_ViT-B-32_en_image_caption_selection.json",
    ]
    assert json.loads(paths[1].read_text())["metrics"] == {"acc": 0.5}


def test_results_without_such_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="none of the numbers"):
        write_records(tmp_path, results_of("t2v MdR", statistic="median"))
