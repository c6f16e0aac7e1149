"""The native losses in functions that XLA compiles for CPUs, by the handlers that JAX calls too.

TensorFlow runs a program of XLA's as an op, `XlaCallModule`, which is compiled as a part of the
function that holds it. Ours is one foreign call. Its handler is registered with the XLA that
TensorFlow brings along, whose interface for that is C, and found by the one function that gives it.
"""

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

_SINCE = 2, 21  # the least TensorFlow that this was tried on; before, the formula runs
_VERSION = 9  # of modules

_TYPES = {
    tf.float16: "f16",
    tf.bfloat16: "bf16",
    tf.float32: "f32",
    tf.float64: "f64",
    tf.bool: "i1",
    tf.int8: "i8",
    tf.int16: "i16",
    tf.int32: "i32",
    tf.int64: "i64",
    tf.uint8: "ui8",
    tf.uint16: "ui16",
    tf.uint32: "ui32",
    tf.uint64: "ui64",
}


def register(ops_file: Path) -> bool:
    """Whether XLA knows the handlers that the library of our ops has."""
    if tuple(map(int, tf.__version__.split(".")[:2])) < _SINCE:
        return False
    try:
        own = ctypes.CDLL(str(ops_file))
        theirs = ctypes.CDLL(str(Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"))
        find = theirs._ZN3xla3ffi12GetXlaFfiApiEv
    except (OSError, AttributeError):
        return False  # not this TensorFlow's
    find.restype = ctypes.c_void_p
    return bool(own.crossent_register_xla_handlers(ctypes.c_void_p(find())))


class Result(NamedTuple):
    """Dtype and shape of a result; each length is that of an axis of the first operand."""

    dtype: Any
    axes: tuple[int, ...]


def call(
    target: str,
    operands: list[Any],
    results: list[Result],
    integers: dict[str, int],
    bits: dict[str, int],
) -> list[Any]:
    """One foreign call as an op, with attributes that are integers and bits of floats.

    Lengths that a graph does not know yet are put in when it is compiled.
    """
    first = tuple(operands[0].shape)
    shapes = [tuple(first[axis] for axis in result.axes) for result in results]
    types = [_type(x.dtype, x.shape) for x in operands]
    result_types = [_type(r.dtype, s) for r, s in zip(results, shapes, strict=True)]
    names = [f"%x{k}" for k in range(len(operands))]
    arguments = ", ".join(f"{name}: {type_}" for name, type_ in zip(names, types, strict=True))
    ranks = [len(x.shape) for x in operands]
    settings = ["api_version = 4 : i32"]
    lines = ""
    is_unknown = any(None in tuple(x.shape) for x in operands)
    if is_unknown:
        # The shapes of the results as further operands: XLA puts in numbers, and takes them away.
        here = range(len(names), len(names) + len(results))
        settings.append(f"indices_of_shape_operands = dense<{[*here]}> : tensor<{len(here)}xi64>")
        for k, result in enumerate(results):
            lines += _shape_of(names[0], types[0], result.axes, f"%shape{k}")
            names.append(f"%shape{k}")
            types.append(f"tensor<{len(result.axes)}xi32>")
            ranks.append(1)
    attributes = [f"{name} = {value} : i64" for name, value in integers.items()]
    attributes += [f"{name} = 0x{value:016X} : f64" for name, value in bits.items()]
    settings += [
        f"backend_config = {{{', '.join(attributes)}}}",
        f"operand_layouts = {_layouts(ranks)}",
        f"result_layouts = {_layouts([len(shape) for shape in shapes])}",
    ]
    count = len(results)
    values = ", ".join(f"%y#{k}" for k in range(count))
    of_results = ", ".join(result_types)
    unknown = "true" if is_unknown else "false"
    module = f"""module @crossent attributes {{jax.uses_shape_polymorphism = {unknown}}} {{
func.func public @main({arguments}) -> ({of_results}) {{
{lines}%y:{count} = stablehlo.custom_call @{target}({", ".join(names)}) {{{", ".join(settings)}}}
    : ({", ".join(types)}) -> ({of_results})
return {values} : {of_results}
}}
}}"""
    found: list[Any] = xla.call_module(
        operands,
        version=_VERSION,
        module=module,
        Tout=[result.dtype for result in results],
        Sout=shapes,
        platforms=["CPU"],
    )
    return found


def _type(dtype: Any, shape: Any) -> str:
    lengths = "".join(f"{'?' if length is None else length}x" for length in shape)
    return f"tensor<{lengths}{_TYPES[dtype]}>"


def _shape_of(name: str, type_: str, axes: tuple[int, ...], shape: str) -> str:
    """Lines that give the lengths of these axes of an array as an array."""
    if not axes:
        return f"{shape} = stablehlo.constant dense<> : tensor<0xi32>\n"
    lines = "".join(
        f"""{shape}_{axis} = stablehlo.get_dimension_size {name}, dim = {axis}
    : ({type_}) -> tensor<i32>
{shape}_{axis}_1 = stablehlo.reshape {shape}_{axis} : (tensor<i32>) -> tensor<1xi32>
"""
        for axis in axes
    )
    lengths = ", ".join(f"{shape}_{axis}_1" for axis in axes)
    each = ", ".join(["tensor<1xi32>"] * len(axes))
    return f"""{lines}{shape} = stablehlo.concatenate {lengths}, dim = 0
    : ({each}) -> tensor<{len(axes)}xi32>
"""


def _layouts(ranks: list[int]) -> str:
    """C order for each: XLA may choose another one for its own."""
    each = (f"dense<{[*range(rank)][::-1]}> : tensor<{rank}xindex>" for rank in ranks)
    return f"[{', '.join(each)}]"
