"""Cross-entropy losses: one definition of each, with the mistakes caught.

    >>> import numpy as np, crossent as xe
    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], np.float32)
    >>> float(xe.softmax_cross_entropy(labels=[0, 1], logits=logits).round(6))
    0.13238400220870972

You name what you pass: `labels=` beside exactly one of `logits=`, `probs=` and `log_probs=`.
    `xe.recommend` finds the loss for a task, `xe.review` the mistakes in labels and scores,
    `xe.audit` scores a file; `crossent.tf_compat` has TensorFlow's own names.
"""

from typing import TYPE_CHECKING, Any

from crossent import numpy as numpy  # xe.numpy, but not in __all__: `import *` would hide NumPy
from crossent._arrays import kernel_for
from crossent.errors import (
    ArgumentError,
    CrossentError,
    DTypeError,
    FileError,
    LabelError,
    MissingLibraryError,
    OptionError,
    ScoreError,
    ShapeError,
)
from crossent.information import (
    cross_entropy,
    entropy,
    kl_divergence,
    log_sigmoid,
    log_softmax,
    log_sum_exp,
    logit,
    odds,
    sigmoid,
    softmax,
    softplus,
)
from crossent.losses import (
    binary_focal_loss,
    focal_loss,
    generalized_cross_entropy,
    label_weight,
    mean_squared_error,
    poly_loss,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

if TYPE_CHECKING:
    from crossent import tf_compat
    from crossent.advice import recommend, review
    from crossent.auditing import audit

__all__ = [
    "ArgumentError",
    "CrossentError",
    "DTypeError",
    "FileError",
    "LabelError",
    "MissingLibraryError",
    "OptionError",
    "ScoreError",
    "ShapeError",
    "audit",
    "binary_focal_loss",
    "cross_entropy",
    "entropy",
    "focal_loss",
    "generalized_cross_entropy",
    "kernel_for",
    "kl_divergence",
    "label_weight",
    "log_sigmoid",
    "log_softmax",
    "log_sum_exp",
    "logit",
    "mean_squared_error",
    "odds",
    "poly_loss",
    "recommend",
    "review",
    "sigmoid",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "tf_compat",
]


def __getattr__(name: str) -> Any:
    # Resolved at first use: `import crossent` costs little more than NumPy.
    if name in ("recommend", "review"):
        from crossent import advice

        return getattr(advice, name)
    if name == "audit":
        from crossent.auditing import audit

        return audit
    if name == "tf_compat":
        # Not `from crossent import tf_compat`: that would ask this function again.
        import crossent.tf_compat

        return crossent.tf_compat
    if name == "torch":
        import crossent.torch

        return crossent.torch
    if name == "jax":
        import crossent.jax

        return crossent.jax
    if name == "tensorflow":
        import crossent.tensorflow

        return crossent.tensorflow
    if name == "keras":
        import crossent.keras

        return crossent.keras
    if name == "__version__":
        from importlib.metadata import version

        return version("crossent")
    raise AttributeError(f"module 'crossent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
