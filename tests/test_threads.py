"""csrc/threads and csrc/processors, through an op that uses them."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from logitkit import _cpu

X = np.random.default_rng(0).normal(size=(2000, 300)).astype(np.float32)  # ten tasks


def computed(threads):
    out = np.empty(len(X), np.float32)
    _cpu.logsumexp(X, 1, out, threads=threads)
    return out


EXPECTED = computed(1)


def in_new_process(code, **environment):
    """Run `code` where it can change what is per process, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PRINT_THREADS = "from logitkit import _cpu; print(_cpu.default_threads())"


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 8, 100])
def test_any_thread_count_gives_the_same_bits(threads):
    np.testing.assert_array_equal(computed(threads), EXPECTED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork")  # it is what is tested
@pytest.mark.parametrize("generations", [1, 2])
def test_forked_child_computes(generations):
    computed(4)  # the pool has threads, which the child does not inherit
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a hang is a failure, not a hang of the tests
        status = 1
        try:
            same = bool(np.all(computed(4) == EXPECTED))
            if generations == 2 and (grandchild := os.fork()):
                same = same and os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
            elif generations == 2:
                signal.alarm(20)
                same = bool(np.all(computed(3) == EXPECTED))
            status = 0 if same else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(computed(4), EXPECTED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_fork_while_other_threads_compute():
    with ThreadPoolExecutor(2) as executor:
        busy = [executor.submit(lambda: [computed(4) for _ in range(30)]) for _ in range(2)]
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                status = 1
                try:
                    status = 0 if np.all(computed(4) == EXPECTED) else 1
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for future in busy:
            future.result()


def test_many_python_threads_at_once():
    with ThreadPoolExecutor(8) as executor:
        for actual in executor.map(computed, [0, 1, 2, 3, 8] * 20):
            np.testing.assert_array_equal(actual, EXPECTED)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_workers_are_hired_at_first_need_and_kept():
    code = (
        "import numpy as np, os\n"
        "from logitkit import _cpu\n"
        "x, out = np.ones((4000, 1000), np.float32), np.empty(4000, np.float32)\n"
        "for threads in (1, 4, 4, 2):\n"
        "    before = len(os.listdir('/proc/self/task'))\n"
        "    _cpu.logsumexp(x, 1, out, threads=threads)\n"
        "    print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    assert in_new_process(code).split() == ["0", "3", "0", "0"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_default_honours_affinity():
    one = min(os.sched_getaffinity(0))
    assert in_new_process(f"import os; os.sched_setaffinity(0, [{one}]); {PRINT_THREADS}") == "1"
    assert int(in_new_process(PRINT_THREADS)) <= len(os.sched_getaffinity(0))


def test_environment_variable_lowers_the_default():
    assert in_new_process(PRINT_THREADS, LOGITKIT_NUM_THREADS="1") == "1"
    unlimited = in_new_process(PRINT_THREADS)
    for value in ("", "100000", "99999999999999999999999"):
        assert in_new_process(PRINT_THREADS, LOGITKIT_NUM_THREADS=value) == unlimited


@pytest.mark.parametrize("garbage", ["two", "0", "-1", "1.5", " 2", "2x"])
def test_garbage_in_the_environment_is_an_error(monkeypatch, garbage):
    monkeypatch.setenv("LOGITKIT_NUM_THREADS", garbage)
    with pytest.raises(ValueError, match=f"positive integer, not '{garbage}'"):
        computed(0)


def test_interpreter_exits_while_a_daemon_thread_computes():
    code = (
        "import numpy as np, threading, time\n"
        "from logitkit import _cpu\n"
        "x, out = np.ones((4000, 300), np.float32), np.empty(4000, np.float32)\n"
        "def forever():\n"
        "    while True: _cpu.logsumexp(x, 1, out, threads=4)\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "time.sleep(0.1)\n"
        "print('done')"
    )
    assert in_new_process(code) == "done"
