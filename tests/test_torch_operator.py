"""The operators of compiled programs, whose kernels are on PyTorch's C interface."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import crossent as xe
import crossent.torch
from crossent import _numpy_native, _torch_native

pytestmark = pytest.mark.skipif(_numpy_native.core is None, reason="without the native library")

NATIVE = Path(__file__).parents[1] / "native"
OPERATORS = torch.ops.crossent
PYTORCH = tuple(map(int, torch.__version__.split(".")[:2]))
in_cpp = pytest.mark.skipif(PYTORCH < (2, 10), reason="the kernels are in Python there")


def data(shape=(6, 5), dtype=torch.float32, classes_last=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, dtype=torch.float64, generator=generator)
    rows, classes = (shape[:-1], shape[-1]) if classes_last else (shape[:1] + shape[2:], shape[1])
    return logits.to(dtype), torch.randint(classes, rows, generator=generator)


def arguments_of(
    logits,
    labels,
    weight=None,
    sample_weight=None,
    normalizer=None,
    *,
    is_softmax=True,
    axis=-1,
    label_smoothing=0.0,
    ignore_index=None,
    temperature=1.0,
    softcap=None,
    z_loss=0.0,
    reduction="mean",
):
    if normalizer is not None and not isinstance(normalizer, torch.Tensor):
        normalizer = torch.tensor(normalizer, dtype=torch.float64)
    tensors = logits, labels, weight, sample_weight, normalizer
    options = label_smoothing, ignore_index, temperature, softcap, z_loss, reduction
    return *tensors, is_softmax, axis, *options


def assert_same_bits(ours, theirs):
    assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def assert_as_in_python(*tensors, **options):
    """The kernels in C++ give the bits of those in Python, by which older PyTorch runs."""
    arguments = arguments_of(*tensors, **options)
    loss = OPERATORS.linear_loss_value(*arguments)
    assert_same_bits(loss, _torch_native._linear_loss(*arguments))
    upstream = torch.rand(loss.shape, dtype=loss.dtype) + 0.5
    gradient = OPERATORS.linear_loss_gradient(upstream, *arguments)
    assert_same_bits(gradient, _torch_native._linear_loss_gradient(upstream, *arguments))
    assert gradient.stride() == torch.empty_like(arguments[0]).stride()
    return loss, gradient


@in_cpp
def test_the_kernels_are_in_cpp():
    for name in ("linear_loss", "linear_loss_value", "linear_loss_gradient"):
        found = torch._C._dispatch_dump(f"crossent::{name}")
        (kernel,) = (line for line in found.splitlines() if line.startswith("CPU:"))
        assert "crossent:0" in kernel


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1, "z_loss": 1e-3, "temperature": 2.0, "softcap": 5.0},
        {"ignore_index": 2},
        {"weight": torch.arange(1.0, 6.0)},
        {"sample_weight": torch.arange(6.0, dtype=torch.float64)},
        {"sample_weight": torch.arange(6)},
    ],
    ids=["plain", "numbers", "ignored", "class_weight", "sample_weight", "integer_weight"],
)
def test_options(reduction, options):
    loss, _ = assert_as_in_python(*data(), **options, reduction=reduction)
    logits, labels = data()
    options = {"class_weight" if k == "weight" else k: v for k, v in options.items()}
    theirs = xe.softmax_cross_entropy(logits=logits, labels=labels, reduction=reduction, **options)
    assert_same_bits(loss, theirs)


@pytest.mark.parametrize("normalizer", [3.0, torch.tensor(3), torch.tensor(3.0).half()])
def test_normalizer(normalizer):
    assert_as_in_python(*data(), normalizer=normalizer, reduction="sum")


@pytest.mark.parametrize("dtype", [*_torch_native._NUMBERS][:4])
@pytest.mark.parametrize("label_dtype", [*_torch_native._NUMBERS][5:])
def test_dtypes(dtype, label_dtype):
    logits, labels = data(dtype=dtype)
    assert_as_in_python(logits, labels.to(label_dtype))
    assert_as_in_python(logits, torch.softmax(logits.double(), -1))
    assert_as_in_python(logits, (logits > 0).to(label_dtype), is_softmax=False)
    assert_as_in_python(logits, logits > 0, torch.arange(1.0, 6.0), is_softmax=False)


def test_layouts():
    """The gradient lies as empty_like has it, also where the logits are no one block."""
    wide, labels = data((6, 10))
    assert_as_in_python(wide[:, ::2], labels // 2)
    assert_as_in_python(wide.t().contiguous().t(), labels)
    assert_as_in_python(wide[:1].expand(6, 10), labels)
    assert_as_in_python(wide[:, :5].t(), labels[:5] // 2)
    images, pixels = data((2, 4, 3, 5), classes_last=False)
    for layout in (torch.contiguous_format, torch.channels_last):
        images = images.to(memory_format=layout)
        for reduction in ("mean", "none"):
            assert_as_in_python(images, pixels, axis=1, reduction=reduction)
            assert_as_in_python(images, pixels, axis=-3, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_corners(reduction):
    for shape in ((0, 5), (6, 1), (5,)):
        logits, labels = data(shape)
        assert_as_in_python(logits, labels, reduction=reduction)
    logits, labels = data()
    for broken in (-1, 5):
        labels[2] = broken
        loss, gradient = assert_as_in_python(logits, labels, reduction=reduction)
        assert torch.isnan(loss).any()
        assert torch.isnan(gradient[2]).all()
    assert_as_in_python(logits, torch.full((6,), -1), ignore_index=-1, reduction=reduction)
    assert_as_in_python(torch.full((6, 5), -torch.inf), labels, reduction=reduction)


@in_cpp
def test_arguments_that_do_not_fit_are_refused_and_let_go():
    logits, labels = data()
    held = logits._use_count(), labels._use_count()
    for wrong in (
        arguments_of(logits, labels, axis=2),
        arguments_of(logits, labels[1:]),
        arguments_of(logits.to(torch.complex64), labels),
        arguments_of(logits, labels, reduction="median"),
        arguments_of(logits, labels, normalizer=torch.ones(2)),
        arguments_of(labels, labels),
    ):
        with pytest.raises(RuntimeError, match="crossent"):
            OPERATORS.linear_loss_value(*wrong)
    del wrong
    assert (logits._use_count(), labels._use_count()) == held


def test_nothing_is_held_after_a_call():
    logits, labels = data()
    weights = torch.ones(5), torch.ones(6), torch.tensor(2.0)
    tensors = logits, labels, *weights
    held = [tensor._use_count() for tensor in tensors]
    arguments = arguments_of(*tensors, reduction="sum", ignore_index=1, softcap=3.0)
    for _ in range(3):
        loss = OPERATORS.linear_loss_value(*arguments)
        OPERATORS.linear_loss_gradient(loss, *arguments)
    assert [tensor._use_count() for tensor in tensors] == held
    assert loss._use_count() == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_they_follow_pytorchs_threads(threads):
    before = torch.get_num_threads()
    logits, labels = data()
    try:
        torch.set_num_threads(threads)
        OPERATORS.linear_loss_value(*arguments_of(logits, labels))
        assert _numpy_native.core.get_num_threads() == threads
        # Eager and compiled calls share the memory of what PyTorch said last.
        torch.set_num_threads(3 - threads)
        xe.softmax_cross_entropy(labels=labels, logits=logits)
        torch.set_num_threads(threads)
        OPERATORS.linear_loss_value(*arguments_of(logits, labels))
        assert _numpy_native.core.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
        xe.softmax_cross_entropy(labels=labels, logits=logits)


@in_cpp
def test_our_declarations_are_those_of_pytorch(tmp_path):
    """A compiler refuses two declarations of one C function that differ."""
    include = Path(torch.__file__).parent / "include"
    ours = (NATIVE / "torch_c_api.h").read_text()

    def is_accepted(header):
        (tmp_path / "ours.h").write_text(header)
        source = tmp_path / "both.cpp"
        source.write_text(
            "#include <torch/csrc/inductor/aoti_torch/c/shim.h>\n"
            "#include <torch/csrc/stable/c/shim.h>\n"
            '#include "ours.h"\n'
        )
        compiler = os.environ.get("CXX", "c++")
        flags = ["-std=c++17", "-fsyntax-only", "-I", str(include)]
        done = subprocess.run([compiler, *flags, source], capture_output=True, text=True)
        return done.returncode == 0 or done.stderr

    assert is_accepted(ours) is True
    changed = ours.replace("int64_t* ret_dim", "int32_t* ret_dim")
    assert changed != ours
    assert "aoti_torch_get_dim" in is_accepted(changed)


WITHOUT = """
import torch
from crossent import _numpy_native
class Core:
    def __getattr__(self, name):
        return getattr(core, name)
    def register_torch_operators(self, library):
        return core.register_torch_operators("no library of that name")
core, _numpy_native.core = _numpy_native.core, Core()
import crossent as xe
logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
labels = torch.tensor([0, 1, 2, 1])
def loss(x):
    return xe.softmax_cross_entropy(labels=labels, logits=x)
program = torch.compile(loss, fullgraph=True, backend="aot_eager")
ours, theirs = (torch.autograd.grad(f(logits), logits)[0] for f in (program, loss))
assert torch.equal(ours, theirs) and torch.equal(program(logits), loss(logits))
print([line for line in torch._C._dispatch_dump("crossent::linear_loss").splitlines()
       if line.startswith("CPU:")])
"""


@pytest.mark.slow
def test_kernels_in_python_where_pytorch_has_no_such_interface():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Before 2.9 PyTorch does not tell where; kernels in C++ are listed as "crossent:0".
    assert "_torch_native.py" in done.stdout or PYTORCH < (2, 9)
    assert "CPU:" in done.stdout
    assert "crossent:0" not in done.stdout
