"""Functions of the probability of the true class, each with its derivative, as losses of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._real_array import real_number
from ..reference.losses._classes import (
    accuracy_phi,
    beta_bernoulli_phi,
    focal_phi,
    generalized_phi,
    logarithm_phi,
    poly_phi,
)
from ._class_kernel import Information, class_loss
from ._class_rows import class_numbers, class_rows
from ._terms import RowTerms


def _focal(told: Information, gamma: float) -> tuple[Any, Any]:
    power = told.wrong**gamma
    # p * -log(p) is 0 where p is, and so is wrong**(gamma - 1) * -log(p) where p is 1.
    both = np.where(told.p > 0.0, told.p * told.nats, 0.0)
    steep = np.where(told.wrong > 0.0, gamma * told.wrong ** (gamma - 1.0) * both, 0.0)
    return power * told.nats, power + steep if gamma else np.ones_like(power)


def _poly(told: Information, epsilon: float) -> tuple[Any, Any]:
    return told.nats + epsilon * told.wrong, 1.0 + epsilon * told.p


def _generalized(told: Information, q: float) -> tuple[Any, Any]:
    if q == 0.0:
        return _logarithm(told)
    return -np.expm1(-q * told.nats) / q, np.exp(-q * told.nats)


def _accuracy(told: Information) -> tuple[Any, Any]:
    return told.wrong, told.p


def _beta_bernoulli(told: Information, prior: float, share: float) -> tuple[Any, Any]:
    mixed = share * prior + (1.0 - share) * told.p
    if share == 0.0:
        return _logarithm(told)
    return -np.log(mixed), (1.0 - share) * told.p / mixed


def _logarithm(told: Information) -> tuple[Any, Any]:
    return told.nats, np.ones_like(told.nats)


FOCAL = class_loss("focal", _focal, focal_phi, ("gamma", "float"))
POLY = class_loss("poly", _poly, poly_phi, ("epsilon", "float"))
BETA_BERNOULLI = class_loss(
    "beta_bernoulli",
    _beta_bernoulli,
    beta_bernoulli_phi,
    ("prior", "float"),
    ("share", "float"),
)
GENERALIZED = class_loss("generalized_cross_entropy", _generalized, generalized_phi, ("q", "float"))
LOG_LOSS = class_loss("log_loss", _logarithm, logarithm_phi)
SMOOTH_ACCURACY = class_loss("smooth_accuracy", _accuracy, accuracy_phi, stretched=LOG_LOSS)


def class_terms(
    row_loss: Any, logits: Any, target: Any, common: dict[str, Any], **own: float
) -> RowTerms:
    """Return the terms of a loss of this family, given the arguments that all of them share."""
    label_smoothing, z_loss = class_numbers(common.pop("label_smoothing"), common.pop("z_loss"))
    rows = class_rows(logits, target, **common)
    numbers = {"label_smoothing": label_smoothing, "z_loss": z_loss, **own}
    arrays = rows.logits, rows.target, rows.weight
    return RowTerms(row_loss, arrays, rows.weighting, rows.dtype, rows.undo, numbers, classes=rows)


def checked_number(name: str, value: float, least: float) -> float:
    value = real_number(name, value)
    if not least <= value < float("inf"):
        raise ValueError(f"expected {name} >= {least:g} and finite, not {value}")
    return value
