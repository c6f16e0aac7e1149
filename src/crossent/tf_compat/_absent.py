"""The error for TensorFlow's names that are not here, and the list of those that are."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

_VALUES = "everything is computed at once: what session.run(loss) returned is loss itself"
_ARRAYS = "pass the array itself"
_GRADIENTS = "crossent.numpy.value_and_grad gives the gradients"
# What to do without names that surround losses in TensorFlow code.
_WAYS_OUT = {
    "GradientTape": _GRADIENTS,
    "gradients": _GRADIENTS,
    "Session": _VALUES,
    "InteractiveSession": _VALUES,
    "global_variables_initializer": _VALUES,
    "function": "functions run as they are",
    "placeholder": _ARRAYS,
    "Variable": _ARRAYS,
    "get_variable": _ARRAYS,
}


class _PublicModule(ModuleType):
    """A module whose imports for itself are no names of TensorFlow: only `__all__` is seen."""

    def __getattribute__(self, name: str) -> Any:
        own = super().__getattribute__("__dict__")
        hidden = not name.startswith("_") and name in own and name not in own.get("__all__", own)
        return own["__getattr__"](name) if hidden else super().__getattribute__(name)


def absent(module: str, home: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, which says what to do instead where that is known.

    Args:
        module: its name in TensorFlow code, such as "tf.nn".
        home: its own name.
    """

    def __getattr__(name: str) -> Any:
        # `from None`: an import that only asks whether the name is there must not show a chain.
        raise AttributeError(
            f"tf_compat holds TensorFlow's losses; it has no {module}.{name}{_way_out(name, home)}",
            name=name,
        ) from None

    sys.modules[home].__class__ = _PublicModule
    return __getattr__


def public_names(home: str) -> Callable[[], list[str]]:
    """A module's `__dir__`: what it is meant to be used for."""

    def __dir__() -> list[str]:
        return list(_names(home))

    return __dir__


def _way_out(name: str, home: str) -> str:
    """The rest of the message: nothing, or a sentence of its own."""
    if name.startswith("_"):
        return ""
    package = __package__ or ""
    older = home.replace(package, f"{package}.compat.v1", 1)
    if home != older and name in _names(older):
        return f"; it is in {older}"
    if name in _WAYS_OUT and home in (package, f"{package}.compat.v1"):
        return f"; {_WAYS_OUT[name]}"
    # Two letters off in ten: what is further away is another function, not a slip.
    near = get_close_matches(name, dir(sys.modules[home]), n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


def _names(home: str) -> list[str]:
    module = sys.modules.get(home)
    return list(getattr(module, "__all__", ()))
