"""bench/gpu.py, of which nobody sees a mistake before there is a GPU."""

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def _path():
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture
def cases(_path):
    return importlib.import_module("gpu_cases")


@pytest.fixture
def gpu(_path):
    return importlib.import_module("gpu")


@pytest.fixture
def clockless(monkeypatch):
    """Let events and the GPU's sleep do nothing, where there is no GPU."""

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        record = synchronize = lambda self: None

        def elapsed_time(self, other):
            return 1.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: None, raising=False)


@pytest.mark.parametrize("section", ["reductions", "attention", "products", "layers", "updates"])
def test_every_case_is_right_and_has_its_line(cases, gpu, clockless, device, section, capsys):
    if device != "cpu":
        pytest.skip("bench/gpu.py itself runs here")
    torch.manual_seed(0)
    limits = gpu.Limits(1e12, 1e15)
    names = [name for name, _ in cases.SECTIONS[section](cases.TINY)]
    assert len(set(names)) == len(names) > 1
    for name, make in cases.SECTIONS[section](cases.TINY):
        text = gpu.result(name, make(), limits)
        assert text.count(" | ") == len(gpu.HEADER) - 1, text
        assert "1000.0 us" in text
    capsys.readouterr()  # which peers cannot run here


def test_the_class_check_has_its_line(cases, gpu):
    text = gpu.class_check(cases.TINY)
    assert "verified" in text
    assert text.count(" | ") == len(gpu.HEADER) - 1


def test_a_wrong_result_has_no_time(cases, gpu):
    case = cases.Case([()], {"logitkit": lambda: None}, float("inf"), 1.0)
    assert "WRONG" in gpu.result("name", case, gpu.Limits(1.0, 1.0))


def test_errors_of_nan_are_infinite(cases):
    nan, one = torch.tensor([torch.nan]), torch.ones(1)
    assert cases.difference(nan, one) == float("inf")
    assert cases.share_of_largest([nan], [one]) == float("inf")


def test_cases_that_fail_break_or_hang_take_no_other_with_them(gpu, monkeypatch, tmp_path, capsys):
    script = tmp_path / "section.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            first = int(sys.argv[sys.argv.index("--first") + 1])
            for k in range(first, 6):
                print(f"# {k} case {k}", flush=True)
                if k == 1:
                    time.sleep(60.0)
                if k == 2:
                    print("| case 2 | FAILED: illegal |", flush=True)
                    sys.exit(3)
                if k == 4:
                    os.abort()
                print(f"| case {k} | fine |", flush=True)
            """
        )
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "PATIENCE", 5.0)
    table = tmp_path / "table.md"
    run = gpu.Run(table, deadline=float("inf"))
    run.section("reductions", [])
    lines = table.read_text().splitlines()
    assert lines == [
        "| case 0 | fine |",
        "| case 1 | FAILED: hangs |",
        "| case 2 | FAILED: illegal |",
        "| case 3 | fine |",
        "| case 4 | FAILED: status -6 of its process |",
        "| case 5 | fine |",
    ]
    capsys.readouterr()


def test_a_process_that_cannot_begin_ends_its_section(gpu, monkeypatch, tmp_path, capsys):
    script = tmp_path / "section.py"
    script.write_text("raise SystemExit(1)")
    monkeypatch.setattr(gpu, "__file__", str(script))
    run = gpu.Run(tmp_path / "table.md", deadline=float("inf"))
    run.section("layers", [])
    assert run.lines == ["| layers | FAILED: status 1 of its process |"]
    capsys.readouterr()
