"""The operation as a user meets it: autograd, compilation, autocast, replication, choice of a path."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from figclip_kernels import contrastive_loss, registered
from figclip_kernels.choose import BACKENDS
from figclip_kernels.problem import Needs
from kernel_cases import expected, random_problem

CPU_PATHS = ("reference", "cpu", "cpu_small")


def leaves(problem):
    """Return keyword arguments of the operation with leaves that want gradients, and these leaves."""
    views = [view.clone().requires_grad_() for view in problem.views]
    texts, scale = problem.texts.clone().requires_grad_(), problem.scale.clone().requires_grad_()
    negatives = None if problem.negatives is None else problem.negatives.clone().requires_grad_()
    arguments = {
        "views": views,
        "texts": texts,
        "logit_scale": scale,
        "negatives": negatives,
        "negatives_mask": problem.negatives_mask,
        "ids": problem.row_ids,
        "row_mask": problem.row_mask,
        "weights": problem.weights,
        "symmetric": problem.symmetric,
    }
    return arguments, [*views, texts, scale, *([] if negatives is None else [negatives])]


def full_problem(dtype=torch.float64, **changes):
    switches = {"views": 2, "negatives": 3, "missing_negatives": True, "kinds": 2, "padding": True, "dtype": dtype}
    return random_problem(12, 8, **{**switches, **changes})


def flat(gradients):
    return [*gradients.views, gradients.texts, gradients.scale, gradients.negatives]


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_paths_agree_with_the_definition_through_autograd(backend):
    problem = full_problem()
    loss, per_row, sums, exact = expected(problem, -0.3)
    arguments, inputs = leaves(problem)
    output = contrastive_loss(**arguments, backend=backend, details=True)
    assert torch.allclose(output.loss, loss)
    assert torch.allclose(output.per_row, per_row)
    assert torch.allclose(output.row_log_sum_exp, sums.rows)
    assert torch.allclose(output.column_log_sum_exp, sums.columns)
    weighted = output.per_view @ torch.tensor(problem.weights, dtype=torch.float64)
    assert torch.allclose(weighted, loss)
    assert not any(each.requires_grad for each in (output.per_view, output.per_row, output.row_log_sum_exp))
    (output.loss * -0.3).backward()
    for leaf, gradient in zip(inputs, flat(exact), strict=True):
        assert torch.allclose(leaf.grad, gradient)


@pytest.mark.parametrize("backend", ["cpu", "cpu_small"])
def test_details_are_left_out_unless_asked_for(backend):
    output = contrastive_loss(*map(torch.randn, [(1, 3, 4), (3, 4)]), logit_scale=1.0, backend=backend)
    assert output.per_row is output.row_log_sum_exp is output.column_log_sum_exp is None
    one_way = contrastive_loss(
        torch.randn(1, 3, 4), torch.randn(3, 4), logit_scale=1.0, backend=backend, symmetric=False, details=True
    )
    assert one_way.row_log_sum_exp.shape == (1, 3) and one_way.column_log_sum_exp is None


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_gradcheck_holds(backend):
    arguments, inputs = leaves(full_problem())
    views, texts, scale, negatives = inputs[:2], inputs[2], inputs[3], inputs[4]

    def loss(a, b, texts, scale, negatives):
        changed = {**arguments, "views": [a, b], "texts": texts, "logit_scale": scale, "negatives": negatives}
        return contrastive_loss(**changed, backend=backend).loss

    assert torch.autograd.gradcheck(loss, (*views, texts, scale, negatives))


def test_the_reference_has_gradients_of_gradients_and_the_fused_paths_refuse():
    arguments, inputs = leaves(full_problem())

    def penalty(backend):
        loss = contrastive_loss(**arguments, backend=backend).loss
        return sum(each.square().sum() for each in torch.autograd.grad(loss, inputs[:1], create_graph=True))

    penalty("auto").backward()
    assert inputs[0].grad.isfinite().all()
    for backend in ("cpu", "cpu_small"):
        with pytest.raises(RuntimeError, match="backend='reference'"):
            penalty(backend)


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_two_calls_in_one_graph_and_two_passes_over_it(backend):
    problem = full_problem()
    arguments, inputs = leaves(problem)
    first = contrastive_loss(**arguments, backend=backend).loss
    both = contrastive_loss(**{**arguments, "symmetric": False}, backend=backend, plus=first * 2.0).loss
    once = torch.autograd.grad(both, inputs, retain_graph=True)
    twice = torch.autograd.grad(both, inputs)
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    _, _, _, exact = expected(problem)
    _, _, _, one_way = expected(full_problem(symmetric=False))
    for got, a, b in zip(once, flat(exact), flat(one_way), strict=True):
        assert torch.allclose(got, 2.0 * a + b)


@pytest.mark.parametrize("backend", ["cpu", "cpu_small"])
def test_an_input_written_to_before_the_backward_pass_is_noticed(backend):
    arguments, inputs = leaves(full_problem())
    features = inputs[0] * 1.0
    loss = contrastive_loss(**{**arguments, "views": [features, inputs[1]]}, backend=backend).loss
    features.data.mul_(1.0)
    with torch.no_grad():
        features.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", CPU_PATHS)
@pytest.mark.parametrize("frozen", ["texts", "views", "scale"])
def test_frozen_inputs_get_no_gradient_and_change_none(backend, frozen):
    problem = full_problem()
    arguments, inputs = leaves(problem)
    for leaf in {"texts": inputs[2:3], "views": inputs[:2], "scale": inputs[3:4]}[frozen]:
        leaf.requires_grad_(False)
    contrastive_loss(**arguments, backend=backend).loss.backward()
    for leaf, gradient in zip(inputs, flat(expected(problem)[3]), strict=True):
        assert (leaf.grad is None) if not leaf.requires_grad else torch.allclose(leaf.grad, gradient)


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_inputs_keep_every_bit(backend):
    arguments, inputs = leaves(full_problem(torch.float32))
    copies = [leaf.detach().clone() for leaf in inputs]
    contrastive_loss(**arguments, backend=backend).loss.backward()
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_views_may_be_stacked_or_strided(backend):
    problem = full_problem()
    arguments, _ = leaves(problem)
    stacked = torch.stack(problem.views).requires_grad_()
    strided = torch.stack(problem.views, 2).requires_grad_()  # (B, D, V)
    exact = expected(problem)[3].views
    contrastive_loss(**{**arguments, "views": stacked}, backend=backend).loss.backward()
    assert torch.allclose(stacked.grad, torch.stack(exact))
    contrastive_loss(**{**arguments, "views": strided.permute(2, 0, 1)}, backend=backend).loss.backward()
    assert torch.allclose(strided.grad, torch.stack(exact, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_dtypes_take_the_widest(dtype):
    problem = full_problem(torch.float32)
    low = problem.views[0].to(dtype).requires_grad_()
    output = contrastive_loss([low, problem.views[1]], problem.texts, logit_scale=3.0)
    output.loss.backward()
    exact = contrastive_loss([low.detach().float(), problem.views[1]], problem.texts, logit_scale=3.0)
    assert output.loss.item() == exact.loss.item()
    assert low.grad.dtype == dtype


@pytest.mark.parametrize("backend", CPU_PATHS)
def test_autocast_does_not_round_scores(backend):
    problem = full_problem(torch.float32, scale=80.0)
    arguments, inputs = leaves(problem)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(**arguments, backend=backend).loss
    loss.backward()
    exact_loss, _, _, exact = expected(problem)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact_loss.item(), rel=1e-5)
    assert torch.allclose(inputs[0].grad.double(), exact.views[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["auto", "triton_small", "triton_tiles"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_graph_stays_whole(dynamic, backend):
    device = "cpu"
    if backend.startswith("triton"):
        pytest.importorskip("triton")
        device = "cuda" if torch.cuda.is_available() else "cpu"
    problem = full_problem(torch.float32, device=device)
    arguments, inputs = leaves(problem)
    arguments["backend"] = backend

    def step():
        changed = {**arguments, "logit_scale": arguments["logit_scale"] * 1.5}
        output = contrastive_loss(**changed, details=True, plus=arguments["logit_scale"] * 0.1)
        return output.loss * 2.0, output.row_log_sum_exp

    eager, rows = step()
    theirs = torch.autograd.grad(eager, inputs)
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    ours, our_rows = compiled()
    assert torch.allclose(ours, eager) and torch.allclose(our_rows, rows, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, inputs), theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["texts", "negatives", "logit_scale"])
def test_a_compiled_graph_may_have_frozen_views(trained):
    problem = full_problem(torch.float32)
    arguments, inputs = leaves(problem)
    for leaf in inputs:
        leaf.requires_grad_(leaf is arguments[trained])
    torch._dynamo.reset()
    compiled = torch.compile(lambda: contrastive_loss(**arguments).loss, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(), arguments[trained])[0]
    assert torch.allclose(
        ours, torch.autograd.grad(contrastive_loss(**arguments).loss, arguments[trained])[0], atol=1e-6
    )


def test_the_registered_operation_refuses_second_order():
    arguments, inputs = leaves(full_problem(torch.float32))
    torch._dynamo.reset()
    loss = torch.compile(lambda: contrastive_loss(**arguments).loss, backend="eager")()
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(loss, inputs[0], create_graph=True)


@pytest.mark.parametrize("backend", ["cpu", "cpu_small", "reference"])
def test_padding_may_hold_anything_finite(backend):
    problem = full_problem(torch.float32, scale=100.0)
    arguments, inputs = leaves(problem)
    with torch.no_grad():
        for leaf in (*inputs[:3], inputs[4]):
            leaf[~problem.row_mask] *= 1e3
    contrastive_loss(**arguments, backend=backend).loss.backward()
    exact = flat(expected(problem)[3])
    for leaf, gradient in zip(inputs, exact, strict=True):
        assert torch.allclose(leaf.grad.double(), gradient, rtol=1e-3, atol=1e-3)


def test_no_rows_have_a_gradient_of_zero_for_all():
    features = [torch.zeros(0, 4).requires_grad_() for _ in range(2)]
    scale = torch.tensor(3.0, requires_grad=True)
    output = contrastive_loss(features[:1], features[1], logit_scale=scale, details=True, symmetric=False)
    output.loss.backward()
    assert output.loss.item() == 0.0 and scale.grad == 0.0 and features[1].grad.shape == (0, 4)
    assert output.column_log_sum_exp is None
    with pytest.raises(ValueError, match="backend must be one of"):
        contrastive_loss(features[:1], features[1], logit_scale=scale, backend="bogus")


@pytest.mark.slow
def test_inductor_compiles_it():
    views, texts = torch.randn(2, 40, 16).requires_grad_(), torch.randn(40, 16)

    def step(views):
        return contrastive_loss(F.normalize(views, dim=-1), F.normalize(texts, dim=-1), logit_scale=20.0).loss.sin()

    eager = torch.autograd.grad(step(views), views)[0]
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True)
    assert torch.allclose(torch.autograd.grad(compiled(views), views)[0], eager, atol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_registered_operation_is_sound(symmetric):
    problem = full_problem(torch.float32, symmetric=symmetric)
    _, inputs = leaves(problem)
    arguments = (
        inputs[:2], inputs[2], inputs[3], inputs[4], problem.negatives_mask, problem.row_ids, problem.row_mask,
        list(problem.weights), symmetric, "cpu", [True] * 4,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.figclip.contrastive_loss.default, arguments)
    loss = registered.contrastive_loss(problem, None, "cpu", Needs())[0]
    assert loss.item() == pytest.approx(expected(problem)[0].item(), rel=1e-6)


def test_a_call_with_a_group_stays_out_of_the_graph(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        views, texts = torch.randn(1, 8, 4).requires_grad_(), torch.randn(8, 4)

        def step(views):
            return contrastive_loss(views * 2.0, texts, logit_scale=1.0, group=dist.group.WORLD).loss * 3.0

        torch._dynamo.reset()
        ours = torch.autograd.grad(torch.compile(step, backend="eager")(views), views)[0]
        assert torch.allclose(ours, torch.autograd.grad(step(views), views)[0])
    finally:
        dist.destroy_process_group()


def test_a_replicated_model_learns_the_same():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        plain = torch.nn.Linear(6, 5)
        replicated = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 5))
        replicated.module.load_state_dict(plain.state_dict())
        inputs, texts = torch.randn(8, 6), F.normalize(torch.randn(8, 5), dim=-1)
        for model in (plain, replicated):
            contrastive_loss([F.normalize(model(inputs), dim=-1)], texts, logit_scale=9.0).loss.backward()
        assert torch.allclose(plain.weight.grad, replicated.module.weight.grad)
    finally:
        dist.destroy_process_group()


def test_equal_inputs_give_equal_bits():
    problem = full_problem(torch.float32)
    runs = []
    for _ in range(2):
        arguments, inputs = leaves(problem)
        loss = contrastive_loss(**arguments).loss
        runs.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_verbose_says_which_path_and_why_once(monkeypatch, capsys):
    monkeypatch.setenv("FIGCLIP_VERBOSE", "1")
    for _ in range(2):
        contrastive_loss(torch.randn(1, 37, 4), torch.randn(37, 4), logit_scale=1.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("figclip_kernels: cpu_small for 37 rows of 4")


def test_the_environment_asks_for_it():
    code = (
        "import torch, figclip_kernels\n"
        "figclip_kernels.contrastive_loss(torch.ones(1, 2, 3), torch.ones(2, 3), logit_scale=1.0)"
    )
    environment = {**os.environ, "FIGCLIP_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "figclip_kernels: cpu_small for 2 rows of 3 torch.float32: few rows" in done.stderr


@pytest.mark.parametrize(
    ("backend", "rows", "dtype", "message"),
    [
        ("cuda", 3, torch.float32, "backend must be one of auto, reference"),
        ("cpu_small", 1100, torch.float32, "use 'cpu'"),
        ("triton_small", 1000, torch.float32, "use 'triton_tiles'"),
        ("triton_tiles", 3, torch.float64, "use 'reference'"),
    ],
)
def test_a_path_that_cannot_is_refused(backend, rows, dtype, message):
    with pytest.raises(ValueError, match=message):
        contrastive_loss(
            torch.zeros(1, rows, 4, dtype=dtype), torch.zeros(rows, 4, dtype=dtype), logit_scale=1.0, backend=backend
        )
    assert "auto" in BACKENDS


def test_no_gradient_wanted_keeps_nothing():
    problem = random_problem(20, 8)
    with torch.no_grad():
        loss = contrastive_loss(list(problem.views), problem.texts, logit_scale=problem.scale).loss
    assert loss.grad_fn is None
