"""What csrc/logsumexp, csrc/softmax and csrc/softmax_stats have in common, on every processor."""

import math
import os
import signal

import exact
import numpy as np
import pytest

from logitkit import _cpu, reference

INF, NAN = np.inf, np.nan
TYPES = [np.float32, np.float64]
KERNELS = ["logsumexp", "softmax", "log_softmax", "softmax_stats"]
MAPS = ["softmax", "log_softmax"]

# What may lie beside an item: numbers that spread, or for which the loops are not made.
NEIGHBOURS = [0.0, NAN, INF, -INF, 1e30, -1e30, 1e6, 1e-42, 300.0]


def normal(*shape, spread=1.0, dtype=np.float32):
    return np.random.default_rng(shape).normal(scale=spread, size=shape).astype(dtype)


def run(kernel, x, axis, isa, threads=1):
    """Return the results of a kernel, one item after the other, fenced against writes past them."""
    per_item = x.shape[axis] if kernel in MAPS else 1
    items = x.size // x.shape[axis]
    fenced = np.full((4 if kernel == "softmax_stats" else 1, per_item * items + 2), 123.0, x.dtype)
    outs = list(fenced[:, 1:-1])
    arguments = (1.0, *outs) if kernel == "softmax_stats" else outs
    getattr(_cpu, kernel)(x, axis, *arguments, threads=threads, isa=isa)
    assert np.all(fenced[:, [0, -1]] == 123.0)
    if kernel in MAPS:
        return np.moveaxis(outs[0].reshape(x.shape), axis, -1).reshape(items, per_item)
    return np.stack(outs, axis=1)


def rows_of(x, axis):
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])


def assert_softmax(actual, row):
    """Assert 2 ulp of the softmax of a row."""
    assert max(exact.errors(actual, exact.softmax(row))) <= 2.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_short_length(isa, kernel, dtype):
    # Rows of up to 64 terms are transposed, some of them at a time.
    for n in range(1, 67):
        x = normal(19, n, spread=3.0, dtype=dtype)
        expected = getattr(reference, kernel)(x.astype(np.longdouble), axis=1)
        if kernel not in MAPS:
            expected = np.stack(np.atleast_2d(expected), axis=1)
        actual = run(kernel, x, 1, isa)
        # Near enough to tell a term too many or too few; the contracts are tested elsewhere.
        tolerance = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 70, 5), (2, 9, 40), (1, 200, 600), (4, 1, 3), (5, 64, 1)])
def test_any_axis_is_that_of_the_rows(isa, kernel, shape, dtype):
    x = normal(*shape, spread=3.0, dtype=dtype)
    for axis in range(3):
        expected = run(kernel, rows_of(x, axis).copy(), 1, isa)
        # Statistics only promise their last digits relative to the size of the terms.
        tolerance = (160 if kernel == "softmax_stats" else 16) * np.finfo(dtype).eps
        actual = run(kernel, x, axis, isa)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 3, 16, 40, 64, 65, 129, 700])
def test_items_do_not_depend_on_what_others_hold(isa, kernel, n, axis, dtype):
    x = normal(70, n, spread=2.0, dtype=dtype)
    mine = [0, 5, 17, 32, 69]
    lone = run(kernel, x if axis == 1 else x.T.copy(), axis, isa)[mine]
    for neighbour in NEIGHBOURS:
        crowd = x.copy()
        others = np.setdiff1d(np.arange(70), mine)
        crowd[others] = neighbour
        crowd[others[::2], : n // 2] = 1.0
        actual = run(kernel, crowd if axis == 1 else crowd.T.copy(), axis, isa)
        np.testing.assert_array_equal(actual[mine], lone, err_msg=f"beside {neighbour}")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [1, 3, 40, 64, 65, 700, 70_000])
def test_rows_do_not_depend_on_how_many_there_are(isa, kernel, n, dtype):
    x = normal(33 if n < 10_000 else 3, n, spread=2.0, dtype=dtype)
    together = run(kernel, x, 1, isa)
    for begin, end in [(0, 1), (2, 3), (1, len(x) - 1)]:
        np.testing.assert_array_equal(run(kernel, x[begin:end], 1, isa), together[begin:end])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("n", "columns"), [(3, 4200), (64, 1100), (131, 4200), (5000, 1100)])
def test_columns_do_not_depend_on_how_many_there_are(isa, kernel, n, columns, dtype):
    x = normal(n, columns, spread=2.0, dtype=dtype)
    together = run(kernel, x, 0, isa)
    for begin, end in [(0, 2), (7, 24), (500, 635), (0, 1024), (0, 1025), (0, columns - 1)]:
        part = x[:, begin:end].copy()
        np.testing.assert_array_equal(run(kernel, part, 0, isa), together[begin:end])


@pytest.mark.parametrize("kernel", MAPS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(200, 7, 50), (2, 99, 2500), (1, 300_000, 1), (2, 40_000, 3)])
def test_in_place_by_any_threads(isa, kernel, shape, dtype):
    x = normal(*shape, spread=3.0, dtype=dtype)
    expected = run(kernel, x, 1, isa)
    for threads in (1, 2, 3, 8):
        same = x.copy()
        getattr(_cpu, kernel)(same, 1, same, threads=threads, isa=isa)
        np.testing.assert_array_equal(rows_of(same, 1), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 17, 1), (3, 5, 9), (1, 66, 33), (2, 130, 1)])
def test_reads_and_writes_stay_inside(isa, kernel, shape, dtype, guarded):
    x = normal(*shape, dtype=dtype)
    expected = run(kernel, x, 1, isa)
    shape_out = shape if kernel in MAPS else (shape[0], shape[2])
    outs = [guarded(np.zeros(shape_out, dtype)) for _ in expected[0][:4]]
    outs = outs if kernel == "softmax_stats" else outs[:1]
    arguments = (1.0, *outs) if kernel == "softmax_stats" else outs
    getattr(_cpu, kernel)(guarded(x), 1, *arguments, isa=isa)
    actual = rows_of(outs[0], 1) if kernel in MAPS else np.stack([o.ravel() for o in outs], axis=1)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [4, 64, 90])
def test_denormal_probabilities(isa, dtype, n):
    depth = -np.log(float(np.finfo(dtype).tiny))
    x = -np.linspace(depth - 3, depth + 45 * n / 90, n).astype(dtype)
    x[1] = 0.25
    for axis, given in ((1, x[None]), (0, np.repeat(x[:, None], 3, axis=1))):
        row = run("softmax", given, axis, isa)[0]
        assert np.any((row > 0) & (row < np.finfo(dtype).tiny))
        assert_softmax(row, x)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [2, 17, 70])
def test_denormal_terms(isa, dtype, n):
    x = np.arange(1, n + 1).astype(dtype) * np.finfo(dtype).smallest_subnormal
    for axis, given in ((1, x[None]), (0, np.repeat(x[:, None], 3, axis=1))):
        assert run("logsumexp", given, axis, isa)[0, 0] == dtype(math.log(n))
        np.testing.assert_array_equal(run("softmax", given, axis, isa)[0], dtype(1.0) / dtype(n))
    for value in (x[0], -x[-1], 37 * x[0]):
        assert run("logsumexp", np.full((1, 1), value), 1, isa)[0, 0] == value
        pair = np.array([[value, -INF, -1000.0]], dtype)
        assert run("logsumexp", pair, 1, isa)[0, 0] == value


def has_denormals():
    """Tell whether NumPy computes with denormal operands and results in this thread."""
    smallest = np.full(64, np.finfo(np.float64).tiny)
    single = np.full(64, np.finfo(np.float32).tiny)
    halves, singles = smallest / 2, single / np.float32(2)
    return all(np.all(x > 0) for x in (halves, singles, halves * 2, singles * np.float32(2)))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_denormals_of_the_caller_stay(isa, kernel, dtype):
    assert has_denormals()
    for x in (normal(30, 40, dtype=dtype), np.full((3, 5), NAN, dtype), np.zeros((2, 9), dtype)):
        for axis in (0, 1):
            run(kernel, x, axis, isa)
            assert has_denormals()
    short = np.zeros(1, dtype)
    arguments = (1.0, *[short] * 4) if kernel == "softmax_stats" else (short,)
    with pytest.raises(ValueError, match="elements, not"):
        getattr(_cpu, kernel)(normal(30, 40, dtype=dtype), 1, *arguments, isa=isa)
    assert has_denormals()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork")  # it is what is tested
@pytest.mark.parametrize("kernel", KERNELS)
def test_forked_child_computes(isa, kernel):
    x = normal(2000, 300)
    expected = run(kernel, x, 1, isa, threads=4)  # by threads that the child does not inherit
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a hang is a failure, not a hang of the tests
        status = 1
        try:
            status = 0 if np.array_equal(run(kernel, x, 1, isa, threads=4), expected) else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("x", "axis", "out", "error", "words"),
    [
        (np.zeros((2, 3), np.float32), 2, 6, ValueError, "axis 2 of an array of 2 dimensions"),
        (np.zeros((2, 3), np.float32), -1, 6, TypeError, "incompatible"),
        (np.zeros((3, 2), np.float32).T, 0, 6, TypeError, "incompatible"),  # not dense
        (np.zeros((2, 3), np.float16), 0, 6, TypeError, "incompatible"),
        (np.zeros((2, 3), np.float32), 1, 4, ValueError, "4 elements, not"),
    ],
)
def test_what_the_binding_refuses(kernel, x, axis, out, error, words):
    out = np.zeros(out, x.dtype)
    arguments = (1.0, *[out] * 4) if kernel == "softmax_stats" else (out,)
    with pytest.raises(error, match=words):
        getattr(_cpu, kernel)(x, axis, *arguments)


@pytest.mark.parametrize("kernel", MAPS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((525, 1001), 1), ((8200, 64), 1), ((1001, 528), 0), ((999, 529), 0), ((6750, 80), 0)],
)
@pytest.mark.parametrize("offset", [0, 1, 13])
def test_results_that_pass_the_caches_are_the_same(isa, kernel, dtype, shape, axis, offset):
    # From 2 MiB on, unless they replace x: that is the other way to write them.
    x = normal(*shape, dtype=dtype)
    memory = np.full(x.size + offset + 1, np.nan, dtype)
    out = memory[offset:-1].reshape(shape)
    assert out.nbytes >= 2**21
    getattr(_cpu, kernel)(x, axis, out, isa=isa)
    getattr(_cpu, kernel)(x, axis, x, isa=isa)
    np.testing.assert_array_equal(out, x)
    assert np.isnan(memory[:offset]).all()
    assert np.isnan(memory[-1])
