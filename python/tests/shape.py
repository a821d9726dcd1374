"""Compares values with the types that are promised for them."""

from __future__ import annotations

from typing import Any, Union, get_args, get_origin, get_type_hints


def fits(value: Any, kind: Any) -> bool:
    """Tells whether a value has a type, down to its innermost parts."""
    if kind is Any:
        return True
    if get_origin(kind) is Union:
        return any(fits(value, choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(item, get_args(kind)[0]) for item in value)
    if get_origin(kind) is dict:
        _, values = get_args(kind)
        return isinstance(value, dict) and all(fits(item, values) for item in value.values())
    if hasattr(kind, "__required_keys__"):
        return isinstance(value, dict) and fits_keys(value, kind)
    # `True` is an `int` for Python, not for us.
    return type(value) is kind


def fits_keys(value: dict[str, Any], kind: Any) -> bool:
    """Tells whether a dictionary has the keys of its type, and no others."""
    hints = get_type_hints(kind)
    return kind.__required_keys__ <= value.keys() <= hints.keys() and all(
        fits(item, hints[name]) for name, item in value.items()
    )
