"""The native core: kernels on arrays, and what this processor can run."""

from typing import Annotated

import numpy
from numpy.typing import NDArray


def build_info() -> dict[str, str]:
    """
    Version, compiler, flags and nanobind mode that this module was built with.
    """

def supported_instruction_sets() -> list[str]:
    """Instruction sets that this processor runs, least first."""

def chosen_instruction_set() -> str:
    """
    The best supported instruction set, capped by the variable CROSSENT_MAX_ISA.

    Raises ValueError when the variable names no instruction set.
    """

def instruction_set() -> str | None:
    """
    The instruction set whose kernels run, settled at the first call; None where this processor has none.

    Raises ValueError when CROSSENT_MAX_ISA names no instruction set.
    """

def xla_ffi_handlers() -> dict[str, object]:
    """
    The losses as XLA calls them: handlers by the names to register them under.
    """

def get_num_threads() -> int:
    """How many threads a call may use."""

def set_num_threads(threads: int) -> None:
    """For the whole process; 0 goes back to what the environment says."""

def softmax_loss(logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, labels: Annotated[NDArray, dict(writable=False)], labels_bfloat16: bool, class_weight: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, sample_weight: Annotated[NDArray[numpy.float64], dict(writable=False)] | None, label_smoothing: float, ignore_index: int | None, temperature: float, softcap: float | None, z_loss: float, reduction: str, normalizer: float | None, upstream: float | Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, losses: NDArray | None, gradient: NDArray | None) -> float | None:
    """
    The softmax cross-entropy, reduced, and its gradient; the class axis is the last.

    None, with nothing written that matters, where an argument is not what the loss allows.
    """

def row_statistics(logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, labels: Annotated[NDArray, dict(writable=False)] | None, labels_bfloat16: bool, class_weight: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, with_mean: bool, temperature: float, softcap: float | None, out: Annotated[NDArray[numpy.float64], dict(order='C')]) -> None:
    """The seven statistics of each row, of labels that are checked already."""

def row_gradient(log_sum: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, label_gap: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, nll: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, mean_gap: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, labels: Annotated[NDArray, dict(writable=False)] | None, labels_bfloat16: bool, class_weight: Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, temperature: float, softcap: float | None, out: NDArray) -> None:
    """
    Gradient in the logits of the statistics, times one coefficient each per row.
    """

def softmax(logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, temperature: float, softcap: float | None, log: bool, out: NDArray) -> None:
    """Softmax of each row, or its logarithm."""

def log_sum_exp(logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, out: NDArray) -> None:
    """Log-sum-exp of each row."""

def sigmoid_loss(logits: Annotated[NDArray, dict(writable=False)], logits_bfloat16: bool, labels: Annotated[NDArray, dict(writable=False)], labels_bfloat16: bool, pos_weight: Annotated[NDArray[numpy.float64], dict(writable=False)] | None, sample_weight: Annotated[NDArray[numpy.float64], dict(writable=False)] | None, label_smoothing: float, ignore_value: int | None, reduction: str, normalizer: float | None, upstream: float | Annotated[NDArray[numpy.float64], dict(order='C', writable=False)] | None, losses: NDArray | None, gradient: NDArray | None) -> float | None:
    """
    The sigmoid cross-entropy, reduced, and its gradient. None as in softmax_loss.
    """

def tensor_exchange(type: object) -> object:
    """
    What linear_loss_at reads tensors of this type by; None where there is nothing.
    """

def linear_loss_at(exchange: object | None, logits: object, labels: object, weight: object | None, sample_weight: object | None, upstream_rows: object | None, result: object | None, losses: object | None, gradient: object | None, is_softmax: bool, axis: int, label_smoothing: float, ignore_index: int | None, temperature: float, softcap: float | None, z_loss: float, reduction: str, normalizer: float | None, upstream: float, invalid_is_nan: bool, threads: int) -> float | None:
    """
    softmax_loss or sigmoid_loss of tensors, the results too.

    A tensor is read by the exchange, or is a tuple of address, number, shape and strides in elements. A number is its place in float32, float64, float16, bfloat16, bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64. The value goes to the result too; losses are in C order. With invalid_is_nan rows whose labels are invalid become NaN, and so does the value. None as in softmax_loss, also for tensors that no kernel reads. threads as in follow_threads.
    """

def register_torch_operators(library: str) -> bool:
    """
    Kernels for the operators of compiled programs; False where the PyTorch that this library is linked to has no C interface for them.
    """

def follow_threads(threads: int) -> None:
    """set_num_threads where the number is another than at the last call."""

def elementwise(name: str, x: Annotated[NDArray, dict(writable=False)], x_bfloat16: bool, out: NDArray) -> None:
    """sigmoid, log_sigmoid or softplus of every element."""

def exact_sum(values: Annotated[NDArray, dict(writable=False)], divisor: float | None) -> float:
    """
    Sum of a vector, over the divisor if there is one, rounded once to its dtype.
    """
