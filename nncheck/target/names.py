"""The module-level names under which training files keep their parts, commonest first (survey of 437 public training scripts)."""

from __future__ import annotations

MAKERS = ("build_", "make_", "get_", "create_")

NAMES: dict[str, tuple[str, ...]] = {
    "model": ("model", "net", "network", "module"),
    "train_loader": (
        "train_loader", "trainloader", "train_dataloader", "training_loader", "train_dl", "loader_train",
        "data_loader_train", "dataloader", "data_loader", "loader", "dl",
    ),
    "val_loader": (
        "val_loader", "valid_loader", "validation_loader", "val_dataloader", "eval_dataloader", "valloader",
        "test_loader", "testloader",
    ),
    "loss_fn": ("loss_fn", "criterion", "loss_func", "loss_function", "loss"),
    "optimizer": ("optimizer", "opt", "optim"),
    "scheduler": ("scheduler", "lr_scheduler", "sched"),
    "training_step": ("training_step", "train_step", "compute_loss"),
    "train_step": ("train_step",),
    "epochs": ("epochs", "num_epochs", "max_epochs"),
    "scheduler_interval": ("scheduler_interval",),
    "target_error": ("target_error", "human_error"),
}  # fmt: skip

SECOND_BEST = ("test_loader", "testloader")
"""Loaders that stand in for a validation loader, with a note."""

LOADER_PAIRS = ("dataloaders", "data_loaders", "loaders")
"""With a maker's prefix: functions that return the training and the validation loader together."""

DATA_SETS = ("train_set", "train_dataset", "trainset", "dataset")

BATCH_NAMES = ("batch", "data", "inputs", "sample", "examples")
INDEX_NAMES = ("batch_idx", "batch_index", "idx", "step", "i")
STEP_EXTRAS = ("device", "scaler", "epoch")
"""Parameter names of a step function that say what it is given."""

FLAGS = {
    "model": "--model",
    "train_loader": "--train-loader",
    "val_loader": "--val-loader",
    "loss_fn": "--loss",
    "optimizer": "--optimizer",
    "scheduler": "--scheduler",
    "training_step": "--training-step",
    "train_step": "--train-step",
    "epochs": "--epochs",
}


def made_names(part: str) -> tuple[str, ...]:
    """The builder forms of a part's names: `build_model`, `make_model`, ..., in the order of the names."""
    return tuple(f"{maker}{name}" for name in NAMES[part] for maker in MAKERS)
