"""Data of which everything that a network would learn is known in closed form."""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import logsumexp


@dataclass(frozen=True)
class Mixture:
    """Independent coordinates, each from a mixture of normal distributions."""

    weights: tuple = (0.3, 0.7)
    means: tuple = (-1.0, 2.0)
    stds: tuple = (0.5, 0.3)

    def _posterior(self, x, alpha, sigma):
        """Return log p(component, x_t), the mean and the variance of x_0 given both."""
        w, m, s = (np.array(v)[:, None] for v in (self.weights, self.means, self.stds))
        alpha, sigma = (np.broadcast_to(v, np.shape(x)).ravel() for v in (alpha, sigma))
        flat = np.ravel(x)
        variance = alpha**2 * s**2 + sigma**2
        log_joint = (
            np.log(w)
            - 0.5 * np.log(2 * np.pi * variance)
            - (flat - alpha * m) ** 2 / (2 * variance)
        )
        gain = alpha * s**2 / variance
        return log_joint, m + gain * (flat - alpha * m), s**2 * sigma**2 / variance

    def x0(self, x, alpha, sigma):
        """Return E[x_0 | x_t]."""
        log_joint, mean, _ = self._posterior(x, alpha, sigma)
        share = np.exp(log_joint - logsumexp(log_joint, axis=0))
        return np.sum(share * mean, axis=0).reshape(np.shape(x))

    def draw_x0(self, x, alpha, sigma, rng):
        """Draw from p(x_0 | x_t)."""
        log_joint, mean, variance = self._posterior(x, alpha, sigma)
        share = np.exp(log_joint - logsumexp(log_joint, axis=0))
        pick = (rng.random(share.shape[1]) > np.cumsum(share, axis=0)).sum(axis=0)
        at = np.arange(share.shape[1])
        drawn = mean[pick, at] + np.sqrt(variance[pick, at]) * rng.standard_normal(len(at))
        return drawn.reshape(np.shape(x))

    def draw(self, shape, rng):
        """Draw data."""
        pick = rng.choice(len(self.weights), size=shape, p=self.weights)
        return np.array(self.means)[pick] + np.array(self.stds)[pick] * rng.standard_normal(shape)

    def network(self, process, kind="x0"):
        """Return what a network that has learnt these data predicts."""
        schedule = process.schedule

        def predict(x, t):
            t = np.reshape(t, (-1,) + (1,) * (np.ndim(x) - 1)) if np.ndim(t) else t
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            x0 = self.x0(x, alpha, sigma)
            if kind == "x0":
                return x0
            eps = (x - alpha * x0) / sigma
            d_alpha, d_sigma = schedule.rates(t)
            return {
                "eps": eps,
                "v": alpha * eps - sigma * x0,
                "score": -eps / sigma,
                "flow": d_alpha * x0 + d_sigma * eps,
            }[kind]

        return predict

    def flow(self, x, schedule, t, s):
        """Carry samples along the probability flow, as exactly as float64 allows."""

        def slope(log_snr, scaled):  # d(x / alpha) / dr = eps, with r = sigma / alpha = e^-l
            ratio = np.exp(-log_snr)
            # x_t / alpha is the mixture with noise r: the same posterior as of x_t
            eps = (scaled - self.x0(scaled, 1.0, ratio)) / ratio
            return -ratio * eps

        span = (schedule.log_snr(t), schedule.log_snr(s))
        start = np.ravel(x) / schedule.alpha(t)
        solution = solve_ivp(slope, span, start, method="DOP853", rtol=1e-12, atol=1e-13)
        return (solution.y[:, -1] * schedule.alpha(s)).reshape(np.shape(x))


def measured_order(errors):
    """
    Return the slope of log error over the finest two halvings of the step.

    The errors are those of runs with the steps doubled each time, cut off where rounding
    takes over.
    """
    errors = np.asarray(errors)
    kept = errors[: np.argmax(errors < 3e-12)] if (errors < 3e-12).any() else errors
    assert len(kept) >= 3, errors
    return float(np.log2(kept[-3] / kept[-1]) / 2)
