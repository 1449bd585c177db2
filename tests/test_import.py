"""What `import logitkit` costs, and the variables that steer it."""

import os
import subprocess
import sys

import pytest

from logitkit import _cpu


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_numpy_is_the_only_third_party():
    code = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import logitkit\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - sys.stdlib_module_names - {"numpy"} == {"logitkit"}


def test_takes_under_a_tenth_of_a_second_beyond_numpy(tmp_path):
    code = (
        "import numpy, time\n"
        "start = time.process_time()\n"
        "import logitkit\n"
        "print(time.process_time() - start)\n"
    )
    # Once compiled: the first run leaves bytecode for the others, wherever sources are.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    seconds = []
    for _ in range(10):  # a busy machine can only slow an import down
        seconds.append(float(run(code, **bytecode).stdout))
        if seconds[-1] < 0.1:
            break
    assert min(seconds) < 0.1


def test_environment_variable_caps_the_instruction_set():
    code = "from logitkit import _cpu; print(_cpu.default_isa().name)"
    supported = [isa.name for isa in _cpu.supported_isas()]
    for isa in _cpu.Isa:
        chosen = run(code, LOGITKIT_ISA=isa.name).stdout.strip()
        assert chosen in supported
        if isa.name in supported:
            assert chosen == isa.name
    assert run(code, LOGITKIT_ISA="").stdout.strip() == supported[-1]


def test_unknown_instruction_set_is_an_error():
    done = run("import logitkit", LOGITKIT_ISA="mmx")
    assert done.returncode != 0
    assert "LOGITKIT_ISA must be" in done.stderr
    assert "not 'mmx'" in done.stderr


@pytest.mark.parametrize("isa", [isa.name for isa in _cpu.supported_isas()])
def test_public_functions_run_on_each(isa):
    code = "import numpy, logitkit; print(logitkit.logsumexp(numpy.float32([1000, 1000])))"
    assert run(code, LOGITKIT_ISA=isa).stdout.strip() == "1000.6932"
