"""Degrees of freedom and intervals against SciPy's tests, and against their own law."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from nnlod_fenics.statistics import half_width, satterthwaite


@pytest.mark.parametrize("scale", [1.0, 2.0**-465])
def test_two_parts_are_those_of_welch(scale, rng):
    """Also where squares of squared errors vanish, for which SciPy is asked at an ordinary scale."""
    a, b = rng.standard_normal(7), 3 * rng.standard_normal(12)
    squared, degrees = satterthwaite([(scale**2 * a.var(ddof=1) / 7, 7), (scale**2 * b.var(ddof=1) / 12, 12)])
    squared = squared / scale**2
    welch = scipy.stats.ttest_ind(a, b, equal_var=False)
    assert degrees == pytest.approx(welch.df, rel=1e-12)
    assert np.sqrt(squared) == pytest.approx((a.mean() - b.mean()) / welch.statistic, rel=1e-12)
    low, high = welch.confidence_interval(0.9)
    assert half_width(np.sqrt(squared), degrees, 0.9) == pytest.approx((high - low) / 2, rel=1e-12)


def test_one_part_and_parts_without_error():
    total, degrees = satterthwaite([(np.array([4.0, 0.0]), 9), (np.array([0.0, 0.0]), 3)], exact=5)
    assert total.tolist() == [4.0, 0.0] and degrees == pytest.approx([8.0, 5.0])
    assert half_width(0.0, 5, 0.95) == 0


def test_three_equal_parts_add_their_degrees():
    _, degrees = satterthwaite([(2.0, 5)] * 3)
    assert degrees == pytest.approx(12.0)
