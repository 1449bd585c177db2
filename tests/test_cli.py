"""The command `logitkit check`: options, tables, exit codes, and every kind of bad input."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import logitkit
from logitkit.cli import _nearest
from logitkit.cli._app import app
from logitkit.cli._visible import visible

N, D = 6, 2
# The corners of a square win; its centre and a point inside of it never do.
WEIGHT = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [0, 0], [0.25, 0]], np.float32)
LABELS = ["[red]", "b", "c", "d", " ", "\u0301"]


class Check:
    """Stands in for check_argmaxable: says what it is told and remembers how it was asked."""

    def __init__(self, dead=(), undecided=(), deployed_dtype=None):
        live = np.setdiff1d(np.arange(N), [*dead, *undecided])
        self.report = SimpleNamespace(
            unargmaxable=np.array(dead, np.int64),
            undecided=np.array(undecided, np.int64),
            argmaxable=live,
            depth=np.linspace(0.5, 1e-9, len(dead)),
            bias_depth=np.zeros(len(dead)),
            below_rounding=np.arange(len(dead)) % 2 == 1,
            deployed_dtype=deployed_dtype,
            reasons=dict.fromkeys(undecided, "the pivots are singular"),
            weight=WEIGHT,
            to_json=lambda path: path.write_text("{}"),
        )

    def __call__(self, weight, bias=None, **options):
        """Answer at once, after two calls of the progress function."""
        self.weight, self.bias, self.options = weight, bias, options
        options["progress"](len(weight) // 2, len(weight))
        options["progress"](len(weight), len(weight))
        return self.report


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "m.npz", W=WEIGHT, b=np.zeros(N, np.float32))
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), "utf-8")
    return tmp_path / "m.npz"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # the width of a terminal, such as pytest's

    def run(*arguments, check=None):
        monkeypatch.setattr(logitkit, "check_argmaxable", check or Check(), raising=False)
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


# --- results --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dead", "undecided", "options", "code"),
    [
        ([], [], [], 0),
        ([4, 5], [], [], 0),
        ([], [5], [], 3),
        ([4], [5], [], 3),
        ([], [], ["--fail-on-unargmaxable"], 0),
        ([4, 5], [], ["--fail-on-unargmaxable"], 1),
        ([4], [5], ["--fail-on-unargmaxable"], 1),
        ([], [5], ["--fail-on-unargmaxable"], 3),
    ],
)
def test_exit_code(run, model, dead, undecided, options, code):
    result = run("check", model, *options, check=Check(dead, undecided))
    assert result.exit_code == code, result.output
    assert f"{N - len(dead) - len(undecided)} argmaxable" in result.stdout
    assert f"{len(dead)} unargmaxable" in result.stdout
    assert f"{len(undecided)} undecided" in result.stdout
    assert result.stderr == ""


def test_table(run, model):
    labels = model.parent / "labels.txt"
    check = Check([4, 5], deployed_dtype="float16")
    result = run("check", model, "--labels", labels, "--deployed-dtype", "float16", check=check)
    rows = [line for line in result.stdout.splitlines() if "U+" in line]
    assert "U+0020 SPACE" in rows[0]
    assert "0.5" in rows[0]
    assert "yes" in rows[0]
    assert "U+0301 COMBINING ACUTE ACCENT" in rows[1]
    assert "not certain" in rows[1]
    assert all("0 [red]" in row for row in rows)  # the lowest of four, and the closest
    assert "W: 6 classes x 2 features, float32" in result.stdout
    assert str(labels) in result.stdout


def test_long_table_ends_with_the_number_left_out(run, model):
    result = run("check", model, "--limit", 1, check=Check([3, 4, 5]))
    assert "... and 2 more (--limit N shows more, --json OUT writes all)" in result.stdout
    result = run("check", model, "--limit", 0, check=Check([3, 4, 5]))
    assert "... and 3 more" in result.stdout
    assert "nearest" not in result.stdout


def test_undecided_class_has_a_line_with_its_reason(run, model):
    labels = model.parent / "labels.txt"
    result = run("check", model, "--labels", labels, check=Check([4], [5]))
    named = "undecided: class 5 U+0301 COMBINING ACUTE ACCENT: the pivots are singular"
    assert named in result.stdout.splitlines()


def test_no_class_left(run, model):
    result = run("check", model, check=Check(list(range(N))))
    assert "none" in result.stdout


def test_options_reach_the_check(run, model):
    check = Check()
    options = ["--exact", "--threads", "2", "--box", "-100", "1e2", "--deployed-dtype", "bfloat16"]
    result = run("check", model, *options, check=check)
    assert result.exit_code == 0, result.output
    asked = check.options
    assert (asked["exact"], asked["threads"], asked["deployed_dtype"]) == (True, 2, "bfloat16")
    assert (asked["features"].lo, asked["features"].hi) == (-100, 100)
    np.testing.assert_array_equal(check.weight, WEIGHT)
    assert check.bias is not None
    assert run("check", model, "--no-bias", check=check).exit_code == 0
    assert (check.bias, check.options["features"], check.options["threads"]) == (None, None, None)


def test_transpose_and_names(run, model):
    np.savez(model, a=WEIGHT.T, c=np.ones((3, 3)))
    check = Check()
    assert run("check", model, "--weight", "a", "--transpose", check=check).exit_code == 0
    np.testing.assert_array_equal(check.weight, WEIGHT)


def test_report_file(run, model):
    out = model.parent / "out.json"
    result = run("check", model, "--json", out, "--limit", 1, check=Check([4, 5]))
    assert result.exit_code == 0
    assert out.read_text() == "{}"
    assert f"all are in {out}" in result.stdout


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"logitkit {importlib.metadata.version('logitkit')}"


def test_without_arguments_prints_help(run):
    assert "check" in run().output


@pytest.mark.parametrize("scale", [1.0, 1e-7])
@pytest.mark.parametrize("block", [1 << 25, 8 * 7 * 11])
def test_nearest_live(monkeypatch, scale, block):
    monkeypatch.setattr(_nearest, "_BLOCK_BYTES", block)
    rng = np.random.default_rng(5)
    weight = (1 + scale * rng.normal(size=(300, 7))).astype(np.float32)
    live, dead = np.arange(0, 300, 2), np.arange(1, 300, 2)
    gap = weight[dead, None].astype(float) - weight[None, live]
    found = _nearest.nearest_live(weight, live, dead)
    distance = ((weight[dead].astype(float) - weight[found]) ** 2).sum(1)
    np.testing.assert_allclose(distance, (gap**2).sum(2).min(1), rtol=1e-12)
    assert not np.isin(found, dead).any()


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("cat", "cat"),
        ("two words", "two words"),
        ("", "(empty)"),
        (" ", "U+0020 SPACE"),
        ("\u3000", "U+3000 IDEOGRAPHIC SPACE"),
        ("\n", "U+000A"),
        ("\u0301", "U+0301 COMBINING ACUTE ACCENT"),
        ("e\u0301", "e\u0301"),
        (" a", "<U+0020>a"),
        ("a\x1b[0m", "a<U+001B>[0m"),
        ("a\u200b", "a<U+200B>"),
        ("\ud800", "U+D800"),
        ("字", "字"),
    ],
)
def test_visible(label, shown):
    assert visible(label) == shown


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx"], "none.onnx: no such file"),
        (["empty"], "a folder without"),
        (["m.pt"], "unknown kind of file '.pt'"),
        (["short.onnx"], "not a complete .onnx file"),
        (["short.safetensors"], "not a complete .safetensors file"),
        (["short.npz"], "not a complete .npz file"),
        (["m.npz", "--weight", "w"], "no tensor named 'w'"),
        (["m.npz", "--weight", "b"], "expected (classes, features)"),
        (["m.npz", "--bias", "c"], "one number per class"),
        (["m.npz", "--bias", "b", "--no-bias"], "contradict each other"),
        (["m.npz", "--labels", "short.onnx"], "1 lines for 6 classes"),
        (["m.npz", "--labels", "none.txt"], "cannot read the labels"),
        (["m.npz", "--box", "1", "-1"], "not below"),
        (["m.npz", "--json", "no/out.json"], "there is no folder no"),
        (["m.npz", "--json", "empty"], "is a folder"),
        (["m.npz", "--json", "empty/../m.npz"], "would overwrite an input"),
        (["m.npz", "--threads", "0"], "threads"),
        (["m.npz", "--deployed-dtype", "int4"], "int4"),
        (["m.npz", "--nothing"], "nothing"),
        ([], "MODEL"),
    ],
)
def test_bad_input(run, model, monkeypatch, arguments, message):
    folder = model.parent
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "m.pt").write_bytes(b"x")
    for name in ("short.onnx", "short.safetensors", "short.npz"):
        (folder / name).write_bytes(b"cut")
    np.savez(model, W=WEIGHT, b=np.zeros(N), c=np.zeros(3))
    before = sorted(folder.iterdir())
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("weight[3, 1] is nan"), "logitkit: weight[3, 1] is nan"),
        (ModuleNotFoundError("needs python-flint"), "logitkit: needs python-flint"),
        (MemoryError(), "logitkit: not enough memory"),
    ],
)
def test_the_check_refuses(run, model, error, message):
    def check(*_, **__):
        raise error

    result = run("check", model, check=check)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)


def test_interrupt(run, model):
    def check(*_, **__):
        raise KeyboardInterrupt

    result = run("check", model, check=check)
    assert (result.exit_code, result.stderr) == (130, "logitkit: interrupted\n")


# --- real processes -------------------------------------------------------------------


def logitkit_process(*arguments, before="", **options):
    """Run the command in a process of its own; `before` is code that runs first."""
    code = f"{before}\nimport sys; from logitkit.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_process_without_the_extra(model):
    for name in ("typer", "rich"):
        before = f"import sys; sys.modules[{name!r}] = None"
        code, out, err = finish(logitkit_process("check", model, before=before))
        assert (code, out) == (2, "")
        assert err == f'logitkit: {name} is missing: pip install "logitkit[cli,io]"\n'


def test_process_import_does_not_load_the_extras():
    code = "import sys, logitkit; sys.exit(not {'typer', 'rich', 'onnx'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_process_bad_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"cut")
    code, out, err = finish(logitkit_process("check", tmp_path / "m.onnx"))
    assert (code, out) == (2, "")
    assert err.startswith(f"logitkit: {tmp_path / 'm.onnx'}: not a complete .onnx file")
    assert "Traceback" not in err


def test_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "logitkit", "check", str(tmp_path / "none.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"logitkit: {tmp_path / 'none.npz'}: no such file\n"


# A process that a shell started in the background ignores interrupts, and so would this one.
STAND_IN = """
import logitkit, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
def check(weight, bias=None, **options):
    print("started", flush=True)
    time.sleep(60)
logitkit.check_argmaxable = check
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_process_interrupted(model):
    process = logitkit_process("check", model, before=STAND_IN)
    for line in process.stdout:
        if line == "started\n":
            break
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert (code, err) == (130, "logitkit: interrupted\n")
    assert time.monotonic() - start < 5


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_process_whose_output_nobody_reads(model):
    process = logitkit_process("check", model)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == -signal.SIGPIPE  # 141 to a shell, and none of the codes above
    process.stderr.close()


# --- with the real check --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--fail-on-unargmaxable"], 1),
        (["--threads", "1", "--box", "-100", "100", "--deployed-dtype", "int8"], 0),
    ],
)
def test_process_end_to_end(model, options, code):
    out = model.parent / "out.json"
    labels = model.parent / "labels.txt"
    arguments = ["check", model, "--labels", labels, "--json", out, *options]
    returned, printed, err = finish(logitkit_process(*arguments))
    assert (returned, err) == (code, "")
    assert "U+0020 SPACE" in printed
    assert "2 unargmaxable" in printed
    report = logitkit.ArgmaxableReport.from_json(out)
    np.testing.assert_array_equal(report.unargmaxable, [4, 5])
    assert report.verify(WEIGHT, np.zeros(N, np.float32))


def test_process_weight_that_is_not_finite(model):
    weight = WEIGHT.copy()
    weight[3, 1] = np.nan
    np.savez(model, W=weight)
    out = model.parent / "out.json"
    code, _, err = finish(logitkit_process("check", model, "--json", out))
    assert code == 2
    assert err.startswith("logitkit: ")
    assert "nan" in err
    assert "Traceback" not in err
    assert not out.exists()
