"""The temperature at which a softmax has a given entropy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._backend import bridge_for
from ._entropy_solver import Array, Landscape, solve
from ._lines import one_axis, result_type
from ._real_array import epsilon, real_array

_BLOCK = 2**18  # elements that are solved for at a time: 2 MiB, and a few times that in all


class EntropyTemperatureVJP(NamedTuple):
    """
    Gradients with respect to the arguments of `entropy_temperature`.

    Parameters
    ----------
    x : ndarray
        Gradient at `x`, in its shape.
    target_entropy : ndarray or scalar
        Gradient at the target of each row, in the shape of the temperatures.
    """

    x: Any
    target_entropy: Any


def entropy_temperature(x: Any, target_entropy: Any, axis: int = -1) -> Any:
    r"""
    Temperature at which a softmax has a given entropy.

    .. math:: \tau > 0: \quad H(\operatorname{softmax}(x / \tau)) = H^*

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Logits: real numbers of at most 64 bits; -inf masks an entry, which does not count
        in `n`.
    target_entropy : array_like, shape of `x` without `axis`, or a number
        The entropy :math:`H^*` that each row shall have, in nats: between ``log(k)`` and
        ``log(n)``, where `k` entries share the row's maximum.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    ndarray or scalar, shape of `x` without `axis`
        Temperatures, in units of `x` and in its floating-point type, or in ``float64`` if it
        has none: divide by them. Before rounding to that type, the entropy misses its target by
        at most ``2^-48 * (1 + log(n))``. ``inf`` for ``log(n)`` and 0 for ``log(k)``, which are
        reached in the limit, and recognised up to 4 units in the last place of
        `target_entropy`; 1 where all visible entries are equal, as any temperature serves.
        ``nan`` for a row with NaN or +inf and for the target NaN.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits.
    ValueError
        If a target cannot be reached, or does not fit the rows.

    See Also
    --------
    logitkit.entropy_temperature_vjp : Its derivative.

    Notes
    -----
    The entropy rises strictly with the temperature. Newton's method runs on
    ``log((log(n) - H) / (H - log(k)))``, which is nearly straight in ``log(1 / tau)`` for high
    and in ``1 / tau`` for low temperatures, between bounds that every step tightens; steps that
    leave them are replaced by bisection. All rows are iterated at once, in ``float64``, each
    until it is done, so that results do not depend on the batch. Where the second largest entry
    is below the largest by less than 1e-290, or 1e-290 of the spread, digits are lost.

    References
    ----------
    .. [1] J. Su, on the normalisation of entropies (in Chinese), kexue.fm/archives/8829, 2021.

    Examples
    --------
    >>> from logitkit import entropy_temperature
    >>> x = [4.0, 1.0, 0.0, 0.0]
    >>> [round(float(entropy_temperature(x, target)), 4) for target in (0.1, 1.0, 1.3)]
    [0.6761, 2.0348, 4.3024]
    """
    if (bridge := bridge_for(x)) is not None:
        return bridge.entropy_temperature(x, target_entropy, axis)
    rows, dtype = _read(x, axis)
    target, accuracy = _read_targets(target_entropy, rows.shape[:-1])
    flat, goals, n = rows.reshape(target.size, rows.shape[-1]), target.ravel(), rows.shape[-1]
    temperature = np.empty(goals.shape)
    size = max(1, _BLOCK // max(1, n))
    with np.errstate(all="ignore"):  # of infinities, which have a meaning in the search
        for start in range(0, len(flat), size):
            block = slice(start, start + size)
            landscape = Landscape.of(flat[block])
            wrong = landscape.unreachable(goals[block], accuracy)
            if wrong.any():
                row = int(np.argmax(wrong))
                index = np.unravel_index(start + row, target.shape) if target.shape else ()
                raise ValueError(_unreachable(landscape, row, goals[start + row], index))
            temperature[block] = solve(landscape, goals[block], accuracy).temperature
        return temperature.reshape(target.shape).astype(dtype)[()]


def entropy_temperature_vjp(x: Any, temperature: Any, g: Any, axis: int = -1) -> Any:
    r"""
    Vector-Jacobian product of `entropy_temperature`.

    .. math::

        \frac{\partial \tau}{\partial x_j} = \frac{p_j (z_j - \bar z)}{v}, \quad
        \frac{\partial \tau}{\partial H^*} = \frac{\tau}{v}, \quad
        z = x / \tau, \; p = \operatorname{softmax}(z), \;
        \bar z = \sum_j p_j z_j, \; v = \sum_j p_j (z_j - \bar z)^2

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Logits, as given to `entropy_temperature`.
    temperature : array_like, shape of `x` without `axis`
        What it returned, `tau`.
    g : array_like, shape of `temperature`
        Gradient of a scalar with respect to the temperatures.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    EntropyTemperatureVJP
        Gradients of that scalar with respect to `x`, in its shape, and to the target entropies,
        in the shape of `temperature`; both in the floating-point type of `x`, or in ``float64``
        if it has none. Zero for masked entries; zero altogether for a row whose entries are all
        equal and in the limits 0 and ``inf``, where the entropy does not fix the temperature.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits.
    ValueError
        If `temperature` or `g` does not fit the rows of `x`.

    See Also
    --------
    logitkit.entropy_temperature : The function itself.

    Notes
    -----
    By the implicit function theorem: with logits `z`, the derivative of the entropy is
    ``-p (z - mean)`` with respect to `z` and ``v / tau`` with respect to the temperature.
    Gradients at the target grow without bound near both limits.

    Examples
    --------
    >>> from logitkit import entropy_temperature, entropy_temperature_vjp
    >>> x = [4.0, 1.0, 0.0, 0.0]
    >>> gradient = entropy_temperature_vjp(x, entropy_temperature(x, 1.0), 1.0)
    >>> gradient.x.round(4), round(float(gradient.target_entropy), 4)
    (array([ 0.5567, -0.1918, -0.1824, -0.1824]), 2.9042)
    """
    rows, dtype = _read(x, axis)
    shape = rows.shape[:-1]
    tau, cotangent = _fitting("temperature", temperature, shape), _fitting("g", g, shape)
    with np.errstate(all="ignore"):
        fixed = (tau > 0.0) & (tau < np.inf)
        p, centred = _centred_logits(rows, np.where(fixed, tau, 1.0))
        variance = np.sum(p * centred * centred, axis=-1)
        factor = np.where(fixed & (variance > 0.0), cotangent / variance, 0.0)
        factor = np.where(np.isnan(tau), np.nan, factor)
        at_x = np.moveaxis(p * centred * factor[..., None], -1, axis)
        at_target = np.where(fixed, tau, 0.0) * factor
        return EntropyTemperatureVJP(at_x.astype(dtype), at_target.astype(dtype)[()])


def _centred_logits(rows: Array, tau: Array) -> tuple[Array, Array]:
    """Return softmax(x / tau), and x / tau less its mean under it: 0 where nothing is left."""
    peak = np.max(rows, axis=-1, keepdims=True, initial=-np.inf)
    z = (rows - np.where(peak == -np.inf, 0.0, peak)) / tau[..., None]
    p = np.exp(z)
    p /= np.maximum(np.sum(p, axis=-1, keepdims=True), 1.0)  # the sum is 1 at least, or 0
    z = np.where(p > 0.0, z, 0.0)
    return p, np.where(p > 0.0, z - np.sum(p * z, axis=-1, keepdims=True), 0.0)


def _read(x: Any, axis: int) -> tuple[Array, np.dtype[Any]]:
    """Return `x` in float64 with `axis` last, and the type that results get."""
    x = real_array("x", x)
    rows = np.ascontiguousarray(np.moveaxis(x, one_axis(axis, x.ndim), -1), np.float64)
    return rows, result_type(x)


def _read_targets(target_entropy: Any, shape: tuple[int, ...]) -> tuple[Array, float]:
    """Return a target for each row, and the epsilon of the type that they were given in."""
    target = real_array("target_entropy", target_entropy)
    try:
        return np.broadcast_to(target.astype(np.float64), shape), epsilon(target.dtype)
    except ValueError as error:
        raise ValueError(
            f"cannot broadcast target_entropy of shape {target.shape} to the rows of x, {shape}"
        ) from error


def _fitting(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return a number for each row."""
    array: Array = real_array(name, value).astype(np.float64)
    if array.shape != shape:
        raise ValueError(f"expected {name} of shape {shape}, one for each row, not {array.shape}")
    return array


def _unreachable(landscape: Landscape, row: int, target: float, index: tuple[Any, ...]) -> str:
    """Say which target no temperature reaches, and what can be reached instead."""
    ties, count = int(landscape.ties[row]), int(landscape.visible[row])
    where = f"row {', '.join(str(int(i)) for i in index)} of x" if index else "x"
    if landscape.below.shape[-1] == 0:
        return f"no temperature gives {where} the entropy {target}: it has no entries, and only 0"
    return (
        f"no temperature gives {where} the entropy {target}: {count} of its entries are visible "
        f"and {ties} share the maximum, so that it lies between log({ties}) = {np.log(ties):.6g} "
        f"and log({count}) = {np.log(count):.6g}"
    )
