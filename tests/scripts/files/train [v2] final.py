# v2: now with batchnorm!! (v1 got 91)
# TODO clean up
import sys
import torch
import torch.nn as nn
from sklearn.datasets import load_wine, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.manual_seed(1234)

dataset_name = sys.argv[1] if len(sys.argv) > 1 else "digits"
EPOCHS = int(sys.argv[2]) if len(sys.argv) > 2 else 4

if dataset_name == "digits":
    X, y = load_digits(return_X_y=True)
elif dataset_name == "wine":
    X, y = load_wine(return_X_y=True)
else:
    sys.exit("which data set? digits or wine")

x_train, x_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=1234, stratify=y)

scaler = StandardScaler()
x_train = scaler.fit_transform(x_train)
x_test = scaler.transform(x_test)

n_classes = len(set(y.tolist()))
x_train = torch.from_numpy(x_train).float()
x_test = torch.from_numpy(x_test).float()
y_train = torch.from_numpy(y_train).long()
y_test = torch.from_numpy(y_test).long()
print(x_train.shape, x_test.shape, n_classes)

train_ds = torch.utils.data.TensorDataset(x_train, y_train)
test_ds = torch.utils.data.TensorDataset(x_test, y_test)
train_dl = torch.utils.data.DataLoader(train_ds, batch_size=32, shuffle=True)
test_dl = torch.utils.data.DataLoader(test_ds, batch_size=64, shuffle=False)

#model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))   # v1
model = nn.Sequential(
    nn.Linear(x_train.shape[1], 64),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Dropout(0.25),
    nn.Linear(64, 32),
    nn.BatchNorm1d(32),
    nn.ReLU(),
    nn.Linear(32, n_classes),
)
loss_func = nn.CrossEntropyLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
sched = torch.optim.lr_scheduler.StepLR(opt, step_size=3, gamma=0.3)

best = 0
train_losses = []
test_accs = []
for ep in range(EPOCHS):
    # ---- train ----
    model.train()
    epoch_loss = 0
    n = 0
    for xb, yb in train_dl:
        preds = model(xb)
        loss = loss_func(preds, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        epoch_loss += loss.item() * len(xb)
        n += len(xb)
        sys.stdout.write("\rep %d  %4d/%d  loss %.3f" % (ep, n, len(train_ds), loss.item()))
        sys.stdout.flush()
    sched.step()
    train_losses.append(epoch_loss / n)

    # ---- test ----
    model.eval()
    correct = 0
    with torch.no_grad():
        for xb, yb in test_dl:
            correct += (model(xb).argmax(1) == yb).sum().item()
    acc = correct / len(test_ds)
    test_accs.append(acc)
    print("   -> mean %.4f  test acc %.4f  lr %g" % (train_losses[-1], acc, sched.get_last_lr()[0]))
    if acc > best:
        best = acc
        torch.save(model.state_dict(), "model [best].pt")

print("best", best)
