import argparse, os, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset, DataLoader

# AMP on the GPU (float16 + loss scaling); on the CPU bfloat16, where the scaler is switched off and just passes through

def set_seed(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)

class DigitsDataset(Dataset):
    def __init__(self, X, y, mean, std):
        self.X = ((X - mean) / std).astype('float32').reshape(-1, 1, 8, 8)
        self.y = y.astype('int64')
    def __len__(self): return len(self.y)
    def __getitem__(self, i): return self.X[i], self.y[i]

class ConvBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm = nn.GroupNorm(4, cout)
    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self, width=24, n_class=10):
        super().__init__()
        self.stem = ConvBlock(1, width)
        self.body = nn.Sequential(ConvBlock(width, width), nn.MaxPool2d(2), ConvBlock(width, 2 * width))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * width, n_class)
    def forward(self, x):
        x = self.body(self.stem(x))
        return self.fc(self.drop(x.mean(dim=(2, 3))))

def train_one_epoch(model, loader, optimizer, scaler, device, amp_dtype, args):
    model.train()
    meter = {'loss': 0.0, 'hit': 0, 'n': 0, 'norm': 0.0}
    for step, (img, lab) in enumerate(loader):
        img, lab = img.to(device, non_blocking=True), lab.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device_type=device.type, dtype=amp_dtype, enabled=not args.no_amp):
            out = model(img)
            loss = F.cross_entropy(out, lab)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        scaler.step(optimizer)
        scaler.update()
        bs = lab.size(0)
        meter['loss'] += loss.item() * bs
        meter['hit'] += (out.argmax(1) == lab).sum().item()
        meter['norm'] += norm.item() * bs
        meter['n'] += bs
        if step % 20 == 0:
            print(f'    step {step:3d}/{len(loader)} loss {loss.item():.4f} |g| {norm.item():.3f}')
    n = meter.pop('n')
    return {k: v / n for k, v in meter.items()}

@torch.no_grad()
def validate(model, loader, device, amp_dtype, args):
    model.eval()
    loss, hit, n = 0.0, 0, 0
    for img, lab in loader:
        img, lab = img.to(device), lab.to(device)
        with torch.autocast(device_type=device.type, dtype=amp_dtype, enabled=not args.no_amp):
            out = model(img)
        loss += F.cross_entropy(out.float(), lab, reduction='sum').item()
        hit += (out.argmax(1) == lab).sum().item()
        n += lab.size(0)
    return loss / n, hit / n

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--epochs', type=int, default=4)
    ap.add_argument('--bs', type=int, default=32)
    ap.add_argument('--lr', type=float, default=4e-3)
    ap.add_argument('--clip', type=float, default=2.0)
    ap.add_argument('--no_amp', action='store_true')
    ap.add_argument('--out', default='amp_out')
    args = ap.parse_args()
    set_seed(2024)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    amp_dtype = torch.float16 if device.type == 'cuda' else torch.bfloat16
    print('device:', device, '| amp:', 'off' if args.no_amp else amp_dtype)

    X, y = load_digits(return_X_y=True)
    Xtr, Xva, ytr, yva = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)
    mean, std = Xtr.mean(), Xtr.std()
    train_loader = DataLoader(DigitsDataset(Xtr, ytr, mean, std), batch_size=args.bs, shuffle=True, num_workers=0)
    val_loader = DataLoader(DigitsDataset(Xva, yva, mean, std), batch_size=64, num_workers=0)

    model = Net().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.02)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[max(1, args.epochs - 1)], gamma=0.1)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == 'cuda' and not args.no_amp)

    best = 0.0
    for ep in range(1, args.epochs + 1):
        t = time.time()
        tr = train_one_epoch(model, train_loader, optimizer, scaler, device, amp_dtype, args)
        va_loss, va_acc = validate(model, val_loader, device, amp_dtype, args)
        scheduler.step()
        print(f"[{ep}/{args.epochs}] train {tr['loss']:.4f} ({tr['hit']:.3f}, |g| {tr['norm']:.2f}) "
              f"val {va_loss:.4f} ({va_acc:.3f})  {time.time() - t:.1f}s")
        if va_acc > best:
            best = va_acc
            os.makedirs(args.out, exist_ok=True)
            torch.save({'model': model.state_dict(), 'scaler': scaler.state_dict(), 'epoch': ep}, f'{args.out}/best.pth')
    print('best val acc: %.4f' % best)

if __name__ == '__main__':
    main()
