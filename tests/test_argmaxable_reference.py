"""reference.check_argmaxable: the linear program against Qhull and against hand examples."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from logitkit.argmaxable._features import Box
from logitkit.reference._argmaxable import check_argmaxable

HAND = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_hand_example():
    assert check_argmaxable(HAND).tolist() == [1, 1, 1, 1, -1]
    assert check_argmaxable(HAND, [0, 0, 0, 0, 0.5]).tolist() == [1, 1, 1, 1, 1]
    assert check_argmaxable(HAND, classes=[4, 0]).tolist() == [-1, 1]


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_agrees_with_the_convex_hull(d, scale):
    weight = np.random.default_rng(d).normal(size=(60, d))
    expected = np.full(60, -1)
    expected[ConvexHull(weight).vertices] = 1
    assert np.array_equal(check_argmaxable(weight * scale), expected)
    assert np.array_equal(check_argmaxable(weight, features=Box(-100, 100)), expected)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_agrees_with_the_upper_hull(d):
    rng = np.random.default_rng(d)
    weight, bias = rng.normal(size=(60, d)), 0.3 * rng.normal(size=60)
    hull = ConvexHull(np.column_stack([weight, bias]))
    expected = np.full(60, -1)
    expected[hull.simplices[hull.equations[:, -2] > 0]] = 1
    assert np.array_equal(check_argmaxable(weight, bias), expected)


def test_boxes_kill():
    weight, bias = [[0.0], [1.0], [2.0]], [0.0, 5.0, 0.0]
    assert check_argmaxable(weight, bias).tolist() == [1, 1, 1]
    assert check_argmaxable(weight, bias, features=Box(-10, 10)).tolist() == [1, 1, 1]
    assert check_argmaxable(weight, bias, features=Box(-1, 10)).tolist() == [-1, 1, 1]
    assert check_argmaxable(weight, bias, features=Box(-1, 1)).tolist() == [-1, 1, -1]


def test_ties():
    weight = [[0.0], [1.0], [1.0]]
    assert check_argmaxable(weight).tolist() == [1, -1, -1]
    assert check_argmaxable(weight, [0.0, 0.0, 1.0]).tolist() == [1, -1, 1]
    assert check_argmaxable([[3.0]]).tolist() == [1]
