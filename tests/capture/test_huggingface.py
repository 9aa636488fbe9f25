"""The `Trainer` of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.asking import ask
from tests.capture.loop_script import edited

SCRIPT = '''
import argparse
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--steps", type=int, default=-1)
parser.add_argument("--bf16", action="store_true")
args = parser.parse_args()


class Evens(Dataset):
    """Whether most of the tokens are even."""

    def __init__(self, size, seed):
        self.x = torch.randint(2, 20, (size, 9), generator=torch.Generator().manual_seed(seed))
        self.y = ((self.x % 2 == 0).sum(1) > 4).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"input_ids": self.x[index], "attention_mask": torch.ones(9, dtype=torch.long), "labels": self.y[index]}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def main():
    set_seed(3)
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        "output", num_train_epochs=3, max_steps=args.steps, per_device_train_batch_size=16, learning_rate=2e-3,
        gradient_accumulation_steps=args.accumulate, warmup_steps=10, lr_scheduler_type="cosine", bf16=args.bf16,
        dataloader_num_workers=args.workers, eval_strategy="steps", eval_steps=1, save_steps=1, logging_steps=1,
        use_cpu=True, report_to="none", disable_tqdm=False,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Evens(800, 0), eval_dataset=Evens(200, 1), compute_metrics=accuracy
    )
    trainer.train()
    trainer.save_model("final")


if __name__ == "__main__":
    main()
'''

OWN_LOSS = """
class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(outputs.logits, labels)
        self.log({"own": loss.item()})
        return (loss, outputs) if return_outputs else loss


def accuracy("""

STEP = (
    "forward-pass", "finite-values", "zero-grad", "optimizer-step", "gradient-accumulation", "gradient-clipping",
    "lr-schedule", "double-softmax",
)  # fmt: skip


LOOP = {
    "scheduler-step": (
        ("compute_metrics=accuracy\n", "compute_metrics=accuracy, optimizers=(optimizer, schedule),\n"),
        ("    trainer = ", "    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)\n"
         "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)\n    trainer = "),
    ),
    "host-sync": (
        ('self.log({"own"', 'right = [int(p) == int(t) for p, t in zip(outputs.logits.argmax(1), labels)]\n        '
         'self.log({"own"'),
    ),
    "graph-retention": (
        ("class Own(Trainer):\n", "class Own(Trainer):\n    kept = []\n\n"),
        ('self.log({"own"', 'self.kept.append(loss)\n        self.log({"own"'),
    ),
    "validation-data": (
        ("train_dataset=Evens(800, 0), eval_dataset=Evens(200, 1)", "train_dataset=data, eval_dataset=data"),
        ("    trainer = ", "    data = Evens(800, 0)\n    trainer = "),
    ),
    "metric-definition": (("prediction.label_ids).mean()", "prediction.label_ids).sum() / 16"),),
    "train-eval-mode": (("        outputs = model(", "        model.eval()\n        outputs = model("),),
}  # fmt: skip


def own_loss(text: str = SCRIPT) -> str:
    """The script with a Trainer that computes its loss itself."""
    return text.replace("\ndef accuracy(", OWN_LOSS).replace("trainer = Trainer(", "trainer = Own(")


def test_a_healthy_script_is_clean_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Evaluation, logging and saving after every step."""
    asked = ask(
        SCRIPT, tmp_path, checks=("setup", "data", "wiring", "lr-schedule", "learning-rate", "checkpoint", "loop")
    )
    assert asked.reproduced
    assert asked.findings == []
    assert asked.left == ("train.py",)
    recipe = asked.found[0].recipe
    assert type(recipe.model).__name__ == "BertForSequenceClassification"
    assert recipe.epochs == 3
    assert recipe.scheduler_interval == "step"
    assert len(recipe.val_loader.dataset) == 200
    assert asked.status("lr-schedule") == "pass"
    assert [asked.status(id) for id in LOOP] == ["pass"] * len(LOOP)


@pytest.mark.parametrize(
    "arguments", [("--accumulate", "4"), ("--workers", "2"), ("--steps", "20"), ("--bf16",)], ids=lambda a: a[0]
)
def test_the_trainers_options_do_no_harm(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    asked = ask(SCRIPT, tmp_path, *arguments, checks=STEP)
    assert asked.findings == []
    assert any("gives the first loss again" in note for note in asked.found[0].notes)
    assert asked.status("optimizer-step") == "pass"


def test_a_loss_of_the_users_own_is_asked_and_logs_nothing(tmp_path: Path) -> None:
    asked = ask(own_loss(), tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []
    assert asked.left == ("train.py",)


def test_a_seq2seq_trainer(tmp_path: Path) -> None:
    text = SCRIPT.replace("Trainer, TrainingArguments", "Seq2SeqTrainer, Seq2SeqTrainingArguments")
    text = text.replace("= TrainingArguments(", "= Seq2SeqTrainingArguments(").replace(
        "= Trainer(", "= Seq2SeqTrainer("
    )
    asked = ask(text, tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []


@pytest.mark.parametrize("id", LOOP)
def test_a_fault_of_the_loop_is_found_while_the_trainer_goes_on(tmp_path: Path, id: str) -> None:
    asked = ask(edited(*LOOP[id], text=own_loss()), tmp_path, checks=("forward-pass", id))
    assert asked.findings == [id]
    assert asked.left == ("train.py",)


def test_scores_on_a_part_of_the_training_data_beside_the_validation_are_no_fault(tmp_path: Path) -> None:
    text = SCRIPT.replace(
        "eval_dataset=Evens(200, 1)", "eval_dataset={'seen': Evens(800, 0), 'held_out': Evens(200, 1)}"
    )
    assert ask(text, tmp_path, checks=("validation-data",)).findings == []


def test_a_softmax_before_the_loss_is_found(tmp_path: Path) -> None:
    text = own_loss().replace("cross_entropy(outputs.logits,", "cross_entropy(outputs.logits.softmax(-1),")
    assert ask(text, tmp_path, checks=STEP).findings == ["double-softmax"]


def test_a_loss_that_is_not_divided_by_the_batches_it_accumulates(tmp_path: Path) -> None:
    """A model that takes any argument is trusted to divide by `num_items_in_batch`; this loss does not."""
    assert ask(own_loss(), tmp_path, "--accumulate", "4", checks=STEP).findings == ["gradient-accumulation"]


def test_validation_data_that_was_trained_on_is_found(tmp_path: Path) -> None:
    asked = ask(
        SCRIPT.replace("Evens(200, 1)", "Evens(200, 0)"), tmp_path, checks=("forward-pass", "train-val-leakage")
    )
    assert asked.findings == ["train-val-leakage"]


def test_labels_that_the_collator_takes_away_are_found(tmp_path: Path) -> None:
    """Every label is -100, which no loss counts."""
    collator = (
        "def collate(items):\n"
        "    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}\n"
        "    return batch | {'labels': torch.full_like(batch['labels'], -100)}\n\n\ndef main():"
    )
    text = SCRIPT.replace("def main():", collator).replace("args=arguments,", "args=arguments, data_collator=collate,")
    assert ask(text, tmp_path, checks=("forward-pass", "finite-values")).findings == ["finite-values"]
