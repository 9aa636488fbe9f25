"""Numbers that are not finite, and first steps that go wrong."""

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Net, expects, loader, recipe, vectors


@expects("finite-values")
def nan_in_the_input() -> Recipe:
    x, y = vectors()
    x[77, 3] = float("nan")
    return recipe(Net(), data=loader(x, y, shuffle=False))


@expects("finite-values")
def inf_target() -> Recipe:
    x, _y = vectors()
    target = x[:, :1].clone()
    target[5] = float("inf")
    return recipe(Net(classes=1), loss=nn.MSELoss(), data=loader(x, target, shuffle=False))


@expects("finite-values")
def every_target_of_a_later_batch_ignored() -> Recipe:
    x, y = vectors()
    y[64:96] = -100
    return recipe(Net(), data=loader(x, y, shuffle=False))


@expects("finite-values")
def every_target_of_the_first_batch_ignored() -> Recipe:
    x, y = vectors()
    y[:32] = -100
    return recipe(Net(), data=loader(x, y, shuffle=False))


@expects("finite-values")
def where_around_a_square_root() -> Recipe:
    x, y = vectors()
    x[3] = 0.0

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Linear(8, 8, bias=False)
            self.h = nn.Linear(8, 4)

        def forward(self, x):
            z = self.e(x)
            return self.h(torch.where(z > 0, z.clamp(min=0).sqrt(), torch.zeros_like(z)))

    return recipe(Model(), data=loader(x, y, shuffle=False))


@expects("finite-values")
def square_root_of_zero() -> Recipe:
    x, _y = vectors()
    target = x[:, :1]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 1)

        def forward(self, x):
            return self.layer(x)

    def loss(output, target):
        return F.mse_loss(output, target) + torch.sqrt(((output - output) ** 2).sum())

    return recipe(Model(), loss=loss, data=loader(x, target))


@expects("finite-values")
def fully_masked_row() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Linear(1, 16)
            self.h = nn.Linear(16, 4)

        def forward(self, d):
            x, model = d["x"], d["mask"]
            h = self.e(x[..., None])
            a = (h @ h.transpose(1, 2) / 4).masked_fill(~model[:, None, :], float("-inf")).softmax(-1)
            return self.h((a @ h).mean(1))

    x, y = vectors()
    model = torch.rand(256, 8) > 0.2
    model[:, 0] = True
    model[70] = False
    ds = [({"x": x[i], "mask": model[i]}, y[i]) for i in range(256)]
    return recipe(Model(), data=torch.utils.data.DataLoader(ds, batch_size=32))


@expects("finite-values")
def constant_sample_divided_by_its_spread() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return super().forward((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True))

    x, y = vectors()
    x[40] = 1.0
    return recipe(Model(), data=loader(x, y, shuffle=False))


@expects("finite-values")
def log_of_zero() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return super().forward(x * 1000).softmax(1)

    return recipe(Model(), loss=lambda output, target: F.nll_loss(output.log(), target))


@expects("finite-values")
def nan_param() -> Recipe:
    model = Net()
    model.mid.bias.data[3] = float("nan")
    return recipe(model)


@expects("finite-values")
def optimizer_eps_of_zero() -> Recipe:
    class Model(Net):
        def forward(self, x):
            h = self.body(x)
            self.mid.bias.sum()
            return self.head(h) + 0 * self.mid(h).sum() * 0

    model = Net()

    class Z(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(20, 8)
            self.n = Net()

        def forward(self, x):
            return self.n(self.e(x.abs().long().clamp(max=5)).mean(1))

    model = Z()
    return recipe(model, opt=torch.optim.Adam(model.parameters(), lr=1e-3, eps=0.0))


@expects("finite-values")
def ctc_input_shorter_than_target() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 6)

        def forward(self, x):
            return self.layer(x).log_softmax(-1)

    x = torch.randn(64, 3, 8)
    y = torch.randint(1, 6, (64, 4))
    return recipe(
        Model(),
        loss=lambda output, target: F.ctc_loss(
            output.transpose(0, 1), target, torch.full((len(target),), 3), torch.full((len(target),), 4)
        ),
        data=loader(x, y),
    )


@expects("forward-pass")
def swapped_arguments() -> Recipe:
    return recipe(Net(), loss=lambda output, target: F.cross_entropy(F.one_hot(target, 4).float(), output.softmax(1)))


@expects("forward-pass")
def squeeze_on_a_last_batch_of_one() -> Recipe:
    x, _y = vectors(257)

    class Model(Net):
        def forward(self, x):
            return super().forward(x).squeeze()

    return recipe(Model(classes=1), loss=nn.MSELoss(), data=loader(x, x[:, 0]))


@expects("forward-pass")
def batch_norm_on_a_last_batch_of_one() -> Recipe:
    x, y = vectors(257)
    return recipe(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)), data=loader(x, y))
