"""Scales of nodes in the head of the Galerkin form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlod_fenics.network.heads import EnergyHead
from nnlod_fenics.network.windows import levels_at_nodes
from nnlod_fenics.window import Window


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_levels_at_nodes_are_means_over_elements_around_them(dim):
    window, rng = Window(dim, 4, 2, 1, "galerkin"), np.random.default_rng(0)
    shape = (2, *(2 + 2 * window.layers for _ in range(dim)))
    level, inside = rng.standard_normal(shape), rng.random(shape) < 0.7
    found = levels_at_nodes(torch.from_numpy(level), torch.from_numpy(inside).double(), window).numpy()
    expected = []
    for field in range(2):
        for element in np.ndindex(*(2,) * dim):
            center = tuple(e + window.layers for e in element)
            for node in np.ndindex(*(4,) * dim):  # between elements p - 1 and p of the patch
                near = [np.array(node) - np.array(side) for side in np.ndindex(*(2,) * dim)]
                near = [tuple(n - 1 + np.array(center)) for n in near if n.min() >= 0 and n.max() <= 2]
                values = [level[(field, *n)] - level[(field, *center)] for n in near if inside[(field, *n)]]
                expected.append(np.mean(values) if values else 0.0)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-12)


def test_entries_have_the_sizes_of_their_nodes_whatever_the_contrast():
    """With random weights: no spill from conductive nodes to poor ones, and zero sums all the same."""
    torch.manual_seed(0)
    window = Window(2, 8, 4, 1, "galerkin")
    head = EnergyHead(window, 4).eval()
    head.head.bias.data.normal_()
    features = torch.randn(5, 32)
    levels = torch.linspace(np.log(1e-8), 0, 16)[None, :, None].repeat(5, 1, 1)
    zero = torch.zeros(5, 1)
    K = head(features, torch.ones(5, 16, 1), levels, zero, zero - 60)
    assert K.sum(dim=1).abs().max() < 1e-12 * K.abs().max()
    sizes = K.diagonal(dim1=1, dim2=2) / levels[..., 0].double().exp()
    assert float(sizes.max() / sizes.min()) < 1e3
