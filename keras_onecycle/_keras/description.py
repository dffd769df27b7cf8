"""What a model and its `compile` are made of, as text that is the same for equal models."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras


def describe(model: keras.Model) -> dict[str, str]:
    """Returns digests of the configurations of a model and of what it was compiled with.

    Equal models have equal ones, in every process: names that Keras counts up (`dense_3`) are left out.
    A part without `get_config`, and what a function does, cannot be told.
    """
    variables = [(list(v.shape), str(v.dtype), v.trainable) for v in model.variables]
    # The configuration of a subclass may say nothing of its layers.
    parts = [_named(part, _known(part.get_config)) for part in (model, *model.layers)]
    compiled = _known(model.get_compile_config) or _known(model.optimizer.get_config)
    return {
        "model": _digest(parts, variables),
        "compile": _digest(_named(model.optimizer, compiled)),
    }


def _named(part: Any, config: Any) -> dict[str, Any]:
    return {"class_name": type(part).__name__, "config": config}


def _known(get_config: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_config()
    except Exception:  # Whatever a class without a configuration of its own raises.
        return None


def _digest(*parts: Any) -> str:
    names: dict[str, str] = {}
    _collect_counted(parts, names)
    text = json.dumps(_renamed(parts, names), sort_keys=True, default=lambda o: type(o).__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _collect_counted(node: Any, names: dict[str, str]) -> None:
    """Gives each name that Keras has made of a class and a counter another, by order."""
    if isinstance(node, dict):
        config, kind = node.get("config"), str(node.get("class_name")).rpartition(">")[2]
        name = config.get("name") if isinstance(config, dict) else None
        if isinstance(name, str):
            of_class = re.sub(r"_\d+$", "", name).replace("_", "")
            if of_class == kind.replace("_", "").lower():
                names.setdefault(name, f"{kind} {len(names)}")
    for child in _children(node):
        _collect_counted(child, names)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, (list, tuple)) else []


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        # The address of an object that several layers share.
        return {str(k): _renamed(v, names) for k, v in node.items() if k != "shared_object_id"}
    if isinstance(node, (list, tuple)):
        return [_renamed(child, names) for child in node]
    return names.get(node, node) if isinstance(node, str) else node
