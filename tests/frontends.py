"""Every library that the losses run on, and every way of running them there, behind one interface.

Arguments and results are NumPy arrays (bfloat16 is ml_dtypes'); in between, arrays are the
library's own. Numbers, lists, strings and None reach the loss as they are.
"""

import functools
from contextlib import nullcontext

import ml_dtypes
import numpy as np
import pytest

import crossent

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class NumPy:
    """A way of running a loss; the other libraries' derive from it."""

    library = "numpy"
    module = "numpy"
    # Checks of values cannot run: an invalid label is a NaN row.
    is_compiled = False
    # The value has the same bits with and without the gradient of the scores.
    has_one_value = True
    # Numbers below the normal range may be 0.
    flushes_to_zero = False

    def __init__(self, name="numpy"):
        self.name = name

    def __repr__(self):
        return self.name

    def has(self, dtype):
        """Whether the library knows this dtype."""
        return True

    def works_in(self, dtype):
        """The dtype that scores of this dtype are computed in, where it is the formula's."""
        return np.dtype(np.float64)

    def tensor(self, array):
        """The library's own array of a NumPy array."""
        return array

    def array(self, tensor):
        """The NumPy array of the library's own."""
        return np.asarray(tensor)

    def kernel_for(self, array):
        return crossent.kernel_for(self.tensor(array))

    def value(self, loss, **options):
        return loss(**options)

    def value_and_grad(self, loss, wrt="logits", upstream=None, **options):
        """The value, and the derivative of `upstream` (default 1) times the value."""
        return crossent.numpy.value_and_grad(loss, wrt=wrt, upstream=upstream, **options)

    def _split(self, options):
        """The options that are arrays, as tensors, and the others."""
        tensors = {k: self.tensor(v) for k, v in options.items() if isinstance(v, np.ndarray)}
        return tensors, {k: v for k, v in options.items() if k not in tensors}


class Torch(NumPy):
    """Eager, with autograd."""

    library = module = "torch"

    def tensor(self, array):
        import torch

        array = np.array(array)
        if array.dtype == BFLOAT16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def array(self, tensor):
        import torch

        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().view(BFLOAT16)
        return tensor.numpy()

    def value(self, loss, **options):
        tensors, others = self._split(options)
        return self.array(self._ready(functools.partial(loss, **others))(**tensors))

    def value_and_grad(self, loss, wrt="logits", upstream=None, **options):
        import torch

        tensors, others = self._split(options)
        tensors[wrt].requires_grad_()
        value = self._ready(functools.partial(loss, **others))(**tensors)
        up = None if upstream is None else self.tensor(np.asarray(upstream)).to(value.dtype)
        (gradient,) = torch.autograd.grad(value, tensors[wrt], up)
        return self.array(value), self.array(gradient)

    def _ready(self, function):
        return function


class TorchFunc(Torch):
    """torch.func: grad_and_value, or vjp where rows are returned."""

    has_one_value = False

    def value_and_grad(self, loss, wrt="logits", upstream=None, **options):
        import torch

        tensors, others = self._split(options)
        argument = tensors.pop(wrt)
        up = None if upstream is None else self.tensor(np.asarray(upstream))

        def of(argument):
            return loss(**{wrt: argument}, **tensors, **others)

        def value_and_grad(argument):
            if up is None:
                gradient, value = torch.func.grad_and_value(of)(argument)
                return value, gradient
            value, back = torch.func.vjp(of, argument)
            return value, back(up.to(value.dtype))[0]

        value, gradient = self._ready(value_and_grad)(argument)
        return self.array(value), self.array(gradient)


class _TorchCompiled:
    """torch.compile(fullgraph=True); each program is compiled for its shapes, and forgotten."""

    is_compiled = True
    backend = "aot_eager"

    def _ready(self, function):
        import torch

        # Programs are kept by the function's code, which is the same for all of them here.
        torch.compiler.reset()
        return torch.compile(function, fullgraph=True, dynamic=False, backend=self.backend)


class TorchCompiled(_TorchCompiled, Torch):
    """The loss compiled, and differentiated by autograd."""


class TorchFuncCompiled(_TorchCompiled, TorchFunc):
    """torch.func inside the compiled program."""


class TorchInductor(TorchCompiled):
    """Compiled to machine code."""

    backend = "inductor"


class Jax(NumPy):
    """Eager: operation by operation."""

    library = module = "jax"
    has_one_value = False
    flushes_to_zero = True

    def has(self, dtype):
        return np.dtype(dtype) != np.float64

    def works_in(self, dtype):
        return np.dtype(np.float32)

    def tensor(self, array):
        import jax.numpy as jnp

        return jnp.asarray(array)

    def value(self, loss, **options):
        with self._widths():
            tensors, others = self._split(options)
            return self.array(self._ready(functools.partial(loss, **others))(**tensors))

    def value_and_grad(self, loss, wrt="logits", upstream=None, **options):
        with self._widths():
            tensors, others = self._split(options)
            argument = tensors.pop(wrt)
            up = None if upstream is None else self.tensor(np.asarray(upstream))

            def value_and_grad(argument, tensors):
                import jax

                def of(argument):
                    return loss(**{wrt: argument}, **tensors, **others)

                if up is None:
                    return jax.value_and_grad(of)(argument)
                value, back = jax.vjp(of, argument)
                return value, back(up.astype(value.dtype))[0]

            value, gradient = self._ready(value_and_grad)(argument, tensors)
            return self.array(value), self.array(gradient)

    def _widths(self):
        return nullcontext()

    def _ready(self, function):
        return function


class JaxJit(Jax):
    is_compiled = True

    def _ready(self, function):
        import jax

        return jax.jit(function)


class JaxX64(JaxJit):
    """Compiled, with 64-bit numbers enabled."""

    def has(self, dtype):
        return True

    def works_in(self, dtype):
        return np.dtype(np.float64)

    def _widths(self):
        import jax

        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(True)
        return jax.experimental.enable_x64()


class TensorFlow(NumPy):
    """Eager, with a GradientTape."""

    library = module = "tensorflow"
    flushes_to_zero = True

    def tensor(self, array):
        import tensorflow as tf

        return tf.constant(array)

    def array(self, tensor):
        return np.asarray(tensor.numpy())

    def value(self, loss, **options):
        tensors, others = self._split(options)
        return self.array(self._ready(functools.partial(loss, **others))(**tensors))

    def value_and_grad(self, loss, wrt="logits", upstream=None, **options):
        import tensorflow as tf

        tensors, others = self._split(options)
        up = None if upstream is None else self.tensor(np.asarray(upstream))

        def value_and_grad(tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors[wrt])
                value = loss(**tensors, **others)
            up_like = None if up is None else tf.cast(up, value.dtype)
            gradient = tape.gradient(value, tensors[wrt], up_like)
            return value, tf.convert_to_tensor(gradient)  # of what was gathered: IndexedSlices

        value, gradient = self._ready(value_and_grad)(tensors)
        return self.array(value), self.array(gradient)

    def _ready(self, function):
        return function


class TensorFlowFunction(TensorFlow):
    is_compiled = True
    jit_compile = False

    def _ready(self, function):
        import tensorflow as tf

        return tf.function(function, jit_compile=self.jit_compile)


class TensorFlowXla(TensorFlowFunction):
    jit_compile = True


MODES = {
    "numpy": NumPy,
    "torch": Torch,
    "torch-func": TorchFunc,
    "torch-compiled": TorchCompiled,
    "torch-func-compiled": TorchFuncCompiled,
    "torch-inductor": TorchInductor,
    "jax": Jax,
    "jax-jit": JaxJit,
    "jax-x64": JaxX64,
    "tensorflow": TensorFlow,
    "tf-function": TensorFlowFunction,
    "tf-xla": TensorFlowXla,
}


@functools.cache
def front_end(mode):
    """The way of that name; skips the test where the library is not installed."""
    way = MODES[mode](mode)
    pytest.importorskip(way.module, reason=f"{way.module} is not installed")
    return way
