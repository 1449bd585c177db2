"""argmaxable/_report.py: what a report says, how it is checked again, and its files."""

import dataclasses
import json
import os

import ml_dtypes
import numpy as np
import pytest

from logitkit.argmaxable import _report_files
from logitkit.argmaxable._deployed import rounding_of
from logitkit.argmaxable._features import Box
from logitkit.argmaxable._proof import (
    prove_unargmaxable,
    prove_unargmaxable_in_box,
    witness_margins,
)
from logitkit.argmaxable._report import ArgmaxableReport
from logitkit.argmaxable._rows import fingerprint
from logitkit.argmaxable._verdict import Proof, Verdict
from logitkit.argmaxable._verification import faults

ARRAYS = [f.name for f in dataclasses.fields(ArgmaxableReport) if "NDArray" in str(f.type)]


def make_report(*, with_bias=True, dtype=np.float32, deployed=None, box=None):
    """
    Build a report on 12 unit vectors that win, three points inside of their hull, and one left out.

    The even winners have a self-witness, the odd ones a stored witness; class 15 is undecided.
    """
    rng = np.random.default_rng(0)
    outside = rng.normal(size=(12, 3))
    outside /= np.linalg.norm(outside, axis=1, keepdims=True)
    outside[:4] = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]  # a tetrahedron
    outside[:4] /= np.sqrt(3)
    inside = rng.dirichlet([5.0] * 4, size=4) @ outside[:4]
    weight = np.vstack([outside, inside]).astype(dtype)
    bias = np.r_[np.zeros(12), np.full(4, -0.25)].astype(dtype) if with_bias else None
    live, dead = np.arange(12), np.arange(12, 15)
    x = weight[:12].astype(np.float64) * 2.0
    unit, half_step = (None, 0.0) if deployed is None else rounding_of(deployed, weight)
    proved = prove_unargmaxable(
        weight, bias, dead, np.arange(4), unit_roundoff=unit, half_step=half_step
    )
    values = dict.fromkeys(("self_scale", "margins"), np.zeros(16))
    values["self_scale"] = np.where(np.arange(16) % 2, 0.0, 2.0) * (np.arange(16) < 12)
    row = np.full(16, -1)
    row[1:12:2] = np.arange(6)
    row[15] = 6
    margins = np.full(16, np.nan)
    margins[:12] = witness_margins(weight, bias, live, x)
    margins[15] = -0.5
    verdicts = np.repeat([1, -1, 0], [12, 3, 1]).astype(np.int8)
    return ArgmaxableReport(
        weight=weight,
        bias=bias,
        classes=np.arange(16),
        verdicts=verdicts,
        margins=margins,
        self_scale=values["self_scale"],
        center=np.zeros(3),
        metric=np.eye(3),
        witness_row=row,
        witnesses=np.vstack([x[1::2], np.ones(3)]),
        support_offsets=np.arange(4) * 4,
        support=np.tile(np.arange(4), 3),
        coefficients=proved.coefficients.ravel(),
        residual=proved.residual,
        slack=proved.slack,
        depth=proved.depth,
        bias_depth=proved.slack,
        below_rounding=proved.below_rounding,
        proof=proved.proof,
        reasons={15: "left out by this test"},
        features=box,
        deployed_dtype=deployed,
        rank=3,
        seconds={"witnesses": 0.25, "proofs": 1.5},
        fingerprint=fingerprint(weight, bias),
        version="0.1.0",
    )


def changed(report, name, where, value):
    """Copy a report with one entry of one array replaced."""
    array = getattr(report, name).copy()
    array[where] = value
    return dataclasses.replace(report, **{name: array})


def assert_same(one, other):
    for field in dataclasses.fields(ArgmaxableReport):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("weight", "bias"):
            continue
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        else:
            assert a == b, field.name


# Queries.


def test_queries():
    report = make_report()
    assert report.argmaxable.tolist() == list(range(12))
    assert report.unargmaxable.tolist() == [12, 13, 14]
    assert report.undecided.tolist() == [15]
    assert report.verdict(12) is Verdict.UNARGMAXABLE
    for i in (0, 1):  # a self-witness and a stored one
        witness = report.witness(i)
        np.testing.assert_allclose(witness.x, 2.0 * report.weight[i])
        assert witness.norm == pytest.approx(2.0, rel=1e-6)
        logits = report.weight.astype(float) @ witness.x + report.bias
        assert logits.argmax() == i
        runner_up = np.delete(logits, i).max()
        assert report.margin(i) == pytest.approx(logits[i] - runner_up, rel=1e-12)
        assert 0.9 * report.margin(i) < witness.margin <= report.margin(i)
    certificate = report.certificate(13)
    assert certificate.support.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(
        certificate.coefficients @ report.weight[:4].astype(float), report.weight[13], atol=1e-12
    )
    assert certificate.proof is Proof.INTERVAL
    assert certificate.slack == certificate.bias_depth == pytest.approx(0.25)
    assert 0 < certificate.depth < 1
    assert not certificate.below_rounding


def test_errors_of_queries():
    report = make_report()
    with pytest.raises(IndexError, match="class 16: the layer has classes 0 to 15"):
        report.verdict(16)
    with pytest.raises(ValueError, match="class 12 has no witness: it is UNARGMAXABLE"):
        report.witness(12)
    with pytest.raises(ValueError, match="class 3 has no certificate: it is ARGMAXABLE"):
        report.certificate(3)
    with pytest.raises(ValueError, match=r"class 15 has no witness.*left out by this test"):
        report.margin(15)
    part = dataclasses.replace(
        report,
        **{
            name: getattr(report, name)[3:]
            for name in ("classes", "verdicts", "margins", "self_scale", "witness_row")
        },
    )
    with pytest.raises(IndexError, match="class 2 was not checked"):
        part.verdict(2)
    assert part.certificate(14).support.tolist() == [0, 1, 2, 3]
    assert part.verify()
    assert "13 classes checked" in repr(part)


def test_nearest_argmaxable():
    report = make_report()
    for i in range(16):
        distance = np.linalg.norm(report.weight.astype(float) - report.weight[i], axis=1)
        distance[i] = np.inf
        assert report.nearest_argmaxable(i) == distance[:12].argmin()
    none = dataclasses.replace(report, verdicts=np.zeros(16, np.int8))
    assert none.nearest_argmaxable(3) == -1
    with pytest.raises(IndexError, match="class -1"):
        report.nearest_argmaxable(-1)


def test_repr():
    text = repr(make_report(deployed="float16", box=Box(-100, 100)))
    for part in ("16 x 3", "with bias", "12", "3  (proved 3 by enclosures)", "features in a box"):
        assert part in text
    assert "float16" in text
    assert "witnesses 0.25, proofs 1.50" in text
    assert "without bias" in repr(make_report(with_bias=False))


# Verification.


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("deployed", [None, "float16", "int8"])
@pytest.mark.parametrize("box", [None, Box(-100, 100)])
@pytest.mark.parametrize("exact", [False, True])
def test_honest_reports_hold(dtype, with_bias, deployed, box, exact):
    report = make_report(dtype=dtype, with_bias=with_bias, deployed=deployed, box=box)
    assert list(faults(report, report.weight, report.bias, exact=exact)) == []
    assert report.verify(exact=exact)


def coefficient(report, relative):
    return changed(report, "coefficients", 5, report.coefficients[5] * (1.0 + relative))


def swapped(report):
    order = np.r_[0, 2, 1, np.arange(3, 12)]
    return dataclasses.replace(report, coefficients=report.coefficients[order])


DAMAGE = {
    "coefficient by 1e-8": lambda r: coefficient(r, 1e-8),
    "negative coefficient": lambda r: coefficient(r, -2.0),
    "nan coefficient": lambda r: coefficient(r, np.nan),
    "coefficients swapped": swapped,
    "support": lambda r: changed(r, "support", 5, 7),
    "support repeated": lambda r: changed(r, "support", 5, 0),
    "support with the class": lambda r: changed(r, "support", 5, 13),
    "support outside": lambda r: changed(r, "support", 5, 16),
    "support negative": lambda r: changed(r, "support", 5, -1),
    "offsets": lambda r: changed(r, "support_offsets", 1, 3),
    "slack": lambda r: changed(r, "slack", 1, r.slack[1] * 1.001),
    "negative slack": lambda r: changed(r, "slack", 1, -1e-9),
    "nan slack": lambda r: changed(r, "slack", 1, np.nan),
    "depth": lambda r: changed(r, "depth", 1, r.depth[1] * 1.01),
    "nan depth": lambda r: changed(r, "depth", 1, np.nan),
    "bias depth": lambda r: changed(r, "bias_depth", 1, r.bias_depth[1] * 1.01),
    "residual": lambda r: changed(r, "residual", 1, -1.0),
    "proof missing": lambda r: changed(r, "proof", 1, Proof.NONE),
    "proof unknown": lambda r: changed(r, "proof", 1, 9),
    "witness": lambda r: changed(r, "witnesses", 2, -r.witnesses[2]),
    "nan witness": lambda r: changed(r, "witnesses", (2, 0), np.nan),
    "witness row": lambda r: changed(r, "witness_row", 3, 2),
    "no witness row": lambda r: changed(r, "witness_row", 3, -1),
    "witness row outside": lambda r: changed(r, "witness_row", 3, 7),
    "no self-witness": lambda r: changed(r, "self_scale", 4, 0.0),
    "self scale": lambda r: changed(r, "self_scale", 4, 1.5),
    "nan self scale": lambda r: changed(r, "self_scale", 4, np.nan),
    "metric": lambda r: dataclasses.replace(r, metric=np.diag([1.0, 0.0, 0.0])),
    "center": lambda r: dataclasses.replace(r, center=r.center + 10.0),
    "margin": lambda r: changed(r, "margins", 3, r.margins[3] * 1.1),
    "margin of a self-witness": lambda r: changed(r, "margins", 4, r.margins[4] * 1.1),
    "negative margin": lambda r: changed(r, "margins", 3, -1.0),
    "nan margin": lambda r: changed(r, "margins", 3, np.nan),
    "live verdict": lambda r: changed(r, "verdicts", 12, 1),
    "dead verdict": lambda r: changed(r, "verdicts", 3, -1),
    "unknown verdict": lambda r: changed(r, "verdicts", 3, 5),
    "undecided called live": lambda r: changed(r, "verdicts", 15, 1),
    "classes": lambda r: changed(r, "classes", 3, 2),
    "class outside": lambda r: changed(r, "classes", 15, 16),
    "short array": lambda r: dataclasses.replace(r, slack=r.slack[:2]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_reports_do_not_hold(damage):
    assert not damage(make_report()).verify()


BOX_DAMAGE = ["support", "bias depth", "depth", "proof missing", "witness", "margin"]


@pytest.mark.parametrize("name", BOX_DAMAGE)
def test_damaged_reports_of_a_box_do_not_hold(name):
    assert not DAMAGE[name](make_report(box=Box(-100, 100))).verify()


def test_witnesses_outside_of_the_box_do_not_hold():
    report = make_report(box=Box(-1, 1))  # the witnesses have length two
    assert any("outside the box" in text for text in faults(report, report.weight, report.bias))


def test_certificate_that_holds_in_the_box_only():
    # Class 1 wins at x > 2 only; class 0 everywhere else.
    weight, bias = np.array([[0.0], [1.0]]), np.array([2.0, 0.0])
    one = np.ones(1)
    value, proof = prove_unargmaxable_in_box(weight, bias, -one, one, 1, np.array([0]), one)
    report = ArgmaxableReport(
        weight=weight,
        bias=bias,
        classes=np.arange(2),
        verdicts=np.array([1, -1], np.int8),
        margins=np.array([1.9, np.nan]),
        self_scale=np.zeros(2),
        center=np.zeros(1),
        metric=np.eye(1),
        witness_row=np.array([0, -1]),
        witnesses=np.zeros((1, 1)),
        support_offsets=np.array([0, 1]),
        support=np.array([0]),
        coefficients=np.ones(1),
        residual=np.ones(1),
        slack=np.array([2.0]),
        depth=np.zeros(1),
        bias_depth=np.array([-value]),
        below_rounding=np.array([False]),
        proof=np.array([proof], np.int8),
        reasons={},
        features=Box(-1, 1),
        deployed_dtype="float16",
        rank=1,
        seconds={},
        fingerprint=fingerprint(weight, bias),
        version="0.1.0",
    )
    assert report.verify()
    assert not dataclasses.replace(report, features=Box(-3, 3)).verify()
    assert not dataclasses.replace(report, features=None).verify()
    assert not changed(report, "bias_depth", 0, 1.01).verify()
    # With a box of almost two the class loses by less than float16 rounds.
    near = dataclasses.replace(report, features=Box(-1.9999, 1.9999), bias_depth=np.zeros(1))
    assert not near.verify()
    assert changed(near, "below_rounding", 0, True).verify()


def test_denied_rounding_does_not_hold():
    report = make_report(deployed="int8", with_bias=False)
    tight = dataclasses.replace(report, deployed_dtype="bfloat16")
    assert tight.verify()
    weight = report.weight.copy()
    weight[12] = np.array([0.5, 0.4, 0.099, 0.001]) @ weight[:4]  # close to a facet
    proved = prove_unargmaxable(weight, None, np.arange(12, 15), np.arange(4), unit_roundoff=2**-8)
    assert proved.below_rounding.tolist() == [True, False, False]
    names = ("residual", "slack", "depth", "proof", "below_rounding")
    close = dataclasses.replace(
        report,
        weight=weight,
        fingerprint=fingerprint(weight, None),
        coefficients=proved.coefficients.ravel(),
        **{name: getattr(proved, name) for name in names},
        bias_depth=proved.slack,
        deployed_dtype="bfloat16",
    )
    assert close.verify()
    assert not changed(close, "below_rounding", 0, False).verify()


def test_other_weights_are_an_error():
    report = make_report()
    weight = report.weight.copy()
    weight[3, 1] = np.nextafter(weight[3, 1], np.float32(1))
    with pytest.raises(ValueError, match="not those that the report is about"):
        report.verify(weight, report.bias)
    with pytest.raises(ValueError, match="not those that the report is about"):
        report.verify(report.weight.astype(np.float64), report.bias)
    with pytest.raises(ValueError, match=r"shape \(16, 3\), not \(15, 3\)"):
        report.verify(weight[1:])
    with pytest.raises(ValueError, match="pass bias as well"):
        report.verify(report.weight)


def test_fingerprint_is_of_the_values():
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = fingerprint(weight, None)
    assert fingerprint(np.asfortranarray(weight), None) == expected
    assert fingerprint(weight.astype(">f4"), None) == expected
    assert fingerprint(np.repeat(weight, 2, axis=0)[::2], None) == expected
    others = [
        (weight.astype(np.float64), None),
        (weight.reshape(3, 4), None),
        (weight, np.zeros(4, np.float32)),
        (weight[::-1], None),
    ]
    assert expected not in {fingerprint(*other) for other in others}


# Files.


@pytest.mark.parametrize("kind", ["json", "npz"])
@pytest.mark.parametrize("box", [None, Box(-100, 100), Box([-1.5, -2, -3], 1 / 3)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_round_trip(tmp_path, kind, box, with_bias):
    report = make_report(box=box, with_bias=with_bias, deployed="bfloat16")
    report = dataclasses.replace(report, bias_depth=np.array([np.inf, 1 / 3, 5e-324]))
    path = tmp_path / "report.file"
    if kind == "json":
        report.to_json(path)
        again = ArgmaxableReport.from_json(path)
    else:
        report.save(path)
        again = ArgmaxableReport.load(str(path))
    assert os.listdir(tmp_path) == ["report.file"]
    assert_same(report, again)
    assert again.weight is None
    assert again.shape == (16, 3)
    assert again.has_bias == with_bias
    assert repr(again) == repr(report)
    assert again.reasons == {15: "left out by this test"}


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_reports_from_files_need_the_weights(tmp_path, kind):
    report = make_report()
    path = tmp_path / "report"
    (report.to_json if kind == "json" else report.save)(path)
    again = (ArgmaxableReport.from_json if kind == "json" else ArgmaxableReport.load)(path)
    assert again.verify(report.weight, report.bias)
    assert again.margin(0, report.weight, report.bias) == report.margin(0)
    assert np.array_equal(again.witness(0, report.weight, report.bias).x, report.witness(0).x)
    assert np.array_equal(again.witness(1).x, report.witness(1).x)  # a stored one
    assert again.nearest_argmaxable(12, report.weight, report.bias) >= 0
    for call in (again.verify, lambda: again.witness(0), lambda: again.nearest_argmaxable(0)):
        with pytest.raises(ValueError, match="holds no weights: pass weight and bias"):
            call()


def test_empty_reports_travel(tmp_path):
    report = make_report()
    names = ("classes", "verdicts", "margins", "self_scale", "witness_row")
    live = dataclasses.replace(
        report,
        **{name: getattr(report, name)[:0] for name in names},
        support_offsets=np.zeros(1, np.int64),
        reasons={},
        **{
            name: getattr(report, name)[:0]
            for name in ("support", "coefficients", "residual", "slack", "depth", "bias_depth")
        },
        below_rounding=np.zeros(0, bool),
        proof=np.zeros(0, np.int8),
    )
    live.to_json(tmp_path / "a")
    live.save(tmp_path / "b")
    assert_same(live, ArgmaxableReport.from_json(tmp_path / "a"))
    assert_same(live, ArgmaxableReport.load(tmp_path / "b"))
    assert live.verify()


def test_json_reads_well(tmp_path):
    make_report().to_json(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["counts"] == {"checked": 16, "argmaxable": 12, "unargmaxable": 3, "undecided": 1}
    first = content["unargmaxable"][0]
    assert (first["class"], first["proof"], first["support"]) == (12, "INTERVAL", [0, 1, 2, 3])
    assert content["undecided"] == [
        {"class": 15, "margin": -0.5, "reason": "left out by this test"}
    ]
    assert len((tmp_path / "report.json").read_text().splitlines()) < 150


def test_files_that_cannot_be_written_are_named(tmp_path):
    report = make_report()
    with pytest.raises(IsADirectoryError, match=r": is a folder, expected a file"):
        report.to_json(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none/r.npz: there is no folder .*none"):
        report.save(tmp_path / "none" / "r.npz")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are those of POSIX")
@pytest.mark.parametrize("kind", ["json", "npz"])
def test_links_and_pipes_stay_what_they_are(tmp_path, kind):
    report = make_report()
    write = report.to_json if kind == "json" else report.save
    read = ArgmaxableReport.from_json if kind == "json" else ArgmaxableReport.load
    link, target, pipe = tmp_path / "latest", tmp_path / "report", tmp_path / "pipe"
    link.symlink_to(target.name)
    write(link)
    assert link.is_symlink()
    assert read(target).fingerprint == report.fingerprint
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as received:
        write(pipe)  # less than the pipe holds
        assert pipe.is_fifo()
        assert received.read() == target.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([link, target, pipe])


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_failed_write_leaves_nothing(tmp_path, monkeypatch, kind):
    report = make_report()
    path = tmp_path / "report"
    write = report.to_json if kind == "json" else report.save
    path.write_text("before")

    def fail(*_):
        raise OSError("disk full")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(_report_files.os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                write(path)
        assert os.listdir(tmp_path) == ["report"]
        assert path.read_text() == "before"
    write(path)
    assert os.listdir(tmp_path) == ["report"]
    with pytest.raises(FileNotFoundError):
        (report.to_json if kind == "json" else report.save)(tmp_path / "missing" / "report")


def damaged_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


JSON_DAMAGE = [
    (lambda c: c.update(format="other"), "not a logitkit argmaxable report"),
    (lambda c: c.update(schema=99), "schema 99: this version of logitkit reads schema 1"),
    (lambda c: c.pop("arrays"), "arrays is missing"),
    (lambda c: c["arrays"].pop("metric"), "metric is missing"),
    (lambda c: c["arrays"]["metric"].update(dtype="float32"), r"arrays.metric.dtype is 'float32'"),
    (lambda c: c["arrays"]["metric"].update(base64="?"), "arrays.metric cannot be read"),
    (lambda c: c["arrays"]["margins"].update(shape=[17]), "arrays.margins cannot be read"),
    (lambda c: c["arrays"]["margins"].update(shape=[4, 4]), "margins is a .* with 2 axes"),
    (lambda c: c.update(shape=[16, 4]), r"witnesses has shape \(7, 3\), expected \(7, 4\)"),
    (lambda c: c.update(shape=[10, 3]), "classes are not ascending indices"),
    (lambda c: c.update(shape=[16]), "shape is"),
    (lambda c: c.update(rank="3"), "rank is a str, expected a int"),
    (lambda c: c.update(features={"lo": 1, "hi": 0}), "features, reasons or seconds"),
    (lambda c: c["unargmaxable"].pop(), "support_offsets has shape"),
    (lambda c: c["unargmaxable"][1].pop("slack"), r"unargmaxable\[1\] cannot be read.*slack"),
    (lambda c: c["unargmaxable"][1]["support"].pop(), r"unargmaxable\[1\].*3 classes and 4"),
    (lambda c: c["unargmaxable"][1].update(proof="SURE"), r"unargmaxable\[1\].*SURE"),
    (lambda c: c["unargmaxable"][1]["support"].__setitem__(0, 99), "support names a class"),
]


@pytest.mark.parametrize(("edit", "message"), JSON_DAMAGE, ids=[m for _, m in JSON_DAMAGE])
def test_damaged_json(tmp_path, edit, message):
    path = tmp_path / "report.json"
    make_report().to_json(path)
    damaged_json(path, edit)
    with pytest.raises(ValueError, match=rf"report\.json: .*{message}"):
        ArgmaxableReport.from_json(path)


def test_truncated_files(tmp_path):
    report = make_report()
    for write, read, name in (
        (report.to_json, ArgmaxableReport.from_json, "r.json"),
        (report.save, ArgmaxableReport.load, "r.npz"),
    ):
        path = tmp_path / name
        write(path)
        whole = path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 40):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=name):
                read(path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing")
    path.write_bytes(b"\xff\xfe\x00" * 50)
    for read in (ArgmaxableReport.from_json, ArgmaxableReport.load):
        with pytest.raises(ValueError, match=r"r\.npz"):
            read(path)


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_flipped_bytes_are_seen_or_harmless(tmp_path, kind):
    report = make_report()
    path = tmp_path / "report"
    (report.to_json if kind == "json" else report.save)(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        flipped = whole.copy()
        flipped[rng.integers(whole.size, size=2)] = rng.integers(256, size=2)
        path.write_bytes(flipped.tobytes())
        try:
            again = (ArgmaxableReport.from_json if kind == "json" else ArgmaxableReport.load)(path)
            again.verify(report.weight, report.bias)
        except ValueError:
            continue  # seen


def test_damaged_npz(tmp_path):
    path = tmp_path / "r.npz"
    np.savez(path, weight=np.zeros(3))
    with pytest.raises(ValueError, match=r"r\.npz: below_rounding is missing"):
        ArgmaxableReport.load(path)
    np.save(tmp_path / "r.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"r\.npy: an npy file"):
        ArgmaxableReport.load(tmp_path / "r.npy")
    make_report().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"support": arrays["support"].astype(np.int32)})
    with pytest.raises(ValueError, match="support is a int32 array"):
        ArgmaxableReport.load(path)
    np.savez(path, **arrays | {"metadata": np.array([{}], object)})  # would need pickle
    with pytest.raises(ValueError, match=r"r\.npz"):
        ArgmaxableReport.load(path)
