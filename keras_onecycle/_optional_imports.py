"""Libraries that only some need, imported where they are used."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Imports a module, or says which extra of the package brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{module.partition('.')[0]}` is needed for this and not installed. In your clone of "
            f"keras_onecycle: pip install '.[{extra}]'"
        ) from error
