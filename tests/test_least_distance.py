"""csrc/least_distance against logitkit.reference._least_distance, and exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from logitkit import _cpu
from logitkit.reference._least_distance import least_distance

Status = _cpu.LeastDistance.Status
ROUNDING = 1e-11  # of a margin or of a balance, in rows of length one
# Around the vector widths of float64 (4, 8) and the four of them that the loops unroll (16, 32).
DIMS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 130]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def problem_of(center, points, rays=None):
    """Return a problem whose points are labelled 0, 1, ... and rays -1, -2, ..."""
    problem = _cpu.LeastDistance(len(center))
    if rays is not None:
        problem.add_rays(rays, -1 - np.arange(len(rays)))
    problem.add_points(center, points, np.arange(len(points)))
    return problem


def solve(problem, isa, *, max_iterations=10**6, threads=1):
    return _cpu.solve_least_distances(
        [problem], max_iterations=max_iterations, threads=threads, isa=isa
    )[0]


def dense_weights(problem, points, rays=None):
    """Return the weights of all points, then those of all rays."""
    labels, rays = problem.active_labels, 0 if rays is None else len(rays)
    weights = np.zeros(points + rays)
    weights[np.where(labels >= 0, labels, points - 1 - labels)] = problem.active_weights
    return weights


def assert_solved(problem, status, center, points, rays=None):
    """Assert what the header promises, with the reference as the oracle; return `feasible`."""
    expected = least_distance(center, points, rays)
    assert status == (Status.feasible if expected.feasible else Status.infeasible)
    differences = center - points
    vectors = differences if rays is None else np.vstack([differences, rays])
    lengths = np.linalg.norm(vectors, axis=1)
    if expected.feasible:
        margins = (vectors @ problem.direction)[lengths > 0] / lengths[lengths > 0]
        required = np.where(np.arange(len(vectors)) < len(points), problem.margin, 0.0)
        assert np.all(margins >= required[lengths > 0] - ROUNDING)
        assert problem.margin == pytest.approx(expected.margin, rel=1e-8, abs=ROUNDING)
        np.testing.assert_allclose(problem.direction, expected.direction, rtol=0, atol=1e-7)
    else:
        weights = dense_weights(problem, len(points), rays)
        assert problem.margin <= 1e-12
        assert np.all(weights >= 0.0)
        assert weights[: len(points)].sum() == pytest.approx(1.0, rel=1e-14)
        assert np.abs(weights @ vectors).max() <= ROUNDING * (weights @ lengths)
    return expected.feasible


def outlying(d, count, seed=0):
    """Return a center on the surface of a cloud: most likely a vertex of the hull."""
    points = normal(count, d, seed=seed)
    outward = unit(points[0])
    return points[0] + (0.1 + (points @ outward).max()) * outward, points


@pytest.mark.parametrize("d", DIMS)
def test_feasible(isa, d):
    center, points = outlying(d, 2 * d + 5)
    problem = problem_of(center, points)
    assert assert_solved(problem, solve(problem, isa), center, points)


@pytest.mark.parametrize("d", DIMS)
def test_infeasible(isa, d):
    points = normal(3 * d + 5, d)
    center = np.random.default_rng(d).dirichlet(np.ones(len(points))) @ points
    problem = problem_of(center, points)
    assert not assert_solved(problem, solve(problem, isa), center, points)


@pytest.mark.parametrize("feasible", [True, False])
@pytest.mark.parametrize("d", [1, 2, 5, 8, 16, 40])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_rays(isa, d, count, feasible):
    inside = unit(normal(d))  # all half-spaces hold it ...
    center, points, rays = normal(d, seed=1), normal(d + 3, d, seed=2), normal(count, d, seed=3)
    points -= np.maximum((points - center) @ inside + 0.1, 0.0)[:, None] * inside
    rays *= np.where(rays @ inside < 0.0, -1.0, 1.0)[:, None]
    if not feasible:  # ... but for one more, which balances some of them
        balanced = (center - points).mean(axis=0) + rays.sum(axis=0)
        points = np.vstack([points, center + balanced])
    problem = problem_of(center, points, rays)
    assert assert_solved(problem, solve(problem, isa), center, points, rays) == feasible


def test_box_on_both_sides(isa):
    # Rays e and -e leave no room along that axis, and the points then balance without it.
    center = np.zeros(3)
    points = np.array([[-1.0, 5.0, 0.0], [1.0, 5.0, 0.0]])
    rays = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    for given, feasible in ((None, True), (rays[:1], False), (rays[1:], True), (rays, False)):
        problem = problem_of(center, points, given)
        assert assert_solved(problem, solve(problem, isa), center, points, given) == feasible


def test_no_constraints(isa):
    problem = _cpu.LeastDistance(3)
    assert solve(problem, isa) == Status.feasible
    assert problem.constraints == len(problem.active_labels) == 0
    np.testing.assert_array_equal(problem.direction, 0.0)


def test_rays_alone_constrain_no_point(isa):
    problem = problem_of(np.zeros(2), np.zeros((0, 2)), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert solve(problem, isa) == Status.feasible


def test_duplicates_and_coincident_points(isa):
    center, points = outlying(9, 40)
    problem = problem_of(center, points)
    labels = np.arange(40)
    assert problem.add_points(center, points, labels) == 0  # known labels
    assert problem.add_points(center, np.repeat(points, 2, 0), 40 + np.arange(80)) == 80
    assert problem.add_points(center, np.array([center, center]), np.array([500, 501])) == 0
    assert problem.add_rays(np.zeros((1, 9)), np.array([-1])) == 0
    assert problem.constraints == 120
    once = problem_of(center, points)
    assert solve(problem, isa) == solve(once, isa) == Status.feasible
    np.testing.assert_allclose(problem.direction, once.direction, atol=1e-12)
    assert problem.margin == pytest.approx(once.margin, rel=1e-12)


def test_duplicates_around_a_dead_center(isa):
    points = np.repeat(normal(30, 6), 5, axis=0)
    center = points.mean(axis=0)
    problem = problem_of(center, points)
    assert not assert_solved(problem, solve(problem, isa), center, points)


def test_opposite_pair(isa):
    # The midpoint of two rows, and no other constraint in the way: rank 1 in 20 dimensions.
    point = normal(20)
    points = np.array([point, -point])
    problem = problem_of(np.zeros(20), points)
    assert not assert_solved(problem, solve(problem, isa), np.zeros(20), points)
    np.testing.assert_allclose(dense_weights(problem, 2), 0.5, rtol=1e-14)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("d", [2, 17, 64])
def test_adding_in_parts_gives_the_same_solution(isa, dead, d):
    center, points = outlying(d, 300, seed=3)
    if dead:
        center = points.mean(axis=0)
    at_once = problem_of(center, points)
    status = solve(at_once, isa)
    in_parts = _cpu.LeastDistance(d)
    for begin in range(0, 300, 17):
        part = slice(begin, begin + 17)
        in_parts.add_points(center, points[part], np.arange(300)[part])
        last = solve(in_parts, isa)
        if last == Status.infeasible:
            break
    assert last == status == (Status.infeasible if dead else Status.feasible)
    if not dead:
        np.testing.assert_allclose(in_parts.direction, at_once.direction, atol=1e-9)
        assert in_parts.margin == pytest.approx(at_once.margin, rel=1e-9)
    assert_solved(in_parts, last, center, points)


@pytest.mark.parametrize("dead", [False, True])
def test_pausing_gives_the_same_solution(isa, dead):
    center, points = outlying(33, 200, seed=4)
    if dead:
        center = points.mean(axis=0)
    status = solve(at_once := problem_of(center, points), isa)
    problem, steps = problem_of(center, points), 1
    while (last := solve(problem, isa, max_iterations=1)) == Status.paused:
        steps += 1
        assert problem.iterations >= steps - 1
        assert steps < 10**4
    assert steps > 10
    assert last == status
    assert problem.margin == pytest.approx(at_once.margin, rel=1e-9, abs=1e-12)
    assert_solved(problem, last, center, points)


def test_solving_again_changes_nothing(isa):
    center, points = outlying(20, 100, seed=5)
    problem = problem_of(center, points)
    solve(problem, isa)
    direction, labels = problem.direction, problem.active_labels
    assert solve(problem, isa) == Status.feasible
    np.testing.assert_allclose(problem.direction, direction, atol=1e-14)
    np.testing.assert_array_equal(problem.active_labels, labels)


@pytest.mark.parametrize("dead", [False, True])
def test_slack_constraints_are_forgotten_and_added_again(isa, dead):
    d = 6
    center, points = outlying(d, 5000, seed=6)
    if dead:  # inside the hull of all points, not of the first ones
        center = 0.1 * center
    lengths = np.linalg.norm(center - points, axis=1)
    order = np.argsort(points @ normal(d))
    ray = np.eye(d)[:1]
    problem, forgotten = _cpu.LeastDistance(d), 0
    problem.add_rays(ray, np.array([-1]))
    for begin in [*range(0, 5000, 50), *range(0, 5000, 50)]:
        batch = order[begin : begin + 50]
        constraints = problem.constraints
        added = problem.add_points(center, points[batch], batch)
        forgotten += constraints + added - problem.constraints
        if (status := solve(problem, isa)) == Status.infeasible:
            break
    assert forgotten > 100
    while status == Status.feasible:
        margins = (center - points) @ problem.direction / lengths
        # |r| is the sine of the angle whose tangent is the widest margin.
        violated = np.flatnonzero(margins < np.tan(np.arcsin(problem.margin)) - ROUNDING)
        if problem.add_points(center, points[violated], violated) == 0:
            break
        status = solve(problem, isa)
    assert_solved(problem, status, center, points, ray)
    assert status == (Status.infeasible if dead else Status.feasible)


def test_forgetting_keeps_the_solution(isa):
    d = 5
    center, points = outlying(d, 3000, seed=7)
    problem = problem_of(center, points)
    solve(problem, isa)
    before = problem.margin
    problem.add_points(center, points[:0], np.arange(0))
    assert problem.constraints < 2000
    assert solve(problem, isa) == Status.feasible
    assert problem.margin == pytest.approx(before, rel=1e-12)
    assert_solved(problem, Status.feasible, center, points)


def with_margin(d, count, margin, seed=0):
    """
    Return points around 0 whose widest direction has just this margin, and the direction.

    The sides v_j at right angles to it hold 0 in their hull, so no other direction is wider.
    """
    random = np.random.default_rng([seed, d])
    axes = np.linalg.qr(random.normal(size=(d, d)))[0]
    sides = random.normal(size=(count, d - 1))
    sides[0] = -sides[1:].sum(axis=0)
    c = np.sqrt(1 - margin**2) * unit(sides) @ axes[:, 1:].T + margin * axes[:, 0]
    return -c * random.uniform(0.5, 2.0, size=(count, 1)), axes[:, 0]


@pytest.mark.parametrize("margin", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("d", [2, 8, 17, 60])
def test_thin_margins_hold_exactly(isa, d, margin):
    points, widest = with_margin(d, 2 * d, margin)
    problem = problem_of(np.zeros(d), points)
    assert solve(problem, isa) == Status.feasible
    assert problem.margin == pytest.approx(margin, rel=1e-4)  # 1e-9 +- 1e-13
    np.testing.assert_allclose(problem.direction, widest, atol=1e-4)
    direction = [Fraction(v) for v in problem.direction]
    for point in points:
        assert sum(-Fraction(p) * v for p, v in zip(point, direction, strict=True)) > 0


@pytest.mark.parametrize("margin", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("d", [2, 8, 17, 60])
def test_barely_dead(isa, d, margin):
    points, _ = with_margin(d, 2 * d, -margin)
    points = np.vstack([points, with_margin(d, 2 * d, margin, seed=1)[0]])
    problem = problem_of(np.zeros(d), points)
    assert not assert_solved(problem, solve(problem, isa), np.zeros(d), points)


@pytest.mark.parametrize("scale", [1e-150, 2.0**-40, 3.0, 2.0**60, 1e150])
@pytest.mark.parametrize("dead", [False, True])
def test_scale(isa, scale, dead):
    center, points = outlying(12, 50, seed=8)
    if dead:
        center = points.mean(axis=0)
    plain, scaled = problem_of(center, points), problem_of(scale * center, scale * points)
    assert solve(plain, isa) == solve(scaled, isa)
    assert scaled.margin == pytest.approx(plain.margin, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(scaled.direction, plain.direction, atol=1e-9 if not dead else 2)
    if dead:
        assert_solved(scaled, Status.infeasible, scale * center, scale * points)


def test_scale_of_single_points(isa):
    # Each point anywhere on its ray from the center; the half-spaces stay.
    center, points = np.zeros(10), normal(30, 10) + 1.5
    factors = 10.0 ** np.random.default_rng(0).uniform(-8, 8, size=(30, 1))
    plain, scaled = problem_of(center, points), problem_of(center, factors * points)
    assert solve(plain, isa) == solve(scaled, isa) == Status.feasible
    np.testing.assert_allclose(scaled.direction, plain.direction, atol=1e-10)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(isa, threads):
    def problems():
        return [
            problem_of(center if k % 3 else points.mean(axis=0), points)
            for k in range(14)
            for center, points in [outlying(1 + 3 * k, 90, seed=k)]
        ]

    serial, parallel = problems(), problems()
    for limit in (5, 10**6):
        expected, actual = (
            _cpu.solve_least_distances(some, max_iterations=limit, threads=t, isa=isa)
            for some, t in ((serial, 1), (parallel, threads))
        )
        assert actual == expected
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one.direction, other.direction)
        np.testing.assert_array_equal(one.active_labels, other.active_labels)
        np.testing.assert_array_equal(one.active_weights, other.active_weights)
        assert (one.margin, one.iterations) == (other.margin, other.iterations)


def test_no_problems(isa):
    assert _cpu.solve_least_distances([], max_iterations=1, isa=isa) == []


@pytest.mark.parametrize(
    ("center", "points", "labels", "error"),
    [
        (np.zeros(3), np.zeros((2, 3)), np.zeros(3, np.int64), ValueError),  # labels too many
        (np.zeros(3), np.zeros((2, 4)), np.zeros(2, np.int64), ValueError),
        (np.zeros(3), np.zeros(3), np.zeros(1, np.int64), ValueError),
        (np.zeros(3), np.zeros((2, 3)), np.zeros((2, 1), np.int64), ValueError),
        (np.zeros(4), np.zeros((2, 3)), np.zeros(2, np.int64), ValueError),
        (np.zeros((3, 1)), np.zeros((2, 3)), np.zeros(2, np.int64), ValueError),
        (np.zeros(3), np.zeros((2, 3), np.float32), np.zeros(2, np.int64), TypeError),
        (np.zeros(3, np.float32), np.zeros((2, 3)), np.zeros(2, np.int64), TypeError),
        (np.zeros(3), np.zeros((3, 2)).T, np.zeros(2, np.int64), TypeError),  # not dense
        (np.zeros(3), np.zeros((2, 3)), np.zeros(2, np.int32), TypeError),
    ],
)
def test_binding_refuses_what_does_not_fit(center, points, labels, error):
    problem = _cpu.LeastDistance(3)
    with pytest.raises(error):
        problem.add_points(center, points, labels)
    if center.shape == (3,) and center.dtype == np.float64:
        with pytest.raises(error):
            problem.add_rays(points, labels)
    assert problem.constraints == 0
