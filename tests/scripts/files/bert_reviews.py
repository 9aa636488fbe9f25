import random
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

GOOD = "great lovely bright charming tasty warm friendly superb fresh delightful".split()
BAD = "awful bland cold rude dirty stale noisy dreadful greasy boring".split()
THINGS = "soup room staff film music garden coffee view plot bread service bed".split()
FRAMES = [
    "the {t} was {a} and the {u} was {b}",
    "we found the {t} {a} , also a {b} {u}",
    "what a {a} {t} , the {u} felt {b} too",
    "honestly a {a} {t} with a rather {b} {u} that day",
    "my friend said the {t} is {a}",
]
FLIPS = ["", "not at all what they wrote : ", "in short , "]


@dataclass
class DataArguments:
    n_reviews: int = field(default=1000, metadata={"help": "how many reviews to write"})
    max_length: int = field(default=20)


def write_review(rng: random.Random) -> tuple[str, int]:
    label = rng.randrange(2)
    words = GOOD if label else BAD
    t, u = rng.sample(THINGS, 2)
    text = rng.choice(FLIPS) + rng.choice(FRAMES).format(t=t, u=u, a=rng.choice(words), b=rng.choice(words))
    return text, label


class Vocabulary:
    def __init__(self, texts):
        words = sorted({w for text in texts for w in text.split()})
        self.index = {w: i + 3 for i, w in enumerate(words)}  # 0 pad, 1 cls, 2 unknown

    def __len__(self):
        return len(self.index) + 3

    def __call__(self, text, max_length):
        ids = ([1] + [self.index.get(w, 2) for w in text.split()])[:max_length]
        mask = [1] * len(ids) + [0] * (max_length - len(ids))
        return {"input_ids": ids + [0] * (max_length - len(ids)), "attention_mask": mask}


class ReviewDataset(Dataset):
    def __init__(self, reviews, vocabulary, max_length):
        self.rows = [{**vocabulary(text, max_length), "labels": label} for text, label in reviews]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {k: torch.tensor(v) for k, v in self.rows[i].items()}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main():
    (data_args,) = HfArgumentParser(DataArguments).parse_args_into_dataclasses()
    set_seed(13)
    rng = random.Random(13)
    reviews = list(dict.fromkeys(write_review(rng) for _ in range(data_args.n_reviews)))
    cut = int(0.8 * len(reviews))
    vocabulary = Vocabulary([text for text, _ in reviews[:cut]])
    train_dataset = ReviewDataset(reviews[:cut], vocabulary, data_args.max_length)
    eval_dataset = ReviewDataset(reviews[cut:], vocabulary, data_args.max_length)

    config = DistilBertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=data_args.max_length,
        dim=48,
        hidden_dim=96,
        n_layers=2,
        n_heads=4,
        num_labels=2,
    )
    model = DistilBertForSequenceClassification(config)
    training_args = TrainingArguments(
        output_dir="reviews-out",
        num_train_epochs=3,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=10,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=13,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )
    result = trainer.train()
    print(result.metrics)
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
