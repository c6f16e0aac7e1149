"""The door to PyTorch: conversion, and the namespace that the losses run on there."""

import inspect
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from crossent import _checks
from crossent import _numpy_native as native
from crossent._torch_formula import result_dtype as result_dtype
from crossent._torch_native import fused_sigmoid_loss as fused_sigmoid_loss
from crossent._torch_native import fused_softmax_loss as fused_softmax_loss
from crossent._torch_native import is_plain, is_traced, is_watched
from crossent._torch_native import namespace as namespace
from crossent.errors import ArgumentError, DTypeError

takes_numpy = False

_SCORES = ("logits", "probs", "log_probs", "predictions")

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
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            layout = "layout nested" if value.is_nested else f"layout {value.layout}"
            raise DTypeError(
                f"{name} must be a dense tensor; got {value.dtype} with {layout}. "
                "Call to_dense(), to_padded_tensor() or dequantize() first."
            )
        return value
    # Larger integers are for NumPy to refuse.
    if isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        dtype = torch.float64 if isinstance(value, float) else None
        return torch.tensor(value, dtype=dtype, device="cpu")
    # The compiler does not know NumPy's dtypes.
    if is_traced() and _holds_numbers(value):
        tensor = torch.tensor(value, device="cpu")
        is_float = tensor.is_floating_point()
        return torch.tensor(value, dtype=torch.float64, device="cpu") if is_float else tensor
    # A Variable, whose gradient NumPy would lose.
    if type(value).__module__.partition(".")[0] == "keras":
        return as_array(name, value.value)
    try:
        array = _checks.plain_array(name, value)
    except (TypeError, RuntimeError) as error:  # tensors that NumPy does not know
        raise DTypeError(
            f"{name} must be a tensor or numbers; got a {type(value).__name__} that NumPy does not "
            f"read ({error}). Call torch.stack(...) first."
        ) from None
    _checks.numeric(name, str(array.dtype.name), array.shape)
    return torch.from_numpy(np.array(array))


def _holds_numbers(value: Any) -> bool:
    """Whether this is a list of numbers, or of such lists."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(item, (bool, int, float)) or _holds_numbers(item) for item in value
    )


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


def dtype(name: str) -> Any:
    """The dtype of a name that `dtype_name` gives."""
    return getattr(torch, name)


def shape(array: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return tuple(array.shape)


def check_values(check: Callable[..., None], *arguments: Any) -> bool:
    """Runs a check of values where they are at hand; True: it was run."""
    if is_traced():
        return False
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    if not all(_has_values(t) for t in tensors):
        return False
    check(*(_values(a) if isinstance(a, torch.Tensor) else a for a in arguments))
    return True


def _has_values(tensor: Any) -> bool:
    """Whether the values are at hand, without waiting for an accelerator unless that is wanted."""
    if is_watched():
        return False
    if tensor.is_cpu:
        return type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return not tensor.is_meta and os.environ.get("CROSSENT_CHECK") == "1"


def _values(tensor: Any) -> np.ndarray:
    if tensor._is_zerotensor():  # zeros without memory
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
    tensor = tensor.detach().resolve_neg().cpu()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.float().numpy()).view(_checks.BFloat16)
    return np.asarray(tensor.numpy())


def class_ids(labels: Any, ignored: int | None) -> tuple[Any, Any]:
    """Class ids as int64, 0 where ignored, -1 where they are fractions; and the kept rows."""
    ids, kept = labels.to(torch.int64), None
    if labels.is_floating_point():
        # Before fractions become -1, which may be what is ignored.
        kept = None if ignored is None else labels != _checks.as_float(ignored)
        ids = torch.where(ids == labels, ids, -1)
    elif ignored is not None:
        # PyTorch compares no number with integers that cannot be that large.
        least = 0 if labels.dtype == torch.uint64 else -(2**63)
        if least <= ignored < least + 2**64:
            kept = ids != (ignored if ignored < 2**63 else ignored - 2**64)  # as they wrap around
        else:
            kept = torch.ones_like(ids).bool()
    return (ids if kept is None else torch.where(kept, ids, 0)), kept


def kernel_for(array: Any) -> str:
    """Which kernel scores this tensor."""
    if not array.is_cpu:
        return f"formula: no kernel for {array.device.type}"
    if type(array) not in (torch.Tensor, torch.nn.Parameter):
        return f"formula: no kernel for {type(array).__name__}"
    if not is_plain(array):
        return f"formula: no kernel for {dtype_name(array)}"
    return native.kernel


def on_accelerator(values: Iterable[Any]) -> "OnDevice | None":
    """This door for the accelerator that one of the values is on, if any is."""
    for value in values:
        if isinstance(value, torch.Tensor) and not value.is_cpu:
            return OnDevice(value.device)
    return None


class OnDevice:
    """This door where tensors are on an accelerator: lists become tensors beside them."""

    takes_numpy = takes_numpy
    quiet = staticmethod(quiet)
    as_floats = staticmethod(as_floats)
    dtype_name = staticmethod(dtype_name)
    dtype = staticmethod(dtype)
    shape = staticmethod(shape)
    check_values = staticmethod(check_values)
    class_ids = staticmethod(class_ids)
    kernel_for = staticmethod(kernel_for)
    namespace = staticmethod(namespace)
    result_dtype = staticmethod(result_dtype)

    def __init__(self, device: Any) -> None:
        self.device = device

    def as_array(self, name: str, value: Any) -> Any:
        return self._beside(value, as_array(name, value))

    def as_scores(self, name: str, value: Any) -> Any:
        return self._beside(value, as_scores(name, value))

    def _beside(self, value: Any, array: Any) -> Any:
        # Not a Python number: PyTorch takes those from the CPU, without waiting for the device.
        if not isinstance(value, (list, tuple)):
            return array
        if self.device.type == "mps" and array.dtype == torch.float64:
            array = array.to(torch.float32)  # Apple's devices have no wider one
        return array.to(self.device, non_blocking=True)


class Loss(torch.nn.Module):
    """A loss of crossent as a module, called (scores, labels) like PyTorch's own.

    Every loss runs in eager, under `torch.compile` and `torch.export`, and is differentiated by
    autograd and `torch.func`; the module only keeps its options. Do not use it to have a loss once
    with options that change: call the function then.

    Args:
        loss: a loss of crossent, such as `crossent.focal_loss`.
        scores: what the first argument of a call is: "logits", "probs" or "log_probs", or
            "predictions" for `mean_squared_error`.
        inplace: overwrite the logits with their gradient, so that a training step needs no further
            memory of that size. For logits that are computed by a layer and read by nobody else:
            autograd raises where something else needs them again. Only the linear losses
            (`softmax_cross_entropy`, `sigmoid_cross_entropy`) on a CPU in eager and with a
            reduction do it; elsewhere the result is the same and the logits stay. A bfloat16
            gradient is rounded twice where upstream is no power of 2.
        **options: the loss's own arguments. Tensors become buffers, and parameters stay such: they
            move with the module and are saved with it.

    Shape:
        scores and labels as the loss takes them; the result as the loss returns it.

    Raises:
        ArgumentError: an option that the loss does not have, or an argument that comes with each
            call.

    Source:
        The losses are described in `crossent.losses`.

    Example:
        >>> import torch, crossent.torch, crossent as xe
        >>> loss = crossent.torch.Loss(xe.focal_loss, gamma=1.0, label_smoothing=0.1)
        >>> loss
        Loss(focal_loss, gamma=1.0, label_smoothing=0.1)
        >>> loss(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]))
        tensor(0.3466)
        >>> loss.for_eval()
        Loss(focal_loss, gamma=1.0)
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        scores: str = "logits",
        *,
        inplace: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        known = inspect.signature(loss).parameters
        if scores not in known or scores in ("labels", *options):
            raise ArgumentError(
                f"scores must be what {loss.__name__} scores; got {scores!r}. "
                'Usual are "logits", "probs" and "log_probs".'
            )
        for name in options:
            if name not in known or name in ("labels", *_SCORES):
                raise ArgumentError(
                    f"{name} must be an option of {loss.__name__}; got none of "
                    f"{', '.join(n for n in known if n not in ('labels', *_SCORES))}. "
                    "Scores and labels come with each call."
                )
        self.loss, self.scores, self.inplace = loss, scores, inplace
        self.options = {}
        self._tensors = []
        for name, value in options.items():
            if isinstance(value, torch.nn.Parameter):
                self.register_parameter(name, value)
                self._tensors.append(name)
            elif isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
                self._tensors.append(name)
            else:
                self.options[name] = value

    def forward(self, scores: Any = None, labels: Any = None, **arguments: Any) -> Any:
        """The loss; keywords work too, and weights of this batch go beside them.

        Args:
            scores: as the module was told, "logits" unless said otherwise.
            labels: class ids, a distribution, or what else the loss takes.
            **arguments: further arguments of the loss, for this call: `sample_weight=`,
                `normalizer=`; they come before the module's own options.
        """
        given = {**self.options, **{name: getattr(self, name) for name in self._tensors}}
        given.update(arguments)
        if scores is not None:
            given[self.scores] = scores
        if self.inplace and isinstance(given.get("logits"), torch.Tensor) and not is_traced():
            value = self._overwriting(labels, given)
            if value is not None:
                return value
        return self.loss(labels=labels, **given)

    def _overwriting(self, labels: Any, given: dict[str, Any]) -> Any:
        """The loss, with the logits overwritten; None where it has no such form."""
        owner, form = getattr(self.loss, "fused_form", (None, None))
        if form is None or owner is not self.loss:  # functools.wraps copies the form
            return None
        return form("inplace", {**given, "labels": labels})

    def for_eval(self) -> "Loss":
        """The same loss without label smoothing and class weights, as a number to report."""
        options = {**self.options, **{name: getattr(self, name) for name in self._tensors}}
        for name in ("label_smoothing", "class_weight"):
            options.pop(name, None)
        return Loss(self.loss, self.scores, inplace=self.inplace, **options)

    def extra_repr(self) -> str:
        """The loss and its options."""
        parts = [self.loss.__name__]
        if self.scores != "logits":
            parts.append(f"scores={self.scores!r}")
        if self.inplace:
            parts.append("inplace=True")
        parts += [f"{name}={value!r}" for name, value in self.options.items()]
        for name in self._tensors:
            tensor = getattr(self, name)
            parts.append(f"{name}={dtype_name(tensor)}{list(tensor.shape)}")
        return ", ".join(parts)
