"""The door to PyTorch: conversion, and the namespace that the losses run on there."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from crossent import _checks
from crossent._torch_formula import namespace as namespace
from crossent._torch_formula import result_dtype as result_dtype
from crossent._torch_native import fused_sigmoid_loss as fused_sigmoid_loss
from crossent._torch_native import fused_softmax_loss as fused_softmax_loss
from crossent.errors import DTypeError, ShapeError

takes_numpy = False

_NAMES = {getattr(torch, name): name for name in (*_checks.FLOATS, *_checks.INTEGERS, "bool")}


def quiet() -> AbstractContextManager[Any]:
    """PyTorch never warns of infinities and NaN."""
    return nullcontext()


def is_own(value: Any) -> bool:
    """Whether the value is a tensor."""
    return isinstance(value, torch.Tensor)


def as_array(name: str, value: Any) -> Any:
    """The argument as a tensor of its own dtype; lists of numbers by NumPy's rules."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized:
            raise DTypeError(
                f"{name} must be a dense tensor; got {value.dtype} with layout {value.layout}. "
                "Call to_dense() or dequantize() first."
            )
        return value
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(
            f"{name} must be rectangular; got rows of different lengths. Pad them, or pass one "
            "row at a time."
        ) from None
    _checks.numeric(name, str(array.dtype.name), array.shape)
    return torch.from_numpy(np.array(array))


def as_scores(name: str, value: Any) -> Any:
    """Scores as a floating-point tensor: lists and Python numbers become float64."""
    array = as_array(name, value)
    if not is_own(value) and not array.is_floating_point():
        array = array.to(torch.float64)
    return array


def as_floats(array: Any) -> Any:
    """Integers and bools as float64, so that no digit is lost; floats as they are."""
    return array if array.is_floating_point() else array.to(torch.float64)


def dtype_name(array: Any) -> str:
    """The dtype as `_checks` knows it."""
    return _NAMES.get(array.dtype) or str(array.dtype).rpartition(".")[2]


def shape(array: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return tuple(array.shape)


def check_values(check: Callable[..., None], *arguments: Any) -> bool:
    """Runs a check of values where they are at hand; True: it was run."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    if any(t.device.type != "cpu" for t in tensors) and os.environ.get("CROSSENT_CHECK") != "1":
        return False
    check(*(_values(a) if isinstance(a, torch.Tensor) else a for a in arguments))
    return True


def _values(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy knows no bfloat16; every one of them is a float32.
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.asarray(tensor.numpy())


def class_ids(labels: Any, ignored: int | None) -> tuple[Any, Any]:
    """Class ids as int64, 0 where ignored, -1 where they are fractions; and the kept rows."""
    ids = labels.to(torch.int64)
    if labels.is_floating_point():
        ids = torch.where(ids == labels, ids, -1)
    if ignored is None:
        return ids, None
    kept = ids != ignored
    return torch.where(kept, ids, 0), kept


def kernel_for(_: Any) -> str:
    """Which kernel scores this tensor."""
    return "formula: no kernel for PyTorch yet"
