"""Classifiers of small pictures: course work, tutorials and competition code."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler, random_split

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, digits, pictures


class LeNet(nn.Module):
    def __init__(self, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 32)
        self.fc2 = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def conv_net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        block(3, 12), block(12, 24, 2), block(24, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes)
    )


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def recipe(model: nn.Module, loader: DataLoader, *, lr: float = 2e-3, loss: nn.Module | None = None, **parts) -> Recipe:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=loader, loss_fn=loss or nn.CrossEntropyLoss(), optimizer=optimizer, **parts)


@twin("double-softmax", "overfit-batch", row="L01")
def softmax_layer_at_the_end(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(*mlp(), *([nn.Softmax(dim=1)] if fault else []))
    return recipe(model, batches(*digits()))


class Scores(LeNet):
    def __init__(self, squash: bool) -> None:
        super().__init__()
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return torch.sigmoid(out) if self.squash else out


@twin("double-softmax", "overfit-batch", "output-range", row="L02")
def sigmoid_scores_to_cross_entropy(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Scores(fault), batches(*digits()))


@twin("output-range", "overfit-batch", "dead-relu", row="L08")
def relu_on_the_scores(fault: bool) -> Recipe:
    torch.manual_seed(3)
    layers = []
    for inputs, outputs in ((64, 48), (48, 32), (32, 10)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return recipe(nn.Sequential(nn.Flatten(), *(layers if fault else layers[:-1])), batches(*digits()))


class LogProbabilities(LeNet):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(super().forward(x), dim=self.dim)


@twin("batch-mixing", "batch-consistency", "loss-at-init", row="L10")
def log_softmax_over_the_batch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(LogProbabilities(0 if fault else 1), batches(*digits(), 32), loss=nn.NLLLoss())


class PatchPooling(nn.Module):
    """Scores 2x2 patches and averages their features with these scores."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 24)
        self.place = nn.Parameter(torch.randn(16, 24) * 0.1)
        self.score = nn.Linear(24, 4)
        self.head = nn.Linear(96, 10)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 2, stride=2).transpose(1, 2)
        h = F.gelu(self.embed(patches) + self.place)
        weights = F.softmax(self.score(h)) if self.dim is None else F.softmax(self.score(h), dim=self.dim)
        return self.head((weights.transpose(1, 2) @ h).flatten(1))


@twin("batch-mixing", "batch-consistency", row="L11")
def softmax_without_a_dim(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(PatchPooling(None if fault else 1), batches(*digits(800), 32), lr=3e-3)


@twin("loss-at-init", "output-range", "loss-decreases", row="L05")
def nll_on_raw_scores(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = LeNet() if fault else LogProbabilities(1)
    return recipe(model, batches(*digits()), loss=nn.NLLLoss())


class Classifier(nn.Module):
    def __init__(self, output: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten())
        self.classifier = nn.Linear(8 * 4 * 4, 10)
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        return self.output(self.classifier(self.features(image)))


@twin("loss-at-init", "double-softmax", "output-range", row="L06")
def nll_on_probabilities(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Classifier(nn.Softmax(dim=1) if fault else nn.LogSoftmax(dim=1))
    return recipe(model, batches(*digits()), loss=nn.NLLLoss())


@twin("data-scale", "loss-at-init", "input-preview", row="D01")
def pixels_never_divided(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits()
    x = (x * 255).round()  # as read from the files
    return recipe(LeNet(), batches(x if fault else x / 255, y))


class Folder(Dataset):
    """Pictures as uint8 arrays, height by width by colour, as a decoder gives them."""

    def __init__(self, transform, count: int = 500, seed: int = 0) -> None:
        images, self.labels, _ = pictures(count, seed=seed)
        self.images = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


MEAN, STD = torch.tensor([0.40, 0.41, 0.40]).view(3, 1, 1), torch.tensor([0.20, 0.20, 0.20]).view(3, 1, 1)


def shuffled(data: Dataset, size: int = 32) -> DataLoader:
    return DataLoader(data, batch_size=size, shuffle=True, generator=torch.Generator().manual_seed(0))


@twin("data-scale", "input-preview", "activation-scale", row="D02")
def divided_by_255_twice(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = Folder(lambda image: to_tensor(image) / (255 if fault else 1))
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    return recipe(model, shuffled(data))


@twin("data-scale", "input-preview", row="S08")
def reshaped_instead_of_permuted(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def load(image: np.ndarray) -> Tensor:
        x = torch.from_numpy(image).float() / 255
        x = x.reshape(3, 16, 16) if fault else x.permute(2, 0, 1)
        return (x - MEAN) / STD

    return recipe(conv_net(), shuffled(Folder(load)))


@twin("data-scale", "input-preview", row="S16")
def brighter_by_uint8_arithmetic(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def load(image: np.ndarray) -> Tensor:
        light = int(torch.randint(5, 60, ()))
        brighter = (
            image + np.uint8(light) if fault else np.clip(image.astype(np.int16) + light, 0, 255).astype(np.uint8)
        )
        return (to_tensor(brighter) - MEAN) / STD

    return recipe(conv_net(), shuffled(Folder(load)))


@twin("data-scale", "input-preview", row="S17")
def integer_division_by_255(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def load(image: np.ndarray) -> Tensor:
        return torch.from_numpy(image // 255 if fault else image / 255).permute(2, 0, 1).float()

    return recipe(conv_net(), shuffled(Folder(load)))


@twin("data-scale", "duplicate-samples", "input-preview", row="D05")
def unreadable_files_become_black(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = Folder(lambda image: (to_tensor(image) - MEAN) / STD)
    if fault:
        data.images[::12] = 0  # what imread's wrapper gave for a file it could not decode
    return recipe(conv_net(), shuffled(data))


@twin("label-range", "loss-at-init", "class-balance", row="D09")
def labels_count_from_one(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits()
    return recipe(LeNet(classes=11), batches(x, y + 1)) if fault else recipe(LeNet(), batches(x, y))


@twin("label-range", "loss-at-init", row="L38")
def a_thousand_classes_kept(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(LeNet(classes=1000 if fault else 10), batches(*digits()))


@twin("shuffle", row="D15")
def folders_read_class_by_class(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits()
    order = y.argsort(stable=True)
    return recipe(LeNet(), batches(x[order], y[order], shuffle=not fault), epochs=10)


class SameOrder(torch.utils.data.Sampler):
    """Indices shuffled with the seed of the epoch, as distributed samplers do."""

    def __init__(self, count: int, counts_epochs: bool) -> None:
        self.count, self.counts_epochs, self.epoch = count, counts_epochs, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.epoch))
        self.epoch += self.counts_epochs
        return iter(order.tolist())


@twin("shuffle", row="D16")
def sampler_never_told_the_epoch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = TensorDataset(*digits())
    return recipe(LeNet(), DataLoader(data, batch_size=48, sampler=SameOrder(len(data), not fault)), epochs=20)


@twin("duplicate-samples", "class-balance", "label-range", row="D17")
def sampler_given_a_weight_per_class(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits()
    per_class = 1 / torch.bincount(y).float()
    sampler = WeightedRandomSampler(per_class if fault else per_class[y], num_samples=len(y), replacement=True)
    return recipe(LeNet(), DataLoader(TensorDataset(x, y), batch_size=64, sampler=sampler))


@twin("input-baseline", "generalization", "simple-baseline", row="D12")
def bad_images_dropped_without_their_labels(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits()
    keep = torch.ones(len(x), dtype=torch.bool)
    keep[torch.tensor([7, 301])] = False
    keep[:40:3] = False
    x, y = x[keep], (y[: int(keep.sum())] if fault else y[keep])
    return recipe(LeNet(), batches(x, y))


@twin("input-baseline", "generalization", "simple-baseline", row="D32")
def labels_shuffled_on_their_own(fault: bool) -> Recipe:
    g = torch.Generator().manual_seed(5)
    torch.manual_seed(0)
    x, y = digits()
    order = torch.randperm(len(x), generator=g)
    x, y = x[order], (y[torch.randperm(len(y), generator=g)] if fault else y[order])
    return recipe(mlp(), batches(x, y), lr=3e-3)


@twin("train-val-leakage", row="D21")
def validation_cut_from_the_wrong_end(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits(1500)
    val = slice(900, 1200) if fault else slice(1200, 1500)
    return recipe(
        LeNet(), batches(x[:1200], y[:1200]), val_loader=batches(x[val], y[val], 128, shuffle=False), epochs=15
    )


class Augmented(Dataset):
    """Digits moved by up to one pixel and slightly noisy."""

    def __init__(self, x: Tensor, y: Tensor, augment: bool = True, frozen: bool = False) -> None:
        self.x, self.y, self.augment, self.frozen = x, y, augment, frozen

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.x[index]
        if self.augment:
            if self.frozen:
                torch.manual_seed(index)
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, (dy, dx), (1, 2)) + torch.randn(image.shape) * 0.05
        return image, self.y[index]


@twin("reproducibility", "train-val-shift", row="D24")
def validation_digits_augmented_like_training(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = Augmented(*digits(1500))
    g = torch.Generator().manual_seed(1)
    train, val = random_split(data, [1200, 300], generator=g)
    if not fault:
        val = Subset(Augmented(data.x, data.y, augment=False), val.indices)
    return recipe(LeNet(), shuffled(train, 64), val_loader=DataLoader(val, batch_size=100))


@twin("reproducibility", row="D19")
def augmentation_seeded_by_the_index(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(LeNet(), shuffled(Augmented(*digits(), frozen=fault), 64), epochs=30)


@twin("train-val-shift", "data-scale", row="D25")
def validation_left_unscaled(fault: bool) -> Recipe:
    torch.manual_seed(0)
    train = Folder(lambda image: (to_tensor(image) - MEAN) / STD)
    val = Folder(lambda image: to_tensor(image) if fault else (to_tensor(image) - MEAN) / STD, 200, seed=1)
    return recipe(conv_net(), shuffled(train), val_loader=DataLoader(val, batch_size=50))


class Cached(Dataset):
    """Keeps decoded pictures in memory and scales them when asked."""

    def __init__(self, in_place: bool) -> None:
        x, self.y = digits(900)
        self.cache = [image * 255 for image in x]
        self.in_place = in_place

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.cache[index]
        if self.in_place:
            image.sub_(78.0).div_(96.0)
        else:
            image = (image - 78.0) / 96.0
        return image, self.y[index]


@twin("reproducibility", "data-scale", row="S15")
def transform_edits_the_cache(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(LeNet(), shuffled(Cached(fault), 64))


@twin("duplicate-samples", "overfit-batch", row="D33")
def two_annotators_disagree(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits(700)
    second = (y + 1) % 10 if fault else y
    if fault:  # both files of annotations were concatenated
        x, y = torch.cat([x, x]), torch.cat([y, second])
    return recipe(mlp(), batches(x, y))


class Noisy(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always
        self.net = LeNet()

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.always:
            x = x + torch.randn_like(x) * 0.2
        return self.net(x)


@twin("eval-mode", "reproducibility", row="E15")
def noise_never_switched_off(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Noisy(fault), batches(*digits()))


class DropNet(LeNet):
    def __init__(self, functional: bool, p: float = 0.3) -> None:
        super().__init__()
        self.functional, self.p = functional, p
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, self.p) if self.functional else self.dropout(x)
        return self.fc2(x)


@twin("eval-mode", row="E03")
def functional_dropout_without_training(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(DropNet(fault), batches(*digits()))


@twin("eval-mode", "overfit-batch", row="E06")
def keep_probability_given_to_dropout(fault: bool) -> Recipe:
    torch.manual_seed(0)
    p = 0.9 if fault else 0.1
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(48, 10),
    )
    return recipe(model, batches(*digits()))


class Blocks(nn.Module):
    def __init__(self, registered: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)])
        norms = [nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(8, affine=False)]
        self.norms = nn.ModuleList(norms) if registered else norms
        self.head = nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.head(x.flatten(1))


@twin("eval-mode", "batch-mixing", "batch-consistency", "checkpoint", row="E04")
def norms_kept_in_a_python_list(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Blocks(not fault), batches(*digits(800)))


@twin("eval-mode", row="E08")
def batch_norm_on_two_pictures(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = Folder(lambda image: (to_tensor(image) - MEAN) / STD, 400)
    return recipe(conv_net(), shuffled(data, 2 if fault else 32), lr=1e-3)


@twin("eval-mode", row="E09")
def batch_norm_momentum_of_another_framework(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = conv_net()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.99 if fault else 0.1
    return recipe(model, shuffled(Folder(lambda image: (to_tensor(image) - MEAN) / STD)))


@twin("batch-mixing", "eval-mode", "batch-consistency", row="E10")
def batch_norm_without_running_statistics(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8, track_running_stats=not fault),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8, track_running_stats=not fault),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    return recipe(model, batches(*digits()))


class TwoViews(nn.Module):
    """The picture and its mirror image through one tower."""

    def __init__(self, shared_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.norm_edges = self.norm if shared_norm else nn.BatchNorm2d(8)
        self.head = nn.Linear(2 * 8 * 36, 10)

    def forward(self, x: Tensor) -> Tensor:
        edges = x - F.avg_pool2d(x, 3, 1, 1)
        a = F.relu(self.norm(self.conv(x)))
        b = F.relu(self.norm_edges(self.conv(edges * 8)))
        return self.head(torch.cat([a.flatten(1), b.flatten(1)], 1))


@twin("eval-mode", row="E12")
def one_norm_for_two_streams(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(TwoViews(fault), batches(*digits(800)))


@twin("eval-mode", row="E07")
def dropout_on_the_scores(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return recipe(nn.Sequential(*model, *([nn.Dropout(0.4)] if fault else [])), batches(*digits()))


class ViewNet(nn.Module):
    """Rows of the picture as steps of a GRU, over features of a convolution."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.gru = nn.GRU(32, 24)
        self.head = nn.Linear(24, 10)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))  # (batch, 4, 8, 8)
        steps = x.view(8, x.size(0), -1) if self.view else x.permute(2, 0, 1, 3).flatten(2)
        out, _ = self.gru(steps)
        return self.head(out[-1])


@twin("batch-mixing", "batch-consistency", row="S01")
def view_moves_the_batch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(ViewNet(fault), batches(*digits(800), 32), lr=3e-3)


@sound("L07")
def log_softmax_before_cross_entropy() -> Recipe:
    torch.manual_seed(0)
    return recipe(LogProbabilities(1), batches(*digits()))


@sound("I04")
def ten_plain_relu_layers() -> Recipe:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 64), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    return recipe(nn.Sequential(*layers, nn.Linear(64, 10)), batches(*digits()), lr=1e-3)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


@sound("I19")
def residual_gains_start_at_zero() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        block(3, 16, 2), Residual(16), Residual(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loader = shuffled(Folder(lambda image: (to_tensor(image) - MEAN) / STD))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="epoch",
        epochs=20,
    )


@sound("D19")
def augmentation_of_the_training_part_only() -> Recipe:
    torch.manual_seed(0)
    x, y = digits(1500)
    train, val = Augmented(x[:1200], y[:1200]), Augmented(x[1200:], y[1200:], augment=False)
    return recipe(LeNet(), shuffled(train, 64), val_loader=DataLoader(val, batch_size=100), epochs=15)


@sound("D01")
def raw_pixels_into_batch_norm() -> Recipe:
    """The first layer of the network does what scaling would."""
    torch.manual_seed(0)
    data = Folder(lambda image: torch.from_numpy(image).permute(2, 0, 1).float())
    model = nn.Sequential(nn.BatchNorm2d(3), *conv_net())
    return recipe(model, shuffled(data))


class Scaled(nn.Module):
    """Takes bytes and scales them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", MEAN.clone())
        self.register_buffer("std", STD.clone())
        self.net = conv_net()

    def forward(self, image: Tensor) -> Tensor:
        return self.net((image.float() / 255 - self.mean) / self.std)


@sound("D01")
def bytes_scaled_inside_the_network() -> Recipe:
    torch.manual_seed(0)
    data = Folder(lambda image: torch.from_numpy(image).permute(2, 0, 1))
    return recipe(Scaled(), shuffled(data), lr=1e-3)


@sound("D20")
def a_few_pictures_twice() -> Recipe:
    torch.manual_seed(0)
    x, y = digits(1000)
    return recipe(LeNet(), batches(torch.cat([x, x[:15]]), torch.cat([y, y[:15]])))


@sound("D15")
def unshuffled_but_already_in_random_order() -> Recipe:
    torch.manual_seed(0)
    return recipe(LeNet(), batches(*digits(), shuffle=False))


@sound("L24")
def mixup_with_soft_labels() -> Recipe:
    torch.manual_seed(0)

    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])
        q = F.one_hot(y, 10).float()
        share = float(np.random.beta(0.4, 0.4))
        other = torch.randperm(len(x))
        return share * x + (1 - share) * x[other], share * q + (1 - share) * q[other]

    loader = DataLoader(TensorDataset(*digits()), batch_size=64, shuffle=True, collate_fn=collate)
    return recipe(LeNet(), loader)


@sound("I12")
def leaky_and_normalised() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.GroupNorm(4, 16), nn.LeakyReLU(0.1), nn.Conv2d(16, 16, 3, groups=4), nn.GELU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    return Recipe(model=model, train_loader=batches(*digits(), 50), loss_fn=F.cross_entropy, optimizer=optimizer)
