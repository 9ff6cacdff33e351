"""Networks of a user's own: registered, checked, used on fields; and each kind of wrong one is refused."""

from __future__ import annotations

import doctest
import sys

import pytest
import torch
from torch import nn
from windows import cut, padded

from nnlod_fenics import Grid, InputError
from nnlod_fenics.network import registry as networks
from nnlod_fenics.network.registry import (
    NETWORKS,
    Network,
    build_network,
    check_network,
    forward_of_field,
    register_network,
)
from nnlod_fenics.window import Window

GRIDS = [
    Grid(1, 8, 32, 2, coefficient=32),
    Grid(2, 6, 18, 1, coefficient=18),
    Grid(2, 1, 4, 0),
    Grid(3, 4, 8, 1, coefficient=8),
]
FORMS = ("petrov-galerkin", "galerkin")
WINDOW = Window.of(GRIDS[1])


class Convolutional(nn.Module):
    """A network as a user would write one: nothing but forward."""

    def __init__(self, window: Window, channels: int = 6) -> None:
        super().__init__()
        layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[window.dim - 1]
        self.shape, self.cells = window.matrix_shape, window.cells
        self.first = layer(2, channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, channels)
        self.last = nn.Linear(channels * window.num_cells, self.shape[0] * self.shape[1])

    def forward(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        for axis in range(1, domain.ndim):
            domain = domain.repeat_interleave(self.cells, dim=axis)
        x = torch.relu(self.norm(self.first(torch.stack([Z, domain], dim=1))))
        return self.last(x.flatten(1)).unflatten(1, self.shape)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Names that a test registers are gone after it."""
    monkeypatch.setattr(networks, "NETWORKS", dict(NETWORKS))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.dim}d")
@pytest.mark.parametrize("name", ["structured", "paper", "mine", "galerkin", "loads"])
def test_good_networks_pass_and_are_left_as_they_are(name, grid):
    window = Window.of(grid, FORMS[name in ("galerkin", "loads")])
    if name == "mine":
        register_network(name, Convolutional)
    small = {"channels": 2, "means": 2}
    options = {"paper": {"widths": (20,)}, "mine": {"channels": 3}, "loads": small | {"loads": True}}.get(name, small)
    kind = name if name in ("paper", "mine") else "structured"
    network = build_network(kind, window, seed=0, **options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    network.train()
    check_network(network, window)
    assert network.training and all(p.grad is None for p in network.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("at_a_time", [1, 7, 10**6])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.dim}d")
@pytest.mark.parametrize("form", FORMS)
def test_fields_from_windows(form, grid, at_a_time, rng, monkeypatch):
    """Element by element, by the numbering of the grid, whatever the number of windows at a time."""
    window = Window.of(grid, form)
    network, Z = Convolutional(window).eval(), rng.standard_normal((2, *grid.coefficient_shape))
    fields = padded(grid, Z, form)
    seen: list[int] = []
    network.register_forward_hook(lambda _, given, output: seen.append(len(given[0])))
    monkeypatch.setattr(networks, "_CELLS", at_a_time * window.num_cells)
    with torch.no_grad():
        S = forward_of_field(network, window, *fields)
        assert max(seen) == min(at_a_time, 2 * grid.num_elements) and sum(seen) == 2 * grid.num_elements
        for k in range(2):
            torch.testing.assert_close(S[k], network(*cut(grid, Z[k], form)), rtol=0, atol=1e-5)
        assert forward_of_field(network, window, *(v[:0] for v in fields)).shape == (0, *S.shape[1:])


def test_fields_by_the_networks_own_method(rng):
    network = build_network("structured", WINDOW, seed=0, channels=2, means=2)
    fields = padded(GRIDS[1], rng.standard_normal((2, *GRIDS[1].coefficient_shape)))
    with torch.no_grad():
        assert torch.equal(forward_of_field(network, WINDOW, *fields), network.forward_field(*fields))


def test_registry():
    register_network("mine", Convolutional)
    register_network("made", lambda window, **options: Convolutional(window, **options))
    for name in ("mine", "made"):
        assert build_network(name, WINDOW, seed=0, channels=3).first.out_channels == 3
    with pytest.raises(InputError, match=r"network\.options\.chanels is no option of 'mine'; expected one of \['chan"):
        build_network("mine", WINDOW, chanels=3)
    register_network("demanding", lambda window, width: Convolutional(window, width))
    with pytest.raises(InputError, match=r"network\.options do not fit 'demanding': .*'width'"):
        build_network("demanding", WINDOW)
    for name in ("mine", "paper"):
        with pytest.raises(InputError, match=rf"name must be none of the networks .*, got '{name}'"):
            register_network(name, Convolutional)
    for name in ("", 3):
        with pytest.raises(InputError, match="name must be a string that is not empty, got"):
            register_network(name, Convolutional)
    with pytest.raises(InputError, match="factory must be a function or class that makes a network, got 'Conv'"):
        register_network("other", "Conv")


def test_example():
    """The example of the protocol runs."""
    names = {"Window": Window, "torch": torch} | {name: getattr(networks, name) for name in networks.__all__}
    found = doctest.DocTestFinder(recurse=False).find(Network, "Network", globs=names)
    assert found and len(found[0].examples) == 5
    assert doctest.DocTestRunner().run(found[0], out=sys.stderr.write).failed == 0


class Wrong(Convolutional):
    """The right one, of which tests break one part."""

    def change(self, S: torch.Tensor, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return S

    def forward(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return self.change(super().forward(Z, domain), Z, domain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda S, Z, i: S.mT, r"a floating tensor of shape \(2, 16, 4\) from forward, got shape \(2, 4, 16\)"),
        (lambda S, Z, i: S[:1], r"of shape \(2, 16, 4\) from forward, got shape \(1, 16, 4\) of torch.float32"),
        (lambda S, Z, i: S.long(), r"return a floating tensor of shape .* of torch.int64"),
        (lambda S, Z, i: (S, Z), r"return a tensor of shape \(2, 16, 4\) from forward, got tuple"),
        (lambda S, Z, i: S / i.sum(dim=(1, 2), keepdim=True).gt(8), "return finite values from forward, got NaN"),
        (lambda S, Z, i: S - S.mean(dim=0), "depends on that entry only, got a relative change by .* in entry 0 when"),
        (lambda S, Z, i: S.flip(0), "depends on that entry only"),
        (lambda S, Z, i: S.detach(), "that depends on its parameters, got one without a gradient"),
        (lambda S, Z, i: 0 * S + Z.sum(dim=(1, 2))[:, None, None], "pass a gradient to at least one parameter"),
        (lambda S, Z, i: S + (0 * S).sqrt(), "have finite gradients, got NaN"),
        (
            lambda S, Z, i: S.reshape(3, 5),
            r"Z of shape \(2, 9, 9\) and domain of shape \(2, 3, 3\) in forward, which fails: RuntimeError: ",
        ),
    ],
)
def test_wrong_results(change, message, monkeypatch):
    network = Wrong(WINDOW)
    monkeypatch.setattr(network, "change", change, raising=False)
    with pytest.raises(InputError, match=f"^network Wrong must .*{message}") as told:
        check_network(network, WINDOW)
    assert "\n" not in str(told.value)


def test_wrong_modules():
    with pytest.raises(InputError, match=r"network must be a torch.nn.Module, got <function"):
        check_network(lambda Z, domain: Z, WINDOW)
    with pytest.raises(InputError, match="network Convolutional must have at least one parameter to train, got none"):
        check_network(Convolutional(WINDOW).requires_grad_(False), WINDOW)
    with pytest.raises(InputError, match=r"network Linear must take Z of shape .*TypeError"):
        check_network(nn.Linear(9, 9), WINDOW)


@pytest.mark.parametrize("attribute", ["homogeneous", "takes_blocks"])
def test_wrong_attributes(attribute):
    network = Convolutional(WINDOW)
    setattr(network, attribute, "yes")
    with pytest.raises(InputError, match=f"must have True or False as its {attribute}, got 'yes'"):
        check_network(network, WINDOW)


def test_networks_that_are_not_what_they_say():
    network = Convolutional(WINDOW)
    network.homogeneous = True
    with pytest.raises(InputError, match=r"homogeneous and must fulfil S\(Z \+ c\) = e\^c S\(Z\), got a relative diff"):
        check_network(network, WINDOW)
    network = Convolutional(WINDOW)
    network.takes_blocks = True
    with pytest.raises(
        InputError, match=r"must take Z of shape \(1, 12, 15\) and domain of shape \(1, 4, 5\) in forward, which fails"
    ):
        check_network(network, WINDOW)


@pytest.mark.parametrize("order", ["y", "backward"])
def test_fields_in_another_order_are_refused(order):
    """Also those whose first element is right."""

    class Field(Convolutional):
        def forward_field(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
            right = Convolutional(WINDOW)
            right.load_state_dict(self.state_dict())
            S = forward_of_field(right, WINDOW, Z, domain).unflatten(1, (2, 3))
            return (S.transpose(1, 2) if order == "y" else S.flip(1, 2)).flatten(1, 2)

    with pytest.raises(InputError, match=r"must return from forward_field for 3 x 2 elements at once, x fastest, what"):
        check_network(Field(WINDOW), WINDOW)


def test_matrices_of_the_galerkin_form_must_be_symmetric():
    """The coarse solve reads one half only: half of an unsymmetric matrix would be ignored without a word."""

    class Unsymmetric(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(9, 16)

        def forward(self, Z, domain):
            K = self.layer(Z.flatten(1)).unflatten(1, (4, 4))
            return K + K.mT if self.symmetric else K

    window, network = Window(1, 3, 3, 1, "galerkin"), Unsymmetric()
    network.layer = nn.Linear(window.num_cells, 16)
    network.symmetric = True
    check_network(network, window)
    network.symmetric = False
    with pytest.raises(InputError, match=r"must return symmetric matrices in the Galerkin form, got a relative diff"):
        check_network(network, window)
