"""
Teaches a little transformer to sort: given six digits it has to write them in order.
Data and goal are made up on the fly, sequences are assigned to train or test by their hash.
"""
import math
import time
import zlib
from collections import defaultdict
from types import SimpleNamespace as CN

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch.utils.data.dataloader import DataLoader


class SortDataset(Dataset):
    """ 3 0 2 1 0 1 | 0 0 1 1 2 3 as one row; what is left of the bar is given, what is right of it is asked for """

    def __init__(self, split, length=6, num_digits=4):
        assert split in {'train', 'test'}
        self.split = split
        self.length = length
        self.num_digits = num_digits

    def __len__(self):
        return 10000  # ...

    def get_vocab_size(self):
        return self.num_digits

    def get_block_size(self):
        return self.length * 2 - 1

    def __getitem__(self, idx):
        # draw until one of this split comes
        while True:
            inp = torch.randint(self.num_digits, size=(self.length,), dtype=torch.long)
            # every row belongs to one side for good
            h = zlib.crc32(bytes(inp.tolist()))
            inp_split = 'test' if h % 4 == 0 else 'train'
            if inp_split == self.split:
                break
        sol = torch.sort(inp)[0]
        cat = torch.cat((inp, sol), dim=0)
        x = cat[:-1].clone()
        y = cat[1:].clone()
        # the given half is not to be predicted
        y[:self.length - 1] = -1
        return x, y


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(),
                                 nn.Linear(4 * config.n_embd, config.n_embd), nn.Dropout(config.pdrop))
        mask = torch.tril(torch.ones(config.block_size, config.block_size))
        self.register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))

    def attn(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(x).chunk(3, dim=-1))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float('-inf'))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.Sequential(*[Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, mean=0.0, std=0.05)

    def configure_optimizers(self, train_config):
        """ only the matrices of Linear layers decay """
        decay, no_decay = [], []
        for m in self.modules():
            for pn, p in m.named_parameters(recurse=False):
                (decay if isinstance(m, nn.Linear) and pn == 'weight' else no_decay).append(p)
        optim_groups = [
            {"params": decay, "weight_decay": train_config.weight_decay},
            {"params": no_decay, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(optim_groups, lr=train_config.learning_rate, betas=(0.9, 0.95))

    def forward(self, idx, targets=None):
        pos = torch.arange(0, idx.size(1), dtype=torch.long).unsqueeze(0)
        logits = self.lm_head(self.ln_f(self.blocks(self.wte(idx) + self.wpe(pos))))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss


class Trainer:
    def __init__(self, config, model, train_dataset):
        self.config = config
        self.model = model
        self.optimizer = None
        self.train_dataset = train_dataset
        self.callbacks = defaultdict(list)
        self.iter_num = 0
        self.iter_time = 0.0
        self.iter_dt = 0.0

    def add_callback(self, onevent: str, callback):
        self.callbacks[onevent].append(callback)

    def set_callback(self, onevent: str, callback):
        self.callbacks[onevent] = [callback]

    def trigger_callbacks(self, onevent: str):
        for callback in self.callbacks.get(onevent, []):
            callback(self)

    def run(self):
        model, config = self.model, self.config
        self.optimizer = model.configure_optimizers(config)
        train_loader = DataLoader(
            self.train_dataset,
            sampler=torch.utils.data.RandomSampler(self.train_dataset, replacement=True, num_samples=int(1e10)),
            shuffle=False,
            batch_size=config.batch_size,
        )
        model.train()
        self.iter_num = 0
        self.iter_time = time.time()
        data_iter = iter(train_loader)
        while True:
            x, y = next(data_iter)
            logits, self.loss = model(x, y)
            model.zero_grad(set_to_none=True)
            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_norm_clip)
            self.optimizer.step()

            self.trigger_callbacks('on_batch_end')
            now = time.time()
            self.iter_num, self.iter_dt, self.iter_time = self.iter_num + 1, now - self.iter_time, now
            if config.max_iters is not None and self.iter_num >= config.max_iters:
                break


if __name__ == '__main__':
    torch.manual_seed(3407)
    train_dataset, test_dataset = SortDataset('train'), SortDataset('test')
    config = CN(n_layer=2, n_head=3, n_embd=48, pdrop=0.1, vocab_size=train_dataset.get_vocab_size(),
                block_size=train_dataset.get_block_size())
    model = GPT(config)
    print("number of parameters: %.2fk" % (sum(p.numel() for p in model.parameters()) / 1e3,))
    trainer = Trainer(CN(max_iters=500, batch_size=64, learning_rate=1e-3, weight_decay=0.1, grad_norm_clip=1.0),
                      model, train_dataset)

    def eval_split(dataset, batches):
        """ share of sequences of which every digit is right, with the solution so far given """
        n_right = n_total = 0
        for x, y in DataLoader(dataset, batch_size=100):
            pred = model(x)[0].argmax(dim=-1)
            n_right += ((pred == y) | (y == -1)).all(dim=1).sum().item()
            n_total += len(x)
            batches -= 1
            if batches == 0:
                break
        return n_right / n_total

    history = []

    def batch_end_callback(trainer):
        history.append(trainer.loss.item())
        if trainer.iter_num % 50 == 0:
            print(f"iter_dt {trainer.iter_dt * 1000:.2f}ms; iter {trainer.iter_num}: train loss {history[-1]:.5f}")
        if (trainer.iter_num + 1) % 100 == 0:
            model.eval()
            with torch.no_grad():
                train_score, test_score = eval_split(train_dataset, 3), eval_split(test_dataset, 3)
            model.train()
            print(f"sorted: train {100 * train_score:.1f}%, test {100 * test_score:.1f}%")

    trainer.set_callback('on_batch_end', batch_end_callback)
    trainer.run()
