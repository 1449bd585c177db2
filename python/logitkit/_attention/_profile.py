"""How the entropy of attention grows with the number of keys, and the scale that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._backend import as_array, bridge_for
from .._real_array import real_array, whole_number
from ..reference._attention_scale import AttentionScale
from ._forward import attention_with_stats
from ._layout import check_shapes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EntropyProfile:
    """
    Entropy of attention against the number of keys that a row sees.

    Parameters
    ----------
    lengths : ndarray, shape (k,)
        Numbers of visible keys, ascending: the geometric mean of each group of rows.
    entropy : ndarray, shape (heads, k)
        Mean entropy of the rows of each group, in nats.
    slope : ndarray, shape (heads,)
        Of the entropy against the logarithm of the length, by least squares over the rows. 0 is
        invariant; 1 is attention that spreads over all there is.

    See Also
    --------
    logitkit.attention_entropy_profile : Makes one.
    """

    lengths: Array
    entropy: Array
    slope: Array

    @property
    def effective_count(self) -> Array:
        """
        Number of keys over which uniform attention would have the same entropy.

        Returns
        -------
        ndarray, shape (heads, k)
            The exponential of the entropy.
        """
        return np.exp(self.entropy)

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """
        Draw the mean over heads against the length, on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: the current axes.
        **style
            Passed to ``Axes.plot``, such as `label`.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        """
        if ax is None:
            try:
                from matplotlib import pyplot
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    "plots need matplotlib: pip install 'logitkit[plot]'"
                ) from error
            ax = pyplot.gca()
        ax.plot(self.lengths, self.entropy.mean(axis=0), **style)
        ax.set_xscale("log", base=2)
        ax.set_xlabel("visible keys")
        ax.set_ylabel("entropy (nats)")
        return ax


def attention_entropy_profile(
    query: Any,
    key: Any,
    /,
    *,
    scale: float | ArrayLike | AttentionScale | None = None,
    is_causal: bool = True,
    least: int = 16,
    groups_per_octave: int = 1,
    **options: Any,
) -> EntropyProfile:
    r"""
    Entropy of attention against the number of visible keys, for each head.

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries.
    key : array_like, shape (..., key_heads, keys, head_dim)
        Keys.
    scale : float, array_like or AttentionScale, optional
        As for :func:`logitkit.attention`.
    is_causal : bool
        Whether each query sees the keys up to its position only, which gives one length for
        each. Without it lengths have to come from masks or `key_lengths`.
    least : int
        Rows that see fewer keys are left out.
    groups_per_octave : int
        Rows are grouped by length, so many groups for each factor of 2.
    **options
        Passed to :func:`logitkit.attention_with_stats`.

    Returns
    -------
    EntropyProfile
        Lengths, entropy of each head and length, and slopes.

    Raises
    ------
    ValueError
        If fewer than two groups of lengths are left, as a slope needs two.

    See Also
    --------
    logitkit.estimate_kappa : The scale that makes it flat.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import LogBase, attention_entropy_profile
    >>> query, key = np.random.default_rng(0).normal(size=(2, 2, 4096, 64)).astype(np.float32)
    >>> plain = attention_entropy_profile(query, key)
    >>> scaled = attention_entropy_profile(query, key, scale=LogBase(512))
    >>> bool(np.all(scaled.slope < plain.slope))
    True
    """
    if (bridge := bridge_for(key)) is not None:
        profile: EntropyProfile = bridge.attention_entropy_profile(
            query,
            key,
            scale=scale,
            is_causal=is_causal,
            least=least,
            groups_per_octave=groups_per_octave,
            **options,
        )
        return profile
    key = as_array(key)
    nothing = np.zeros((*key.shape[:-1], 1), key.dtype)
    result = attention_with_stats(query, key, nothing, scale=scale, is_causal=is_causal, **options)
    return profile_of(result.entropy.astype(np.float64), result.n_visible, least, groups_per_octave)


def profile_of(
    entropy: Array, n_visible: NDArray[np.int64], least: int, groups_per_octave: int
) -> EntropyProfile:
    """Group rows (..., heads, length) by the keys that they see."""
    if least < 1 or groups_per_octave < 1:
        raise ValueError(
            f"expected least and groups_per_octave of at least 1, not {least} and "
            f"{groups_per_octave}"
        )
    heads = entropy.shape[-2] if entropy.ndim > 1 else 1
    rows = entropy.reshape(-1, heads, entropy.shape[-1])
    n = n_visible.reshape(rows.shape)
    # A power of 2 ends its group: the last row of a causal sequence is often one.
    group = np.ceil(np.log2(np.maximum(n, 1)) * groups_per_octave - 1e-9).astype(np.int64)
    group = np.where(n >= least, group, -1)
    names = [g for g in np.unique(group) if g >= 0]
    if len(names) < 2:
        raise ValueError(
            f"expected rows that see at least two different lengths from {least} keys on, not "
            f"{len(names)}"
        )
    lengths, mean = np.empty(len(names)), np.empty((heads, len(names)))
    for k, g in enumerate(names):
        there = group == g
        lengths[k] = np.exp(np.mean(np.log(n[there])))
        for h in range(heads):
            mean[h, k] = np.mean(rows[:, h][there[:, h]])
    slope = np.empty(heads)
    for h in range(heads):
        counted = n[:, h] >= least
        log_n = np.log(n[:, h][counted])
        x = log_n - np.mean(log_n)
        slope[h] = rows[:, h][counted] @ x / np.sum(x * x)
    return EntropyProfile(lengths, mean, slope)


@dataclass(frozen=True)
class KappaEstimate:
    r"""
    What :func:`logitkit.estimate_kappa` found.

    Parameters
    ----------
    kappa : ndarray, shape (heads,)
        For :class:`logitkit.EntropyInvariant`: least squares of :math:`\lambda_n` by
        :math:`\kappa \log n / d`.
    entropy : ndarray, shape (heads,)
        The entropy that is held, in nats.
    lengths : ndarray of int, shape (k,)
        Numbers of keys at which the scale was solved for.
    scale : ndarray, shape (heads, k)
        The scale at which the mean entropy of the sampled rows is `entropy`.
    misfit : dict of str to ndarray, shape (heads,)
        Relative root mean square misfit of the laws ``"log n"``, ``"sqrt(log n)"`` and ``"n"``
        through the origin. Where ``"log n"`` is not the least, another schedule suits the data
        better.
    """

    kappa: Array
    entropy: Array
    lengths: NDArray[np.int64]
    scale: Array
    misfit: dict[str, Array]


def estimate_kappa(
    query: Any,
    key: Any,
    /,
    *,
    entropy: float | ArrayLike | None = None,
    lengths: Sequence[int] | None = None,
    rows: int = 64,
) -> KappaEstimate:
    r"""
    Factor of the entropy-invariant scale that suits queries and keys.

    For several numbers of keys `n`, taken from the front, the scale :math:`\lambda_n` is found
    at which the mean entropy of the attention of some rows has one value, by bisection, as
    entropy falls with the scale; then :math:`\kappa` by least squares through the origin of
    :math:`\lambda_n = \kappa \log n / d`.

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries; evenly spaced rows are sampled.
    key : array_like, shape (..., key_heads, keys, head_dim)
        Keys, at least 64.
    entropy : float or array_like of shape (heads,), optional
        The entropy to hold, in nats, below the logarithm of the least length. Default: that of
        the scale ``1 / sqrt(head_dim)`` at the least length.
    lengths : sequence of int, optional
        Numbers of keys, at least two. Default: powers of 2 from 64 on, and all.
    rows : int
        How many rows to sample.

    Returns
    -------
    KappaEstimate
        `kappa` for each head, what it was made of, and how well other laws fit.

    Raises
    ------
    ValueError
        If `lengths` are not from 2 to the number of keys, or no scale has that entropy.

    See Also
    --------
    logitkit.EntropyInvariant : Takes `kappa`.
    logitkit.attention_entropy_profile : Shows what came of it.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import estimate_kappa
    >>> query, key = np.random.default_rng(0).normal(size=(2, 1, 2048, 64))
    >>> estimate_kappa(query, key, entropy=3.0).kappa.shape
    (1,)
    """
    if (bridge := bridge_for(query)) is not None:
        found_by_bridge: KappaEstimate = bridge.estimate_kappa(
            query, key, entropy=entropy, lengths=lengths, rows=rows
        )
        return found_by_bridge
    query, key = (
        np.asarray(real_array(n, x), np.float64) for n, x in (("query", query), ("key", key))
    )
    sample, sizes = sampled(query.shape, key.shape, lengths, rows)
    heads, keys, dim = query.shape[-3], key.shape[-2], key.shape[-1]
    scores = query[..., sample, :] @ key.repeat(heads // key.shape[-3], axis=-3).swapaxes(-1, -2)
    scores = scores.reshape(-1, heads, len(sample), keys)
    return estimate_of(lambda n, z: _mean_entropy(scores[..., :n], z), sizes, heads, dim, entropy)


def sampled(
    query: tuple[int, ...], key: tuple[int, ...], lengths: Sequence[int] | None, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to sample and the lengths to solve for, of arrays of these shapes."""
    if len(query) < 3 or len(key) < 3:
        raise ValueError(
            f"expected query and key of shape (..., heads, length, head_dim), not {query} and {key}"
        )
    check_shapes(query, key, key, packed=False, paged=False)
    if whole_number("rows", rows) < 1:
        raise ValueError(f"expected rows >= 1, not {rows}")
    keys = key[-2]
    if lengths is None:
        lengths = [n for n in (2**k for k in range(6, 40)) if n < keys] + [keys]
    sizes = np.unique(np.asarray(lengths))
    if sizes.dtype.kind not in "iu" or len(sizes) < 2 or sizes[0] < 2 or sizes[-1] > keys:
        raise ValueError(f"expected at least two lengths from 2 to {keys}, not {list(lengths)}")
    return np.unique(np.linspace(0, query[-2] - 1, min(rows, query[-2])).astype(np.int64)), sizes


# The mean entropy of each head, with the first n keys and a scale for each head.
MeanEntropy = Callable[[int, Array], Array]


def estimate_of(
    mean_entropy: MeanEntropy,
    sizes: NDArray[np.int64],
    heads: int,
    dim: int,
    entropy: float | ArrayLike | None,
) -> KappaEstimate:
    """Return the estimate, given how entropy depends on the scale."""
    if entropy is None:
        target = mean_entropy(int(sizes[0]), np.full(heads, dim**-0.5))
    else:
        target = np.broadcast_to(np.asarray(entropy, np.float64), (heads,))
    found = np.stack([_scale_of_entropy(mean_entropy, int(n), target) for n in sizes], axis=1)
    log_n = np.log(sizes)
    laws = {"log n": log_n, "sqrt(log n)": np.sqrt(log_n), "n": sizes.astype(np.float64)}
    misfit = {name: _misfit(found, law) for name, law in laws.items()}
    kappa = dim * (found @ log_n) / np.sum(log_n**2)
    return KappaEstimate(kappa, np.array(target), sizes, found, misfit)


def _mean_entropy(scores: Array, scale: Array) -> Array:
    """Mean entropy of softmax(scale * scores) of each head."""
    z = scale[:, None, None] * scores
    z = z - z.max(axis=-1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=-1)
    rows: Array = np.log(total) - np.sum(p * z, axis=-1) / total
    mean: Array = np.mean(rows, axis=(0, 2))
    return mean


def _scale_of_entropy(mean_entropy: MeanEntropy, n: int, target: Array) -> Array:
    if not np.all((target > 0) & (target < np.log(n))):
        raise ValueError(
            f"expected entropy between 0 and log {n} = {np.log(n):.3f}, not {target.tolist()}"
        )
    low, high = np.zeros(len(target)), np.full(len(target), 1.0)
    for _ in range(60):
        too_flat = mean_entropy(n, high) > target
        if not too_flat.any():
            break
        low, high = np.where(too_flat, high, low), np.where(too_flat, 2 * high, high)
    else:
        raise ValueError("expected scores that differ: no scale makes equal ones less uniform")
    for _ in range(60):
        middle = (low + high) / 2
        too_flat = mean_entropy(n, middle) > target
        low, high = np.where(too_flat, middle, low), np.where(too_flat, high, middle)
    return np.asarray((low + high) / 2)


def _misfit(found: Array, law: Array) -> Array:
    fit = (found @ law / np.sum(law**2))[:, None] * law
    relative: Array = np.sqrt(np.mean((found / fit - 1) ** 2, axis=1))
    return relative
