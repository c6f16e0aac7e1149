"""`tf.distribute`: a strategy that carries its replica count into the losses."""

from crossent.tf_compat._absent import absent
from crossent.tf_compat._distribute import MirroredStrategy

__all__ = ["MirroredStrategy"]

__getattr__ = absent("tf.distribute")
