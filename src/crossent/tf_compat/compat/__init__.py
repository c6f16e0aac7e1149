"""`tf.compat`: TensorFlow 1 is in `v1`."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.compat import v1

__all__ = ["v1"]

__getattr__ = absent("tf.compat", __name__)
__dir__ = public_names(__name__)
