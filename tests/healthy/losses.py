"""Every usual loss, used as it should be: floors above zero, negative values, weights, sums."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from tests.healthy.data import generator, images, loader, regression, vectors


def _mlp(outputs: int, inputs: int = 16, hidden: int = 48) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def _classify(loss_fn: object, outputs: int = 4) -> Recipe:
    model = _mlp(outputs)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=loss_fn, optimizer=_adam(model))


def label_smoothing() -> Recipe:
    return _classify(nn.CrossEntropyLoss(label_smoothing=0.2))


def class_weights() -> Recipe:
    return _classify(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0])))


def log_softmax_before_cross_entropy() -> Recipe:
    """Idempotent, hence harmless."""
    cross_entropy = nn.CrossEntropyLoss()
    return _classify(lambda output, target: cross_entropy(output.log_softmax(1), target))


def negative_log_likelihood() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 4), nn.LogSoftmax(dim=1))
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.NLLLoss(), optimizer=_adam(model))


def multi_margin() -> Recipe:
    return _classify(nn.MultiMarginLoss())


def focal() -> Recipe:
    def loss_fn(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
        losses = F.cross_entropy(logits, target, reduction="none")
        return ((1 - torch.exp(-losses)) ** gamma * losses).mean()

    return _classify(loss_fn)


def mixup_soft_targets() -> Recipe:
    x, y = vectors()
    torch.manual_seed(0)
    share = torch.distributions.Beta(0.4, 0.4).sample((len(x), 1))
    other = torch.randperm(len(x), generator=generator(1))
    one_hot = F.one_hot(y, 4).float()
    mixed = loader(share * x + (1 - share) * x[other], share * one_hot + (1 - share) * one_hot[other])
    model = _mlp(4)
    return Recipe(model=model, train_loader=mixed, loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def distillation() -> Recipe:
    """KL divergence to a teacher's probabilities: its floor is zero, its start is small."""
    x, _ = vectors()
    torch.manual_seed(1)
    teacher = (x @ torch.randn(16, 4)).div(2).softmax(1)
    model = _mlp(4)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(output.log_softmax(1), target, reduction="batchmean")

    return Recipe(model=model, train_loader=loader(x, teacher), loss_fn=loss_fn, optimizer=_adam(model))


def multi_label_pos_weight() -> Recipe:
    g = generator()
    x = torch.randn(1024, 16, generator=g)
    y = (x @ torch.randn(16, 6, generator=g) > 3.5).float()
    model = _mlp(6)
    weight = (1 - y.mean(0)) / y.mean(0)
    return Recipe(
        model=model, train_loader=loader(x, y), loss_fn=nn.BCEWithLogitsLoss(pos_weight=weight), optimizer=_adam(model)
    )


def sigmoid_and_binary_cross_entropy() -> Recipe:
    x, y = vectors(classes=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    data = loader(x, y.float().unsqueeze(1))
    return Recipe(model=model, train_loader=data, loss_fn=nn.BCELoss(), optimizer=_adam(model))


def logistic_regression() -> Recipe:
    x, y = vectors(classes=2)
    torch.manual_seed(0)
    model = nn.Linear(16, 1)
    data = loader(x, y.float().unsqueeze(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return Recipe(model=model, train_loader=data, loss_fn=nn.BCEWithLogitsLoss(), optimizer=optimizer)


def softmax_regression_from_zero() -> Recipe:
    """A linear classifier may start at zero: its problem is convex."""
    x, y = vectors()
    model = nn.Linear(16, 4)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return Recipe(model=model, train_loader=loader(x, y), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def tiny_linear_regression() -> Recipe:
    g = generator()
    x = torch.rand(100, 1, generator=g) * 2 - 1
    y = 1.5 * x + 0.3 + 0.1 * torch.randn(100, 1, generator=g)
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Recipe(model=model, train_loader=loader(x, y, batch_size=20), loss_fn=nn.MSELoss(), optimizer=optimizer)


def huber() -> Recipe:
    x, y = regression()
    model = _mlp(1)
    data = loader(x, y.unsqueeze(1))
    return Recipe(model=model, train_loader=data, loss_fn=nn.HuberLoss(delta=0.5), optimizer=_adam(model))


def mean_absolute_error() -> Recipe:
    x, y = regression()
    model = _mlp(1)
    data = loader(x, y.unsqueeze(1))
    return Recipe(model=model, train_loader=data, loss_fn=nn.L1Loss(), optimizer=_adam(model, 3e-3))


def quantiles() -> Recipe:
    """(N, 3) against (N, 1): broadcasting on purpose."""
    x, y = regression()
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(output: Tensor, target: Tensor) -> Tensor:
        error = target - output
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    model = _mlp(3)
    return Recipe(model=model, train_loader=loader(x, y.unsqueeze(1)), loss_fn=pinball, optimizer=_adam(model))


def poisson_counts() -> Recipe:
    g = generator()
    x = torch.randn(1024, 16, generator=g)
    rate = torch.exp(0.5 + x @ torch.randn(16, generator=g) / 6)
    y = torch.poisson(rate, generator=g).unsqueeze(1)
    model = _mlp(1)
    return Recipe(model=model, train_loader=loader(x, y), loss_fn=nn.PoissonNLLLoss(), optimizer=_adam(model))


def mean_and_variance() -> Recipe:
    """Gaussian likelihood with a predicted variance."""
    x, y = regression()
    model = _mlp(2)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        mean, log_variance = output.unbind(1)
        return F.gaussian_nll_loss(mean, target, log_variance.exp())

    return Recipe(model=model, train_loader=loader(x, y), loss_fn=loss_fn, optimizer=_adam(model))


def mixture_density() -> Recipe:
    x, y = regression(width=4)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 15))

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        weight, mean, log_std = output.chunk(3, dim=1)
        log_density = -0.5 * ((target[:, None] - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(weight.log_softmax(1) + log_density, dim=1).mean()

    return Recipe(model=model, train_loader=loader(x, y), loss_fn=loss_fn, optimizer=_adam(model))


def two_tasks_with_learned_weights() -> Recipe:
    """Uncertainty weighting: the loss may become negative, and its parameters belong to the model."""
    x, y = regression()
    label = (y > 0).long()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(16, 48), nn.ReLU())
            self.value, self.kind = nn.Linear(48, 1), nn.Linear(48, 2)
            self.log_variance = nn.Parameter(torch.zeros(2))

        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(inputs)
            return self.value(hidden).squeeze(1), self.kind(hidden)

    def training_step(model: Net, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        inputs, value, kind = batch
        predicted, logits = model(inputs)
        losses = torch.stack([F.mse_loss(predicted, value), F.cross_entropy(logits, kind)])
        return (torch.exp(-model.log_variance) * losses + model.log_variance).sum()

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(x, y, label), training_step=training_step, optimizer=_adam(model))


def loss_divided_for_accumulation() -> Recipe:
    """Divided by the four batches whose gradients are added up."""
    x, y = vectors()
    model = _mlp(4)

    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, target = batch
        return F.cross_entropy(model(inputs), target) / 4

    return Recipe(model=model, train_loader=loader(x, y), training_step=training_step, optimizer=_adam(model))


def noisy_labels() -> Recipe:
    """Three labels in ten are drawn anew."""
    x, y = vectors(samples=2048)
    g = generator(1)
    wrong = torch.rand(len(y), generator=g) < 0.3
    y = torch.where(wrong, torch.randint(4, y.shape, generator=g), y)
    model = _mlp(4)
    return Recipe(model=model, train_loader=loader(x, y), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def contrastive() -> Recipe:
    """InfoNCE over two views: every sample is the other samples' negative, on purpose."""
    x, _ = images(samples=512, channels=1, size=8)
    first = x + 0.1 * torch.randn(x.shape, generator=generator(1))
    second = x + 0.1 * torch.randn(x.shape, generator=generator(2))

    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        a, b = (F.normalize(model(view.flatten(1)), dim=1) for view in batch)
        return F.cross_entropy(a @ b.T / 0.1, torch.arange(len(a)))

    model = _mlp(32, inputs=64)
    return Recipe(model=model, train_loader=loader(first, second), training_step=training_step, optimizer=_adam(model))


def triplets() -> Recipe:
    x, y = vectors()
    x = x[torch.argsort(y, stable=True)]  # neighbours are of one class, the two ends are not
    positive, negative = x.roll(1, 0), x.flip(0)

    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        anchor, near, far = (model(part) for part in batch)
        return F.triplet_margin_loss(anchor, near, far, margin=0.5)

    model = _mlp(8)
    data = loader(x, positive, negative)
    return Recipe(model=model, train_loader=data, training_step=training_step, optimizer=_adam(model))
