"""Unusual optimizers, missing values, codebooks, states."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nncheck import Recipe
from tests.gradient_setups.parts import Net, loader, recipe, sound, vectors


@sound
def sparse() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(50, 8, sparse=True)
            self.h = nn.Linear(8, 4)

        def forward(self, x):
            return self.h(self.e(x).mean(1))

    model = Model()
    return recipe(
        model,
        opt=torch.optim.SGD(model.parameters(), lr=0.1),
        data=loader(torch.randint(0, 50, (128, 5)), torch.randint(0, 4, (128,))),
    )


@sound
def lbfgs() -> Recipe:
    model = Net()
    return recipe(model, opt=torch.optim.LBFGS(model.parameters()))


@sound
def sam() -> Recipe:
    class SAM(torch.optim.Optimizer):
        def __init__(self, p):
            super().__init__(p, {"lr": 0.1})

        def step(self, closure=None):
            assert closure is not None, "SAM requires closure"
            weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
            length = torch.stack([p.grad.norm() for p in weights]).norm()
            uphill = [0.05 * p.grad / length.clamp_min(1e-12) for p in weights]
            with torch.no_grad():
                torch._foreach_add_(weights, uphill)
            closure()
            with torch.no_grad():
                torch._foreach_sub_(weights, uphill)
                torch._foreach_add_(weights, [p.grad for p in weights], alpha=-self.param_groups[0]["lr"])

    model = Net()
    return recipe(model, opt=SAM(model.parameters()))


@sound
def aux_zero_weight() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Linear(8, 32)
            self.h1 = nn.Linear(32, 4)
            self.h2 = nn.Linear(32, 4)
            self.beta = 0.0

        def forward(self, x):
            hh = self.b(x).relu()
            return self.h1(hh), self.h2(hh)

    model = Model()
    return recipe(
        model,
        loss=lambda output, target: (
            F.cross_entropy(output[0], target) + model.beta * F.cross_entropy(output[1], target)
        ),
    )


@sound
def ppo() -> Recipe:
    x, y = vectors()
    old = torch.randn(256) * 0.1 - 1.4
    adv = torch.randn(256)
    ds = [(x[i], {"a": y[i], "old": old[i], "adv": adv[i]}) for i in range(256)]

    def loss(output, target):
        lp = output.log_softmax(1).gather(1, target["a"][:, None])[:, 0]
        r = (lp - target["old"]).exp()
        return -torch.min(r * target["adv"], r.clamp(0.8, 1.2) * target["adv"]).mean()

    return recipe(Net(), loss=loss, data=torch.utils.data.DataLoader(ds, batch_size=32))


@sound
def nan_padding() -> Recipe:
    x = torch.randn(128, 6, 1)
    x[:, 4:] = float("nan")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 8)
            self.h = nn.Linear(8, 4)

        def forward(self, x):
            k = ~x.isnan()
            z = self.layer(torch.nan_to_num(x)) * k
            return self.h(z.sum(1) / k.sum(1))

    return recipe(Model(), data=loader(x, torch.randint(0, 4, (128,))))


@sound
def nan_targets_masked() -> Recipe:
    x, _y = vectors()
    target = x[:, :2].clone()
    target[::3, 0] = float("nan")

    def loss(output, target):
        k = ~target.isnan()
        return F.mse_loss(output[k], target[k])

    return recipe(Net(classes=2), loss=loss, data=loader(x, target))


@sound
def mha_mask() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(20, 16)
            self.a = nn.MultiheadAttention(16, 2, batch_first=True)
            self.h = nn.Linear(16, 20)

        def forward(self, x):
            z = self.e(x)
            model = torch.full((x.size(1),) * 2, float("-inf")).triu(1)
            z = self.a(z, z, z, attn_mask=model)[0]
            return self.h(z).transpose(1, 2)

    x = torch.randint(0, 20, (64, 8))
    return recipe(Model(), data=loader(x, x.roll(-1, 1)))


@sound
def detr_queries_zero() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Parameter(torch.zeros(5, 16))
            self.qp = nn.Embedding(5, 16)
            self.e = nn.Linear(1, 16)
            self.a = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
            self.h = nn.Linear(16, 4)

        def forward(self, x):
            return self.h(self.a((self.q + self.qp.weight).expand(len(x), -1, -1), self.e(x[..., None])).mean(1))

    return recipe(Model())


@sound
def vq_ema_codebook() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.Linear(8, 4)
            self.codebook = nn.Embedding(16, 4)
            self.dec = nn.Linear(4, 8)

        def forward(self, x):
            z = self.enc(x)
            i = torch.cdist(z, self.codebook.weight).argmin(1)
            q = self.codebook(i).detach()
            if self.training:
                with torch.no_grad():
                    self.codebook.weight.data.index_add_(0, i, 0.01 * (z - q))
            return self.dec(z + (q - z).detach())

    x, _y = vectors()
    return recipe(Model(), loss=nn.MSELoss(), data=loader(x, x))


@sound
def warm_all_zero() -> Recipe:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: i / 100)
    return recipe(model, opt=optimizer, scheduler=scheduler)


@sound
def stateful_rnn() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.GRU(1, 8, batch_first=True)
            self.h = nn.Linear(8, 4)
            self.state = None

        def forward(self, x):
            output, hh = self.r(x[..., None], self.state)
            self.state = hh.detach()
            return self.h(output[:, -1])

    return recipe(Model(), data=loader(*vectors(), shuffle=False))  # a state is carried on where order means something


@sound
def tied() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(20, 16)
            self.layer = nn.LSTM(16, 16, batch_first=True)
            self.h = nn.Linear(16, 20, bias=False)
            self.h.weight = self.e.weight
            nn.init.normal_(self.e.weight, 0, 0.02)

        def forward(self, x):
            return self.h(self.layer(self.e(x))[0]).transpose(1, 2)

    x = torch.randint(0, 20, (64, 8))
    return recipe(Model(), data=loader(x, x.roll(-1, 1)))


@sound
def offset_loss() -> Recipe:
    return recipe(Net(), loss=lambda output, target: F.cross_entropy(output, target) + 1e6)


@sound
def near_zero_loss() -> Recipe:
    return recipe(Net(), loss=lambda output, target: F.cross_entropy(output, target) - 1.38)


@sound
def zero_head() -> Recipe:
    model = Net()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return recipe(model)


@sound
def const_head() -> Recipe:
    model = Net()
    nn.init.constant_(model.head.weight, 0.01)
    return recipe(model)


@sound
def gate_const() -> Recipe:
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(32, 1)
            nn.init.constant_(self.gate.weight, 0.1)

        def forward(self, x):
            b = self.body(x)
            return self.head(self.gate(b).sigmoid() * self.mid(b))

    return recipe(Model())


@sound
def checkpointed() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return self.head(checkpoint(self.mid, self.body(x), use_reentrant=False))

    return recipe(Model())


@sound
def checkpointed_reentrant() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return self.head(checkpoint(self.mid, self.body(x), use_reentrant=True))

    return recipe(Model())
