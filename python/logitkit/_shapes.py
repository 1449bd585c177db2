"""Which shapes of arguments fit."""

from __future__ import annotations


def check_broadcast(name: str, shape: tuple[int, ...], full: tuple[int, ...]) -> None:
    """Raise an error, which names both, if an array of this shape does not broadcast to `full`."""
    pairs = zip(reversed(shape), reversed(full), strict=False)
    if len(shape) > len(full) or any(n not in (1, whole) for n, whole in pairs):
        raise ValueError(f"expected {name} that broadcasts to {full}, not of shape {shape}")
