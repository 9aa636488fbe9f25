# A plain training function around accelerate: the same file for one CPU and for many GPUs.
import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset, random_split

EVAL_BATCH_SIZE = 64


def get_dataloaders(batch_size: int):
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)
    x = (x - x.mean()) / x.std()
    train, held_out = random_split(TensorDataset(x, torch.tensor(digits.target)), [1440, len(x) - 1440])
    train_dataloader = DataLoader(train, shuffle=True, batch_size=batch_size, drop_last=True)
    eval_dataloader = DataLoader(held_out, shuffle=False, batch_size=EVAL_BATCH_SIZE)
    return train_dataloader, eval_dataloader


class RowGRU(torch.nn.Module):
    """Reads an image row by row."""

    def __init__(self, hidden=48):
        super().__init__()
        self.rnn = torch.nn.GRU(8, hidden, batch_first=True)
        self.norm = torch.nn.LayerNorm(hidden)
        self.dropout = torch.nn.Dropout(0.1)
        self.classifier = torch.nn.Linear(hidden, 10)

    def forward(self, rows):
        out, _ = self.rnn(rows)
        return self.classifier(self.dropout(self.norm(out[:, -1])))


def training_function(config, args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    lr, num_epochs, seed = config["lr"], int(config["num_epochs"]), int(config["seed"])

    set_seed(seed)
    train_dataloader, eval_dataloader = get_dataloaders(int(config["batch_size"]))
    model = RowGRU()
    model = model.to(accelerator.device)
    optimizer = torch.optim.AdamW(params=model.parameters(), lr=lr)
    total = num_epochs * len(train_dataloader) // args.gradient_accumulation_steps
    lr_scheduler = LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / (total + 1)))
    criterion = torch.nn.CrossEntropyLoss()

    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(num_epochs):
        model.train()
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                rows, labels = batch
                output = model(rows)
                loss = criterion(output, labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()

        model.eval()
        correct, count = 0, 0
        for batch in eval_dataloader:
            rows, labels = batch
            with torch.no_grad():
                predictions = model(rows).argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, labels))
            correct += (predictions == references).sum().item()
            count += references.numel()
        accelerator.print(f"epoch {epoch}: loss {loss.item():.4f} accuracy {correct / count:.4f}")
    accelerator.end_training()


def main():
    parser = argparse.ArgumentParser(description="Simple example of training script.")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--num_epochs", type=int, default=4)
    args = parser.parse_args()
    config = {"lr": 6e-3, "num_epochs": args.num_epochs, "seed": 42, "batch_size": 16}
    training_function(config, args)


if __name__ == "__main__":
    main()
