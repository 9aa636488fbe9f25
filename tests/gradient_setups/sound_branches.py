"""Branches that wake up late, networks that are not to be trained, experts."""

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import DiT, Lora, Net, loader, recipe, sound, vectors


@sound
def lora() -> Recipe:
    return recipe(Lora(False))


@sound
def lora_warmup0() -> Recipe:
    model = Lora(False)
    optimizer = torch.optim.AdamW([model.A, model.B], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i / 100))
    return recipe(model, opt=optimizer, scheduler=scheduler)


@sound
def lora_warmup0_noscheduler() -> Recipe:
    model = Lora(False)
    optimizer = torch.optim.AdamW([model.A, model.B], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i / 100))
    model.keep = [scheduler]
    return recipe(model, opt=optimizer)


@sound
def dit() -> Recipe:
    x, _y = vectors()
    return recipe(DiT(), loss=nn.MSELoss(), data=loader(x, torch.randn_like(x)))


@sound
def dit_warm() -> Recipe:
    x, _y = vectors()
    model = DiT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-8, 1, 100)
    return recipe(model, opt=optimizer, loss=nn.MSELoss(), data=loader(x, torch.randn_like(x)), scheduler=scheduler)


@sound
def rezero() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.i = nn.Linear(8, 32)
            self.layer = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
            self.a = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(6))
            self.h = nn.Linear(32, 4)

        def forward(self, x):
            x = self.i(x)
            for layer, a in zip(self.layer, self.a, strict=False):
                x = x + a * layer(x).relu()
            return self.h(x)

    return recipe(Model())


@sound
def layerscale() -> Recipe:
    class B(nn.Module):
        def __init__(self):
            super().__init__()
            self.dw = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.n = nn.GroupNorm(1, 16)
            self.p1 = nn.Conv2d(16, 64, 1)
            self.p2 = nn.Conv2d(64, 16, 1)
            self.g = nn.Parameter(1e-6 * torch.ones(16, 1, 1))

        def forward(self, x):
            return x + self.g * self.p2(F.gelu(self.p1(self.n(self.dw(x)))))

    x = torch.randn(128, 1, 8, 8)
    return recipe(
        nn.Sequential(
            nn.Conv2d(1, 16, 2, 2), *[B() for _ in range(6)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
        ),
        data=loader(x, torch.randint(0, 4, (128,))),
    )


@sound
def gan_g() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.G = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
            self.D = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    model = Model()

    def training_step(model, batch):
        return F.binary_cross_entropy_with_logits(model.D(model.G(batch[0])), torch.ones(len(batch[0]), 1))

    return Recipe(
        model=model,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.G.parameters(), lr=1e-3),
    )


@sound
def gan_g_closure() -> Recipe:
    G = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    D = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    od = torch.optim.Adam(D.parameters())
    G.keep = [od]

    def training_step(model, batch):
        return F.binary_cross_entropy_with_logits(D(model(batch[0])), torch.ones(len(batch[0]), 1))

    return Recipe(
        model=G,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(G.parameters(), lr=1e-3),
    )


@sound
def teacher_nograd_in_opt() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = Net()
            self.teacher = copy.deepcopy(self.student)

        def forward(self, x):
            with torch.no_grad():
                target = self.teacher(x)
            return self.student(x), target

    return recipe(
        Model(), loss=lambda output, target: F.cross_entropy(output[0], target) + F.mse_loss(output[0], output[1])
    )


@sound
def ema_in_forward() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = Net()
            self.slow = copy.deepcopy(self.online)

        def forward(self, x):
            with torch.no_grad():
                for a, b in zip(self.slow.parameters(), self.online.parameters(), strict=False):
                    a.mul_(0.99).add_(b + 0.01, alpha=0.01)
                target = self.slow(x)
            return self.online(x), target

    return recipe(
        Model(), loss=lambda output, target: F.cross_entropy(output[0], target) + F.mse_loss(output[0], output[1])
    )


@sound
def moe_index() -> Recipe:
    class Model(nn.Module):
        def __init__(self, n=16):
            super().__init__()
            self.g = nn.Linear(8, n)
            self.experts = nn.ModuleList(nn.Linear(8, 16) for _ in range(n))
            self.h = nn.Linear(16, 4)

        def forward(self, x):
            p = self.g(x * 3).softmax(-1)
            v, i = p.topk(1)
            output = x.new_zeros(len(x), 16)
            for k, e in enumerate(self.experts):
                r = (i[:, 0] == k).nonzero()[:, 0]
                if len(r):
                    output = output.index_add(0, r, e(x[r]) * v[r])
            return self.h(output)

    return recipe(Model(64))


@sound
def moe_empty_calls() -> Recipe:
    class Model(nn.Module):
        def __init__(self, n=16):
            super().__init__()
            self.g = nn.Linear(8, n)
            self.experts = nn.ModuleList(nn.Linear(8, 16) for _ in range(n))
            self.h = nn.Linear(16, 4)

        def forward(self, x):
            p = self.g(x * 3).softmax(-1)
            v, i = p.max(-1)
            output = x.new_zeros(len(x), 16)
            for k, e in enumerate(self.experts):
                model = i == k
                output[model] = e(x[model]) * v[model][:, None]
            return self.h(output)

    return recipe(Model(64))


@sound
def layerdrop12() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.i = nn.Linear(8, 32)
            self.layer = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.ReLU()) for _ in range(12))
            self.h = nn.Linear(32, 4)

        def forward(self, x):
            x = self.i(x)
            for layer in self.layer:
                if not self.training or random.random() > 0.5:
                    x = x + layer(x)
            return self.h(x)

    return recipe(Model())


@sound
def encoder_eval_nograd() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 4)

        def train(self, mode=True):
            super().train(mode)
            self.encoder.eval()
            return self

        def forward(self, x):
            with torch.no_grad():
                z = self.encoder(x)
            return self.head(z)

    model = Model()
    model.train()
    return recipe(model)


@sound
def encoder_nograd_not_in_opt() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 4)

        def forward(self, x):
            with torch.no_grad():
                z = self.encoder(x)
            return self.head(z)

    model = Model()
    return recipe(model, opt=torch.optim.Adam(model.head.parameters()))


@sound
def perceptual() -> Recipe:
    vgg = nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval()
    x, _y = vectors()

    class L(nn.Module):
        def __init__(self):
            super().__init__()
            self.vgg = vgg.eval()

        def forward(self, output, target):
            return F.mse_loss(self.vgg(output), self.vgg(target))

    layer = L().eval()
    return recipe(Net(classes=8), loss=layer, data=loader(x, x))


@sound
def perceptual_hidden_in_list() -> Recipe:
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.hidden = [nn.Sequential(nn.Linear(4, 4)).eval()]

        def forward(self, x):
            return self.hidden[0](super().forward(x))

    return recipe(Model())
