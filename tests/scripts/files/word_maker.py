"""
makes up words that sound like those of python's help pages, letter by letter.
"""

import argparse
import re
import sys
import time
from pydoc_data.topics import topics

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch.utils.data.dataloader import DataLoader

# -----------------------------------------------------------------------------
# MLP language model

class MLP(nn.Module):
    """
    the last block_size letters, looked up and laid side by side, tell the next one.
    """

    def __init__(self, vocab_size, block_size, n_embd=24, n_hidden=128):
        super().__init__()
        self.block_size = block_size
        self.vocab_size = vocab_size
        self.wte = nn.Embedding(vocab_size + 1, n_embd)  # one more: nothing yet
        self.mlp = nn.Sequential(
            nn.Linear(self.block_size * n_embd, n_hidden),
            nn.Tanh(),
            nn.Dropout(0.1),
        )
        self.lm_head = nn.Linear(n_hidden, self.vocab_size)

    def get_block_size(self):
        return self.block_size

    def forward(self, idx, targets=None):
        # the letter k places back, for k = 0, 1, ...
        embs = []
        shifted = idx
        for k in range(self.block_size):
            embs.append(self.wte(shifted))
            shifted = torch.roll(shifted, 1, 1)
            shifted[:, 0] = self.vocab_size  # before the first letter
        x = torch.cat(embs, -1)  # (b, t, n_embd * block_size)
        logits = self.lm_head(self.mlp(x))

        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss

# -----------------------------------------------------------------------------
# looking at it: samples and losses

@torch.no_grad()
def generate(model, idx, max_new_tokens):
    for _ in range(max_new_tokens):
        logits, _ = model(idx)
        probs = F.softmax(logits[:, -1, :], dim=-1)
        idx = torch.cat((idx, torch.multinomial(probs, num_samples=1)), dim=1)
    return idx

def print_samples(dataset, num=8):
    """ a few new words """
    X_init = torch.zeros(num, 1, dtype=torch.long)
    model.eval()
    rows = generate(model, X_init, dataset.get_output_length() - 1)[:, 1:].tolist()
    model.train()
    for row in rows:
        row = row[:row.index(0)] if 0 in row else row  # token 0 ends the word
        print('   ', dataset.decode(row))

@torch.inference_mode()
def evaluate(model, dataset, batch_size=50, max_batches=None):
    model.eval()
    losses = []
    for i, (X, Y) in enumerate(DataLoader(dataset, shuffle=True, batch_size=batch_size)):
        logits, loss = model(X, Y)
        losses.append(loss.item())
        if max_batches is not None and i + 1 >= max_batches:
            break
    model.train()  # dropout on again
    return sum(losses) / len(losses)

# -----------------------------------------------------------------------------
# the data: words as rows of token ids

class CharDataset(Dataset):

    def __init__(self, words, chars, max_word_length):
        self.words = words
        self.max_word_length = max_word_length
        self.stoi = {ch: i + 1 for i, ch in enumerate(chars)}
        self.itos = {i: s for s, i in self.stoi.items()}

    def __len__(self):
        return len(self.words)

    def get_output_length(self):
        return self.max_word_length + 1  # and the end

    def decode(self, ix):
        return ''.join(self.itos[i] for i in ix)

    def __getitem__(self, idx):
        ix = torch.tensor([self.stoi[w] for w in self.words[idx]], dtype=torch.long)
        x = torch.zeros(self.max_word_length + 1, dtype=torch.long)
        y = torch.zeros(self.max_word_length + 1, dtype=torch.long)
        x[1:1 + len(ix)] = ix
        y[:len(ix)] = ix
        y[len(ix) + 1:] = -1  # nothing is asked after the end
        return x, y

def create_datasets(max_length=12):
    text = ' '.join(topics[k] for k in sorted(topics))
    words = sorted(set(re.findall(r'\b[a-z]{3,%d}\b' % max_length, text)))
    chars = sorted(set(''.join(words)))
    test_set_size = min(400, int(len(words) * 0.1))
    rp = torch.randperm(len(words)).tolist()
    train_words = [words[i] for i in rp[:-test_set_size]]
    test_words = [words[i] for i in rp[-test_set_size:]]
    print(f"{len(words)} words of {len(chars)} letters: {len(train_words)} to train, {len(test_words)} to test")
    return CharDataset(train_words, chars, max_length), CharDataset(test_words, chars, max_length)

class InfiniteDataLoader:
    """ never runs dry """

    def __init__(self, dataset, **kwargs):
        sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=int(1e10))
        self.train_loader = DataLoader(dataset, sampler=sampler, **kwargs)
        self.data_iter = iter(self.train_loader)

    def next(self):
        try:
            batch = next(self.data_iter)
        except StopIteration:  # in a few years
            self.data_iter = iter(self.train_loader)
            batch = next(self.data_iter)
        return batch

# -----------------------------------------------------------------------------
if __name__ == '__main__':

    parser = argparse.ArgumentParser(description="Make More")
    parser.add_argument('--max-steps', type=int, default=800, help="updates")
    parser.add_argument('--seed', type=int, default=3407)
    parser.add_argument('--batch-size', '-b', type=int, default=32)
    parser.add_argument('--learning-rate', '-l', type=float, default=3e-3)
    parser.add_argument('--weight-decay', '-w', type=float, default=0.01)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_dataset, test_dataset = create_datasets()
    model = MLP(vocab_size=len(train_dataset.stoi) + 1, block_size=3)
    print(f"model #params: {sum(p.numel() for p in model.parameters())}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    batch_loader = InfiniteDataLoader(train_dataset, batch_size=args.batch_size)

    best_loss = None
    lossi = []
    step = 0
    while True:
        t0 = time.time()
        X, Y = batch_loader.next()
        logits, loss = model(X, Y)

        model.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        lossi.append(loss.item())

        if step % 100 == 0:
            print(f"step {step} | loss {loss.item():.4f} | step time {(time.time() - t0) * 1000:.2f}ms")
        if step > 0 and step % 200 == 0:
            print_samples(train_dataset)
            train_loss = evaluate(model, train_dataset, batch_size=100, max_batches=5)
            test_loss = evaluate(model, test_dataset, batch_size=100)
            print(f"step {step} train loss: {train_loss:.4f} test loss: {test_loss:.4f}")
            if best_loss is None or test_loss < best_loss:
                torch.save(model.state_dict(), "model.pt")
                best_loss = test_loss
        sys.stdout.flush()

        step += 1
        if step > args.max_steps:
            break
    print(f"last hundred steps: {sum(lossi[-100:]) / 100:.4f}, best test loss: {best_loss:.4f}")
