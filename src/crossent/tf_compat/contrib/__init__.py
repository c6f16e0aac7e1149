"""`tf.contrib`, of which the losses are here."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.contrib import losses

__all__ = ["losses"]

__getattr__ = absent("tf.contrib", __name__)
__dir__ = public_names(__name__)
