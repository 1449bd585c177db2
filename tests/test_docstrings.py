"""Every public name has a docstring that numpydoc accepts, by the settings in pyproject.toml."""

import inspect
import operator
import re
from pathlib import Path

import pytest

import logitkit

validate = pytest.importorskip("numpydoc.validate")
tomllib = pytest.importorskip("tomllib")  # Python 3.11

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def public_names(module):
    """Yield the full names of what a module exports, and of the public methods of its classes."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public_names(value)
            continue
        yield f"{module.__name__}.{name}"
        if inspect.isclass(value):
            for member, defined in vars(value).items():
                if not member.startswith("_") and callable(getattr(defined, "__func__", defined)):
                    yield f"{module.__name__}.{name}.{member}"


@pytest.fixture(scope="module")
def settings():
    if not PYPROJECT.exists():
        pytest.skip("no pyproject.toml beside the tests")
    return tomllib.loads(PYPROJECT.read_text())["tool"]["numpydoc_validation"]


@pytest.mark.parametrize("name", list(public_names(logitkit)))
def test_public_docstring(name, settings):
    if any(re.search(pattern, name) for pattern in settings["exclude"]):
        assert inspect.getdoc(operator.attrgetter(name.partition(".")[2])(logitkit))
        return
    ignored = set(settings["checks"]) - {"all"}
    errors = [error for error in validate.validate(name)["errors"] if error[0] not in ignored]
    assert not errors
