"""PyTorch's functions in NumPy's names: what the losses run on where no kernel does."""

from typing import Any

import torch

from crossent._formula import Formula


def result_dtype(array: Any) -> Any:
    """float64 stays; everything narrower is returned as float32."""
    return torch.float64 if array.dtype == torch.float64 else torch.float32


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in; on a CPU they compute in float64."""
    device, is_wide = torch.device("cpu"), False
    for array in arrays:
        if isinstance(array, torch.Tensor):
            is_wide = is_wide or array.dtype == torch.float64
            device = array.device if array.device.type != "cpu" else device
    return Functions(device, torch.float64 if is_wide or device.type == "cpu" else torch.float32)


class Functions(Formula):
    """The primitive functions on one device. A plain class: torch.compile follows its methods."""

    def __init__(self, device: Any, wide: Any) -> None:
        self.device, self.wide = device, wide

    abs = staticmethod(torch.abs)
    broadcast_to = staticmethod(torch.broadcast_to)
    exp = staticmethod(torch.exp)
    expm1 = staticmethod(torch.expm1)
    isfinite = staticmethod(torch.isfinite)
    isnan = staticmethod(torch.isnan)
    moveaxis = staticmethod(torch.movedim)
    ones_like = staticmethod(torch.ones_like)
    plain = torch
    reshape = staticmethod(torch.reshape)
    result_dtype = staticmethod(result_dtype)
    tanh = staticmethod(torch.tanh)
    zeros_like = staticmethod(torch.zeros_like)

    def arange(self, n: int) -> Any:
        return torch.arange(n, device=self.device)

    def argmax(self, x: Any, axis: int) -> Any:
        return torch.argmax(x, dim=axis)

    def max(self, x: Any, axis: int) -> Any:
        return torch.amax(x, dim=axis)

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        if axis == ():  # no axis; to PyTorch it means all of them
            return x
        return torch.sum(x, dim=axis, keepdim=keepdims)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor):
            return torch.where(condition, x, y)
        # Two numbers would become float32, and a third of one of them with them.
        return torch.where(condition, torch.full_like(condition, x, dtype=self.wide), y)

    def pick(self, values: Any, ids: Any) -> Any:
        return torch.gather(values, -1, ids[..., None])[..., 0]

    def take(self, table: Any, ids: Any) -> Any:
        return table[ids]

    def count(self, x: Any) -> Any:
        # Not torch.tensor, which would make a constant of a size that a program leaves open.
        return torch.full((), x.numel(), dtype=self.wide, device=self.device)

    def widen(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x.to(self.wide)
        return torch.tensor(x, dtype=self.wide, device=self.device)

    def returned(self, x: Any, dtype: Any) -> Any:
        return x.to(dtype)

    def stop_gradient(self, x: Any) -> Any:
        return x.detach()

    def greatest(self, x: Any) -> float:
        return torch.finfo(x.dtype).max

    def integer(self, x: Any) -> bool:
        return not x.is_floating_point() and x.dtype != torch.bool

    def as_wide(self, x: Any) -> bool:
        return bool(x.dtype == self.wide)

    def total(self, values: Any, divisor: Any = None, dtype: Any = None) -> Any:
        """The sum of the values in `dtype`, over a divisor; 0 where the divisor is 0."""
        values = values if dtype is None else values.to(dtype)
        result = values.sum(dtype=self.wide)
        if divisor is not None:
            empty = divisor == 0
            result = torch.where(empty, 0.0, result / torch.where(empty, 1.0, divisor))
        return result if dtype is None else result.to(dtype)
