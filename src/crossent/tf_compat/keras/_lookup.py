"""`get`, `serialize` and `deserialize` of `keras.losses`, over one generation's losses."""

from collections.abc import Mapping
from typing import Any

from crossent.errors import OptionError

Losses = Mapping[str, Any]  # a class or a function


def by_name(*losses_of_a_generation: Any) -> Losses:
    """Loss classes and loss functions under every name that Keras knows them by."""
    losses: dict[str, Any] = {loss.__name__: loss for loss in losses_of_a_generation}
    aliases = {
        "mse": "mean_squared_error",
        "kld": "kl_divergence",
        "bce": "binary_crossentropy",
    }
    for alias, name in aliases.items():
        losses |= dict.fromkeys((alias, alias.upper()), losses[name])
    return losses | {"kullback_leibler_divergence": losses["kl_divergence"]}


def find(identifier: Any, losses: Losses) -> Any:
    """The loss of a name (for a class's an instance), a description or a loss; None for None."""
    if identifier is None or callable(identifier):
        return identifier
    name: Any = identifier
    config: Any = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
        if name == "function":
            name, config = config, {}
    if not isinstance(name, str) or name not in losses:
        raise OptionError(
            f"identifier must name a loss; got {identifier!r}. "
            f"Here are {', '.join(sorted(losses))}."
        )
    loss = losses[name]
    return loss.from_config(config) if hasattr(loss, "from_config") else loss


def description(loss: Any) -> dict[str, Any]:
    """What `find` makes the loss from again; Keras can read it too."""
    if isinstance(loss, type) or not hasattr(loss, "get_config"):
        name = getattr(loss, "__name__", repr(loss))
        return {
            "module": "builtins",
            "class_name": "function",
            "config": name,
            "registered_name": "function",
        }
    return {
        "module": "keras.losses",
        "class_name": type(loss).__name__,
        "config": loss.get_config(),
        "registered_name": None,
    }
