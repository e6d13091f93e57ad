"""What is reported is what was run: scripts of lines, and expressions for tensors to the last bit."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import radam
from radam.audit.lockstep import same_bits
from radam.audit.script import Script, expression, keywords, literal
from radam.audit.strategies import LAYOUTS, lay_out

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.complex128)
ROOT = Path(__file__).parents[2]


def evaluated(text: str) -> torch.Tensor:
    result: torch.Tensor = eval(text, {"torch": torch, "inf": math.inf, "nan": math.nan})
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(shape=st.sampled_from([(), (3,), (0,), (2, 3), (2, 3, 2, 2), (1, 2)]), seed=st.integers(0, 2**32 - 1))
def test_a_literal_is_the_tensor(dtype: torch.dtype, layout: str, shape: tuple[int, ...], seed: int) -> None:
    """Its bits, dtype, shape and, where it has any, strides."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    tensor = lay_out((values * 10.0 ** (seed % 9 - 4)).to(dtype), layout)
    seen = evaluated(literal(tensor))
    assert same_bits(seen, tensor), f"{literal(tensor)} is {seen}, but should be {tensor}"
    if tensor.numel():
        assert seen.stride() == tensor.stride()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308])
def test_numbers_at_the_edge(value: float) -> None:
    tensor = torch.tensor([value, 1.0], dtype=torch.float64)
    seen = evaluated(literal(tensor))
    assert same_bits(seen, tensor)
    assert math.copysign(1.0, seen[0].item()) == math.copysign(1.0, value) or math.isnan(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_expanded_and_pending_tensors(dtype: torch.dtype) -> None:
    """Stride 0 is kept; a conjugate or a negative that is pending is resolved."""
    row = torch.tensor([1.5, 2.5], dtype=dtype)
    for tensor in (row.expand(3, 2), row[:1].expand(4), row[0].expand(2, 3), row[:, None].expand(2, 3)):
        seen = evaluated(literal(tensor))
        assert same_bits(seen, tensor)
        assert seen.stride() == tensor.stride()
    pending = torch.complex(row.real.float(), row.real.float()).conj()
    assert same_bits(evaluated(literal(pending.imag)), pending.imag)


def test_options_as_keywords() -> None:
    options = {"lr": 0.1, "betas": (0.9,), "flag": True, "name": "x", "tensor": torch.tensor(0.5)}
    expected = "lr=0.1, betas=(0.9,), flag=True, name='x', tensor=torch.tensor(0.5, dtype=torch.float32)"
    assert keywords(options) == expected
    assert expression((0.5, math.inf)) == "(0.5, inf)"


def test_lines_are_run_and_kept() -> None:
    script = Script()
    script.do("x = torch.zeros(2)\nx += 1")
    script.tell("assert x.sum() == 3")
    assert script.value("x.tolist()") == [1.0, 1.0]
    assert script.text() == "import torch\n\nx = torch.zeros(2)\nx += 1\nassert x.sum() == 3\n"


def test_a_line_that_fails_is_kept_too() -> None:
    script = Script()
    with pytest.raises(ZeroDivisionError):
        script.do("1 / 0")
    assert "1 / 0" in script.text()


def test_an_expression_that_fails_is_kept_too() -> None:
    script = Script()
    assert script.value("1 + 1") == 2
    with pytest.raises(ZeroDivisionError):
        script.value("1 / 0")
    assert script.text().splitlines()[-1] == "1 / 0"
    assert "1 + 1" not in script.text()


class Outer:
    class Inner(radam.RAdam):
        """An optimizer that is found through its outer class."""


@pytest.mark.deep
def test_imports_are_those_that_are_needed(tmp_path: Path) -> None:
    """The text runs by itself: torch, the classes that were taken, and what the lines use of the standard library."""
    script = Script()
    assert script.take(radam.RAdam, "radam") == "RAdam"
    assert script.take(Outer.Inner) == "Inner"
    script.do("p = torch.nn.Parameter(torch.tensor([nan]))\nq = copy.deepcopy(p)\na, b = RAdam([p]), Inner([q])")
    path = tmp_path / "script.py"
    path.write_text(script.text() + "print(type(b).__mro__[1].__name__)\n", encoding="utf-8")
    assert "import pickle" not in script.text()
    result = subprocess.run([sys.executable, str(path)], cwd=ROOT, env=_with_root(), capture_output=True, text=True)
    assert result.stdout == "RAdam\n", result.stderr


def _with_root() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
