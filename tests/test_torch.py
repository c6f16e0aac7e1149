"""PyTorch: every way to call and to differentiate, held against PyTorch's own losses and NumPy."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.library import opcheck
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import crossent as xe
import crossent.torch
from crossent import _torch_native

# PyTorch's own modules, where they are imported late, use what PyTorch itself deprecates; and from
# 2.15 on it hides a warning of its own that is an error here before it can.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

ROWS, CLASSES = 6, 5
PYTORCH = tuple(map(int, torch.__version__.split(".")[:2]))


def data(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=generator)
    return logits.to(dtype), torch.randint(CLASSES, (ROWS,), generator=generator)


def softmax(logits, labels, **options):
    return xe.softmax_cross_entropy(labels=labels, logits=logits, **options)


def gradient_of(loss, logits, *arguments, upstream=None):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *arguments)
    (gradient,) = torch.autograd.grad(value, logits, upstream)
    return value.detach(), gradient


def assert_same(ours, theirs, tolerance=1e-14):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)


# Options beside labels and logits, and functional.cross_entropy's words for them.
OPTIONS = {
    "plain": ({}, {}),
    "sum": ({"reduction": "sum"}, {"reduction": "sum"}),
    "none": ({"reduction": "none"}, {"reduction": "none"}),
    "smoothing": ({"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    "ignored": ({"ignore_index": 2}, {"ignore_index": 2}),
    "weights": (
        {"class_weight": torch.arange(1.0, CLASSES + 1)},
        {"weight": torch.arange(1.0, CLASSES + 1, dtype=torch.float64)},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_value_and_gradient_are_pytorchs(name):
    logits, labels = data()
    options, theirs = OPTIONS[name]
    upstream = torch.linspace(1, 2, ROWS) if name == "none" else None
    value, gradient = gradient_of(
        lambda x: softmax(x, labels, **options), logits, upstream=upstream
    )
    expected = gradient_of(
        lambda x: functional.cross_entropy(x, labels, **theirs), logits, upstream=upstream
    )
    assert_same(value, expected[0])
    assert_same(gradient, expected[1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_loss_is_pytorchs(reduction, dtype):
    logits, _ = data(dtype)
    labels = torch.rand(ROWS, CLASSES, dtype=dtype)
    weight = torch.arange(1.0, CLASSES + 1, dtype=dtype)
    upstream = torch.linspace(1, 2, ROWS * CLASSES, dtype=dtype).reshape(ROWS, CLASSES)
    upstream = upstream if reduction == "none" else None
    ours = gradient_of(
        lambda x: xe.sigmoid_cross_entropy(
            labels=labels, logits=x, pos_weight=weight, reduction=reduction
        ),
        logits,
        upstream=upstream,
    )
    theirs = gradient_of(
        lambda x: functional.binary_cross_entropy_with_logits(
            x, labels, pos_weight=weight, reduction=reduction
        ),
        logits,
        upstream=upstream,
    )
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b, 1e-14 if dtype == torch.float64 else 1e-5)


def test_without_and_with_gradient_the_same_bits():
    logits, labels = data(torch.float32)
    for reduction in ("mean", "sum", "mean_all", "none"):
        bare = softmax(logits, labels, reduction=reduction)
        with_gradient = softmax(logits.clone().requires_grad_(), labels, reduction=reduction)
        of_numpy = xe.softmax_cross_entropy(
            labels=labels.numpy(), logits=logits.numpy(), reduction=reduction
        )
        assert not bare.requires_grad
        assert with_gradient.requires_grad
        assert bare.dtype == torch.float32
        assert torch.equal(bare, with_gradient.detach())
        assert np.array_equal(bare.numpy(), of_numpy)


# ---- backward


def test_backward_twice_gives_the_gradient_twice():
    logits, labels = data()
    logits.requires_grad_()
    value = softmax(logits, labels)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    expected = first.clone()
    first.zero_()  # whoever got the gradient may write to it
    (second,) = torch.autograd.grad(value, logits, retain_graph=True)
    assert torch.equal(second, expected)
    (third,) = torch.autograd.grad(value, logits)
    assert torch.equal(third, expected)
    with pytest.raises(RuntimeError, match="a second time"):
        torch.autograd.grad(value, logits)


def test_backward_twice_with_other_upstreams():
    logits, labels = data()
    logits.requires_grad_()
    value = softmax(logits, labels)
    results = [
        torch.autograd.grad(factor * value, logits, retain_graph=True)[0] / factor
        for factor in (3.0, 1.0, 0.5)
    ]
    for result in results:
        assert_same(result, gradient_of(softmax, logits, labels)[1])


def test_the_kept_gradient_is_given_away_and_not_copied():
    logits, labels = data(torch.float32)
    logits.requires_grad_()
    value = softmax(logits, labels)
    kept = value.grad_fn.saved_tensors[-1].data_ptr()
    value.backward()
    assert logits.grad.data_ptr() == kept


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_any_upstream_gradient(reduction):
    logits, labels = data()
    logits.requires_grad_()
    for factor in (3.0, -0.5, 0.0):
        value = softmax(logits, labels, reduction=reduction)
        (gradient,) = torch.autograd.grad((factor * value).sum(), logits)
        expected = functional.cross_entropy(logits, labels, reduction=reduction)
        assert_same(gradient, torch.autograd.grad((factor * expected).sum(), logits)[0])


def test_upstream_that_is_not_contiguous_or_expanded():
    logits, labels = data()
    each = torch.arange(2.0 * ROWS, dtype=torch.float64)[::2]
    for upstream in (each, torch.tensor(2.0, dtype=torch.float64).expand(ROWS), each.float()):
        ours = gradient_of(
            lambda x: softmax(x, labels, reduction="none"), logits, upstream=upstream
        )
        theirs = gradient_of(
            lambda x: functional.cross_entropy(x, labels, reduction="none"),
            logits,
            upstream=upstream,
        )
        assert_same(ours[1], theirs[1])


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss, xe.poly_loss])
def test_derivatives_of_derivatives(loss, reduction):
    logits, labels = data()
    logits.requires_grad_()

    def of_logits(x):
        return loss(labels=labels, logits=x, reduction=reduction, ignore_index=2, z_loss=0.01)

    assert gradcheck(of_logits, logits)
    assert gradgradcheck(of_logits, logits)


def test_derivatives_of_derivatives_of_the_sigmoid_loss():
    logits, _ = data()
    labels = torch.rand(ROWS, CLASSES, dtype=torch.float64)

    def of_logits(x):
        return xe.sigmoid_cross_entropy(labels=labels, logits=x, label_smoothing=0.1)

    assert gradcheck(of_logits, logits.requires_grad_())
    assert gradgradcheck(of_logits, logits)


@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_only_where_they_are_asked_for(loss, frozen):
    logits, _ = data()
    logits.requires_grad_(not frozen)
    teacher = torch.randn(ROWS, CLASSES, dtype=torch.float64, requires_grad=True)
    class_weight = torch.rand(CLASSES, dtype=torch.float64, requires_grad=True)
    sample_weight = torch.rand(ROWS, dtype=torch.float64, requires_grad=True)

    def of(*arguments):
        teacher, class_weight, sample_weight, x = (*arguments, logits)[:4]
        return loss(
            labels=teacher.softmax(-1),
            logits=x,
            class_weight=class_weight,
            sample_weight=sample_weight,
            label_smoothing=0.1,
        )

    inputs = [teacher, class_weight, sample_weight] + ([] if frozen else [logits])
    assert gradcheck(of, inputs)
    of(teacher, class_weight, sample_weight).backward()
    assert (logits.grad is None) == frozen
    assert teacher.grad is not None
    assert class_weight.grad is not None


def test_gradients_of_a_batch_of_upstreams():
    logits, labels = data()
    logits.requires_grad_()
    for loss in (xe.softmax_cross_entropy, xe.focal_loss):
        value = loss(labels=labels, logits=logits)
        upstream = torch.tensor([1.0, 2.0], dtype=torch.float64)
        (batch,) = torch.autograd.grad(value, logits, upstream, is_grads_batched=True)
        (one,) = torch.autograd.grad(loss(labels=labels, logits=logits), logits)
        assert_same(batch, torch.stack([one, 2 * one]))


def test_a_changed_label_is_noticed_and_changed_logits_are_fine():
    logits, labels = data()
    logits.requires_grad_()
    value = 3 * softmax(logits, labels)
    labels += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(use_reentrant):
    logits, labels = data()
    logits.requires_grad_()
    checkpoint(softmax, logits, labels, use_reentrant=use_reentrant).backward()
    assert_same(logits.grad, gradient_of(softmax, logits, labels)[1], 0)


def test_tensors_kept_for_backward_pass_the_hooks():
    logits, labels = data()
    logits.requires_grad_()
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        value = softmax(logits, labels)
    assert any(t.shape == logits.shape and t is not logits for t in packed)
    (gradient,) = torch.autograd.grad(value, logits)
    assert_same(gradient, gradient_of(softmax, logits, labels)[1], 0)


# ---- memory layouts and dtypes


def layouts():
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    yield "transposed", x.transpose(0, 1)
    yield "expanded", x[:1].expand(4, 6, 5)
    yield "storage offset", x[1:, 2:, 1:]
    yield "steps", x[:, ::2, ::2]
    yield "negative", torch.complex(x, x).conj().imag


@pytest.mark.parametrize(("name", "logits"), list(layouts()))
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_any_layout(name, logits, axis):
    rows = [n for k, n in enumerate(logits.shape) if k != axis % 3]
    labels = torch.randint(logits.shape[axis], rows)
    sample_weight = torch.rand(rows[0], 1)
    dense = logits.detach().resolve_neg().clone().contiguous()
    for reduction in ("mean", "none"):
        options = {"axis": axis, "reduction": reduction, "sample_weight": sample_weight}

        def loss(x, options=options):
            return softmax(x, labels, **options).sum()

        value = loss(logits)
        # A pending sign goes to the formula, all others to the same kernel.
        assert_same(value, loss(dense), 1e-14 if name == "negative" else 0)
        x = logits.detach().requires_grad_()
        if name == "expanded":
            x = logits[:1].detach().requires_grad_()
            wide = x.expand(4, 6, 5)
        else:
            wide = x
        (gradient,) = torch.autograd.grad(loss(wide), x)
        expected = gradient_of(loss, dense)[1]
        assert_same(gradient, expected.sum(0, keepdim=True) if name == "expanded" else expected)


def test_class_axis_1_in_channels_last():
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    labels = torch.randint(3, (2, 4, 5))
    ours = gradient_of(lambda x: softmax(x, labels, axis=1), images)
    theirs = gradient_of(lambda x: functional.cross_entropy(x, labels), images)
    assert_same(ours[0], theirs[0], 1e-6)
    assert_same(ours[1], theirs[1], 1e-6)
    assert ours[1].stride() == images.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels = data(dtype)
    for loss in (xe.softmax_cross_entropy, xe.focal_loss):

        def ours(x, loss=loss):
            return loss(labels=labels, logits=x)

        value, gradient = gradient_of(ours, logits)
        wide = gradient_of(ours, logits.float())
        assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
        assert torch.equal(value, wide[0])
        assert torch.equal(gradient, wide[1].to(dtype))


def test_autocast_computes_in_float32():
    layer = torch.nn.Linear(4, CLASSES)
    x, labels = torch.randn(ROWS, 4), torch.randint(CLASSES, (ROWS,))
    for loss in (xe.softmax_cross_entropy, xe.focal_loss):
        with torch.autocast("cpu", torch.bfloat16):
            logits = layer(x)
            value = loss(labels=labels, logits=logits)
        assert (logits.dtype, value.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(value, loss(labels=labels, logits=logits.float()))
        value.backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_defaults_of_device_and_dtype_change_nothing():
    logits, labels = data(torch.float32)
    expected = softmax(logits, labels)
    torch.set_default_dtype(torch.float64)
    try:
        assert softmax(logits, labels).dtype == torch.float32
        assert softmax(logits.clone().requires_grad_(), labels).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(softmax(logits, labels), expected)
        assert torch.equal(gradient_of(softmax, logits, labels)[0], expected)


def test_one_third_is_not_rounded_to_float32():
    """Two Python numbers in torch.where are float32, and 1 / 3 of the classes was."""
    logits, labels = torch.randn(1, 3, dtype=torch.float64), torch.tensor([1])
    formula = vmap(lambda x: softmax(x, labels, label_smoothing=0.5))(logits[None])[0]
    assert_same(formula, softmax(logits, labels, label_smoothing=0.5), 1e-15)


def test_inference_mode_and_parameters():
    logits, labels = data()
    with torch.inference_mode():
        value = softmax(logits.clone(), labels.clone())
    assert torch.equal(value, softmax(logits, labels))
    parameter = torch.nn.Parameter(logits)
    softmax(parameter, labels).backward()
    assert_same(parameter.grad, gradient_of(softmax, logits, labels)[1], 0)


def test_what_is_no_dense_tensor_is_refused():
    logits, labels = data()
    with pytest.raises(xe.DTypeError, match="to_dense"):
        softmax(logits.to_sparse(), labels)
    with pytest.raises(xe.DTypeError):
        softmax(logits.to(torch.float8_e4m3fn), labels)
    with pytest.raises(xe.DTypeError, match="complex"):
        softmax(torch.complex(logits, logits), labels)
    with pytest.raises(xe.ArgumentError, match="numpy"):
        softmax(logits, labels.numpy())


def test_lists_go_with_tensors():
    logits, _ = data()
    labels = [0, 1, 2, 3, 4, 0]
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    ours = softmax(logits, labels, class_weight=weights, sample_weight=[1, 1, 1, 0, 0, 1])
    expected = xe.softmax_cross_entropy(
        labels=labels,
        logits=logits.numpy(),
        class_weight=weights,
        sample_weight=[1, 1, 1, 0, 0, 1],
    )
    assert_same(ours, torch.tensor(expected))


# ---- who computes


def test_kernel_for_says_what_runs():
    native = xe.kernel_for(np.zeros((2, 3)))
    assert xe.kernel_for(torch.zeros(2, 3)) == native
    assert xe.kernel_for(torch.zeros(2, 3, device="meta")) == "formula: no kernel for meta"

    class Own(torch.Tensor):
        pass

    assert xe.kernel_for(torch.zeros(2, 3).as_subclass(Own)) == "formula: no kernel for Own"


def test_shapes_go_through_another_device():
    logits = torch.empty(4, 7, 3, device="meta", requires_grad=True)
    labels = torch.empty(4, 7, device="meta", dtype=torch.int64)
    for loss in (xe.softmax_cross_entropy, xe.focal_loss):
        assert loss(labels=labels, logits=logits).shape == ()
        assert loss(labels=labels, logits=logits, reduction="none").shape == (4, 7)
        (gradient,) = torch.autograd.grad(loss(labels=labels, logits=logits), logits)
        assert gradient.device.type == "meta"
        assert gradient.shape == logits.shape


class Watched(torch.Tensor):
    """A tensor that counts the operations on it."""

    count = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.count += 1
        return super().__torch_function__(func, types, args, kwargs)


def test_subclasses_run_on_the_formula():
    logits, labels = data()
    value = softmax(logits.as_subclass(Watched), labels)
    assert Watched.count > 5
    assert_same(torch.Tensor(value.as_subclass(torch.Tensor)), softmax(logits, labels))


def test_modes_see_every_operation():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    logits, labels = data()
    with Mode():
        value = softmax(logits, labels)
    assert torch.ops.aten.exp.default in seen
    assert_same(value, softmax(logits, labels))


def test_threads_follow_pytorch():
    from crossent import _native

    logits, labels = data()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            softmax(logits, labels)
            assert _native.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_numbers_of_dtypes_are_those_of_the_core():
    for dtype, number in _torch_native._NUMBERS.items():
        names = ["float32", "float64", "float16", "bfloat16", "bool"]
        names += [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
        assert str(dtype) == f"torch.{names[number]}"


def test_the_formula_runs_without_the_core(monkeypatch):
    logits, labels = data()
    expected = gradient_of(softmax, logits, labels)
    focal = xe.focal_loss(labels=labels, logits=logits)
    monkeypatch.setattr("crossent._numpy_native.core", None)
    ours = gradient_of(softmax, logits, labels)
    assert_same(ours[0], expected[0])
    assert_same(ours[1], expected[1])
    assert_same(xe.focal_loss(labels=labels, logits=logits), focal)


# ---- torch.func and forward mode


@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_torch_func(loss):
    logits, labels = data()
    batch = torch.stack([logits, -logits, logits.flip(0)])

    def ours(x):
        return loss(labels=labels, logits=x, label_smoothing=0.1)

    values = torch.stack([ours(x) for x in batch])
    gradients = torch.stack([gradient_of(ours, x)[1] for x in batch])
    assert_same(grad(ours)(logits), gradients[0])
    assert_same(vmap(ours)(batch), values)
    assert_same(vmap(grad(ours))(batch), gradients)
    assert_same(jacrev(ours)(logits), gradients[0])
    tangent = torch.randn_like(logits)
    value, slope = jvp(ours, (logits,), (tangent,))
    assert_same(value, values[0])
    assert_same(slope, (gradients[0] * tangent).sum())
    second = torch.autograd.functional.hessian(ours, logits)
    assert_same(hessian(ours)(logits), second)
    assert second.abs().max() > 0


def test_labels_in_vmap():
    logits, labels = data()
    many = torch.stack([labels, labels.flip(0)])
    ours = vmap(softmax, in_dims=(None, 0))(logits, many)
    assert_same(ours, torch.stack([softmax(logits, many[0]), softmax(logits, many[1])]))


def test_forward_mode():
    logits, labels = data()
    tangent = torch.randn_like(logits)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, tangent)
        value = softmax(dual, labels)
        slope = torch.autograd.forward_ad.unpack_dual(value).tangent
    assert_same(slope, (gradient_of(softmax, logits, labels)[1] * tangent).sum())


# ---- torch.compile


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda f, **options: torch.compile(
        f, **{"fullgraph": True, "backend": "aot_eager", **options}
    )
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_compiled(loss, dynamic, compiled):
    def ours(x, y):
        return loss(labels=y, logits=x, label_smoothing=0.1)

    program = compiled(ours, dynamic=dynamic)
    for seed in (0, 1):
        logits, labels = data(seed=seed)
        logits, labels = logits[: 4 + seed], labels[: 4 + seed]
        expected = gradient_of(ours, logits, labels)
        result = gradient_of(program, logits, labels)
        assert_same(result[0], expected[0])
        assert_same(result[1], expected[1])
        assert_same(program(logits, labels), expected[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dynamic", "backend"), [(False, "aot_eager"), (True, "aot_eager"), (False, "inductor")]
)
def test_torch_func_inside_compile(backend, dynamic, compiled):
    """A custom operator here gave zeros for a gradient, and no error."""
    logits, labels = data()
    expected = gradient_of(softmax, logits, labels)[1]
    result = compiled(grad(softmax), backend=backend, dynamic=dynamic)(logits, labels)
    assert_same(result, expected)
    assert result.abs().max() > 0.01
    batch = logits.expand(2, -1, -1), labels.expand(2, -1)
    result = compiled(vmap(grad(softmax)), backend=backend, dynamic=dynamic)(*batch)
    assert_same(result, expected.expand(2, -1, -1))


@pytest.mark.slow
def test_compiled_by_inductor(compiled):
    logits, labels = data(torch.float32)

    def step(x, y):
        return softmax(2 * x, y, class_weight=torch.ones(CLASSES), ignore_index=2)

    expected = gradient_of(step, logits, labels)
    result = gradient_of(compiled(step, backend="inductor"), logits, labels)
    assert_same(result[0], expected[0], 1e-6)
    assert_same(result[1], expected[1], 1e-6)


def recorder():
    """The functions of each graph that is compiled, and the back end that notes them."""
    graphs = []

    def keep(graph, inputs):
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    return graphs, keep


def test_compiled_graph_holds_the_native_operator(compiled):
    graphs, keep = recorder()
    logits, labels = data()
    compiled(softmax, backend=keep)(logits, labels)
    compiled(lambda x, z: xe.sigmoid_cross_entropy(labels=z, logits=x), backend=keep)(
        logits, logits.sigmoid()
    )
    # Dynamo notes down that it asked for transforms of torch.func, too.
    assert [targets[-1] for targets in graphs] == [torch.ops.crossent.linear_loss] * 2
    assert all(torch.exp not in targets and len(targets) <= 2 for targets in graphs)


def test_compiled_says_what_does_not_fit(compiled):
    logits, labels = data()
    words = "labels must have" if PYTORCH >= (2, 9) else "[Ee]xception"  # PyTorch's own words
    with pytest.raises(Exception, match=words):
        compiled(softmax)(logits, labels[:3])


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    class Model(torch.nn.Module):
        def forward(self, x, y):
            return softmax(x, y, label_smoothing=0.1)

    logits, labels = data()
    program = torch.export.export(Model(), (logits, labels), strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.crossent.linear_loss.default]
    assert torch.equal(program.module()(logits, labels), Model()(logits, labels))


ARGUMENTS = (True, -1, 0.1, None, 1.0, None, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_operators_are_as_pytorch_wants_them(reduction):
    logits, labels = data()
    weights = torch.rand(CLASSES), torch.rand(ROWS), None
    given = (logits.requires_grad_(), labels, *weights, *ARGUMENTS, reduction)
    opcheck(torch.ops.crossent.linear_loss.default, given)
    opcheck(torch.ops.crossent.linear_loss_value.default, (logits.detach(), *given[1:]))
    upstream = torch.rand(ROWS if reduction == "none" else ())
    given = (upstream, logits.detach(), labels, *weights, *ARGUMENTS, reduction)
    opcheck(torch.ops.crossent.linear_loss_gradient.default, given)
    images = torch.randn(2, 3, 4).transpose(0, 2).requires_grad_()
    given = (images, torch.rand(4, 3, 2), None, None, torch.tensor(2.0), False, -1, *ARGUMENTS[2:])
    opcheck(torch.ops.crossent.linear_loss.default, (*given, "sum"))


def test_compiled_autograd(compiled):
    from torch._dynamo import compiled_autograd

    logits, labels = data()
    expected = gradient_of(softmax, logits, labels)[1]
    logits.requires_grad_()
    value = softmax(logits, labels)
    with compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
        value.backward()
    assert_same(logits.grad, expected)


# ---- what DESIGN section 4 says, in every mode


MODES = ["eager", "func", "compiled"]


def run(mode, loss, logits, labels, **options):
    """Value and gradient of the rows' sum."""

    def of(x):
        return loss(labels=labels, logits=x, **options)

    def both(x):
        if mode == "func":
            return grad(lambda x: (of(x).sum(), of(x)), has_aux=True)(x)
        x = x.detach().requires_grad_()
        call = torch.compile(of, backend="aot_eager", fullgraph=True) if mode == "compiled" else of
        value = call(x)
        return torch.autograd.grad(value.sum(), x)[0], value.detach()

    torch._dynamo.reset()
    gradient, value = both(logits)
    return value, gradient


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_ignored_rows_may_hold_anything(loss, mode):
    logits, labels = data()
    labels[2], labels[3] = -100, -100
    logits[2], logits[3] = torch.nan, -torch.inf
    value, gradient = run(mode, loss, logits, labels, ignore_index=-100)
    kept = [0, 1, 4, 5]
    assert_same(value, loss(labels=labels[kept], logits=logits[kept]))
    assert torch.equal(gradient[2:4], torch.zeros(2, CLASSES, dtype=torch.float64))
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_nothing_kept_is_0(loss, mode):
    logits, labels = data()
    value, gradient = run(mode, loss, logits, labels * 0 - 1, ignore_index=-1)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(logits))
    empty = torch.empty(0, CLASSES), torch.empty(0, dtype=torch.int64)
    value, gradient = run(mode, loss, *empty)
    assert value == 0
    assert gradient.shape == (0, CLASSES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_rows_without_a_softmax_are_nan_and_masks_are_not(loss, mode):
    logits, labels = data()
    labels[:] = 1
    logits[0, 0] = -torch.inf
    logits[1], logits[2, 3], logits[3, 3] = -torch.inf, torch.inf, torch.nan
    value, gradient = run(mode, loss, logits, labels, reduction="none")
    assert torch.isnan(value).tolist() == [False, True, True, True, False, False]
    assert torch.isnan(gradient).all(1).tolist() == [False, True, True, True, False, False]
    assert torch.isnan(gradient).any(1).tolist() == [False, True, True, True, False, False]
    assert gradient[0, 0] == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [CLASSES, -1, 2**40])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_invalid_labels(loss, bad, mode):
    logits, labels = data()
    labels[1] = bad
    if mode == "eager":
        with pytest.raises(xe.LabelError, match="row"):
            run(mode, loss, logits, labels)
        return
    value, gradient = run(mode, loss, logits, labels, reduction="none")
    expected = run("eager", loss, logits[2:], labels[2:], reduction="none")
    assert torch.isnan(value).tolist() == [k == 1 for k in range(ROWS)]
    assert torch.isnan(gradient[1]).all()
    assert_same(value[2:], expected[0])
    assert_same(gradient[2:], expected[1])


def test_invalid_distributions_in_compiled_programs():
    logits, _ = data()
    labels = torch.full((ROWS, CLASSES), 1 / CLASSES, dtype=torch.float64)
    labels[1, 0] += 1
    value, gradient = run("compiled", xe.softmax_cross_entropy, logits, labels, reduction="none")
    assert torch.isnan(value).tolist() == [k == 1 for k in range(ROWS)]
    assert torch.isnan(gradient[1]).all()
    assert torch.isfinite(gradient[2:]).all()


def test_compiled_programs_check_labels_if_asked_to(monkeypatch, compiled):
    logits, labels = data()
    monkeypatch.setattr(_torch_native, "_IS_CHECKED", True)
    program = compiled(softmax)
    assert torch.equal(program(logits, labels), softmax(logits, labels))
    labels[1] = CLASSES
    with pytest.raises(xe.LabelError, match="row"):
        program(logits, labels)
    monkeypatch.setattr(_torch_native, "_IS_CHECKED", False)
    assert torch.isnan(compiled(lambda *arguments: softmax(*arguments))(logits, labels))


@pytest.mark.parametrize("ignored", [2**62, 2**63, -(2**70)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float64])
def test_what_is_ignored_may_be_beyond_the_labels(ignored, dtype):
    logits, labels = data()
    ours = softmax(logits, labels.to(dtype), ignore_index=ignored)
    assert_same(ours, softmax(logits, labels))
    weight = xe.label_weight(labels=labels, num_classes=CLASSES, ignore_index=ignored)
    assert weight == ROWS


# ---- the module


def test_loss_module():
    logits, labels = data()
    weight = torch.arange(1.0, CLASSES + 1)
    loss = crossent.torch.Loss(
        xe.focal_loss, gamma=1.0, class_weight=weight, label_smoothing=0.1, ignore_index=2
    )
    expected = xe.focal_loss(
        labels=labels,
        logits=logits,
        gamma=1.0,
        class_weight=weight,
        label_smoothing=0.1,
        ignore_index=2,
    )
    assert repr(loss) == (
        "Loss(focal_loss, gamma=1.0, label_smoothing=0.1, ignore_index=2, class_weight=float32[5])"
    )
    assert repr(loss.for_eval()) == "Loss(focal_loss, gamma=1.0, ignore_index=2)"
    for module in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(module(logits, labels), expected)
    assert torch.equal(loss(labels=labels, logits=logits), expected)
    sample_weight = torch.rand(ROWS)
    assert not torch.equal(loss(logits, labels, sample_weight=sample_weight), expected)
    assert list(loss.state_dict()) == ["class_weight"]
    assert loss.to("meta").class_weight.device.type == "meta"


def test_loss_module_of_probabilities_and_by_state():
    logits, labels = data()
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, scores="probs")
    assert_same(loss(logits.softmax(-1), labels), softmax(logits, labels))
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, class_weight=torch.ones(CLASSES))
    state = {"class_weight": torch.arange(1.0, CLASSES + 1)}
    ours = functional_call(loss, state, (logits, labels))
    assert_same(ours, softmax(logits, labels, class_weight=state["class_weight"]))


def test_loss_module_compiled(compiled):
    logits, labels = data()
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, class_weight=torch.ones(CLASSES))
    assert_same(compiled(loss)(logits, labels), loss(logits, labels))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gama": 2.0}, "gama must be an option of focal_loss"),
        ({"labels": [0]}, "labels must be an option"),
        ({"scores": "logit"}, "scores must be"),
    ],
)
def test_loss_module_refuses(options, match):
    with pytest.raises(xe.ArgumentError, match=match):
        crossent.torch.Loss(xe.focal_loss, **options)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_inplace_overwrites_the_logits_with_their_gradient(factor):
    layer = torch.nn.Linear(4, CLASSES).double()
    x, labels = torch.randn(ROWS, 4, dtype=torch.float64), torch.randint(CLASSES, (ROWS,))
    (factor * softmax(layer(x), labels)).backward()
    expected = layer.weight.grad.clone()
    layer.weight.grad = None
    logits = layer(x)
    address, version = logits.data_ptr(), logits._version
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True)
    seen = []
    logits.register_hook(lambda g: seen.append(g.data_ptr()))
    value = factor * loss(logits, labels)
    assert logits._version > version
    value.backward()
    assert_same(layer.weight.grad, expected)
    assert seen == [address]


def test_inplace_is_refused_where_the_logits_are_needed_again():
    logits, labels = data()
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True)
    with pytest.raises(xe.ArgumentError, match="leaf"):
        loss(logits.requires_grad_(), labels)
    changed = logits.tanh()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss(changed, labels).backward()
    value = loss(2 * logits, labels)
    value.backward(retain_graph=True)
    with pytest.raises(xe.ArgumentError, match="backward runs twice"):
        value.backward()
    unread = logits.detach().clone()
    assert torch.equal(loss(unread, labels), softmax(unread, labels))
    assert torch.equal(unread, logits)


# ---- a process of its own


def test_importing_crossent_imports_no_torch():
    code = "import sys, crossent; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_read_without_an_exchange_too(monkeypatch, dtype, axis):
    """PyTorch before 2.10 has none."""
    if PYTORCH < (2, 10):
        pytest.skip("there is no exchange to compare with")
    assert _torch_native._EXCHANGE is not None
    logits, labels = torch.randn(CLASSES, CLASSES, 2).to(dtype).unbind(-1)
    each = torch.rand(CLASSES)
    for options in (
        {"labels": labels.softmax(axis), "axis": axis, "reduction": "none"},
        {"labels": torch.arange(CLASSES), "axis": axis, "class_weight": each},
    ):
        results = []
        for exchange in (_torch_native._EXCHANGE, None):
            monkeypatch.setattr(_torch_native, "_EXCHANGE", exchange)
            upstream = each if "reduction" in options else None
            results.append(
                gradient_of(
                    lambda x, options=options: xe.softmax_cross_entropy(logits=x, **options),
                    logits,
                    upstream=upstream,
                )
            )
        for with_exchange, without in zip(*results, strict=True):
            assert torch.equal(with_exchange, without)
    with pytest.raises(xe.DTypeError, match="to_dense"):
        softmax(logits.to_sparse(), labels)


def test_unusual_arguments_get_the_usual_errors():
    logits, labels = data()
    for reduction in ("mean", "none"):
        with pytest.raises(xe.DTypeError, match="logits must be floating point"):
            softmax(labels, labels, reduction=reduction)
        with pytest.raises(xe.ShapeError, match="class axis"):
            softmax(logits[0, 0], labels[0], axis=0, reduction=reduction)
        with pytest.raises(xe.ShapeError, match="axis must lie"):
            softmax(logits, labels, axis=2, reduction=reduction)
        with pytest.raises(xe.OptionError, match="axis must be an int"):
            softmax(logits, labels, axis="classes", reduction=reduction)
        with pytest.raises(xe.OptionError, match="ignore_index"):
            softmax(logits, labels, ignore_index=1.5, reduction=reduction)
        with pytest.raises(xe.ShapeError, match="class_weight"):
            softmax(logits, labels, class_weight=torch.ones(2), reduction=reduction)
    with pytest.raises(xe.CrossentError, match="normalizer"):
        softmax(logits, labels, reduction="sum", normalizer=torch.ones(2))


@pytest.mark.slow
def test_the_first_call_may_be_compiled():
    """What a trace imports must not be what the trace depends on."""
    code = (
        "import torch, crossent as xe\n"
        "f = lambda x, y: xe.softmax_cross_entropy(labels=y, logits=x)\n"
        "x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])\n"
        "value = torch.compile(f, backend='eager', fullgraph=True)(x, y)\n"
        "assert torch.equal(value, f(x, y))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_forward_mode_around_a_compiled_loss():
    """The custom operator has no tangents, and would drop them without a word."""
    x, t, labels = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0, 1])

    def loss(logits):
        return xe.softmax_cross_entropy(labels=labels, logits=logits)

    compiled = torch.compile(loss, backend="eager")
    compiled(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, t)
        tangent = torch.autograd.forward_ad.unpack_dual(compiled(dual)).tangent
        own = torch.autograd.forward_ad.unpack_dual(functional.cross_entropy(dual, labels)).tangent
        torch.testing.assert_close(tangent, own)


def test_an_exported_program_has_no_gradient_that_it_was_not_exported_with():
    class Weighted(torch.nn.Module):
        def forward(self, logits, labels, weight):
            return xe.softmax_cross_entropy(labels=labels, logits=logits, class_weight=weight)

    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    exported = torch.export.export(Weighted(), (x, y, torch.ones(3))).module()
    loss = exported(x.clone().requires_grad_(), y, torch.ones(3, requires_grad=True))
    with pytest.raises(xe.ArgumentError, match="labels and weights must need no gradient"):
        loss.backward()


def test_derivatives_of_an_exported_program():
    """Its operator has no tangents, and gave 0 for one."""

    class Model(torch.nn.Module):
        def forward(self, x, y):
            return softmax(x, y, label_smoothing=0.1)

    logits, labels = data()
    tangent = torch.randn_like(logits)
    program = torch.export.export(Model(), (logits, labels)).module()

    def of(f):
        x = logits.clone().requires_grad_()
        (first,) = torch.autograd.grad(f(x, labels), x, create_graph=True)
        yield first.detach()
        yield torch.autograd.grad(first.square().sum(), x)[0]
        yield grad(f)(logits, labels)
        yield vmap(grad(f), (0, None))(torch.stack([logits, tangent]), labels)
        yield jvp(lambda x: f(x, labels), (logits,), (tangent,))[1]
        yield hessian(f)(logits, labels)
        with torch.autograd.forward_ad.dual_level():
            dual = f(torch.autograd.forward_ad.make_dual(logits, tangent), labels)
            yield torch.autograd.forward_ad.unpack_dual(dual).tangent

    for ours, expected in zip(list(of(program)), list(of(Model())), strict=True):
        assert expected.any()
        assert_same(ours, expected)


@pytest.mark.skipif(PYTORCH < (2, 10), reason="all that is compiled counts as exported there")
def test_a_compiled_program_without_gradient_calls_the_bare_operator(compiled):
    graphs, keep = recorder()
    logits, labels = data()
    with torch.no_grad():
        compiled(softmax, backend=keep)(logits.requires_grad_(), labels)
    assert torch.ops.crossent.linear_loss_value in graphs[0]


def test_inplace_leaves_a_view_of_a_parameter_alone():
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True)
    with pytest.raises(xe.ArgumentError, match="a leaf, or a view of one"):
        loss(torch.nn.Parameter(torch.randn(2, 3)).view(2, 3), torch.tensor([0, 1]))


def test_inplace_keeps_what_a_loss_scale_is_for():
    x = torch.zeros(4096, 64, dtype=torch.float16)
    x[:, 0] = 10
    x.requires_grad_()
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True)
    (loss(x * 1, torch.zeros(4096, dtype=torch.int64)) * 65536).backward()
    assert (x.grad != 0).all()


def test_a_tensor_of_zeros_without_memory():
    x = torch.randn(4, 3, requires_grad=True)
    losses = xe.softmax_cross_entropy(labels=torch.tensor([0, 1, 2, 0]), logits=x, reduction="none")
    losses.backward(torch._efficientzerotensor((4,)))
    assert not x.grad.any()


def test_all_losses_follow_the_number_of_threads():
    before = torch.get_num_threads()
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            xe.focal_loss(labels=y, logits=x)
            assert _torch_native.native.core.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.fixture(params=["exchange", "places"])
def reading(request, monkeypatch):
    """How the native call reads tensors: PyTorch before 2.10 has no exchange."""
    if request.param == "places":
        monkeypatch.setattr(_torch_native, "_EXCHANGE", None)


def test_ranks_that_no_loss_has(reading):
    with pytest.raises(xe.ShapeError, match="must have a class axis"):
        xe.softmax_cross_entropy(labels=torch.tensor(0), logits=torch.tensor(1.0))
    with pytest.raises(xe.ShapeError, match="labels must have shape"):
        xe.softmax_cross_entropy(labels=torch.zeros([1] * 40).long(), logits=torch.zeros(1, 3))


def test_forward_mode_inside_a_compiled_program_without_gradients(compiled):
    """The bare operator, which such a program would call, knows of no tangent."""
    x, y = data()

    def derivative(x, direction):
        return jvp(lambda x: softmax(x, y), (x,), (direction,))[1]

    with torch.no_grad():
        assert_same(compiled(derivative)(x, x.cos()), derivative(x, x.cos()))


def test_tensors_with_the_negative_bit(reading):
    weight = torch.imag(torch.tensor([1 - 2j, 1 - 1j]).conj())
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    one = softmax(x, y, sample_weight=weight, reduction="sum")
    assert one == softmax(x, y, sample_weight=[2.0, 1.0], reduction="sum")
    assert softmax(torch.imag(torch.complex(x, -x).conj()), y) == softmax(x, y)


def test_lists_go_to_the_device_of_the_tensors():
    """Seen on the device without memory, which refuses other tensors as an accelerator does."""
    x = torch.zeros(2, 3, device="meta")
    ids, weights = torch.zeros(2, dtype=torch.int64, device="meta"), [1.0, 2.0, 3.0]
    yes_no, soft = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
    for value in (
        xe.softmax_cross_entropy(labels=[0, 1], logits=x, sample_weight=[1.0, 2.0], z_loss=0.1),
        xe.softmax_cross_entropy(labels=soft, logits=x, class_weight=weights, temperature=2.0),
        xe.softmax_cross_entropy(labels=ids, logits=soft, reduction="sum", normalizer=3.0),
        xe.focal_loss(labels=soft, probs=x, class_weight=weights, sample_weight=[1.0, 2.0]),
        xe.sigmoid_cross_entropy(labels=yes_no, logits=x, pos_weight=weights),
        xe.binary_focal_loss(labels=yes_no, logits=x, sample_weight=[1.0, 2.0], pos_weight=2.0),
        xe.mean_squared_error(labels=yes_no, predictions=x, sample_weight=[1.0, 2.0]),
        xe.label_weight(labels=ids, class_weight=weights, sample_weight=[1.0, 2.0]),
        xe.kl_divergence(labels=soft, logits=x),
        xe.cross_entropy(labels=soft, probs=x),
    ):
        assert value.device.type == "meta"
    with pytest.raises(RuntimeError, match="device"):  # PyTorch's own, about a tensor elsewhere
        xe.softmax_cross_entropy(labels=ids, logits=x, class_weight=torch.ones(3))


def test_the_default_device_does_not_move_numbers():
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    torch.set_default_device("meta")
    try:
        value = xe.focal_loss(labels=y, logits=x, reduction="sum", normalizer=3.0)
    finally:
        torch.set_default_device(None)
    assert value.device.type == "cpu"


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_inplace_reads_what_shares_the_memory_of_the_logits_first(sigmoid, shift):
    """Labels, and weights in float64, which the native call otherwise reads where they lie."""
    loss = xe.sigmoid_cross_entropy if sigmoid else xe.softmax_cross_entropy
    torch.manual_seed(0)
    rows = torch.softmax(torch.randn(9, 4, dtype=torch.float64), 1)
    ours, others = (slice(1, None), slice(0, -1))[::shift], slice(None)
    weights = {"pos_weight" if sigmoid else "class_weight": (0, others)}
    weights["sample_weight"] = (slice(0, 8), 0)

    def scored(inplace, copies):
        leaf = torch.zeros(9, 4, dtype=torch.float64, requires_grad=True)
        memory = leaf + rows
        at = memory.detach().clone() if copies else memory.detach()
        given = {name: at[place] for name, place in weights.items()}
        value = xe.torch.Loss(loss, inplace=inplace)(memory[ours[0]], at[ours[1]], **given)
        value.backward()
        return value.detach(), leaf.grad

    for one, other in zip(scored(True, copies=False), scored(False, copies=True), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # of torch to itself
def test_a_decomposed_program_keeps_its_gradient():
    torch.manual_seed(0)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(3))
            self.register_buffer("labels", y)

        def forward(self, x):
            return xe.softmax_cross_entropy(labels=self.labels, logits=x + self.bias)

    model = Model()
    model(x).backward()
    program = torch.export.export(model, (x,)).run_decompositions().module()
    want, model.bias.grad = model.bias.grad, None
    for parameter in program.parameters():
        parameter.grad = None
    program(x).backward()
    torch.testing.assert_close(program.bias.grad, want)

    traced = torch.fx.experimental.proxy_tensor.make_fx(model)(x)
    (gradient,) = torch.autograd.grad(traced(x.requires_grad_()), x)
    torch.testing.assert_close(gradient, torch.func.grad(lambda x: model(x))(x.detach()))


def test_a_compiled_list_of_tensors_keeps_their_gradients_or_fails():
    """torch.tensor would take the numbers out of them."""
    w = torch.ones(3, requires_grad=True)
    x, y = torch.randn(3, 4), torch.tensor([0, 1, 2])

    def weighted(w):
        return xe.softmax_cross_entropy(labels=y, logits=x, sample_weight=[w[0], w[1], w[2]])

    with pytest.raises((RuntimeError, xe.errors.CrossentError)):
        torch.compile(weighted, backend="aot_eager")(w).backward()


def test_no_labels_are_an_error_of_ours():
    for loss in (xe.softmax_cross_entropy, xe.sigmoid_cross_entropy):
        with pytest.raises(xe.errors.DTypeError, match="labels must"):
            loss(labels=None, logits=torch.zeros(2, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0])
@pytest.mark.parametrize(
    ("name", "labels"),
    [(name, "soft") for name in ("softmax_cross_entropy", "focal_loss", "poly_loss")]
    + [(name, "each") for name in ("sigmoid_cross_entropy", "binary_focal_loss")],
)
def test_a_weight_of_0_hides_labels_that_are_no_numbers(name, labels, bad):
    """Where labels are not checked: the derivative must not meet 0 * NaN."""
    loss = getattr(xe, name)
    x = torch.tensor([[0.5, -1, 2], [1, 0, -torch.inf], [0, 2, 1]])
    q = torch.full((3, 3), 1 / 3)
    q[1, 0] = bad
    weight = torch.tensor([1.0, 0, 2])
    for reduction in ("mean", "sum"):
        options = {"reduction": reduction}

        def scored(x, q, weight, options=options):
            return loss(labels=q, logits=x, sample_weight=weight, **options)

        gradient, value = torch.func.grad_and_value(scored)(x, q, weight)
        kept = torch.tensor([0, 2])
        want, exact = torch.func.grad_and_value(scored)(x[kept], q[kept], weight[kept])
        torch.testing.assert_close(value, exact)
        torch.testing.assert_close(gradient[kept], want)
        assert not gradient[1].any()
        weighted = torch.func.grad_and_value(scored)(x, q, torch.ones(3))
        assert torch.isnan(weighted[1])
        assert torch.isnan(weighted[0][1, 0])


# ---- corners that autograd, tracers and threads have


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_broadcast_arrays_without_elements(name):
    """Such an array has no memory: sum() sends one back, and expand() makes one."""
    loss = getattr(xe, name)
    logits = torch.zeros(0, 3, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.int64) if "softmax" in name else torch.zeros(0, 3)
    for weight in (None, torch.tensor(1.0).expand(0)):
        logits.grad = None
        call = {"labels": labels, "logits": logits, "sample_weight": weight}
        loss(**call, reduction="none").sum().backward()
        assert logits.grad.shape == (0, 3)
        assert loss(**call).item() == 0
    empty = torch.zeros(3, 0)
    weights = {"pos_weight": torch.tensor(1.0).expand(0)}
    assert xe.sigmoid_cross_entropy(labels=empty, logits=empty, **weights).item() == 0


HOOKED = {
    "softmax_cross_entropy": {},
    "focal_loss": {"class_weight": torch.ones(CLASSES, dtype=torch.float64)},
    "kl_divergence": {},
}


@pytest.mark.parametrize("name", HOOKED)
def test_hooks_run_once_where_a_gradient_is_differentiated(name):
    logits, labels = data()
    q = torch.softmax(torch.arange(ROWS * CLASSES, dtype=torch.float64).reshape(ROWS, -1), -1)
    leaf = logits.requires_grad_()

    def gradient(hooks):
        x, seen = leaf * 1.0, []
        if hooks:
            x.register_hook(lambda g: g * 2)
            x.register_hook(lambda g: seen.append(g))
        of = q if name == "kl_divergence" else labels
        value = getattr(xe, name)(labels=of, logits=x, **HOOKED[name]).sum()
        (got,) = torch.autograd.grad(value, leaf, create_graph=True)
        assert len(seen) == hooks
        return got

    assert_same(gradient(True), 2 * gradient(False))


@pytest.mark.parametrize("name", ["focal_loss", "poly_loss", "softmax_cross_entropy"])
def test_vmap_of_a_gradient(name):
    """As Jacobians are taken from a graph that is there already."""
    logits, labels = data()
    logits.requires_grad_()
    loss = getattr(xe, name)(labels=labels, logits=logits, reduction="none")

    def gradient(upstream):
        return torch.autograd.grad(loss, logits, upstream, retain_graph=True)[0]

    rows = torch.eye(ROWS, dtype=torch.float64)
    assert_same(vmap(gradient)(rows), torch.stack([gradient(row) for row in rows]))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "focal_loss", "mean_squared_error"])
def test_a_symbolic_trace_counts_the_rows_it_gets(name):
    from torch.fx.experimental.proxy_tensor import make_fx

    def loss(x, labels):
        if name == "mean_squared_error":
            return xe.mean_squared_error(labels=x * 0 + 1, predictions=x)
        return getattr(xe, name)(labels=labels, logits=x)

    logits, labels = data()
    traced = make_fx(loss, tracing_mode="symbolic")(logits[:4], labels[:4])
    assert_same(traced(logits, labels), loss(logits, labels))


def test_another_thread_that_compiles_changes_nothing(monkeypatch):
    """PyTorch tells every thread that one of them compiles."""
    logits, labels = data()
    logits.requires_grad_()
    value = softmax(logits, labels)
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    assert torch.compiler.is_compiling()
    with pytest.raises(xe.LabelError):
        softmax(logits, labels + CLASSES)
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    (value + gradient.square().sum()).backward()
    expected = logits.detach().clone().requires_grad_()
    own = functional.cross_entropy(expected, labels)
    (gradient,) = torch.autograd.grad(own, expected, create_graph=True)
    (own + gradient.square().sum()).backward()
    assert_same(logits.grad, expected.grad, 1e-12)


def test_class_weights_with_a_sign_are_not_taken_for_ignored_rows(compiled):
    logits, labels = data()
    options = {"ignore_index": -100, "reduction": "mean_all"}
    for first in (0.0, -0.0):
        weight = torch.tensor([first, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        got = softmax(logits, labels, class_weight=weight, **options)
        assert_same(got, softmax(logits, labels, class_weight=weight, reduction="mean_all"))
    weight = torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    program = compiled(lambda x: softmax(x, labels, class_weight=weight, **options))
    plain = compiled(lambda x: softmax(x, labels, class_weight=weight, reduction="mean_all"))
    assert_same(program(logits), plain(logits))


@pytest.mark.parametrize("ignored", [-(2**63), 2**53, 2**63 - 1])
def test_a_compiled_sigmoid_ignores_what_no_double_is(compiled, ignored):
    logits = data()[0]

    def loss(x):
        return xe.sigmoid_cross_entropy(labels=x.detach() * 0 + 1, logits=x, ignore_index=ignored)

    assert_same(compiled(loss)(logits), loss(logits))


def test_sentinels_of_unsigned_labels():
    logits = data()[0][:2]
    labels = torch.tensor([0, 2**64 - 1], dtype=torch.uint64)
    losses = softmax(logits, labels, ignore_index=2**64 - 1, reduction="none")
    assert_same(losses[0], softmax(logits[:1], torch.tensor([0])))
    assert losses[1] == 0
    with pytest.raises(xe.LabelError):  # it is no -1
        softmax(logits, labels, ignore_index=-1)


def test_inplace_where_upstream_is_0_or_infinite():
    for factor, expected in ((0.0, 0.0), (torch.inf, torch.inf)):
        weight = torch.zeros(ROWS, CLASSES, dtype=torch.float64, requires_grad=True)
        logits, labels = data()
        logits[1] = torch.nan
        labels[1] = -1
        if factor == 0:
            logits[2] = torch.nan
        loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True, ignore_index=-1)
        (loss(logits + weight, labels) * factor).backward()
        assert not weight.grad[1].any()
        assert weight.grad[0].abs().min() == expected


def test_a_parameter_among_the_options_of_a_module_is_one():
    weight = torch.nn.Parameter(torch.ones(CLASSES))
    module = crossent.torch.Loss(xe.softmax_cross_entropy, class_weight=weight)
    assert [name for name, _ in module.named_parameters()] == ["class_weight"]
    module(*data(torch.float32)).backward()
    assert weight.grad is not None
    copy.deepcopy(module.half())


def test_errors_of_unusual_arguments(reading):
    logits, labels = data(torch.float32)
    for axis in (-1.0, np.float64(-1), torch.tensor(-1)):
        with pytest.raises(xe.OptionError, match="axis must"):
            softmax(logits, labels, axis=axis)
    with pytest.raises(xe.CrossentError, match="normalizer must"):
        softmax(logits, labels, normalizer=10**400)
    assert softmax(logits, labels, normalizer=torch.ones((), device="meta")).is_meta
    with pytest.raises(xe.CrossentError, match="labels must"):
        softmax(logits, 2**64)
    with pytest.raises(xe.DTypeError, match="sample_weight must be a tensor or numbers"):
        softmax(logits, labels, sample_weight=[torch.ones((), requires_grad=True)] * ROWS)
    for shape in ((1, 1), (1, 1, 1)):
        with pytest.raises(xe.ShapeError, match="pos_weight must"):
            xe.sigmoid_cross_entropy(labels=logits * 0, logits=logits, pos_weight=torch.ones(shape))
    with warnings.catch_warnings():  # of a prototype, once in a process
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([logits[0], logits[1]])
    with pytest.raises(xe.DTypeError, match="logits must be a dense tensor"):
        softmax(nested, labels[:2])
    with pytest.raises(xe.DTypeError, match="logits must be a dense tensor"):
        softmax(logits.to_mkldnn().requires_grad_(), labels)
    everything = softmax(logits, labels.float(), ignore_index=10**400)
    assert_same(everything, softmax(logits, labels))
    zeros = torch._efficientzerotensor(ROWS, dtype=torch.int64)
    assert_same(softmax(logits, zeros), softmax(logits, torch.zeros_like(labels)))
    loss = crossent.torch.Loss(xe.softmax_cross_entropy, inplace=True)
    assert loss(logits.numpy(), labels.numpy()) == pytest.approx(softmax(logits, labels).item())
