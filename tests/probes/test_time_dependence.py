"""How targets follow inputs, and how far a model sees: convolutions of known reach, in both layouts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from nncheck.errors import CannotMeasure
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.time_dependence import TimeDependence
from nncheck.probes.token_order import TokenOrder
from nncheck.target.assemble import assemble

TOKENS, STEPS = 30, 12


class Reach(nn.Module):
    """Each prediction is made from the inputs `first` to `last` steps away."""

    def __init__(self, first: int, last: int, *, time_first: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.time_first = first, last, time_first
        self.embed, self.head = nn.Embedding(TOKENS, 8), nn.Linear(8, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids.t() if self.time_first else ids)
        padded = F.pad(x, (0, 0, -self.first, self.last))
        steps = x.shape[1]
        y = sum(padded[:, k : k + steps] for k in range(self.last - self.first + 1))
        y = self.head(y)
        return y.transpose(0, 1) if self.time_first else y


def _ids(samples: int = 16) -> Tensor:
    return torch.randint(TOKENS, (samples, STEPS + 3), generator=torch.Generator().manual_seed(0))


def _loss(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def _ask(model: nn.Module, inputs: Tensor, target: Tensor, loss_fn: object = _loss) -> Evidence:
    setup = assemble(Recipe(model=model, train_loader=[(inputs, target)], loss_fn=loss_fn))
    return Evidence(Sandbox(setup, device=torch.device("cpu")))


@pytest.mark.parametrize(("last", "reach"), [(0, 0), (1, 1), (2, 2), (5, 5)])
@pytest.mark.parametrize("time_first", [False, True])
def test_how_far_a_model_sees(last: int, reach: int, time_first: bool) -> None:
    ids = _ids()
    inputs, target = ids[:, :STEPS], ids[:, 1 : STEPS + 1]
    if time_first:
        inputs, target = inputs.t().contiguous(), target.t().contiguous()
    seen = _ask(Reach(-3, last, time_first=time_first), inputs, target).get(TimeDependence)
    (item,) = seen.followed
    assert (item.lag, item.share, item.reach) == (1, 1.0, reach)
    assert (item.leak > 0) == (last > 0)
    assert item.matters


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_the_shift_of_the_targets(lag: int) -> None:
    ids = _ids()
    (item,) = _ask(Reach(-2, 0), ids[:, :STEPS], ids[:, lag : lag + STEPS]).get(TimeDependence).followed
    assert item.lag == lag
    assert item.leak == 0 or lag == 0
    assert item.mixes == (lag == 0)


def test_targets_of_their_own_are_not_followed() -> None:
    ids = _ids()
    assert _ask(Reach(-2, 2), ids[:, :STEPS], (ids[:, :STEPS] * 7 + 3) % TOKENS).get(TimeDependence).followed == ()


def test_a_constant_sequence_leaves_the_shift_open() -> None:
    ids = torch.arange(16)[:, None].expand(16, STEPS).contiguous()
    assert _ask(Reach(0, 2), ids, ids.clone()).get(TimeDependence).followed == ()


def test_a_head_of_zeros_hides_nothing() -> None:
    model = Reach(-1, 1)
    nn.init.zeros_(model.head.weight)
    ids = _ids()
    (item,) = _ask(model, ids[:, :STEPS], ids[:, 1 : STEPS + 1]).get(TimeDependence).followed
    assert item.reach == 1
    assert bool((model.head.weight == 0).all())


def test_series_of_numbers_and_the_call_that_looks_ahead() -> None:
    series = torch.randn(16, STEPS + 1, 3, generator=torch.Generator().manual_seed(0))

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.transpose(1, 2)).transpose(1, 2)

    (item,) = _ask(Both(), series[:, :-1], series[:, 1:], nn.MSELoss()).get(TimeDependence).followed
    assert (item.lag, item.reach, item.tokens) == (1, 1, False)
    assert item.ahead is not None
    assert item.ahead.function == "conv1d"


def test_a_window_that_holds_its_target() -> None:
    x = torch.randn(64, 8, 2, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
    assert _ask(model, x, x[:, -1, 1], nn.MSELoss()).get(TimeDependence).window is not None
    assert _ask(model, x, x[:, 0, 1], nn.MSELoss()).get(TimeDependence).window is None  # to recall the first is a task
    assert _ask(model, x, x[:, -1, 1] + 0.01 * x[:, 0, 0], nn.MSELoss()).get(TimeDependence).window is None


def test_without_a_sequence() -> None:
    with pytest.raises(CannotMeasure, match="no sequence"):
        _ask(nn.Linear(2, 2), torch.randn(8, 2), torch.zeros(8, dtype=torch.long), nn.CrossEntropyLoss()).get(
            TimeDependence
        )


class Attends(nn.Module):
    def __init__(self, *, places: str) -> None:
        super().__init__()
        self.places = places
        self.embed, self.position = nn.Embedding(TOKENS, 8), nn.Embedding(STEPS, 8)
        self.head = nn.Linear(8, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.places != "none":
            where = torch.arange(ids.shape[1]) if self.places == "all" else torch.zeros(ids.shape[1], dtype=torch.long)
            x = x + self.position(where)
        return self.head(x + F.scaled_dot_product_attention(x, x, x))


@pytest.mark.parametrize(
    ("places", "blind", "table"), [("all", False, False), ("one", True, True), ("none", True, False)]
)
def test_order(places: str, blind: bool, table: bool) -> None:
    ids = _ids()[:, :STEPS]
    seen = _ask(Attends(places=places), ids, ids.flip(1)).get(TokenOrder)
    assert seen.change is not None
    assert (seen.change < 1e-5) == blind
    assert (seen.table is not None) == table
    assert seen.contradicted > 0.1


def test_order_needs_attention() -> None:
    ids = _ids()[:, :STEPS]
    assert _ask(Reach(0, 0), ids, ids.flip(1)).get(TokenOrder).change is None
