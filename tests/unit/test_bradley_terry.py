"""Bradley–Terry's preference probability against hand arithmetic and its own symmetries."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from rlhf.bradley_terry import preference_probability


def test_importing_it_and_asking_for_one_number_needs_no_torch():
    code = "import sys; from rlhf.bradley_terry import preference_probability as p; p(1, 0); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("a", "b", "probability"),
    [(0, 0, 0.5), (math.log(3), 0, 0.75), (5 + math.log(9), 5, 0.9), (-math.log(3), 0, 0.25), (1e308, -1e308, 1.0), (-1000.0, 0.0, 0.0)],
)
def test_hand_arithmetic(a, b, probability):
    """odds exp(a − b) of 1, 3, 9 and 1/3 → 1/2, 3/4, 9/10, 1/4"""
    result = preference_probability(a, b)
    assert isinstance(result, float) and result == pytest.approx(probability, abs=1e-15)
    tensor = preference_probability(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert tensor.dtype == torch.float64 and tensor.item() == pytest.approx(probability, abs=1e-15)


def test_it_is_the_share_of_strengths():
    """strengths π = exp(s): P = π_a / (π_a + π_b)"""
    a, b = torch.randn(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(preference_probability(a, b), a.exp() / (a.exp() + b.exp()), rtol=1e-14, atol=0)


def test_both_orders_add_up_to_one_and_a_shift_changes_nothing():
    a, b = torch.randn(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 10
    p = preference_probability(a, b)
    torch.testing.assert_close(p + preference_probability(b, a), torch.ones(100, dtype=torch.float64))
    torch.testing.assert_close(preference_probability(a + 3, b + 3), p)


def test_small_types_are_computed_in_float64_and_shapes_broadcast():
    a = torch.tensor([[20_000_001], [20_000_000]])  # int64: float32 could not tell the two apart
    b = torch.tensor([20_000_000, 20_000_000, 20_000_000])
    p = preference_probability(a, b)
    assert p.shape == (2, 3) and p.dtype == torch.float64
    assert p[0, 0].item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-15) and p[1, 2].item() == 0.5
    assert preference_probability(torch.tensor([1.0], dtype=torch.bfloat16), 1).dtype == torch.float64
    assert preference_probability(1, torch.tensor(1.0)).item() == 0.5


def test_the_gradient_is_p_times_one_minus_p():
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    p = preference_probability(a, 0.2)
    p.backward()
    assert a.grad is not None and a.grad.item() == pytest.approx((p * (1 - p)).item(), abs=1e-15)
    torch.autograd.gradcheck(lambda x: preference_probability(x, 0.3), (a,))
