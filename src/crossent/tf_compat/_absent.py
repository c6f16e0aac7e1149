"""The error for TensorFlow's names that are not here."""

from collections.abc import Callable
from typing import Any


def absent(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`; `module` is its name in TensorFlow code, such as "tf.nn"."""

    def __getattr__(name: str) -> Any:
        # `from None`: an import that only asks whether the name is there must not show a chain.
        raise AttributeError(
            f"tf_compat holds TensorFlow's losses; it has no {module}.{name}", name=name
        ) from None

    return __getattr__
