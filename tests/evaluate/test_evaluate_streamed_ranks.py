"""Streamed ranks against one pair at a time, in every precision, block size and way to read features."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import torch

from figclip_cli.errors import InputError
from figclip_cli.evaluate.metrics import exact_scores as exactness
from figclip_cli.evaluate.metrics import query_counts
from figclip_cli.evaluate.metrics import streamed_ranks as module
from figclip_cli.evaluate.metrics.counting import Masks, count, differing, padded, places
from figclip_cli.evaluate.metrics.exact_scores import (
    PLAIN,
    Products,
    exact_product,
    exact_scores,
    float32_products_of,
    largest_errors,
    limits,
    make_block,
)
from figclip_cli.evaluate.metrics.ranking import (
    MULTI_CAPTION,
    TIES,
    text_to_video_ranks,
    video_to_text_ranks,
)
from figclip_cli.evaluate.metrics.streamed_ranks import ArrayRows, TensorRows, streamed_ranks
from figclip_cli.evaluate.metrics.workers import Workers

ROUGH, EXACT = exactness._ROUGH, exactness._EXACT
ROUNDED = ROUGH._replace(dtype=torch.float32, output_error=PLAIN.output_error, input_error=2.0**-8)
LADDERS = {
    "rough": (ROUGH, PLAIN, EXACT),
    "rough-never-gives-up": (ROUGH._replace(doubt=1.0), PLAIN, EXACT),
    "plain": (PLAIN, EXACT),
    "plain-never-gives-up": (PLAIN._replace(doubt=1.0), EXACT),
    "rounded": (ROUNDED._replace(doubt=1.0), EXACT),
    "exact": (EXACT,),
}
CPU = torch.device("cpu")


@pytest.fixture(params=LADDERS)
def ladder(request, monkeypatch):
    """Force which precisions are tried, whatever this processor is good at."""
    monkeypatch.setattr(module, "precisions", lambda *_: LADDERS[request.param])
    if "never" in request.param:
        monkeypatch.setattr(query_counts, "PLAIN", PLAIN._replace(doubt=1.0))


@contextmanager
def threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def simple_score(a, b):
    return np.float32(math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True)))


def pair_scores(a, b):
    return exact_scores(a, b, make_block(a).lengths * make_block(b).lengths)


def simple_scores(texts, videos):
    return np.array([[simple_score(text, video) for video in videos] for text in texts], dtype=np.float32)


def simple_query(own, others, ties):
    """Return rank, whether it ties, own score, best wrong item and its score; ``others`` maps an item to its score."""
    above = sum(score > own for score in others.values())
    same = sum(score == own for score in others.values())
    best = max(others.values(), default=-np.inf)
    named = min((item for item, score in others.items() if score == best), default=-1)
    share = {"average": 0.5, "optimistic": 0, "pessimistic": 1}[ties]
    return above + share * same, same > 0, own, named, best


def simple_ranks(scores, video_of_text, ties, multi_caption):
    texts, videos = range(scores.shape[0]), range(scores.shape[1])
    t2v = [
        simple_query(scores[i, video_of_text[i]], {j: scores[i, j] for j in videos if j != video_of_text[i]}, ties)
        for i in texts
    ]
    v2t = []
    for video in sorted(set(video_of_text.tolist())):
        own = max(scores[i, video] for i in texts if video_of_text[i] == video)
        others = {}
        for i in texts:
            if video_of_text[i] != video:
                item = int(video_of_text[i]) if multi_caption == "max-per-video" else i
                others[item] = max(scores[i, video], others.get(item, -np.inf))
        v2t.append(simple_query(own, others, ties))
    return {"t2v": t2v, "v2t": v2t}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for direction, queries in wanted.items():
        ranks, (values, tied, own, best, best_scores) = found[direction], zip(*queries, strict=True)
        assert ranks.values.dtype == np.float64 and ranks.values.tolist() == list(values), direction
        assert ranks.tied_queries == sum(tied), direction
        assert ranks.own_scores.dtype == np.float32 and ranks.own_scores.tolist() == [float(x) for x in own], direction
        assert ranks.best_wrong.dtype == np.int64 and ranks.best_wrong.tolist() == list(best), direction
        assert ranks.best_wrong_scores.tolist() == [float(x) for x in best_scores], direction


def assert_equal(a, b):
    for direction in a:
        for name in ("values", "best_wrong", "own_scores", "best_wrong_scores"):
            assert np.array_equal(getattr(a[direction], name), getattr(b[direction], name)), (direction, name)
        assert a[direction].tied_queries == b[direction].tied_queries


def rank(texts, videos, video_of_text, **how):
    how = {"ties": "average", "multi_caption": "max-per-video", "with_best": True} | how
    texts, videos = (TensorRows(torch.as_tensor(np.array(x), dtype=torch.float32)) for x in (texts, videos))
    return streamed_ranks(texts, videos, np.asarray(video_of_text, dtype=np.int64), **how)


def integers(generator, rows, width):
    return generator.integers(-2, 3, (rows, width))


def near_ties(generator, rows, width):
    """All rows alike, but for the last bit of some numbers."""
    return generator.standard_normal(width) * np.ones((rows, 1)) + 2.0**-23 * generator.integers(-1, 2, (rows, width))


def repeated(generator, rows, width):
    return generator.standard_normal((rows, width))[generator.integers(0, rows, rows)]


def gaussian(generator, rows, width):
    return generator.standard_normal((rows, width))


def tiny(generator, rows, width):
    return 1e-22 * generator.standard_normal((rows, width))


def uneven(generator, rows, width):
    return 10.0 ** generator.integers(-3, 4, (rows, 1)) * generator.standard_normal((rows, width))


def zero(_, rows, width):
    return np.zeros((rows, width))


@pytest.mark.parametrize("make", [integers, near_ties, repeated, gaussian, tiny, uneven, zero])
def test_ranks_and_best_wrong_items_are_those_of_one_pair_at_a_time(make, ladder):
    for seed in range(6):
        generator = np.random.default_rng(seed)
        texts, videos, width = (int(generator.integers(1, high)) for high in (40, 13, 20))
        video_of_text = generator.integers(0, videos, texts)  # some have several, some none
        if seed == 1:
            video_of_text = generator.permutation(texts := videos)
        features = [make(generator, rows, width).astype(np.float32) for rows in (texts, videos)]
        scores = simple_scores(*features)
        for ties in TIES:
            for multi_caption in MULTI_CAPTION:
                sizes = {
                    "texts_per_block": int(generator.integers(1, 45)),
                    "videos_per_block": int(generator.integers(1, 16)),
                }
                found = rank(*features, video_of_text, ties=ties, multi_caption=multi_caption, **sizes)
                assert_same(found, simple_ranks(scores, video_of_text, ties, multi_caption))


def test_a_case_worked_by_hand():
    # Scores are [[9, 1, 9], [5, 4, 3], [2, 6, 7]].
    found = rank([[9, 1, 9], [5, 4, 3], [2, 6, 7]], np.eye(3), [0, 1, 2])
    assert found["t2v"].values.tolist() == [0.5, 1.0, 0.0] and found["t2v"].tied_queries == 1
    assert found["t2v"].best_wrong.tolist() == [2, 0, 1] and found["t2v"].best_wrong_scores.tolist() == [9, 5, 6]
    assert found["v2t"].values.tolist() == [0.0, 1.0, 1.0] and found["v2t"].tied_queries == 0
    assert found["v2t"].best_wrong.tolist() == [1, 2, 0] and found["v2t"].own_scores.tolist() == [9, 4, 7]
    assert found["t2v"].candidates == found["v2t"].candidates == 3


def test_the_two_definitions_for_several_captions_differ_as_documented(ladder):
    texts, own = [[0.5, 0.1], [0.2, 0.0], [0.6, 0.9], [0.7, 0.8]], [0, 0, 1, 1]
    per_video = rank(texts, np.eye(2), own)["v2t"]
    assert per_video.values.tolist() == [1.0, 0.0] and per_video.candidates == 2
    assert per_video.best_wrong.tolist() == [1, 0]  # videos
    min_rank = rank(texts, np.eye(2), own, multi_caption="min-rank")["v2t"]
    assert min_rank.values.tolist() == [2.0, 0.0] and min_rank.candidates == 4
    assert min_rank.best_wrong.tolist() == [3, 0]  # texts


def test_a_video_without_a_text_is_a_candidate_of_texts_alone():
    texts, videos = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.0], [9.0, 9.0], [0.0, 0.5]]
    found = rank(texts, videos, [0, 2])
    assert found["t2v"].values.tolist() == [1.0, 1.0] and found["t2v"].best_wrong.tolist() == [1, 1]
    assert found["v2t"].values.tolist() == [0.0, 0.0] and found["v2t"].candidates == 2
    assert found["v2t"].best_wrong.tolist() == [2, 0]


def test_a_lone_pair_has_no_wrong_item():
    for ranks in rank([[1.0]], [[1.0]], [0]).values():
        assert ranks.values.tolist() == [0.0] and ranks.best_wrong.tolist() == [-1]
        assert ranks.best_wrong_scores.tolist() == [-math.inf] and ranks.own_scores.tolist() == [1.0]


def test_scores_that_differ_in_their_last_bit_are_told_apart_and_equal_ones_tie(ladder):
    generator = np.random.default_rng(0)
    right = generator.standard_normal(64).astype(np.float32)
    score = simple_score(right, right)
    videos = np.stack([right] * 5)
    for video, step in ((1, 1), (2, -1)):  # the next float32 score up, and down
        target = np.nextafter(score, np.float32(step * np.inf))
        while simple_score(right, videos[video]) != target:
            videos[video, 0] = np.nextafter(videos[video, 0], np.float32(step * np.sign(right[0]) * np.inf))
    for ties, wanted in (("optimistic", 1.0), ("average", 2.0), ("pessimistic", 3.0)):
        found = rank([right], videos, [0], ties=ties)["t2v"]
        assert found.values.tolist() == [wanted] and found.best_wrong.tolist() == [1]
        assert found.best_wrong_scores[0] == np.nextafter(found.own_scores[0], np.float32(np.inf))


@pytest.mark.parametrize("large", [1e4, 2.0**40])
@pytest.mark.parametrize("turn", range(3))
def test_scores_that_cancel_are_right_where_float32_or_even_float64_loses_them(large, turn, ladder):
    # What decides is 1e-4 beside terms of 1e8 or 1e24.
    texts = [[large, 1.0, large]]
    videos = [[large, decides, -large] for decides in (2e-4, 1e-4, 3e-4, 2e-4)]
    found = rank(np.roll(texts, turn, axis=1), np.roll(videos, turn, axis=1), [0])["t2v"]
    assert found.values.tolist() == [1.5] and found.best_wrong.tolist() == [2]


@pytest.mark.parametrize("multi_caption", MULTI_CAPTION)
def test_neither_block_sizes_nor_threads_change_anything(multi_caption, ladder):
    generator = np.random.default_rng(0)
    features = [gaussian(generator, rows, 96).astype(np.float32) for rows in (300, 70)]
    features[0][::7] = features[0][0]
    own = generator.integers(0, 70, 300)
    scores = torch.from_numpy(features[0]).double() @ torch.from_numpy(features[1]).double().T
    first = None
    for sizes in ((None, None), (300, 70), (64, 40), (133, 7), (1, 70), (300, 1)):
        for number in (1, 2):
            with threads(number):
                found = rank(
                    *features, own, multi_caption=multi_caption, texts_per_block=sizes[0], videos_per_block=sizes[1]
                )
            first = first or found
            assert_equal(found, first)
    assert (
        first["t2v"].values.tolist() == text_to_video_ranks(scores.float().numpy(), own, ties="average").values.tolist()
    )


def test_the_whole_matrix_gives_the_same_ranks():
    generator = np.random.default_rng(1)
    texts, videos = (integers(generator, rows, 16).astype(np.float32) for rows in (1500, 300))
    own = np.concatenate([np.arange(300), generator.integers(0, 300, 1200)])
    scores = texts @ videos.T  # exact: small integers
    for ties in TIES:
        for multi_caption in MULTI_CAPTION:
            how = {"ties": ties, "multi_caption": multi_caption}
            found = rank(texts, videos, own, **how)
            wanted = {
                "t2v": text_to_video_ranks(scores, own, ties=ties),
                "v2t": video_to_text_ranks(scores, own, **how),
            }
            for direction, ranks in wanted.items():
                assert np.array_equal(found[direction].values, ranks.values)
                assert found[direction].tied_queries == ranks.tied_queries > 0
                assert found[direction].candidates == ranks.candidates


def test_one_direction_alone_and_without_best_is_the_same():
    generator = np.random.default_rng(2)
    features, own = [gaussian(generator, rows, 8) for rows in (50, 20)], generator.integers(0, 20, 50)
    whole = rank(*features, own)
    for direction in ("t2v", "v2t"):
        found = rank(*features, own, directions=[direction], with_best=False)
        assert list(found) == [direction]
        assert np.array_equal(found[direction].values, whole[direction].values)
        assert found[direction].best_wrong is None and found[direction].own_scores is None


@pytest.mark.parametrize("kind", ["h5py", "memmap"])
@pytest.mark.parametrize("in_order", [True, False])
def test_features_on_disk_are_read_block_by_block(tmp_path, kind, in_order):
    generator = np.random.default_rng(3)
    features = [gaussian(generator, rows, 24).astype(np.float32) for rows in (90, 17)]
    own = generator.integers(0, 17, 90)
    own = np.sort(own) if in_order else own
    most = []

    class Spied(ArrayRows):
        def rows(self, start, stop):
            most.append(stop - start)
            return super().rows(start, stop)

    with h5py.File(tmp_path / "f.h5", "w") as file:
        arrays = []
        for name, array in zip("tv", features, strict=True):
            if kind == "h5py":
                arrays.append(file.create_dataset(name, data=array, chunks=(5, 24), compression="gzip"))
            else:
                np.save(tmp_path / f"{name}.npy", array)
                arrays.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        sizes = {"texts_per_block": 10, "videos_per_block": 4}
        how = {"ties": "average", "multi_caption": "min-rank", "with_best": True} | sizes
        found = streamed_ranks(Spied(arrays[0]), Spied(arrays[1]), own, **how)
    assert_equal(found, rank(*features, own, multi_caption="min-rank"))
    assert in_order or max(most) <= 4 * 10
    assert max(most) < 90


@pytest.mark.parametrize("index", [[3], [5, 1, 1, 9], [99, 0, 50], list(range(99, -1, -1)), []])
def test_rows_of_an_index_come_in_its_order(tmp_path, index):
    array = np.arange(300, dtype=np.float32).reshape(100, 3)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for rows in (
            ArrayRows(file.create_dataset("x", data=array)),
            ArrayRows(array),
            TensorRows(torch.tensor(array)),
        ):
            assert len(rows) == 100 and rows.width == 3
            assert np.array_equal(rows.take(torch.tensor(index, dtype=torch.int64)).numpy(), array[index])
            assert np.array_equal(rows.rows(7, 12).numpy(), array[7:12])


def test_features_that_are_not_float32_matrices_are_refused():
    for bad in (np.zeros((3, 2)), np.zeros(3, dtype=np.float32)):
        with pytest.raises(ValueError, match="float32"):
            ArrayRows(bad)
        with pytest.raises(ValueError, match="float32"):
            TensorRows(torch.from_numpy(bad))


def test_bad_features_and_shapes_are_refused():
    good = np.ones((3, 2), dtype=np.float32)
    for bad in (np.nan, np.inf):
        broken = good.copy()
        broken[2, 1] = bad
        with pytest.raises(InputError, match=r"text is not finite \(row 2\)"):
            rank(broken, good, [0, 1, 2], texts_per_block=2)
        with pytest.raises(InputError, match=r"video is not finite \(row 2\)"):
            rank(good, broken, [0, 1, 2], videos_per_block=1)
    with pytest.raises(InputError, match="overflow"):
        rank(good * 1e30, good * 1e30, [0, 1, 2])
    for empty in ((good[:0], good), (good, good[:0])):
        with pytest.raises(InputError, match="nothing to rank"):
            rank(*empty, np.zeros(len(empty[0])))
    for own in ([0, 1], [0, 1, 3], [-1, 0, 1]):
        with pytest.raises(ValueError, match="own videos|video_of_text"):
            rank(good, good, own)
    with pytest.raises(ValueError, match="do not fit"):
        rank(good, good[:, :1], [0, 1, 2])


def test_features_of_any_size_that_cannot_overflow_are_ranked(ladder):
    generator = np.random.default_rng(5)
    features, own = [gaussian(generator, 30, 8).astype(np.float32) for _ in range(2)], np.arange(30)
    wanted = rank(*features, own)
    for scale in (2.0**50, 2.0**-55):
        assert np.array_equal(rank(features[0] * scale, features[1], own)["t2v"].values, wanted["t2v"].values)
        assert np.array_equal(rank(features[0] * scale, features[1] * scale, own)["v2t"].values, wanted["v2t"].values)


def test_neither_autocast_nor_reduced_precision_changes_scores():
    generator = np.random.default_rng(6)
    features, own = [gaussian(generator, rows, 512) for rows in (600, 300)], generator.integers(0, 300, 600)
    wanted = rank(*features, own)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(rank(*features, own), wanted)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert exactness.precisions(CPU, 8, 100) == (ROUNDED, EXACT)
        assert_equal(rank(*features, own), wanted)
    finally:
        torch.set_float32_matmul_precision(before)
    assert exactness.precisions(CPU, 8, 100) == (PLAIN, EXACT)


def test_progress_counts_every_text_once_and_nothing_is_warned_about():
    counted = []

    class Told:
        @contextmanager
        def track(self, label, total, unit):
            class Progress:
                def advance(self, number=1, **_):
                    counted.append(number)

            yield Progress()
            assert sum(counted) == total == 40 and unit == "texts"

    generator = np.random.default_rng(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rank(
            *(gaussian(generator, rows, 8) for rows in (40, 20)),
            np.arange(40) // 2,
            reporter=Told(),
            texts_per_block=9,
            videos_per_block=5,
        )
    assert len(counted) > 3


def test_a_precision_that_fails_is_left_alone_for_longer_and_longer():
    choice = module._Choice((ROUGH, PLAIN, EXACT))
    tried = []
    for _ in range(40):
        attempts = choice.attempts()
        tried.append(attempts[0] == ROUGH)
        choice.was(attempts, PLAIN)
    gaps = np.diff(np.flatnonzero(tried))
    assert gaps.tolist() == sorted(gaps) and gaps[0] == 2 and gaps[-1] > 8
    choice.was((ROUGH, PLAIN, EXACT), ROUGH)
    assert not sum(tried) > 8


def test_a_probe_that_finds_bfloat16_slow_or_wrong_leaves_it_out(monkeypatch):
    monkeypatch.setattr(exactness, "_pays", exactness._pays.__wrapped__)  # not remembered
    monkeypatch.setattr(exactness, "_seconds", lambda a, b, precision, products: 1.0)
    assert exactness.precisions(CPU, 32, 1 << 30) == (PLAIN, EXACT)
    monkeypatch.setattr(exactness, "_seconds", lambda a, b, precision, products: 1.0 + (precision == PLAIN))
    assert exactness.precisions(CPU, 32, 1 << 30) == (ROUGH, PLAIN, EXACT)
    assert exactness.precisions(CPU, 32, 1000) == (PLAIN, EXACT)
    made = Products.make
    monkeypatch.setattr(Products, "make", lambda self, *how: made(self, *how).mul_(1.1))
    assert exactness.precisions(CPU, 32, 1 << 30) == (PLAIN, EXACT)


def test_scores_are_exact_sums_rounded_to_float64_and_to_float32():
    generator = np.random.default_rng(8)
    for make in (gaussian, integers, tiny, uneven, near_ties, zero):
        for width in (1, 2, 7, 64):
            a, b = (make(generator, 300, width).astype(np.float32) for _ in range(2))
            wanted = [simple_score(x, y) for x, y in zip(a, b, strict=True)]
            assert pair_scores(torch.from_numpy(a), torch.from_numpy(b)).tolist() == [float(x) for x in wanted]


def test_a_sum_halfway_between_two_float32_numbers_is_rounded_by_what_is_far_below():
    tail = 2.0**-60
    a = torch.tensor([[1.0, 2.0**-24, tail], [1.0, 2.0**-24, -tail], [1.0, 2.0**-24, 0.0], [1.0, 3 * 2.0**-24, 0.0]])
    b = torch.ones(4, 3)
    # The tail is lost in float64, too; halfway then goes to the even number.
    assert pair_scores(a, b).tolist() == [
        float(simple_score(x, y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    a[:, 2] *= 2.0**15
    assert pair_scores(a, b).tolist() == [1 + 2.0**-23, 1.0, 1.0, 1 + 2.0**-22]


@pytest.mark.parametrize("make", [gaussian, integers, uneven, near_ties])
def test_a_block_of_scores_is_that_of_its_pairs(make):
    generator = np.random.default_rng(9)
    a, b = (torch.from_numpy(make(generator, rows, 33).astype(np.float32)) for rows in (40, 30))
    a[3], b[4] = 0.0, 0.0
    scores = torch.empty(40, 30)
    exact_product(make_block(a), make_block(b), scores)
    assert torch.equal(scores, pair_scores(a.repeat_interleave(30, 0), b.repeat(40, 1)).view(40, 30))


@pytest.mark.parametrize("precision", [ROUGH, PLAIN, ROUNDED])
@pytest.mark.parametrize("sign", [True, False])
def test_products_are_within_their_bounds_and_limits_decide_rightly(precision, sign):
    generator = np.random.default_rng(10)
    for width in (1, 8, 300, 3000):
        a, b = (gaussian(generator, 64, width) for _ in range(2))
        a, b = (make_block(torch.from_numpy((np.abs(x) if sign else x).astype(np.float32))) for x in (a, b))
        products = Products(64 * 64, CPU).make(a, b, precision).float()
        exact = a.features.double() @ b.features.double().T
        errors = largest_errors(a, b, precision)
        assert bool(((products - exact).abs() <= errors[:, None] + precision.output_error * exact.abs()).all())
        scores = exact.float()
        for column in range(64):
            low, high = limits(scores[:, column], errors, precision)
            assert not bool(((products > high[:, None]) & (scores <= scores[:, column : column + 1])).any())
            assert not bool(((products <= low[:, None]) & (scores >= scores[:, column : column + 1])).any())
        pairs = (products > 0).nonzero()
        plain = float32_products_of(a.features, b.features, *pairs.T.contiguous())
        assert bool(((plain - exact[tuple(pairs.T)]).abs() <= largest_errors(a, b, PLAIN)[pairs[:, 0]]).all())


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (700, 5), (5, 5000), (300, 2100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counts_and_places_are_those_of_plain_comparisons(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    products = torch.randn(shape, generator=generator).to(dtype)
    products[0, 0] = -torch.inf
    masks = Masks(shape[0] * padded(shape[1]), CPU)
    for shift in (-1.0, 0.0, 2.0):
        for axis, limit in (
            (1, torch.randn(shape[0], 1, generator=generator)),
            (0, torch.randn(1, shape[1], generator=generator)),
        ):
            limit = limit.abs() + shift if shift else limit
            above, below = masks.above(products, [limit, limit - 0.5])
            wanted = [products.float() > x for x in (limit, limit - 0.5)]
            for mask, plain in zip((above, below), wanted, strict=True):
                assert torch.equal(mask[:, : shape[1]], plain) and not mask[:, shape[1] :].any()
                assert torch.equal(count(mask, axis)[: plain.shape[1 - axis]], plain.sum(dim=axis))
            assert torch.equal(torch.stack(places(above), dim=1), wanted[0].nonzero())
            assert torch.equal(torch.stack(differing(above, below), dim=1), (wanted[0] ^ wanted[1]).nonzero())
            equal_bits = masks.above(products, [products[:, :1].float()])[0]  # a limit that is met exactly
            assert torch.equal(equal_bits[:, : shape[1]], products > products[:, :1])


@pytest.mark.parametrize("number", [1, 2])
def test_threads_of_torch_come_back_after_an_error_and_results_keep_their_order(number):
    def work(item, room):
        room.append(item)
        if item == 50:
            raise KeyboardInterrupt
        return item, torch.get_num_threads()

    with threads(number):
        with Workers(CPU, list) as workers:
            assert list(workers.in_order(work, range(20))) == [(item, 1) for item in range(20)]
        with pytest.raises(KeyboardInterrupt), Workers(CPU, list) as workers:
            list(workers.in_order(work, range(1000)))
        assert torch.get_num_threads() == number


MEMORY = """
import re, sys, numpy as np
from figclip_cli.evaluate.metrics.streamed_ranks import ArrayRows, streamed_ranks
texts, videos = (np.load(path, mmap_mode="r") for path in sys.argv[1:])
own = np.arange(len(texts), dtype=np.int64) % len(videos)
found = streamed_ranks(ArrayRows(texts), ArrayRows(videos), own, ties="average", multi_caption="min-rank")
print(found["t2v"].values.mean() / len(videos), found["v2t"].values.mean() / len(texts))
# Its own peak: what getrusage says begins with that of the process that started this one.
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10)
"""


def write_features(path, rows, width, generator):
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for start in range(0, rows, 10_000):
        array[start : start + 10_000] = generator.standard_normal((min(10_000, rows - start), width), dtype=np.float32)
    del array


@pytest.mark.slow
def test_a_billion_scores_take_less_than_a_gigabyte(tmp_path):
    """The matrix would be 4 GB, and torch alone is a third of one. examples/bench_retrieval.py has D = 512."""
    generator = np.random.default_rng(11)
    write_features(tmp_path / "texts.npy", 200_000, 64, generator)
    write_features(tmp_path / "videos.npy", 5_000, 64, generator)
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "texts.npy"), str(tmp_path / "videos.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *shares, peak = done.stdout.split()
    assert int(peak) < 1 << 30
    # Features know nothing of each other: a text's video is anywhere, and of 40 texts the best is at a 41st part.
    assert [float(share) for share in shares] == pytest.approx([1 / 2, 1 / 41], rel=0.05)
