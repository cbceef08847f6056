"""Functions by their dotted name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from app.errors import Invalid


def resolve(name: str) -> Callable[..., Any]:
    """What `package.module:function` names.

    Raises:
        Invalid: the module can't be imported or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise Invalid(f"{name!r} is not of the form package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise Invalid(f"{name!r} can't be imported: {error}") from error
    except Exception as error:
        # It runs as it is imported, so it may fail in any way.
        raise Invalid(f"{name!r} can't be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, function_name, None)
    if found is None:
        raise Invalid(f"{name!r}: the module {module_name} has no {function_name!r}")
    if not callable(found):
        raise Invalid(f"{name!r} is not a function")
    return found  # type: ignore[no-any-return]
