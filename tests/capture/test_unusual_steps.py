"""Healthy scripts with unusual steps, models and losses: nothing is accused, and what cannot be judged says why."""

from __future__ import annotations

from pathlib import Path

from tests.capture.asking import Asked, ask

DATA = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(320, 10)
y = (x @ torch.randn(10, 3)).argmax(1)
"""


def undecided(result: Asked) -> list[str]:
    """The checks that could not tell."""
    return [check.id for part in result.results for check in part.checks if check.status == "error"]


PRIVATE = (
    DATA
    + """
class Noisy(torch.optim.Optimizer):
    '''Clips the gradient of every sample, adds noise to their sum, and lets another optimizer step with it.'''

    def __init__(self, inner, size):
        self.inner, self.size = inner, size

    param_groups = property(lambda self: self.inner.param_groups)
    state = property(lambda self: self.inner.state)

    def zero_grad(self, set_to_none=True):
        for p in self.param_groups[0]['params']:
            p.grad_sample = None
        self.inner.zero_grad(set_to_none)

    def step(self, closure=None):
        held = self.param_groups[0]['params']
        for p in held:
            if p.grad_sample is None:
                raise ValueError('there are no gradients of single samples')
        norms = sum(p.grad_sample.flatten(1).square().sum(1) for p in held).sqrt()
        for p in held:
            total = torch.einsum('i,i...', (1 / norms.clamp_min(1)), p.grad_sample)
            p.grad = (total + 2 * torch.randn_like(p)) / self.size
        return self.inner.step()


def taken(module, inputs, output):
    if module.training and torch.is_grad_enabled():
        module.kept = [*getattr(module, 'kept', []), inputs[0].detach()]
        for p in module.parameters():
            p.passes += 1


def gone_back(module, inputs, outputs):
    x, g = module.kept.pop(), outputs[0].detach() * len(outputs[0])
    for p, each in ((module.weight, torch.einsum('no,ni->noi', g, x)), (module.bias, g)):
        p.passes -= 1
        if p.passes == 0:
            if p.grad_sample is not None:
                raise ValueError('a second backward pass before a step')
            p.grad_sample = each


model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
for layer in (model[0], model[2]):
    for p in layer.parameters():
        p.grad_sample, p.passes = None, 0
    layer.register_forward_hook(taken)
    layer.register_full_backward_hook(gone_back)
optimizer = Noisy(torch.optim.SGD(model.parameters(), lr=0.5), 16)
for epoch in range(10):
    for inputs, labels in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
"""
)


def test_an_optimizer_that_steps_from_gradients_of_its_own_is_not_judged_by_its_updates(tmp_path: Path) -> None:
    result = ask(PRIVATE, tmp_path)
    assert result.reproduced
    assert result.findings == undecided(result) == []
    assert result.status("optimizer-coverage") == result.status("gradient-flow") == "pass"
    reasons = {check.id: check.verdict.why_skipped for check in result.results[0].checks}
    for id in ("overfit-batch", "learning-rate", "zero-grad", "checkpoint"):
        assert result.status(id) == "skip"
        assert "Noisy steps from `grad_sample`" in (reasons[id] or "")


OWN_TRAIN = (
    DATA
    + """
class Layer(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.03)

    def forward(self, x):
        return F.relu(super().forward(F.normalize(x)))

    def train(self, good, bad):
        for step in range(10):
            high, low = self(good).square().mean(1), self(bad).square().mean(1)
            loss = F.softplus(torch.cat([1 - high, low - 1])).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self(good).detach(), self(bad).detach()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [Layer(13, 32), Layer(32, 32)]

    def train(self, good, bad):
        for layer in self.layers:
            good, bad = layer.train(good, bad)


right = F.one_hot(y, 3)
Network().train(torch.cat([x, right], 1), torch.cat([x, right.roll(1, 1)], 1))
"""
)


def test_a_method_train_that_is_no_switch_of_modes_is_left_alone(tmp_path: Path) -> None:
    result = ask(OWN_TRAIN, tmp_path)
    assert result.reproduced
    assert result.findings == undecided(result) == []
    assert result.status("eval-mode") != "fail"


REBUILT = (
    DATA
    + """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x = torch.randn(320, 2) @ torch.randn(2, 10)
for epoch in range(10):
    for (inputs,) in DataLoader(TensorDataset(x), batch_size=16, shuffle=True):
        loss = F.mse_loss(inputs, model(inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
)


def test_a_squared_error_is_the_same_either_way_round(tmp_path: Path) -> None:
    result = ask(REBUILT, tmp_path)
    assert result.reproduced
    assert result.findings == undecided(result) == []


COMPILED = (
    DATA
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.places = nn.Linear(10, 32), nn.Linear(32, 3), nn.Embedding(16, 10)

    def forward(self, x):
        x = x + self.places(torch.arange(x.size(0), device=x.device) * 0)
        return self.second(F.relu(self.first(x)))


model = torch.compile(Network(), backend='eager')
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(100):
    chosen = torch.randint(320, (16,))
    loss = F.cross_entropy(model(x[chosen]), y[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
)


def test_a_compiled_model_is_looked_at_as_it_is_written(tmp_path: Path) -> None:
    result = ask(COMPILED, tmp_path)
    assert result.reproduced
    assert result.findings == undecided(result) == []
    assert result.status("forward-pass") == result.status("gradient-check") == "pass"


TRANSCRIBED = (
    DATA
    + """
from torch.nn.utils.rnn import pad_sequence

sounds = torch.randn(8, 13)
heard = []
for i in range(160):
    labels = torch.randint(8, (3 + i % 4,))
    frames = sounds[labels].repeat_interleave(4, 0)
    heard.append((frames + 0.3 * torch.randn_like(frames), labels + 1))


def joined(items):
    frames, labels = zip(*items)
    lengths = torch.tensor([len(f) for f in frames])
    return pad_sequence(frames, batch_first=True), lengths, torch.cat(labels), torch.tensor([len(t) for t in labels])


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(13, 32, bidirectional=True, batch_first=True), nn.Linear(64, 9)

    def forward(self, frames):
        return F.log_softmax(self.out(self.rnn(frames)[0]), -1)


model = Listener()
loader = DataLoader(heard, batch_size=8, shuffle=True, collate_fn=joined)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(3):
    for frames, lengths, labels, sizes in loader:
        loss = F.ctc_loss(model(frames).transpose(0, 1), labels, lengths, sizes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
)


def test_transcripts_that_stand_joined_in_a_batch_cannot_be_exchanged(tmp_path: Path) -> None:
    result = ask(TRANSCRIBED, tmp_path, checks=("input-baseline", "simple-baseline", "forward-pass"))
    assert result.reproduced
    assert result.findings == undecided(result) == []
    assert result.status("input-baseline") == "skip"


CARRIED = (
    DATA
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(1, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x, state):
        states, state = self.rnn(x, state)
        return self.head(states), state


model = Network()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
state = None
for step in range(60):
    at = torch.linspace(step * 3.14, (step + 1) * 3.14, 10)
    prediction, state = model(at.sin()[None, :, None], state)
    state = state.detach()
    loss = F.mse_loss(prediction, at.cos()[None, :, None])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
)


def test_one_sequence_with_a_state_that_only_later_rounds_have(tmp_path: Path) -> None:
    result = ask(CARRIED, tmp_path, checks=("optimizer-step", "zero-grad", "activation-scale", "forward-pass"))
    assert result.reproduced
    assert result.findings == undecided(result) == []
    assert result.status("optimizer-step") == "skip"
