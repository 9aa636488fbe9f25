"""A small language model whose attention should look back only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

TOKENS, STEPS, WIDTH = 20, 12, 32


def _sequences() -> Tensor:
    """Chains in which each token makes a few others likely."""
    g = torch.Generator().manual_seed(0)
    table = (torch.randn(TOKENS, TOKENS, generator=g) * 2.5).softmax(-1)
    steps = [torch.randint(TOKENS, (768,), generator=g)]
    for _ in range(STEPS):
        steps.append(torch.multinomial(table[steps[-1]], 1, generator=g).squeeze(1))
    return torch.stack(steps, 1)


class Attention(nn.Module):
    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal))


class Language(nn.Module):
    def __init__(self, *, causal: bool = True, positions: bool = True) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(TOKENS, WIDTH), nn.Embedding(STEPS + 1, WIDTH)
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(causal=causal)
        self.rest = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 64), nn.GELU())
        self.head = nn.Linear(64, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.rest(x + self.attention(self.norm(x))))


def _loss(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def _recipe(model: nn.Module, inputs: Tensor, targets: Tensor) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(inputs, targets), batch_size=32, shuffle=True),
        loss_fn=_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _language(*, causal: bool) -> Recipe:
    ids = _sequences()
    torch.manual_seed(0)
    return _recipe(Language(causal=causal), ids[:, :-1], ids[:, 1:])


def healthy() -> Recipe:
    return _language(causal=True)


def broken() -> Recipe:
    return _language(causal=False)


def fixed() -> Recipe:
    """`is_causal=True` again."""
    return _language(causal=True)


class Recurrent(nn.Module):
    """Reads in both directions, as a tagger may."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.read = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.read(self.embed(ids))[0])


def near_miss() -> dict[str, Recipe]:
    ids = _sequences()[:, :-1]
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.25
    masked, answers = ids.masked_fill(hidden, 0), ids.masked_fill(~hidden, -100)
    answers[:, 0] = ids[:, 0]
    torch.manual_seed(0)
    return {
        "masked language model": _recipe(Language(causal=False), masked, answers),
        "tagger in both directions": _recipe(Recurrent(), ids, (ids + ids.roll(-1, 1)) % 3),
    }
