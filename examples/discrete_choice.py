"""How travellers trade time for money: a probit and a logit of their choices.

    python examples/discrete_choice.py

A planted model chooses between car, bus and train; some have no car. Both fits should find what
a minute costs, about 0.20; the coefficients themselves are in units of their noise.
"""

import numpy as np

from logitkit.distributions import Gumbel, Normal, fit
from logitkit.random import Philox

TRAVELLERS = 4000
MODES = ("car", "bus", "train")
COST, TIME, CONSTANTS = -0.5, -0.1, np.array([0.0, -0.3, 0.2])

rng = Philox(2024)
minutes = np.array([25.0, 40.0, 35.0]) * np.exp(0.4 * rng.normal(TRAVELLERS, 3))
money = np.array([6.0, 2.5, 4.0]) * np.exp(0.3 * rng.at(1).normal(TRAVELLERS, 3))
available = np.ones((TRAVELLERS, 3), bool)
available[:, 0] = rng.at(2).uniform(TRAVELLERS) < 0.8

utility = COST * money + TIME * minutes + CONSTANTS + rng.at(3).normal(TRAVELLERS, 3)
choice = np.where(available, utility, -np.inf).argmax(axis=1)
design = np.stack([money, minutes], axis=-1)

for noise in (Normal(), Gumbel()):
    result = fit(
        design,
        choice,
        noise=noise,
        columns=["cost", "time"],
        available=available,
        constants=True,
    )
    cost, time = result.coefficients[2:]
    print(f"\n{result}\na minute costs {time / cost:.3f}, planted: {TIME / COST:.3f}")

    dearer = design.copy()
    dearer[:, 0, 0] *= 1.5
    before = result.predict_proba(design, available=available).mean(axis=0)
    after = result.predict_proba(dearer, available=available).mean(axis=0)
    for mode, p, q in zip(MODES, before, after, strict=True):
        print(f"  {mode:6} {p:6.1%} of trips, {q:6.1%} if driving costs half as much again")
