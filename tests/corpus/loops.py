"""Training steps written out by hand, their schedulers and Lightning modules."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, digits, housing, standard, table


def net(inputs: int = 64, outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, outputs))


def numbers(count: int = 960, size: int = 48) -> DataLoader:
    return batches(*digits(count), size)


def prices(size: int = 50) -> DataLoader:
    x, y = housing()
    return batches(standard(x), standard(y[:, None]), size)


@twin("zero-grad", row="O01")
def gradients_never_cleared(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        if not fault:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=numbers(), optimizer=optimizer, train_step=train_step)


@twin("zero-grad", row="O01")
def cleared_on_a_module_that_is_not_trained(fault: bool) -> Recipe:
    """The copy for evaluation is cleared in every step."""
    torch.manual_seed(0)
    model = net()
    best = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (best if fault else model).zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=numbers(), loss_fn=criterion, optimizer=optimizer, train_step=train_step)


@twin("zero-grad", "optimizer-step", row="O02")
def cleared_between_backward_and_step(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        if fault:
            loss.backward()
            optimizer.zero_grad()
        else:
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=numbers(), optimizer=optimizer, train_step=train_step)


@twin("optimizer-step", "zero-grad", row="O03")
def step_lost_in_an_edit(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(30, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()

    def train_step(batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        if not fault:
            optimizer.step()
        return loss

    loader = batches(*table("breast_cancer"), 32)
    return Recipe(model=model, train_loader=loader, loss_fn=criterion, optimizer=optimizer, train_step=train_step)


@twin("optimizer-step", "optimizer-coverage", row="O03")
def step_of_the_optimizer_of_a_copy(fault: bool) -> Recipe:
    torch.manual_seed(0)
    draft = net()
    model = copy.deepcopy(draft)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    stale = torch.optim.Adam(draft.parameters(), lr=2e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        (stale if fault else optimizer).step()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@twin("optimizer-step", "zero-grad", "gradient-flow", row="O04")
def backward_forgotten(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        if not fault:
            loss.backward()
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=prices(), loss_fn=nn.MSELoss(), optimizer=optimizer, train_step=train_step)


@twin(
    "lr-schedule",
    "optimizer-step",
    row="O13",
    unseen="a loop around the step may step the schedule: the step itself looks the same",
)
def one_cycle_never_stepped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    loader = numbers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10 * len(loader))

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if not fault:
            scheduler.step()
        return loss

    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="step",
        train_step=train_step,
        epochs=10,
    )


@twin("gradient-accumulation", row="O19")
def four_losses_added_up(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    every = 4

    def train_step(model: nn.Module, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        (loss if fault else loss / every).backward()
        if (batch_idx + 1) % every == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return Recipe(
        model=model,
        train_loader=numbers(960, 16),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        train_step=train_step,
    )


@twin("gradient-accumulation", "zero-grad", row="O20")
def cleared_at_every_micro_batch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    every = 4

    def train_step(model: nn.Module, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        if fault or batch_idx % every == 0:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y) / every
        loss.backward()
        if (batch_idx + 1) % every == 0:
            optimizer.step()
        return loss * every

    return Recipe(
        model=model,
        train_loader=numbers(960, 16),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        train_step=train_step,
    )


@twin("gradient-clipping", row="G20")
def clipped_after_the_step(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if fault:
            optimizer.step()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        else:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@twin("gradient-clipping", row="G20")
def clipped_to_almost_nothing(fault: bool) -> Recipe:
    """The weight decay was passed as the limit."""
    torch.manual_seed(0)
    model = net(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    limit = 1e-5 if fault else 5.0

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=limit)
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=prices(), loss_fn=nn.MSELoss(), optimizer=optimizer, train_step=train_step)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@twin("eval-mode", "optimizer-step", row="E02")
def eval_mode_left_on_after_validation(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Dropping()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    x_val, y_val = digits(64, skip=1200)

    def train_step(model: nn.Module, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if batch_idx % 2 == 0:
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(x_val), y_val)
            if not fault:
                model.train()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@twin("gradient-clipping", "optimizer-step", row="N01")
def clipped_before_unscaling(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if not fault:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@twin("optimizer-step", "loss-decreases", row="L29")
def sign_of_the_loss_in_the_step(fault: bool) -> Recipe:
    """Kept from a policy gradient."""
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        (-loss if fault else loss).backward()
        optimizer.step()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@twin("optimizer-coverage", "optimizer-step", row="O21")
def head_in_two_optimizers(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters() if fault else model[:2].parameters(), lr=1e-3)
    head = torch.optim.Adam(model[3].parameters(), lr=3e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        head.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        head.step()
        return loss

    return Recipe(model=model, train_loader=numbers(), optimizer=optimizer, train_step=train_step)


@twin("lr-schedule", row="O15")
def scheduler_of_a_replaced_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    if fault:  # a later cell of the notebook
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Recipe(
        model=model,
        train_loader=numbers(),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="epoch",
        epochs=20,
    )


@twin("lr-schedule", row="O18")
def plateau_of_a_loss_set_to_max(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    mode = "max" if fault else "min"
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, patience=3, factor=0.3)
    x, y = housing(seed=5)
    val = batches(standard(x)[:200], standard(y[:, None])[:200], 100, shuffle=False)
    return Recipe(
        model=model,
        train_loader=prices(),
        val_loader=val,
        loss_fn=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        epochs=60,
    )


def lightning_digits(interval: str, *, always_drop: bool = False) -> nn.Module:
    """As in the first tutorial, with a decay every few epochs."""
    import lightning  # here: it takes seconds

    class Digits(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU())
            self.head = nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = F.dropout(self.body(x), 0.2, training=always_drop or self.training)
            return self.head(h)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x), y)

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    return Digits()


@twin("lr-schedule", row="O12")
def lightning_decays_every_five_batches(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return Recipe(model=lightning_digits("step" if fault else "epoch"), train_loader=numbers(), epochs=20)


@twin("eval-mode", row="E03")
def lightning_drops_in_validation_too(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return Recipe(model=lightning_digits("epoch", always_drop=fault), train_loader=numbers(), epochs=20)


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def ring(count: int = 800) -> Tensor:
    g = torch.Generator().manual_seed(7)
    angle = torch.rand(count, 1, generator=g) * 6.2832
    return torch.cat([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2, generator=g)


def gan(leaks: bool) -> Recipe:
    torch.manual_seed(0)
    model = Gan()
    opt_g = torch.optim.Adam(model.generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(model.critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
    bce = F.binary_cross_entropy_with_logits

    def train_step(model: Gan, batch: list[Tensor]) -> Tensor:
        (real,) = batch
        fake = model(torch.randn(len(real), 4))
        if not leaks:
            opt_d.zero_grad()
        on_real, on_fake = model.critic(real), model.critic(fake.detach())
        loss_d = bce(on_real, torch.ones_like(on_real)) + bce(on_fake, torch.zeros_like(on_fake))
        loss_d.backward()
        opt_d.step()
        opt_g.zero_grad()
        score = model.critic(fake)
        loss_g = bce(score, torch.ones_like(score))
        loss_g.backward()  # leaves gradients in the critic too
        opt_g.step()
        return loss_g

    loader = DataLoader(torch.utils.data.TensorDataset(ring()), batch_size=50, shuffle=True)
    return Recipe(model=model, train_loader=loader, optimizer=opt_g, train_step=train_step)


@twin("zero-grad", "gradient-flow", row="O23")
def gradients_of_the_generator_step_reach_the_critic(fault: bool) -> Recipe:
    return gan(fault)


@sound("O23")
def two_optimizers_one_after_the_other() -> Recipe:
    return gan(False)


@sound("O01")
def cleared_at_the_end_of_the_step() -> Recipe:
    torch.manual_seed(0)
    model = net(13, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        for p in model.parameters():
            p.grad = None
        return loss

    return Recipe(model=model, train_loader=batches(*table("wine"), 32), optimizer=optimizer, train_step=train_step)


@sound("G20")
def clipped_to_one_as_usual() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return Recipe(model=model, train_loader=numbers(), loss_fn=criterion, optimizer=optimizer, train_step=train_step)


@sound("N01")
def scaled_unscaled_and_clipped() -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@sound("O02")
def two_backward_passes_of_sharpness_aware_steps() -> Recipe:
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            moves = [p.grad * (0.05 / (norm + 1e-12)) for p in model.parameters()]
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        optimizer.step()
        return loss

    return Recipe(
        model=model, train_loader=numbers(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, train_step=train_step
    )


@sound("O12")
def lightning_as_in_the_tutorial() -> Recipe:
    torch.manual_seed(0)
    x, y = digits(300, skip=1200)
    val = batches(x, y, 100, shuffle=False)
    return Recipe(model=lightning_digits("epoch"), train_loader=numbers(), val_loader=val, epochs=15)
