"""Branches that no gradient comes to."""

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Net, expects, loader, recipe, vectors


@expects("unused-parameters")
def detached_branch() -> Recipe:
    class Model(Net):
        def forward(self, x):
            h = self.body(x)
            z = self.mid(h).detach()
            return self.head(h + z)

    return recipe(Model())


@expects("unused-parameters")
def through_data() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return self.head(F.relu(self.mid(self.body(x).data)))

    return recipe(Model())


@expects("unused-parameters")
def through_numpy() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return self.head(torch.from_numpy(self.mid(self.body(x)).detach().numpy()))

    return recipe(Model())


@expects("unused-parameters")
def encoder_under_no_grad() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 4)

        def forward(self, x):
            with torch.no_grad():
                z = self.encoder(x)
            return self.head(z)

    return recipe(Model())


@expects("unused-parameters")
def rewrapped_intermediate() -> Recipe:
    class Model(Net):
        def forward(self, x):
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                h = torch.tensor(self.body(x))
            return self.head(F.relu(self.mid(h)))

    return recipe(Model())


@expects("unused-parameters")
def dropped_branch() -> Recipe:
    class Model(Net):
        def forward(self, x):
            h = self.body(x)
            self.mid(h)
            return self.head(h)

    return recipe(Model())


@expects("unused-parameters")
def never_called() -> Recipe:
    class Model(Net):
        def forward(self, x):
            return self.head(self.body(x))

    return recipe(Model())


@expects("unused-parameters")
def loss_term_not_added() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Linear(8, 32)
            self.h1 = nn.Linear(32, 4)
            self.h2 = nn.Linear(32, 4)

        def forward(self, x):
            h = self.b(x).relu()
            return self.h1(h), self.h2(h)

    def loss(output, target):
        a = F.cross_entropy(output[0], target)
        F.cross_entropy(output[1], target)
        return a

    return recipe(Model(), loss=loss)


@expects("unused-parameters")
def generator_step_with_detach() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.G = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
            self.D = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    model = Model()

    def training_step(model, batch):
        fake = model.G(batch[0])
        return F.binary_cross_entropy_with_logits(model.D(fake.detach()), torch.ones(len(batch[0]), 1))

    return Recipe(
        model=model,
        train_loader=loader(*vectors()),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.G.parameters(), lr=1e-3),
    )


@expects("unused-parameters")
def feature_detached_in_a_hook() -> Recipe:
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.side = nn.Linear(32, 4)
            self.feat = None
            self.mid.register_forward_hook(self.hook)

        def hook(self, model, i, output):
            self.feat = output.detach()

        def forward(self, x):
            self.mid(self.body(x))
            return self.head(self.body(x)) + self.side(self.feat)

    return recipe(Model())


@expects("unused-parameters")
def last_layer_skipped() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.i = nn.Linear(8, 32)
            self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
            self.h = nn.Linear(32, 4)

        def forward(self, x):
            x = self.i(x)
            for layer in self.layers[:-1]:
                x = layer(x).relu()
            return self.h(x)

    return recipe(Model())
