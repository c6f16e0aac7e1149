"""`tf.distribute`: a strategy that carries its replica count into the losses."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._distribute import MirroredStrategy

__all__ = ["MirroredStrategy"]

__getattr__ = absent("tf.distribute", __name__)
__dir__ = public_names(__name__)
