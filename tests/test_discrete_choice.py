"""logitkit.distributions.fit: planted parameters, closed forms, tables, and what it refuses."""

import numpy as np
import pytest

from logitkit import softmax
from logitkit.distributions import Gumbel, Laplace, Logistic, Normal, fit
from logitkit.random import Philox

BETA = np.array([1.0, -0.5, 2.5])
SPREAD = np.array([1.0, 10.0, 0.1])  # of the features, by which Newton's method must not suffer


def planted(noise, n, alternatives, seed=1):
    """Return a design and the choices of utilities with BETA and noise."""
    rng = Philox(seed)
    x = rng.normal(n, (alternatives, 3)) * SPREAD
    draw = {Normal: rng.at(1).normal, Gumbel: rng.at(1).gumbel}[type(noise)]
    return x, (x @ (BETA / SPREAD) + draw(n, alternatives)).argmax(axis=1)


@pytest.mark.parametrize("noise", [Normal(), Gumbel()])
@pytest.mark.parametrize("alternatives", [2, 5])
def test_recovers_planted_coefficients(noise, alternatives):
    x, choice = planted(noise, 800, alternatives)
    result = fit(x, choice, noise=noise)
    z = (result.coefficients - BETA / SPREAD) / result.standard_errors
    assert np.all(np.abs(z) < 3.0)
    np.testing.assert_allclose(result.robust_standard_errors, result.standard_errors, rtol=0.2)
    assert result.log_likelihood > result.null_log_likelihood
    assert result.null_log_likelihood == pytest.approx(-800 * np.log(alternatives))


def test_logit_has_its_closed_form():
    """At the maximum the scores sum to zero; the information is that of the softmax."""
    x, choice = planted(Gumbel(), 500, 4)
    result = fit(x, choice, noise=Gumbel())
    p = softmax(x @ result.coefficients, axis=1)
    one_hot = np.eye(4)[choice]
    score = np.einsum("nj,njk->k", one_hot - p, x)
    np.testing.assert_allclose(score / SPREAD, 0.0, atol=1e-4)
    centred = x - np.einsum("nj,njk->nk", p, x)[:, None]
    information = np.einsum("nj,njk,njl->kl", p, centred, centred)
    np.testing.assert_allclose(result.covariance, np.linalg.inv(information), rtol=1e-5)
    np.testing.assert_allclose(result.predict_proba(x), p, rtol=1e-12)
    assert result.log_likelihood == pytest.approx(np.log(p[one_hot == 1]).sum(), rel=1e-12)


def test_probit_of_two_is_the_binary_probit():
    """The difference of two noises has variance 2."""
    from scipy import optimize, special

    x, choice = planted(Normal(), 400, 2)
    result = fit(x, choice)
    difference = (x[:, 1] - x[:, 0]) * np.where(choice == 1, 1.0, -1.0)[:, None] / SPREAD
    binary = optimize.minimize(
        lambda b: -special.log_ndtr(difference @ b / np.sqrt(2.0)).sum(), np.zeros(3), tol=1e-10
    )
    np.testing.assert_allclose(result.coefficients * SPREAD, binary.x, rtol=1e-4)
    assert result.log_likelihood == pytest.approx(-binary.fun, rel=1e-9)


@pytest.mark.parametrize("noise", [Gumbel(), Normal(), Logistic(), Laplace()])
def test_constants_alone_give_the_shares(noise):
    shares = np.array([50, 30, 20])
    choice = np.repeat(np.arange(3), shares)
    result = fit(np.empty((100, 3, 0)), choice, noise=noise, constants=True)
    assert result.names == ("constant[1]", "constant[2]")
    np.testing.assert_allclose(result.predict_proba(np.empty((1, 3, 0))), [shares / 100], rtol=1e-6)
    if noise == Gumbel():
        np.testing.assert_allclose(result.coefficients, np.log(shares[1:] / 50), rtol=1e-6)


def test_weights_count_choices():
    x, choice = planted(Normal(), 120, 3)
    counts = np.arange(120) % 3
    weighted = fit(x, choice, weights=counts)
    repeated = fit(np.repeat(x, counts, axis=0), np.repeat(choice, counts))
    # Each within what the promised gain leaves: sqrt(2e-10 n) of a standard error.
    atol = 1e-3 * weighted.standard_errors.max()
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=atol)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-6)


def test_table_gives_what_arrays_give():
    pandas = pytest.importorskip("pandas")
    x, choice = planted(Normal(), 140, 3)
    available = np.ones((140, 3), bool)
    available[np.arange(0, 140, 7), (choice[::7] + 1) % 3] = False  # what was not chosen
    rows = np.argwhere(available)
    table = pandas.DataFrame(
        {
            "person": rows[:, 0] + 1000,
            "mode": np.array(["bus", "car", "train"])[rows[:, 1]],
            "time": x[available][:, 0],
            "cost": x[available][:, 1],
            "stops": x[available][:, 2],
            "chosen": choice[rows[:, 0]] == rows[:, 1],
        }
    ).sample(frac=1.0, random_state=0)
    features = ["time", "cost", "stops"]
    names = {"observation": "person", "alternative": "mode", "columns": features}
    from_table = fit(table, "chosen", **names, constants=True)
    from_arrays = fit(x, choice, columns=features, available=available, constants=True)
    assert from_table.names == ("constant[car]", "constant[train]", *features)
    np.testing.assert_allclose(from_table.coefficients, from_arrays.coefficients, rtol=1e-9)
    np.testing.assert_allclose(from_table.covariance, from_arrays.covariance, rtol=1e-6)
    p = from_table.predict_proba(table)
    expected = from_arrays.predict_proba(x, available=available)
    np.testing.assert_allclose(p, expected, rtol=1e-9)
    np.testing.assert_array_equal(p == 0.0, ~available)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-9)
    text = str(from_table)
    assert "train" in text
    assert "140 choices" in text


def test_errors():
    x, choice = planted(Normal(), 30, 3)
    with pytest.raises(ValueError, match=r"at least two alternatives, not \(30, 9\)"):
        fit(x.reshape(30, 9), choice)
    with pytest.raises(ValueError, match="choices from 0 to 2, not 3 at 4"):
        fit(x, np.where(np.arange(30) == 4, 3, choice))
    with pytest.raises(ValueError, match="30 integers"):
        fit(x, choice[:-1])
    with pytest.raises(ValueError, match="an available choice, not"):
        fit(x, choice, available=np.arange(3) != choice[:, None])
    bad = x.copy()
    bad[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match="not nan of 'x2' in choice 3, alternative 1"):
        fit(bad, choice)
    same = x.copy()
    same[:, :, 1] = np.arange(30)[:, None]
    with pytest.raises(ValueError, match="'x1' is not determined"):
        fit(same, choice)
    double = np.concatenate([x, 10.0 * x[:, :, :1] + x[:, :, 1:2]], axis=2)
    with pytest.raises(ValueError, match="'x0', 'x1', 'x3' are not determined"):
        fit(double, choice)
    with pytest.raises(TypeError, match="law of noise, such as Normal"):
        fit(x, choice, noise="probit")
    with pytest.raises(ValueError, match="30 weights, finite and not negative"):
        fit(x, choice, weights=np.full(30, -1.0))
    perfect = np.zeros((30, 3, 1))
    perfect[np.arange(30), choice] = 1.0
    with pytest.raises(RuntimeError, match="'x0' grows without bound"):
        fit(perfect, choice)


def test_table_errors():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {"id": [0, 0, 1, 1], "kind": [0, 1, 0, 1], "x": [0.0, 1.0, 1.0, 3.0], "y": [1, 0, 0, 1]}
    )
    names = {"observation": "id", "alternative": "kind", "columns": ["x"]}
    with pytest.raises(ValueError, match="expected columns, observation and alternative"):
        fit(table, "y")
    with pytest.raises(TypeError, match="the name of a column of choices, not ndarray"):
        fit(table, np.zeros(2, int), **names)
    with pytest.raises(ValueError, match="row 1 repeats one"):
        fit(table.assign(kind=[0, 0, 0, 1]), "y", **names)
    with pytest.raises(ValueError, match="one chosen alternative in each choice, not 2"):
        fit(table.assign(y=[1, 0, 1, 1]), "y", **names)
    with pytest.raises(ValueError, match="0 and 1 alone"):
        fit(table.assign(y=[1, 0, 0, 2]), "y", **names)
