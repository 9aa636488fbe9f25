"""What of the inputs is read, what padding moves, and samples in other company: models whose answer is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nncheck import Recipe
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.input_reach import InputReach
from nncheck.probes.padding import PaddingRuns
from nncheck.probes.sample_runs import SampleRuns
from nncheck.target.assemble import assemble


class Reads(nn.Module):
    """Reads what `take` leaves of the input."""

    def __init__(self, take: Callable[..., Tensor], width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.take, self.head = take, nn.Linear(width, 2)
        if zero:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        return self.head(self.take(x) if extra is None else self.take(x, extra))


def _ask(model: nn.Module, *parts: Tensor) -> Evidence:
    torch.manual_seed(0)
    batch = (*parts, torch.arange(len(parts[0])) % 2)
    setup = assemble(Recipe(model=model, train_loader=[batch], loss_fn=nn.CrossEntropyLoss()))
    return Evidence(Sandbox(setup, device=torch.device("cpu")))


X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
MORE = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("take", "width", "unused"),
    [
        (lambda x: x, 6, ()),
        (lambda x: x[:, :4], 4, (4, 5)),
        (lambda x: x[:, 1:], 5, (0,)),
        (lambda x: torch.cat([x[:, :5], x[:, 5:].long().float()], 1), 6, ()),  # no gradient there, and yet it is read
    ],
)
@pytest.mark.parametrize("zero", [False, True])
def test_features(take: Callable[..., Tensor], width: int, unused: tuple[int, ...], zero: bool) -> None:
    (use,) = _ask(Reads(take, width, zero=zero), 3 * X).get(InputReach).arguments
    assert use.used
    assert use.axes[0].unused == unused


def test_arguments() -> None:
    seen = _ask(Reads(lambda x, e: x + 0 * e, 6), X, MORE).get(InputReach)
    assert [(use.name, use.used) for use in seen.arguments] == [("x", True), ("extra", False)]
    seen = _ask(Reads(lambda x, e: x + e, 6), X, torch.ones(16, 6)).get(InputReach)
    assert [use.name for use in seen.arguments] == ["x"]
    assert seen.constant == ("extra",)


def test_a_grey_picture_in_three_channels() -> None:
    grey = torch.randn(8, 1, 6, 6).expand(8, 3, 6, 6).contiguous()
    (use,) = _ask(Reads(lambda x: x[:, 0].flatten(1), 36), grey).get(InputReach).arguments
    assert use.axes[0].kind == "channels"
    assert use.axes[0].unused == ()
    (use,) = _ask(Reads(lambda x: x[:, 0].flatten(1), 36), torch.randn(8, 3, 6, 6)).get(InputReach).arguments
    assert use.axes[0].unused == (1, 2)


class Pooled(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.embed, self.head = nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, 2)
        nn.init.normal_(self.embed.weight)

    def forward(self, ids: Tensor) -> Tensor:
        x, mask = self.embed(ids), (ids != 0)[..., None]
        if self.how == "mean":
            return self.head(x.mean(1))
        if self.how == "last":
            return self.head(x.cumsum(1)[:, -1] * ids.shape[1])
        return self.head((x * mask).sum(1) / mask.sum(1))


@pytest.mark.parametrize(("how", "function"), [("mean", "mean"), ("masked", "")])
def test_padding(how: str, function: str) -> None:
    lengths = torch.tensor([8, 3, 5, 4, 8, 6, 3, 7])
    ids = torch.randint(1, 9, (8, 8), generator=torch.Generator().manual_seed(0))
    ids = ids.masked_fill(torch.arange(8) >= lengths[:, None], 0)
    runs = _ask(Pooled(how), ids).get(PaddingRuns)
    assert runs.padding is not None
    assert (runs.padding.by, runs.padding.steps, runs.padding.shortest) == ("token", 8, 3)
    assert runs.function == function
    assert runs.moved is not None
    assert (runs.moved > 1e-4) == bool(function)


def test_without_padding() -> None:
    ids = torch.randint(1, 9, (8, 8), generator=torch.Generator().manual_seed(0))
    assert _ask(Pooled("mean"), ids).get(PaddingRuns).padding is None


@pytest.mark.parametrize(
    ("take", "function"),
    [
        (lambda x: x, ""),
        (lambda x: x - x.mean(1, keepdim=True), ""),
        (lambda x: x - x.detach().mean(0), "sub"),
        (lambda x: x if len(x) > 2 else 2 * x, "mul"),
        (lambda x: x / float(x.abs().max()), "div"),
    ],
)
def test_samples_alone(take: Callable[..., Tensor], function: str) -> None:
    runs = _ask(Reads(take, 6), X).get(SampleRuns)
    assert len(runs.asked) == 4
    assert (max(runs.apart) > runs.allowed) == bool(function)
    if function in ("sub", "div"):
        assert runs.function == function


def test_the_last_batch_of_an_epoch() -> None:
    data = torch.utils.data.TensorDataset(torch.randn(20, 6), torch.arange(20) % 2)
    for take, failure in ((lambda x: x.view(8, 6), True), (lambda x: x.view(-1, 6), False)):
        loader = torch.utils.data.DataLoader(data, batch_size=8)
        setup = assemble(Recipe(model=Reads(take, 6), train_loader=loader, loss_fn=nn.CrossEntropyLoss()))
        last = Evidence(Sandbox(setup, device=torch.device("cpu"))).get(SampleRuns).last
        assert last is not None
        assert last.samples == 4
        assert bool(last.failure) == failure
