"""SciPy's own tests of its softmax family, read where SciPy is installed, on our functions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import scipy

SUITE = Path(scipy.__file__).parent / "special" / "tests" / "test_logsumexp.py"

# The tests of the suite that we fail by intention, each with its reason.
DEVIATIONS = {}

# The suite's names are replaced after its import: its decorators look SciPy's functions up.
# What it needs from SciPy's conftest.py (the fixture of the array namespace, NumPy alone unless
# SCIPY_ARRAY_API is set, and marks) pytest finds by itself, beside the suite.
RUN = """
import json, sys
import logitkit, pytest

class Replaced:
    outcomes = {}

    def pytest_collection_finish(self, session):
        for module in {item.module for item in session.items}:
            for name in ("logsumexp", "softmax", "log_softmax"):
                assert callable(getattr(module, name))
                setattr(module, name, FUNCTION)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("::")[2]
            self.outcomes[name] = report.outcome if report.when == "call" else "error"

suite, results = sys.argv[1:]
pytest.main([suite, "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "error::RuntimeWarning"], plugins=[Replaced()])
with open(results, "w") as file:
    json.dump(Replaced.outcomes, file)
"""


def outcomes(function, folder):
    """Run the suite on ``function``, an expression of ``name``, and return what became of it."""
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < (1, 16):
        pytest.skip("the suite of SciPy before 1.16 is another one")
    if not SUITE.exists():
        pytest.skip(f"this SciPy was installed without its tests: no {SUITE}")
    results = folder / "outcomes.json"
    done = subprocess.run(
        [sys.executable, "-c", RUN.replace("FUNCTION", function), SUITE, results],
        cwd=folder,  # away from our pytest settings
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert results.exists(), done.stderr
    print(done.stdout)  # which pytest shows if the test fails
    return json.loads(results.read_text())


def test_passes_on_our_functions(tmp_path):
    outcome = outcomes("getattr(logitkit, name)", tmp_path)
    assert list(outcome.values()).count("passed") >= 100
    assert {name for name, how in outcome.items() if how in ("failed", "error")} == set(DEVIATIONS)


def test_fails_on_others(tmp_path):
    outcome = outcomes("lambda x, *args, **kwargs: x", tmp_path)
    assert list(outcome.values()).count("failed") >= 100
