"""Scripts of every day: the shapes that most training code comes in."""

from __future__ import annotations

from tests.scripts import fault, script

script(
    "flat_resnet",
    fault("no-zero-grad", "zero-grad", old="        optimizer.zero_grad()\n", new="", row="O01"),
    fault(
        "never-back-to-train",
        "train-eval-mode",
        old="    net.train()\n    train_loss = 0\n",
        new="    train_loss = 0\n",
        row="E02",
    ),
    fault(
        "loss-kept-alive",
        "graph-retention",
        old="        train_loss += loss.item()\n",
        new="        train_loss += loss\n",
        row="L32",
    ),
    fault(
        "softmax-in-net",
        "double-softmax",
        old="        return self.linear(out)\n",
        new="        return F.softmax(self.linear(out), dim=1)\n",
        row="L01",
    ),
    fault(
        "tests-on-trainset",
        "validation-data",
        "train-val-leakage",
        old="testloader = DataLoader(testset,",
        new="testloader = DataLoader(trainset,",
        row="D21",
    ),
    fault(
        "accuracy-per-batch",
        "metric-definition",
        old="    acc = 100. * hits / seen\n",
        new="    acc = 100. * hits / len(testloader)\n",
        row="O26",
    ),
    style="everything at module level, trains on import; functions that use globals; progress bar on one line",
    arguments=("--epochs", "3"),
)

script(
    "guarded_table",
    fault(
        "validation-not-scaled",
        "train-val-shift",
        old="    X_val = scaler.transform(X_val)\n",
        new="",
        row="D25",
    ),
    fault(
        "losses-with-graph",
        "graph-retention",
        old="loss_history.append(loss.item())",
        new="loss_history.append(loss)",
        row="L32",
    ),
    fault(
        "adam-anew-each-epoch",
        "optimizer-replaced",
        old="        model.train()\n",
        new="        model.train()\n        optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)\n",
        row="O15",
    ),
    fault(
        "sigmoid-twice",
        "double-softmax",
        old="        return self.out(x)\n",
        new="        return torch.sigmoid(self.out(x))\n",
        row="L03",
    ),
    fault(
        "validates-in-train-mode",
        "train-eval-mode",
        "eval-mode",
        old="        model.eval()\n",
        new="",
        row="E01",
    ),
    fault(
        "seed-after-model",
        "late-seed",
        "reproducibility",
        old="    torch.manual_seed(SEED)\n    model = TumorNet(X.shape[1])\n",
        new="    model = TumorNet(X.shape[1])\n    torch.manual_seed(SEED)\n",
        row="C06",
    ),
    style="everything under the guard, names without functions, prints; seed right before the model",
)

script(
    "required_argument",
    fault(
        "zero-grad-before-step",
        "zero-grad",
        old="        loss.backward()\n        optimizer.step()\n",
        new="        loss.backward()\n        optimizer.zero_grad()\n        optimizer.step()\n",
        row="O02",
    ),
    fault(
        "log-softmax-over-batch",
        "batch-mixing",
        "loss-at-init",
        old="F.log_softmax(x, dim=1)",
        new="F.log_softmax(x, dim=0)",
        row="L10",
    ),
    fault(
        "nll-on-logits",
        "loss-at-init",
        "loss-decreases",
        old="        return F.log_softmax(x, dim=1)\n",
        new="        return x\n",
        row="L05",
    ),
    fault(
        "test-without-eval",
        "train-eval-mode",
        "eval-mode",
        old="    model.eval()\n",
        new="",
        row="E01",
    ),
    fault(
        "count-broadcast",
        "metric-definition",
        old="pred.eq(target.view_as(pred))",
        new="pred.eq(target)",
        row="L16",
    ),
    fault(
        "scheduler-forgotten",
        "scheduler-step",
        "lr-schedule",
        old="        scheduler.step()\n",
        new="",
        row="O13",
    ),
    style="main() with argparse and a required argument, functional nll_loss, printed every so many batches",
    arguments=("--hidden", "64"),
)

script(
    "trainer_class",
    fault(
        "step-forgotten",
        "optimizer-step",
        old="            loss.backward()\n            self.optimizer.step()\n",
        new="            loss.backward()\n",
        row="O03",
    ),
    fault(
        "trains-a-copy",
        "optimizer-replaced",
        "optimizer-coverage",
        "optimizer-step",
        old="        self.model = model.to(self.device)\n",
        new="        import copy\n        self.model = copy.deepcopy(model).to(self.device)\n",
        row="G06",
    ),
    fault(
        "steps-on-validation",
        "validation-data",
        "train-val-leakage",
        old="targets.to(self.device), train=False)",
        new="targets.to(self.device))",
        row="O25",
    ),
    fault(
        "never-back-to-train",
        "train-eval-mode",
        old="        self.model.train()\n",
        new="",
        row="E02",
    ),
    fault(
        "hits-one-by-one",
        "host-sync",
        old="        hits = int((output.argmax(dim=1) == targets).sum())\n",
        new="        hits = sum(output[i].argmax().item() == targets[i].item() for i in range(len(targets)))\n",
        row="-",
    ),
    fault(
        "head-only",
        "optimizer-coverage",
        old="torch.optim.AdamW(model.parameters(),",
        new="torch.optim.AdamW(model[-1].parameters(),",
        row="G05",
    ),
    style="a Trainer class: fit, _train_epoch, _run_batch for both modes, snapshots; positional arguments",
    arguments=("3", "2"),
)

script(
    "meters",
    fault(
        "never-back-to-train",
        "train-eval-mode",
        old="    model.train()  # batch statistics on\n",
        new="",
        row="E02",
    ),
    fault(
        "meter-holds-graph",
        "graph-retention",
        old="        losses.update(loss.item(), images.size(0))\n",
        new="        losses.update(loss, images.size(0))\n",
        row="L32",
    ),
    fault(
        "least-likely-classes",
        "metric-definition",
        old="output.topk(maxk, 1, True, True)",
        new="output.topk(maxk, 1, False, True)",
        row="L16",
    ),
    fault(
        "rate-adjusted-per-batch",
        "lr-schedule",
        "scheduler-step",
        old="        data_time.update(time.time() - end)\n",
        new="        data_time.update(time.time() - end)\n        adjust_learning_rate(optimizer, i, args)\n",
        row="O12",
    ),
    fault(
        "head-after-optimizer",
        "optimizer-coverage",
        old="""    model.fc = nn.Linear(model.fc.in_features, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
""",
        new="""    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    model.fc = nn.Linear(model.fc.in_features, CLASSES)
""",
        row="G06",
    ),
    style="main and main_worker, meters, accuracy over the top k, the rate adjusted by hand once per epoch",
    arguments=("--epochs", "3", "-b", "32"),
)

script(
    "char_gpt",
    fault(
        "loss-not-divided",
        "gradient-accumulation",
        old="        loss = loss / gradient_accumulation_steps  # so that the sum is a mean\n",
        new="",
        row="O19",
    ),
    fault(
        "cleared-every-micro-step",
        "gradient-accumulation",
        "zero-grad",
        old="        logits, loss = model(X, Y)\n        loss = loss /",
        new="        optimizer.zero_grad(set_to_none=True)\n        logits, loss = model(X, Y)\n        loss = loss /",
        row="O20",
    ),
    fault(
        "clip-after-step",
        "gradient-clipping",
        old="""    if grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
""",
        new="""    optimizer.step()
    if grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
""",
        row="G20",
    ),
    fault(
        "estimate-leaves-eval",
        "train-eval-mode",
        old="    model.train()\n    return out\n",
        new="    return out\n",
        row="E02",
    ),
    fault(
        "not-causal",
        "time-leakage",
        old="is_causal=True",
        new="is_causal=False",
        row="T01",
    ),
    fault(
        "warm-up-longer-than-run",
        "lr-schedule",
        old="warmup_iters = 10\n",
        new="warmup_iters = 2000\n",
        row="O17",
    ),
    style="no DataLoader: get_batch over memory-mapped text, (logits, loss), while True, rate set by hand, accumulation",
)

script(
    "word_maker",
    fault(
        "no-zero-grad",
        "zero-grad",
        old="        model.zero_grad(set_to_none=True)\n",
        new="",
        row="O01",
    ),
    fault(
        "losses-with-graph",
        "graph-retention",
        old="        lossi.append(loss.item())\n",
        new="        lossi.append(loss)\n",
        row="L32",
    ),
    fault(
        "trains-on-all-words",
        "train-val-leakage",
        old="[words[i] for i in rp[:-test_set_size]]",
        new="[words[i] for i in rp]",
        row="D21",
    ),
    fault(
        "head-only",
        "optimizer-coverage",
        old="torch.optim.AdamW(model.parameters(),",
        new="torch.optim.AdamW(model.lm_head.parameters(),",
        row="G05",
    ),
    fault(
        "targets-not-shifted",
        "time-leakage",
        old="        y[:len(ix)] = ix\n        y[len(ix) + 1:] = -1",
        new="        y[1:1 + len(ix)] = ix\n        y[len(ix) + 2:] = -1",
        row="T04",
    ),
    fault(
        "evaluate-leaves-eval",
        "train-eval-mode",
        old="    model.train()  # dropout on again\n",
        new="",
        row="E02",
    ),
    style="a batch_loader with next() and no end, (logits, loss), model.zero_grad, samples printed on the way",
)

script(
    "callback_trainer",
    fault(
        "callback-leaves-eval",
        "train-eval-mode",
        old="            model.train()\n            print(",
        new="            print(",
        row="E02",
    ),
    fault(
        "clip-before-backward",
        "gradient-clipping",
        old="""            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_norm_clip)
""",
        new="""            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_norm_clip)
            self.loss.backward()
""",
        row="G20",
    ),
    fault(
        "group-forgotten",
        "optimizer-coverage",
        old='            {"params": no_decay, "weight_decay": 0.0},\n',
        new="",
        row="G05",
    ),
    fault(
        "losses-with-graph",
        "graph-retention",
        old="        history.append(trainer.loss.item())\n",
        new="        history.append(trainer.loss)\n",
        row="L32",
    ),
    fault(
        "mask-off-by-one",
        "time-leakage",
        old="torch.tril(torch.ones(config.block_size, config.block_size))",
        new="torch.tril(torch.ones(config.block_size, config.block_size), diagonal=1)",
        row="T02",
    ),
    style="an own Trainer with callbacks, (logits, loss), data made on the fly, split by a hash",
)

script(
    "accumulate_vit",
    fault(
        "loss-not-divided",
        "gradient-accumulation",
        old="            (loss / cfg.accum_steps).backward()\n",
        new="            loss.backward()\n",
        row="O19",
    ),
    fault(
        "cleared-every-micro-batch",
        "gradient-accumulation",
        "zero-grad",
        old="            loss = criterion(model(images), labels)\n",
        new="            optimizer.zero_grad()\n            loss = criterion(model(images), labels)\n",
        row="O20",
    ),
    fault(
        "never-cleared",
        "zero-grad",
        old="                optimizer.step()\n                optimizer.zero_grad()\n",
        new="                optimizer.step()\n",
        row="O01",
    ),
    fault(
        "schedule-per-micro-batch",
        "scheduler-step",
        "lr-schedule",
        old="                scheduler.step()\n\n            if (i + 1) % 30 == 0:\n",
        new="\n            scheduler.step()\n            if (i + 1) % 30 == 0:\n",
        row="O16",
    ),
    fault(
        "clipped-to-nothing",
        "gradient-clipping",
        old="nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        new="nn.utils.clip_grad_norm_(model.parameters(), 1e-6)",
        row="G20",
    ),
    fault(
        "no-positions",
        "unused-parameters",
        old="tokens], dim=1) + self.positions\n",
        new="tokens], dim=1)\n",
        row="T10",
    ),
    style="dataclass config, logging, type hints; loss / accum_steps with an update every few micro-batches",
)

script(
    "mixed_precision",
    fault(
        "clip-before-unscale",
        "gradient-clipping",
        old="""        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
""",
        new="""        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        scaler.unscale_(optimizer)
""",
        row="N01",
    ),
    fault(
        "steps-around-scaler",
        "optimizer-step",
        old="        scaler.step(optimizer)\n",
        new="        optimizer.step()\n",
        row="N07",
        unseen="the scaler is off on the CPU, where its step is the optimizer's own",
    ),
    fault(
        "no-zero-grad",
        "zero-grad",
        old="        optimizer.zero_grad(set_to_none=True)\n",
        new="",
        row="O01",
    ),
    fault(
        "clip-far-too-small",
        "gradient-clipping",
        old="ap.add_argument('--clip', type=float, default=2.0)",
        new="ap.add_argument('--clip', type=float, default=1e-7)",
        row="G20",
    ),
    fault(
        "softmax-before-loss",
        "double-softmax",
        old="            loss = F.cross_entropy(out, lab)\n",
        new="            loss = F.cross_entropy(out.softmax(dim=1), lab)\n",
        row="L01",
    ),
    fault(
        "dropout-always-on",
        "eval-mode",
        old="        return self.fc(self.drop(x.mean(dim=(2, 3))))\n",
        new="        return self.fc(F.dropout(x.mean(dim=(2, 3)), 0.2))\n",
        row="E03",
    ),
    style="autocast in bfloat16 and a GradScaler that is on with a GPU only, unscale_ and clip, dense formatting",
)

script(
    "one_cycle",
    fault(
        "cycle-per-epoch",
        "scheduler-step",
        "lr-schedule",
        old='["lr"])\n        scheduler.step()\n',
        new='["lr"])\n    scheduler.step()\n',
        row="O17",
    ),
    fault(
        "scheduler-before-optimizer",
        "scheduler-step",
        "lr-schedule",
        old="""        optimizer.step()
        record(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])
        scheduler.step()
""",
        new="""        scheduler.step()
        optimizer.step()
        record(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])
""",
        row="O14",
    ),
    fault(
        "cycle-far-too-long",
        "lr-schedule",
        old="epochs=opt.epochs, steps_per_epoch",
        new="epochs=100 * opt.epochs, steps_per_epoch",
        row="O17",
    ),
    fault(
        "rate-far-too-high",
        "learning-rate",
        old='"--max-lr", type=float, default=0.1',
        new='"--max-lr", type=float, default=30.0',
        row="O05",
    ),
    fault(
        "optimizer-anew-each-epoch",
        "optimizer-replaced",
        "lr-schedule",
        old="    net.train()\n",
        new="    net.train()\n    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)\n",
        row="O15",
    ),
    style="OneCycleLR stepped per batch, one row per step kept for a table, error rate",
)

script(
    "plateau_early_stop",
    fault(
        "plateau-of-the-wrong-kind",
        "lr-schedule",
        "scheduler-step",
        old='optimizer, mode="min", factor',
        new='optimizer, mode="max", factor',
        row="O18",
    ),
    fault(
        "plateau-per-batch",
        "scheduler-step",
        "lr-schedule",
        old="            sum_loss += loss.item()\n",
        new="            sum_loss += loss.item()\n            scheduler.step(loss.item())\n",
        row="O12",
    ),
    fault(
        "validates-on-train",
        "validation-data",
        "train-val-leakage",
        old="    val_dl = DataLoader(val_ds, 100, shuffle=False)\n",
        new="    val_dl = DataLoader(train_ds, 100, shuffle=False)\n",
        row="D21",
    ),
    fault(
        "never-back-to-train",
        "train-eval-mode",
        old="        model.train()\n",
        new="",
        row="E02",
    ),
    fault(
        "seed-after-data-and-model",
        "late-seed",
        "reproducibility",
        old="""    np.random.seed(hp.seed)
    torch.manual_seed(hp.seed)

    train_dl, val_dl, test_dl = make_loaders(hp.batch_size)
    model = MLP()
""",
        new="""    train_dl, val_dl, test_dl = make_loaders(hp.batch_size)
    model = MLP()
    np.random.seed(hp.seed)
    torch.manual_seed(hp.seed)
""",
        row="C06",
    ),
    style="schedulers by name, a plateau on the validation loss, early stopping, best weights loaded again for the test",
)

script(
    "unet_masks",
    fault(
        "evaluate-leaves-eval",
        "train-eval-mode",
        old="    net.train()\n    return dice_score / n\n",
        new="    return dice_score / n\n",
        row="E02",
    ),
    fault(
        "loss-kept-alive",
        "graph-retention",
        old="                epoch_loss += loss.item()\n",
        new="                epoch_loss += loss\n",
        row="L32",
    ),
    fault(
        "dice-on-logits",
        "loss-at-init",
        "loss-decreases",
        old="                    F.softmax(masks_pred, dim=1).float(),\n",
        new="                    masks_pred.float(),\n",
        row="L33",
    ),
    fault(
        "clip-after-step",
        "gradient-clipping",
        old="""                torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
                optimizer.step()
""",
        new="""                optimizer.step()
                torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
""",
        row="G20",
    ),
    fault(
        "softmax-over-batch",
        "batch-mixing",
        old="        return self.outc(x)\n",
        new="        return F.log_softmax(self.outc(x), dim=0)\n",
        row="L10",
    ),
    fault(
        "validation-loader-of-train-set",
        "validation-data",
        "train-val-leakage",
        old="DataLoader(val_set, shuffle=False,",
        new="DataLoader(train_set, shuffle=False,",
        row="D21",
    ),
    style="dict batches of image and mask, cross-entropy plus dice, a progress bar as context, train_model()",
    arguments=("-e", "3"),
)

script(
    "vae_digits",
    fault(
        "divergence-with-wrong-sign",
        "loss-decreases",
        "finite-values",
        "overfit-batch",
        old="    KLD = -0.5 * torch.sum(",
        new="    KLD = 0.5 * torch.sum(",
        row="L29",
    ),
    fault(
        "one-head-for-both",
        "unused-parameters",
        old="        return self.fc21(h1), self.fc22(h1)\n",
        new="        return self.fc21(h1), self.fc21(h1)\n",
        row="G15",
    ),
    fault(
        "loss-kept-alive",
        "graph-retention",
        old="        train_loss += loss.item()\n",
        new="        train_loss += loss\n",
        row="L32",
    ),
    fault(
        "step-only-when-logging",
        "optimizer-step",
        "zero-grad",
        "gradient-accumulation",
        old="        optimizer.step()\n        if batch_idx % args.log_interval == 0:\n",
        new="        if batch_idx % args.log_interval == 0:\n            optimizer.step()\n",
        row="O03",
    ),
    fault(
        "divided-twice",
        "data-scale",
        old=".view(-1, 8, 8) / 16., labels[order]\n",
        new=".view(-1, 8, 8) / 16. / 255., labels[order]\n",
        row="D02",
    ),
    style="an own loss of four arguments as a sum, objects at module level, training under the guard",
)

script(
    "csv_regression",
    fault(
        "target-of-one-axis",
        "loss-broadcast",
        old="        loss = loss_fn(pred, y)\n",
        new="        loss = loss_fn(pred, y.squeeze(1))\n",
        row="L14",
    ),
    fault(
        "price-among-features",
        "train-val-leakage",
        old=" if name not in IGNORED and name != TARGET]",
        new=" if name not in IGNORED]",
        row="D13",
    ),
    fault(
        "target-not-scaled",
        "label-range",
        "data-scale",
        "output-bias-init",
        old="    x, y = scale_x(features), scale_y(target)\n",
        new="    x, y = scale_x(features), target\n",
        row="D08",
    ),
    fault(
        "features-not-scaled",
        "data-scale",
        old="    x, y = scale_x(features), scale_y(target)\n",
        new="    x, y = features, scale_y(target)\n",
        row="D07",
    ),
    fault(
        "validates-in-train-mode",
        "train-eval-mode",
        "eval-mode",
        old="    model.eval()\n    preds, truth = [], []\n",
        new="    preds, truth = [], []\n",
        row="E01",
    ),
    fault(
        "head-not-trained",
        "optimizer-coverage",
        old="torch.optim.Adam(model.parameters(),",
        new="torch.optim.Adam(model.layers.parameters(),",
        row="G05",
    ),
    style="a table read with csv, target scaled, train and evaluate return dicts of metrics, logging",
    beside=("flats.csv",),
)

script(
    "packed_lstm",
    fault(
        "labels-left-behind",
        "input-baseline",
        "simple-baseline",
        "generalization",
        old="""    batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
    sequences = [sequence for sequence, _ in batch]
""",
        new="""    sequences = sorted((sequence for sequence, _ in batch), key=len, reverse=True)
""",
        row="D12",
    ),
    fault(
        "padding-read",
        "input-dependency",
        old="    lengths = torch.tensor([len(sequence) for sequence in sequences])\n",
        new="    lengths = torch.tensor([len(sequences[0]) for sequence in sequences])\n",
        row="T12",
    ),
    fault(
        "answers-over-the-wrong-axis",
        "metric-definition",
        old="            predicted += logits.argmax(dim=1).tolist()\n",
        new="            predicted += logits.argmax(dim=0).tolist()\n",
        row="L16",
    ),
    fault(
        "optimizer-anew-each-batch",
        "optimizer-replaced",
        old="        optimizer.zero_grad()\n",
        new="        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)\n        optimizer.zero_grad()\n",
        row="O15",
    ),
    fault(
        "evaluate-steps",
        "validation-data",
        old="        valid_loss, valid_acc, valid_f1 = evaluate(model, valid_loader, criterion)\n",
        new="        valid_loss, valid_acc, valid_f1 = train_one_epoch(model, valid_loader, criterion, optimizer, args.clip)\n",
        row="O25",
    ),
    style="collate_fn that sorts and pads, packed sequences, F1 by hand, a train and an evaluate function",
)

script(
    "word_rnn",
    fault(
        "target-is-input",
        "time-leakage",
        old="    target = source[i + 1:i + 1 + seq_len].view(-1)\n",
        new="    target = source[i:i + seq_len].reshape(-1)\n",
        row="T04",
    ),
    fault(
        "loss-kept-alive",
        "graph-retention",
        old="        total_loss += loss.item()\n        if batch",
        new="        total_loss += loss\n        if batch",
        row="L32",
    ),
    fault(
        "clip-before-backward",
        "gradient-clipping",
        old="""        loss.backward()

        # an LSTM may explode now and then
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
""",
        new="""        # an LSTM may explode now and then
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        loss.backward()
        optimizer.step()
""",
        row="G20",
    ),
    fault(
        "no-zero-grad",
        "zero-grad",
        old="        hidden = repackage_hidden(hidden)\n        optimizer.zero_grad()\n",
        new="        hidden = repackage_hidden(hidden)\n",
        row="O01",
    ),
    fault(
        "validates-on-train",
        "validation-data",
        "train-val-leakage",
        old="val_data = batchify(corpus.valid, eval_batch_size)\n",
        new="val_data = batchify(corpus.train, eval_batch_size)\n",
        row="D21",
    ),
    fault(
        "never-back-to-train",
        "train-eval-mode",
        old="    model.train()\n    total_loss = 0.\n",
        new="    total_loss = 0.\n",
        row="E02",
    ),
    style="no DataLoader: batchify and get_batch, hidden state carried from batch to batch, perplexity",
)
