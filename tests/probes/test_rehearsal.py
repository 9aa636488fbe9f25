"""The rehearsal, its controls and the run under decay, on networks whose answer is known."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.errors import CannotMeasure
from nncheck.evidence import Evidence
from nncheck.lab.held import fall
from nncheck.lab.meter import ENOUGH, KEPT, LIMIT
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.controls import Controls, ahead, collapsed, weighs
from nncheck.probes.decay_run import DecayRun
from nncheck.probes.input_baseline import InputBaseline
from nncheck.probes.overfit import OverfitBatch
from nncheck.probes.rate_range import RateRange
from nncheck.probes.rehearsal import UPDATES, Rehearsal, rehearsal
from nncheck.target.assemble import assemble
from tests.rehearsals import level, look, moves, rehearsal as fake_rehearsal

torch.set_num_threads(1)


def _data(samples: int = 640) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 8, generator=generator)
    return TensorDataset(x, (x @ torch.randn(8, 4, generator=generator)).argmax(1))


def _sandbox(
    make: Callable[[Any], torch.optim.Optimizer],
    *,
    model: nn.Module | None = None,
    loss_fn: Any = None,
    data: TensorDataset | None = None,
    **parts: Any,
) -> Sandbox:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(data or _data(), batch_size=32),
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=make(model.parameters()),
        **parts,
    )
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


def test_everything_a_run_shows_is_there_and_it_costs_no_more_than_it_says() -> None:
    held_back = TensorDataset(*(t[:320] for t in _data().tensors))
    sandbox = _sandbox(_adam, val_loader=DataLoader(held_back, batch_size=32))
    run = rehearsal(sandbox)
    assert (len(run.losses), len(run.gradients), run.distinct, run.size, run.whole) == (UPDATES, UPDATES, 18, 32, True)
    assert [move.name for move in run.moves] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [look.update for look in run.looks] == [0, 2, 5, 10, 20, 30, 40, 50, 60]
    assert run.fresh is not None
    assert run.validation is not None
    for levels in (run.seen, run.fresh, run.validation):
        assert levels.samples == 64
        assert levels.before is not None
        assert len(levels.before.losses) == 64
        assert levels.fall[1] > 5
    assert run.wanted is not None
    assert run.wanted.labels == 4
    assert run.noise is not None
    assert run.checkpoint is not None
    assert sandbox.meter.train_steps <= 90


def test_an_update_of_gradient_descent_is_the_rate_times_the_gradient_and_falls_as_predicted() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    run = rehearsal(_sandbox(lambda p: torch.optim.SGD(p, lr=1e-3), model=model))
    first = run.descents[0]
    assert first.predicted == pytest.approx(1e-3 * run.gradients[0] ** 2, rel=1e-3)
    assert first.realised == pytest.approx(first.predicted, rel=0.05)
    assert first.again == 0.0
    weight = run.moves[0]
    assert weight.ratio == pytest.approx(1e-3 * weight.gradient / weight.start, rel=0.2)


def test_a_warm_up_is_waited_for() -> None:
    def scheduler(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=500)

    run = rehearsal(_sandbox(lambda p: torch.optim.SGD(p, lr=0.1), scheduler=scheduler))
    plain = rehearsal(_sandbox(lambda p: torch.optim.SGD(p, lr=0.1)))
    assert run.moves[0].ratio == pytest.approx(plain.moves[0].ratio, rel=0.7)


def test_a_short_epoch_is_begun_again_and_nothing_is_fresh() -> None:
    run = rehearsal(_sandbox(_adam, data=_data(100)))
    assert (run.distinct, run.fresh, len(run.losses)) == (3, None, UPDATES)


def test_a_run_that_explodes_is_ended_early() -> None:
    run = rehearsal(_sandbox(lambda p: torch.optim.SGD(p, lr=1e4)))
    assert run.diverged
    assert len(run.losses) < UPDATES
    assert run.checkpoint is None


def test_a_model_that_gives_no_loss_in_eval_mode_is_looked_at_no_further() -> None:
    class OnlyTrain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor, y: Tensor) -> Any:
            out = self.head(x)
            return {"loss": nn.functional.cross_entropy(out, y)} if self.training else out

    torch.manual_seed(0)
    model = OnlyTrain()
    recipe = Recipe(model=model, train_loader=DataLoader(_data(), batch_size=32), optimizer=_adam(model.parameters()))
    run = rehearsal(Sandbox(assemble(recipe), device=torch.device("cpu")))
    assert run.looks == ()
    assert run.seen.eval_after is None
    assert run.seen.fall[1] > 5


def test_a_validation_loader_that_fails_is_told_and_stops_nothing() -> None:
    class Broken(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            raise ValueError("no such file")

    run = rehearsal(_sandbox(_adam, val_loader=DataLoader(Broken(torch.zeros(200, 8)), batch_size=32)))
    assert run.validation is None
    assert "no such file" in run.no_validation


def test_validation_samples_are_drawn_from_the_whole_set() -> None:
    x, y = _data(640).tensors
    order = y.argsort()
    run = rehearsal(_sandbox(_adam, val_loader=DataLoader(TensorDataset(x[order], y[order]), batch_size=32)))
    assert run.validation is not None
    assert run.validation.eval_after is not None
    assert run.fresh is not None
    assert run.fresh.eval_after is not None
    assert abs(run.validation.eval_after.mean - run.fresh.eval_after.mean) < 0.3


def test_a_fall_is_judged_in_pairs() -> None:
    wide = level(2.0, 1.0)
    lower = type(wide)(losses=tuple(x - 0.01 for x in wide.losses), apart=True, wrong=None)
    gain, t = fall(wide, lower)
    assert gain == pytest.approx(0.01)
    assert t > 100
    assert fall(wide, wide) == (0.0, 0.0)
    assert math.isnan(fall(wide, level(math.nan))[0])
    assert math.isnan(fall(level(1.0), level(1.0, samples=32))[0])


def test_the_noise_of_a_gradient_that_every_sample_agrees_on_is_nothing() -> None:
    same = TensorDataset(torch.ones(320, 8), torch.zeros(320, dtype=torch.long))
    run = rehearsal(_sandbox(lambda p: torch.optim.SGD(p, lr=1e-3), model=nn.Linear(8, 4), data=same))
    assert run.noise is not None
    assert abs(run.noise.noise) < 1e-4 * run.noise.signal


def test_a_sound_run_asks_for_no_control_and_a_frozen_one_is_overtaken_by_adam() -> None:
    assert Evidence(_sandbox(_adam)).get(Controls).runs == ()
    evidence = Evidence(_sandbox(lambda p: torch.optim.SGD(p, lr=1e-9)))
    found = evidence.get(Controls)
    assert found.doubt == "no certain fall"
    adam = found.of("adam")
    assert adam is not None
    assert adam.fall[1] > 6
    assert ahead(evidence.get(Rehearsal), adam)[1] > 6


def test_a_control_of_another_kind_comes_with_each_doubt() -> None:
    exploding = Evidence(_sandbox(lambda p: torch.optim.SGD(p, lr=1e4))).get(Controls)
    assert (exploding.doubt, exploding.runs[0].kind) == ("diverged", "clipped")
    decayed = Evidence(_sandbox(lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=10.0))).get(Controls)
    assert decayed.runs[0].kind == "no decay"
    assert decayed.runs[0].fall[1] > 3


def test_a_control_that_would_be_the_users_own_run_again_is_not_made() -> None:
    def nothing(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(0 * output, target)

    def controls_of(make: Callable[[Any], torch.optim.Optimizer]) -> Controls:
        return Evidence(_sandbox(make, loss_fn=nothing)).get(Controls)

    own = controls_of(lambda p: torch.optim.AdamW(p, lr=1e-3))
    assert (own.doubt, own.runs) == ("no certain fall", ())
    assert "AdamW" in own.no_more
    for other in (
        controls_of(lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.999, 0.9))),
        controls_of(lambda p: torch.optim.Adam(p, lr=1e-5)),
        controls_of(lambda p: torch.optim.Adam(list(p)[:2], lr=1e-3)),
    ):
        assert [control.optimizer for control in other.runs] == [
            "Adam(lr=0.001)"
        ]  # none at 3e-4: the loss does not rise


@pytest.mark.parametrize(
    ("decay", "coupled", "weighs_in"),
    [
        (0.0, True, False),  # |w| = 4, a gradient of 0.1, a rate of 1e-3, 60 updates
        (0.01, True, False),  # 0.04 beside 0.1
        (0.02, True, True),  # 0.08
        (0.1, False, False),  # takes 0.6 % of the weights
        (0.2, False, True),  # 1.2 %
    ],
)
def test_only_a_decay_that_could_turn_an_update_round_is_left_out_for_a_run(
    decay: float, coupled: bool, weighs_in: bool
) -> None:
    run = fake_rehearsal(moves=(moves(decay=decay),))
    assert weighs(run, coupled=coupled) is weighs_in
    still = fake_rehearsal(moves=(moves(decay=decay, gradient=0.0),))
    assert not weighs(still, coupled=True)  # without a gradient there is nothing that decay could outweigh


def test_nothing_is_begun_above_the_limit() -> None:
    sandbox = _sandbox(lambda p: torch.optim.SGD(p, lr=1e-9))
    evidence = Evidence(sandbox)
    evidence.get(Rehearsal)
    sandbox.meter.count(backward=1.5 * (LIMIT - KEPT - 50 - sandbox.meter.train_steps))
    assert sandbox.meter.affords(50)
    assert not sandbox.meter.affords(51)
    assert sandbox.meter.until(180) == pytest.approx(LIMIT - KEPT)
    found = evidence.get(Controls)
    assert (found.doubt, found.runs, found.no_more) == ("no certain fall", (), ENOUGH)
    for kind in (RateRange, InputBaseline, OverfitBatch):
        with contextlib.suppress(CannotMeasure):
            evidence.get(kind)
    assert sandbox.meter.train_steps < LIMIT


def test_answers_collapse_only_if_they_once_differed() -> None:
    assert collapsed((look(0, 0.3), look(60, 0.01)))
    assert not collapsed((look(0, 0.3), look(60, 0.02)))
    assert not collapsed((look(0, 0.0), look(60, 0.0)))
    assert not collapsed((look(0, 0.3),))


@pytest.mark.parametrize(
    ("kind", "decay", "coupled", "asked", "harm"),
    [
        (torch.optim.Adam, 1e-4, True, False, False),
        (torch.optim.Adam, 1.0, True, True, True),
        (torch.optim.AdamW, 0.1, False, False, False),
        (torch.optim.AdamW, 1.0, False, True, False),
    ],
)
def test_a_heavy_decay_is_tried_on_one_batch(kind: Any, decay: float, coupled: bool, asked: bool, harm: bool) -> None:
    found = Evidence(_sandbox(lambda p: kind(p, lr=1e-3, weight_decay=decay))).get(DecayRun)
    assert (found.coupled, bool(found.optimizer)) == (coupled, asked)
    assert (found.share > found.without + 0.5) == harm


def test_an_eps_as_large_as_the_gradients_is_tried_at_its_usual_size() -> None:
    found = Evidence(_sandbox(lambda p: torch.optim.Adam(p, lr=1e-3, eps=1.0))).get(Controls)
    assert (found.doubt, [run.kind for run in found.runs]) == ("large eps", ["small eps"])
    assert Evidence(_sandbox(lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4))).get(Controls).runs == ()
