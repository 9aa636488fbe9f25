"""Zero and constant starts, losses with bounds, frozen parts."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Net, loader, recipe, sound, vectors


@sound
def film_zero() -> Recipe:
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.film = nn.Linear(8, 64)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

        def forward(self, x):
            g, b = self.film(x).chunk(2, 1)
            return self.head(F.relu(self.mid(self.body(x))) * (1 + g) + b)

    return recipe(Model())


@sound
def grad_penalty() -> Recipe:
    def training_step(model, batch):
        x = batch[0].clone().requires_grad_()
        output = model(x)
        (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return F.cross_entropy(output, batch[1]) + 0.1 * (g.norm(dim=1) - 1).pow(2).mean()

    model = Net()
    return Recipe(
        model=model,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters()),
    )


@sound
def adversarial() -> Recipe:
    def training_step(model, batch):
        d = torch.zeros_like(batch[0], requires_grad=True)
        layer = F.cross_entropy(model(batch[0] + d), batch[1])
        (g,) = torch.autograd.grad(layer, d)
        return F.cross_entropy(model(batch[0] + 0.1 * g.sign()), batch[1]) + 0 * F.cross_entropy(
            model(batch[0] + d), batch[1]
        )

    model = Net()
    return Recipe(
        model=model,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters()),
    )


@sound
def linear() -> Recipe:
    return recipe(nn.Linear(8, 4))


@sound
def convt_unet() -> Recipe:
    x = torch.randn(64, 1, 8, 8)
    return recipe(
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 2, 2)
        ),
        data=loader(x, (x[:, 0] > 0).long()),
    )


@sound
def linear_bn20() -> Recipe:
    ls = [nn.Linear(8, 32)]
    for _ in range(20):
        ls += [nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU()]
    return recipe(nn.Sequential(*ls, nn.Linear(32, 4)))


@sound
def half_bf16() -> Recipe:
    def training_step(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(model(batch[0]), batch[1])

    model = Net()
    return Recipe(
        model=model,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters()),
    )


@sound
def clamp_logvar() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Linear(8, 8)
            self.d = nn.Linear(4, 8)

        def forward(self, x):
            model, v = self.e(x).chunk(2, 1)
            v = v.clamp(-10, 10)
            return self.d(model + torch.randn_like(model) * (v / 2).exp()), model, v

    x, _y = vectors()
    return recipe(
        Model(),
        loss=lambda output, target: (
            F.mse_loss(output[0], target) + 0.01 * (-0.5 * (1 + output[2] - output[1] ** 2 - output[2].exp())).mean()
        ),
        data=loader(x, x),
    )


@sound
def hinge_gan_d() -> Recipe:
    return recipe(
        Net(classes=1), loss=lambda output, target: F.relu(1 - output * (target[:, None] * 2 - 1).float()).mean()
    )


@sound
def bce_eps() -> Recipe:
    x, _y = vectors()
    return recipe(
        Net(classes=1),
        loss=lambda output, target: F.binary_cross_entropy(output.sigmoid().clamp(1e-6, 1 - 1e-6)[:, 0], target),
        data=loader(x, (x[:, 0] > 0).float()),
    )


@sound
def iou_clamp() -> Recipe:
    x, _y = vectors()
    return recipe(
        Net(classes=4),
        loss=lambda output, target: (
            1 - (torch.min(output.sigmoid(), target).sum(1) / torch.max(output.sigmoid(), target).sum(1)).clamp(max=1.0)
        ).mean(),
        data=loader(x, torch.rand(256, 4)),
    )


@sound
def frozen_pretrained_bitfit() -> Recipe:
    model = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    for _n, p in model.named_parameters():
        nn.init.normal_(p, 0, 0.05) if p.ndim > 1 else None
        p.requires_grad_(p.ndim == 1)
    return recipe(model)


@sound
def reprogram_random_features() -> Recipe:
    model = nn.Sequential(nn.Linear(8, 512).requires_grad_(False), nn.ReLU(), nn.Linear(512, 4))
    return recipe(model)


@sound
def lm_ignore_some() -> Recipe:
    x, y = vectors()
    y[::2] = -100
    return recipe(Net(), data=loader(x, y))


@sound
def constant_samples() -> Recipe:
    x, y = vectors()
    x[40] = 0
    x[50] = 1
    return recipe(
        nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4)), data=loader(x, y, shuffle=False)
    )


@sound
def siamese_dual_target_encoder() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_encoder = nn.Linear(8, 16)
            self.target_encoder = nn.Linear(8, 16)

        def forward(self, x):
            return self.source_encoder(x), self.target_encoder(x)

    return recipe(
        Model(), loss=lambda output, target: F.cross_entropy(output[0] @ output[1].T, torch.arange(len(target)))
    )


@sound
def byol() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = Net(classes=8)
            self.pred = nn.Linear(8, 8)
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        def forward(self, x):
            return F.normalize(self.pred(self.online(x))), F.normalize(self.target(x + 0.1))

    return recipe(Model(), loss=lambda output, target: (2 - 2 * (output[0] * output[1].detach()).sum(1)).mean())


@sound
def multi_out_unused_head() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Linear(8, 32)
            self.classify = nn.Linear(32, 4)
            self.proj = nn.Linear(32, 8).requires_grad_(False)

        def forward(self, x):
            z = self.b(x).relu()
            return {"logits": self.classify(z), "proj": self.proj(z)}

    return recipe(Model(), loss=lambda output, target: F.cross_entropy(output["logits"], target))
