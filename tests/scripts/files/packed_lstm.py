"""
Which instrument was it?  Classifies short recordings of different length (sine, saw, square, pulse)
with a bidirectional LSTM on packed sequences.
"""
import argparse
import math
import random
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

CLASS_NAMES = ["sine", "saw", "square", "pulse"]
CLASS_WEIGHTS = [0.35, 0.25, 0.2, 0.2]


def synthesize(kind, n_steps, rng):
    period = rng.uniform(7.0, 11.0)
    shift = rng.random()
    phases = [(t / period + shift) % 1.0 for t in range(n_steps)]
    if kind == "sine":
        wave = [1.4 * math.sin(2 * math.pi * p) for p in phases]
    elif kind == "saw":
        wave = [3.4 * p - 1.7 for p in phases]
    elif kind == "square":
        wave = [1.0 if p < 0.5 else -1.0 for p in phases]
    else:
        wave = [2.0 if p < 0.2 else -0.5 for p in phases]
    signal = torch.tensor([w + rng.gauss(0, 0.25) for w in wave])
    slope = torch.diff(signal, prepend=signal[:1])
    return torch.stack([signal, slope], dim=1)  # (time, 2)


class RecordingDataset(Dataset):
    def __init__(self, size, seed, min_len=14, max_len=32):
        rng = random.Random(seed)
        self.samples = []
        for _ in range(size):
            label = rng.choices(range(len(CLASS_NAMES)), CLASS_WEIGHTS)[0]
            self.samples.append((synthesize(CLASS_NAMES[label], rng.randint(min_len, max_len), rng), label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, item):
        return self.samples[item]


def collate_fn(batch):
    """Longest first, padded with zeros; returns the padded batch, the lengths and the labels."""
    batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
    sequences = [sequence for sequence, _ in batch]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    labels = torch.tensor([label for _, label in batch])
    return pad_sequence(sequences, batch_first=True), lengths, labels


class LSTMClassifier(nn.Module):
    def __init__(self, input_dim, hidden_dim, n_classes, dropout=0.2):
        super().__init__()
        self.lstm = nn.LSTM(input_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden_dim, n_classes)

    def forward(self, padded, lengths):
        packed = pack_padded_sequence(padded, lengths, batch_first=True)
        _, (hidden, _) = self.lstm(packed)
        hidden = torch.cat([hidden[-2], hidden[-1]], dim=1)  # last state of either direction
        return self.fc(self.dropout(hidden))


def macro_f1(predicted, actual):
    scores = []
    for c in range(len(CLASS_NAMES)):
        tp = sum(p == c and a == c for p, a in zip(predicted, actual))
        fp = sum(p == c and a != c for p, a in zip(predicted, actual))
        fn = sum(p != c and a == c for p, a in zip(predicted, actual))
        scores.append(2 * tp / (2 * tp + fp + fn) if tp else 0.0)
    return sum(scores) / len(scores)


def accuracy(predicted, actual):
    return sum(p == a for p, a in zip(predicted, actual)) / len(actual)


def train_one_epoch(model, loader, criterion, optimizer, clip):
    model.train()
    total_loss, total = 0.0, 0
    predicted, actual = [], []
    for padded, lengths, labels in loader:
        optimizer.zero_grad()
        logits = model(padded, lengths)
        loss = criterion(logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        total_loss += loss.item() * len(labels)
        total += len(labels)
        predicted += logits.argmax(dim=1).tolist()
        actual += labels.tolist()
    return total_loss / total, accuracy(predicted, actual), macro_f1(predicted, actual)


def evaluate(model, loader, criterion):
    model.eval()
    total_loss, total = 0.0, 0
    predicted, actual = [], []
    with torch.no_grad():
        for padded, lengths, labels in loader:
            logits = model(padded, lengths)
            total_loss += criterion(logits, labels).item() * len(labels)
            total += len(labels)
            predicted += logits.argmax(dim=1).tolist()
            actual += labels.tolist()
    return total_loss / total, accuracy(predicted, actual), macro_f1(predicted, actual)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--clip", type=float, default=1.0)
    args = parser.parse_args()

    torch.manual_seed(99)
    train_set = RecordingDataset(1200, seed=1)
    valid_set = RecordingDataset(300, seed=2)
    print("classes:", dict(Counter(CLASS_NAMES[label] for _, label in train_set.samples)))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn)
    valid_loader = DataLoader(valid_set, batch_size=args.batch_size, collate_fn=collate_fn)

    model = LSTMClassifier(2, args.hidden, len(CLASS_NAMES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    best_f1 = -1.0
    for epoch in range(1, args.epochs + 1):
        train_loss, train_acc, train_f1 = train_one_epoch(model, train_loader, criterion, optimizer, args.clip)
        valid_loss, valid_acc, valid_f1 = evaluate(model, valid_loader, criterion)
        flag = ""
        if valid_f1 > best_f1:
            best_f1, flag = valid_f1, "*"
            torch.save({"epoch": epoch, "model": model.state_dict(), "f1": best_f1}, "lstm_best.pt")
        print(f"Epoch {epoch}: train loss {train_loss:.3f} acc {train_acc:.3f} f1 {train_f1:.3f} | "
              f"valid loss {valid_loss:.3f} acc {valid_acc:.3f} f1 {valid_f1:.3f} {flag}")


if __name__ == "__main__":
    main()
