# # A network of your own
#
# This demo illustrates how to
#
# - write a network as a plain PyTorch module,
# - train it in the place of the networks of the package,
# - load it, and solve with it,
# - make it known by a name, so that settings can refer to it.
#
# ## What a network is
#
# A module whose `forward(Z, domain)` maps windows to local matrices. `Z` is $\log A$ on the patch $N^\ell(T)$ of an
# element, padded to full size, of shape `(n, m, m)` with $m = (2\ell+1) H/\varepsilon$. `domain` marks the elements of
# the patch, shape `(n, 2ℓ+1, 2ℓ+1)`: 1 in $D$, 0 beyond a no-flow face and for inactive elements, -1 beyond a face
# where $u$ is given. The result has shape `(n, (2ℓ+2)^2, 4)`: the local matrix $S_T$ of (3.6), one row for each node of
# the patch, one column for each node of the element, both with x fastest. The window, `Window.of(grid)`, has these
# numbers; a network is made for a window and serves every grid that has it.
#
# `forward_field` does the same for whole padded fields, for all elements at once. A convolutional network shares most
# of its work between overlapping patches there.

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from nnlod_fenics import NNLOD, Dataset, TrainingSettings, generate, load_config, make_field, solve, train
from nnlod_fenics.network import build_network, count_parameters, register_network
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.figures import plot_cross_sections, plot_local_matrix, plot_loss
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.window import Window

parser = argparse.ArgumentParser()
parser.add_argument("--realizations", type=int, default=100)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--output", type=Path, default=Path("out_own_network"))
arguments = parser.parse_args()


# ## The network
#
# Two convolutions: the first one sees the cells of one coarse element, the second one the elements of a patch. It
# predicts $S_T e^{-c}$, where $c$ is the mean of $Z$ on $T$, since $S_T$ is as large as the coefficient on $T$.


class TwoConvolutions(nn.Module):
    def __init__(self, window, channels=48, width=192):
        super().__init__()
        self.window = window
        rows, columns = window.matrix_shape
        self.element = nn.Sequential(nn.Conv2d(1, channels, window.cells, stride=window.cells), nn.GELU())
        self.patch = nn.Sequential(
            nn.Conv2d(channels + 1, width, window.width),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, rows * columns, 1),
        )

    def forward(self, Z, domain):
        return self.forward_field(Z, domain).flatten(0, 1)  # a window is a field with one element

    def forward_field(self, Z, domain):
        Z, domain, layers = Z[:, None], domain[:, None], self.window.layers
        mean = nn.functional.avg_pool2d(Z, self.window.cells)[:, :, layers:-layers, layers:-layers]
        S = self.patch(torch.cat([self.element(Z), domain], dim=1)) * mean.exp()
        return S.permute(0, 2, 3, 1).reshape(len(Z), -1, *self.window.matrix_shape)


# ## Data and training
#
# The module is passed to `train` as it is. The best weights, the losses and the estimates of the errors are kept in the
# model folder, as for any other network.

config = load_config(
    None,
    [
        "grid.coarse=8",
        "grid.fine=64",
        "grid.coefficient=32",
        "field.variance=0.5",
        "field.correlation_length=0.1",
        f"dataset.realizations={arguments.realizations}",
    ],
)
data = generate(config, arguments.output / "data", overwrite=True)
grid = config.make_grid()
torch.manual_seed(0)
window = Window.of(grid)
network = TwoConvolutions(window)
print(f"{count_parameters(network)} weights")
settings = TrainingSettings(epochs=arguments.epochs, learning_rate=2e-3)
folder = train(Dataset(data), arguments.output / "model", network=network, settings=settings, overwrite=True)
history = json.loads((folder / "loss.json").read_text())
plot_loss(arguments.output / "loss.png", [h["train"] for h in history], [h["validation"] for h in history])

# ![The loss](out_own_network/loss.png)
#
# ## Use
#
# A model folder holds weights and no code, so that the module is given again when it is loaded.

model = NNLOD.load(folder, network=TwoConvolutions(window))
print(f"test loss (4.1): {model.test_loss:.2e}")

law = make_field(model.law, grid.dim, grid.coefficient)
A = law.sample(seed=0, index=0, stage=Stream.FRESH).A
exact, predicted = solve(grid, A, "lod"), solve(grid, A, "nn", model=model)
middle = grid.num_elements // 2 + grid.coarse[0] // 2
plot_local_matrix(
    arguments.output / "local_matrix.png", grid, {"PG-LOD": exact.S[middle], "NN-LOD": predicted.S[middle]}
)
plot_cross_sections(arguments.output / "cross_sections.png", {"PG-LOD": exact.u, "NN-LOD": predicted.u})
print(f"relative L2 error of NN-LOD against PG-LOD: {relative_l2(predicted.u, exact.u):.2e}")

# ![A local matrix, computed and predicted](out_own_network/local_matrix.png)
#
# ![The solutions along two lines](out_own_network/cross_sections.png)
#
# ## Name
#
# From here on, `network.name = "two-convolutions"` works in settings, with the arguments of the class as options, and a
# model that was trained by that name is loaded without its module. Each program that uses it registers it first.

register_network("two-convolutions", TwoConvolutions)
named = load_config(None, ["network.name=two-convolutions", "network.options={channels = 16}"]).network
print(f"{count_parameters(build_network(named.name, window, **named.options))} weights with fewer channels")
