"""The same small tasks with unusual optimizers, schedules, loaders and models."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, IterableDataset

from nncheck import Recipe
from tests.healthy.data import generator, loader, regression, tokens, vectors


def _mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 4))


def _recipe(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Recipe:
    return Recipe(
        model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=1e-3),
    )  # fmt: skip


def warm_up_from_zero() -> Recipe:
    """The first step has rate 0."""
    model = _mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    return Recipe(
        model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer,
        scheduler=scheduler, scheduler_interval="step",
    )  # fmt: skip


def momentum_with_a_large_rate() -> Recipe:
    model = _mlp()
    return _recipe(model, torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True))


def decay_in_groups() -> Recipe:
    model = _mlp()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return _recipe(model, torch.optim.AdamW(groups, lr=2e-3))


def rates_by_layer() -> Recipe:
    model = _mlp()
    layers = [layer for layer in model if list(layer.parameters())]
    groups = [{"params": layer.parameters(), "lr": 4e-3 * 0.7**depth} for depth, layer in enumerate(reversed(layers))]
    return _recipe(model, torch.optim.Adam(groups))


def rmsprop() -> Recipe:
    model = _mlp()
    return _recipe(model, torch.optim.RMSprop(model.parameters(), lr=1e-3))


def compiled() -> Recipe:
    model = torch.compile(_mlp(), backend="eager")
    return _recipe(model)


def double_precision() -> Recipe:
    x, y = vectors()
    model = _mlp().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Recipe(model=model, train_loader=loader(x.double(), y), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless, and without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        g = generator(1)
        teacher = torch.randn(16, 4, generator=generator())
        for _ in itertools.count():
            x = torch.randn(16, generator=g)
            yield x, (x @ teacher).argmax()


def endless_stream() -> Recipe:
    model = _mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = DataLoader(Stream(), batch_size=32)
    return Recipe(model=model, train_loader=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def list_of_batches() -> Recipe:
    x, y = vectors()
    model = _mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    return Recipe(model=model, train_loader=batches, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def mixed_dict_batch() -> Recipe:
    """Tensors beside strings and numbers; the step takes what it needs."""
    ids, y = tokens()
    x, _ = vectors()
    x = x + y[:, None] * 0.2
    items = [{"ids": ids[i], "x": x[i], "label": y[i], "name": f"row {i}"} for i in range(len(ids))]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.dense = nn.EmbeddingBag(40, 16), nn.Linear(16, 16)
            self.head = nn.Linear(32, 4)

        def forward(self, ids: Tensor, x: Tensor) -> Tensor:
            return self.head(torch.cat([self.embed(ids), F.relu(self.dense(x))], 1))

    def training_step(model: Net, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["ids"], batch["x"]), batch["label"])

    torch.manual_seed(0)
    model = Net()
    data = DataLoader(items, batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return Recipe(model=model, train_loader=data, training_step=training_step, optimizer=optimizer)


def deep_default_init() -> Recipe:
    """Eight plain layers as PyTorch draws them: the signal shrinks, and they train all the same."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(16, 64), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    return _recipe(nn.Sequential(*layers, nn.Linear(64, 4)))


def deep_residual_zero_scale() -> Recipe:
    """ReZero: each branch is multiplied by a scale that starts at zero."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.scale * self.net(x)

    torch.manual_seed(0)
    return _recipe(nn.Sequential(nn.Linear(16, 32), *(Block() for _ in range(10)), nn.Linear(32, 4)))


def sine_network() -> Recipe:
    """SIREN with its own initialisation."""

    class Sine(nn.Module):
        def __init__(self, inputs: int, outputs: int, *, first: bool = False) -> None:
            super().__init__()
            self.linear = nn.Linear(inputs, outputs)
            bound = 1 / inputs if first else (6 / inputs) ** 0.5 / 30
            nn.init.uniform_(self.linear.weight, -bound, bound)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(30 * self.linear(x))

    g = generator()
    x = torch.rand(2048, 2, generator=g) * 2 - 1
    y = torch.sin(4 * x[:, :1]) * torch.cos(3 * x[:, 1:])
    torch.manual_seed(0)
    model = nn.Sequential(Sine(2, 48, first=True), Sine(48, 48), nn.Linear(48, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    return Recipe(model=model, train_loader=loader(x, y, batch_size=64), loss_fn=nn.MSELoss(), optimizer=optimizer)


def symmetric_weights_by_parametrization() -> Recipe:
    class Symmetric(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight.triu() + weight.triu(1).transpose(-1, -2)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    parametrize.register_parametrization(model[2], "weight", Symmetric())
    return _recipe(model)


def weights_used_directly() -> Recipe:
    """An autoencoder whose decoder is its encoder transposed: no module is called for it."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Linear(16, 8)
            self.bias = nn.Parameter(torch.zeros(16))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(
                torch.tanh(F.linear(x, self.inside.weight, self.inside.bias)), self.inside.weight.T, self.bias
            )

    x, _ = vectors()
    x = x[:, :4] @ torch.randn(4, 16, generator=generator(2)) / 2
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=loader(x, x.clone()), loss_fn=nn.MSELoss(), optimizer=optimizer)


def graph_network() -> Recipe:
    """Nodes of one graph are the samples: they depend on each other by design."""
    g = generator()
    x = torch.randn(200, 16, generator=g)
    teacher = torch.randn(16, 3, generator=g)
    edges = torch.randint(200, (2, 800), generator=g)
    mean = torch.zeros(200, 16).index_add_(0, edges[1], x[edges[0]]) / 4
    y = ((x + mean) @ teacher).argmax(1)

    class GNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 3)])
            self.near = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 3)])

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            for number, (own, near) in enumerate(zip(self.own, self.near, strict=True)):
                gathered = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]]) / 4
                x = own(x) + near(gathered)
                if number == 0:
                    x = F.relu(x)
            return x

    def training_step(model: GNN, batch: dict[str, Tensor]) -> Tensor:
        output = model(batch["x"], batch["edge_index"])
        return F.cross_entropy(output[batch["mask"]], batch["y"][batch["mask"]])

    torch.manual_seed(0)
    model = GNN()
    mask = torch.rand(200, generator=g) < 0.7
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = {"x": x, "edge_index": edges, "y": y, "mask": mask}
    return Recipe(model=model, train_loader=[batch], training_step=training_step, optimizer=optimizer)


def matrix_factorisation() -> Recipe:
    """Two embedding tables and a dot product; most rows are untouched by any one batch."""
    g = generator()
    users, items = torch.randint(50, (2048,), generator=g), torch.randint(40, (2048,), generator=g)
    left, right = torch.randn(50, 4, generator=g), torch.randn(40, 4, generator=g)
    rating = (left[users] * right[items]).sum(1) / 2

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(50, 8), nn.Embedding(40, 8)
            nn.init.normal_(self.user.weight, std=0.3)
            nn.init.normal_(self.item.weight, std=0.3)

        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return (self.user(users) * self.item(items)).sum(1)

    torch.manual_seed(0)
    model = Factors()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    data = loader(users, items, rating, batch_size=64)
    return Recipe(model=model, train_loader=data, loss_fn=nn.MSELoss(), optimizer=optimizer)


def derivative_in_the_loss() -> Recipe:
    """A physics-informed network: the loss differentiates the model, y' = -y with y(0) = 1."""
    x = torch.rand(1024, 1, generator=generator()) * 2
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        point = batch[0].clone().requires_grad_()
        value = model(point)
        (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
        start = model(torch.zeros(1, 1))
        return ((slope + value) ** 2).mean() + ((start - 1) ** 2).mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Recipe(model=model, train_loader=loader(x), training_step=training_step, optimizer=optimizer)


def gumbel_softmax() -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choose, self.say = nn.Linear(16, 12), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.say(F.gumbel_softmax(self.choose(x), tau=1.0, hard=True))

    torch.manual_seed(0)
    model = Net()
    return _recipe(model, torch.optim.Adam(model.parameters(), lr=1e-2))


def default_optimizer() -> Recipe:
    x, y = regression()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 1), nn.Flatten(0))
    return Recipe(model=model, train_loader=loader(x, y), loss_fn=nn.MSELoss())
