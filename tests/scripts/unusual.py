"""Scripts whose loop is not the usual one: several optimizers, no loader, no data set, no optimizer, a framework's loop."""

from __future__ import annotations

from tests.scripts import fault, script

script(
    "dcgan_digits",
    fault(
        "detached-generator-step",
        "optimizer-step",
        "gradient-flow",
        "unused-parameters",
        old="        output = netD(fake)\n",
        new="        output = netD(fake.detach())\n",
        row="L36",
    ),
    fault("no-zero-grad-d", "zero-grad", old="        netD.zero_grad()\n", new="", row="O01"),
    fault(
        "generator-optimizer-holds-discriminator",
        "optimizer-coverage",
        "optimizer-step",
        old="optimizerG = optim.Adam(netG.parameters()",
        new="optimizerG = optim.Adam(netD.parameters()",
        row="O21",
    ),
    fault(
        "losses-keep-graph",
        "graph-retention",
        old="        D_losses.append(errD.item())\n",
        new="        D_losses.append(errD)\n",
        row="L32",
    ),
    fault(
        "generator-label-not-refilled",
        "loss-decreases",
        old="        label.fill_(real_label)  # fake labels are real for generator cost\n",
        new="",
        row="L29",
        unseen="that the generator is to be taken for real is only the author's wish",
    ),
    fault(
        "pixels-not-scaled",
        "data-scale",
        "output-range",
        old=".unsqueeze(1) / 8.0 - 1.0",
        new=".unsqueeze(1)",
        row="D01",
    ),
    style="module level, argparse, two networks with an optimizer each, label.fill_, samples and checkpoints each epoch",
    arguments=("--niter", "3"),
    needs=("sklearn",),
)

script(
    "wgan_gp_moons",
    fault(
        "critic-grads-not-cleared",
        "zero-grad",
        old="                opt_c.zero_grad()\n",
        new="",
        row="O01",
    ),
    fault(
        "penalty-without-graph",
        "gradient-check",
        "gradient-flow",
        old="        create_graph=True,\n    )[0]\n",
        new="        retain_graph=True,\n    )[0]\n",
        row="G09",
        unseen="the loss has another term that reaches every parameter; the penalty alone is a constant to autograd",
    ),
    fault(
        "optimizers-made-each-epoch",
        "optimizer-replaced",
        old="        critic_losses, gen_losses = [], []\n",
        new="        critic_losses, gen_losses = [], []\n"
        "        opt_g = torch.optim.Adam(generator.parameters(), lr=cfg.lr, betas=(0.5, 0.9))\n"
        "        opt_c = torch.optim.Adam(critic.parameters(), lr=cfg.lr, betas=(0.5, 0.9))\n",
        row="O03",
    ),
    fault(
        "clip-after-step",
        "gradient-clipping",
        old="                opt_c.step()\n",
        new="                opt_c.step()\n                nn.utils.clip_grad_norm_(critic.parameters(), 1.0)\n",
        row="G20",
    ),
    fault(
        "one-mix-per-batch",
        "batch-mixing",
        old="    eps = torch.rand(real.size(0), 1)\n",
        new="    eps = torch.rand(1)\n",
        row="S14",
        unseen="one weight for all points is a choice; each point's penalty still depends on that point alone",
    ),
    style="dataclass config, critic steps inside the batch loop, gradient penalty by autograd.grad, no argparse",
    needs=("sklearn",),
)

script(
    "lbfgs_waves",
    fault(
        "closure-without-zero-grad",
        "zero-grad",
        old="            optimizer.zero_grad()\n",
        new="",
        row="O01",
    ),
    fault(
        "predicts-its-own-input",
        "time-leakage",
        "train-val-leakage",
        old="    target = torch.from_numpy(data[n_test:, 1:])\n",
        new="    target = torch.from_numpy(data[n_test:, :-1])\n",
        row="T04",
    ),
    fault(
        "tests-on-training-waves",
        "validation-data",
        "train-val-leakage",
        old="    test_input = torch.from_numpy(data[:n_test, :-1])\n    test_target = torch.from_numpy(data[:n_test, 1:])\n",
        new="    test_input = torch.from_numpy(data[-n_test:, :-1])\n    test_target = torch.from_numpy(data[-n_test:, 1:])\n",
        row="D21",
    ),
    fault(
        "only-the-last-layer",
        "optimizer-coverage",
        old="optim.LBFGS(seq.parameters(), ",
        new="optim.LBFGS(seq.linear.parameters(), ",
        row="G05",
    ),
    style="LBFGS with a closure over the whole data, double precision, LSTM cells by hand, no loader, savetxt each step",
    arguments=("--steps", "4"),
)

script(
    "sam_digits",
    fault(
        "first-gradient-kept",
        "zero-grad",
        old="            optimizer.first_step(zero_grad=True)\n",
        new="            optimizer.first_step()\n",
        row="O01",
    ),
    fault(
        "swapped-put-back",
        "optimizer-step",
        old='                p.data = self.state[p]["old_p"]\n',
        new='                self.state[p]["old_p"] = p.data\n',
        row="O28",
        unseen="the climb is the method's own; only its paper says that it is to be undone",
    ),
    fault(
        "eval-before-loop",
        "train-eval-mode",
        old="        model.train()\n        log.reset()\n",
        new="        log.reset()\n",
        row="E02",
    ),
    fault("scheduler-never-stepped", "scheduler-step", old="        scheduler.step()\n", new="", row="O13"),
    fault(
        "scheduler-per-batch",
        "scheduler-step",
        "lr-schedule",
        old="            optimizer.second_step(zero_grad=True)\n",
        new="            optimizer.second_step(zero_grad=True)\n            scheduler.step()\n",
        row="O12",
    ),
    fault(
        "batch-normalised-scores",
        "batch-mixing",
        "double-softmax",
        old="        return self.fc(self.drop(x.flatten(1)))\n",
        new="        return F.softmax(self.fc(self.drop(x.flatten(1))), dim=0)\n",
        row="L10",
    ),
    style="own optimizer class with first_step and second_step over a base SGD, two backward passes a batch, small Log class",
    arguments=("--epochs", "3"),
    needs=("sklearn",),
)

script(
    "endless_stream",
    fault(
        "eval-mode-kept",
        "train-eval-mode",
        old="    model.train()\n    return right / total\n",
        new="    return right / total\n",
        row="E02",
    ),
    fault(
        "zero-grad-before-step",
        "zero-grad",
        "optimizer-step",
        old="    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        new="    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.zero_grad()\n",
        row="O02",
    ),
    fault(
        "same-first-batch",
        "duplicate-samples",
        "shuffle",
        old="    x, y = next(it)\n",
        new="    x, y = next(iter(train_data))\n",
        row="D20",
    ),
    fault(
        "same-stream-for-validation",
        "validation-data",
        "train-val-leakage",
        old="Waveforms(seed + 1)",
        new="Waveforms(seed)",
        row="D21",
    ),
    fault(
        "clipped-to-nothing",
        "gradient-clipping",
        old="clip_grad_norm_(model.parameters(), 1.0)",
        new="clip_grad_norm_(model.parameters(), 1e-6)",
        row="G20",
    ),
    style="module level, IterableDataset without end, next(it) in a range of steps, settings as plain globals",
)

script(
    "own_batches",
    fault("no-zero-grad", "zero-grad", old="            opt.zero_grad()\n", new="", row="O01"),
    fault("train-mode-lost", "train-eval-mode", old="        net.train()\n        seen", new="        seen", row="E02"),
    fault(
        "loss-on-wrong-shape",
        "loss-broadcast",
        old="            loss = loss_fn(net(xb), yb)\n",
        new="            loss = ((torch.sigmoid(net(xb)) - yb[:, None]) ** 2).mean()\n",
        row="L15",
    ),
    fault(
        "step-once-an-epoch",
        "optimizer-step",
        "gradient-accumulation",
        "zero-grad",
        old="            opt.step()\n            total += loss.item() * len(xb)\n            seen += len(xb)\n",
        new="            total += loss.item() * len(xb)\n            seen += len(xb)\n        opt.step()\n",
        row="O03",
    ),
    fault(
        "validates-on-training-rows",
        "validation-data",
        old="evaluate(net, x_valid, y_valid, loss_fn)",
        new="evaluate(net, x_train, y_train, loss_fn)",
        row="D21",
    ),
    style="own generator of batches, tensors in memory, history printed by format",
    needs=("sklearn",),
)

script(
    "gridworld_dqn",
    fault(
        "targets-broadcast",
        "loss-broadcast",
        old="gather(1, action).squeeze(1)\n",
        new="gather(1, action)\n",
        row="L14",
    ),
    fault(
        "optimizer-of-the-target-network",
        "optimizer-coverage",
        "optimizer-step",
        "optimizer-replaced",
        old="torch.optim.AdamW(policy_net.parameters()",
        new="torch.optim.AdamW(target_net.parameters()",
        row="O03",
    ),
    fault("no-zero-grad", "zero-grad", old="    optimizer.zero_grad()\n", new="", row="O01"),
    fault(
        "losses-keep-graph",
        "graph-retention",
        old="    losses.append(loss.item())\n",
        new="    losses.append(loss)\n",
        row="L32",
    ),
    fault(
        "terminal-not-masked",
        "loss-decreases",
        old=" * next_q * (1 - done)\n",
        new=" * next_q\n",
        row="L29",
        unseen="what an end is worth is known to the task alone",
    ),
    style="reinforcement learning at module level: replay memory, target network, epsilon-greedy, steps only once enough is remembered",
    arguments=("--episodes", "75"),
)

script(
    "graph_conv",
    fault(
        "loss-on-all-nodes",
        "train-val-leakage",
        "validation-data",
        old="    loss_train = F.nll_loss(output[idx_train], labels[idx_train])\n",
        new="    loss_train = F.nll_loss(output, labels)\n",
        row="D21",
    ),
    fault(
        "train-mode-lost",
        "train-eval-mode",
        old="    model.train()\n    optimizer.zero_grad()\n",
        new="    optimizer.zero_grad()\n",
        row="E02",
    ),
    fault(
        "first-layer-not-trained",
        "optimizer-coverage",
        old="optim.Adam(model.parameters()",
        new="optim.Adam(model.gc2.parameters()",
        row="G05",
    ),
    fault(
        "softmax-for-log-softmax",
        "loss-at-init",
        "double-softmax",
        old="F.log_softmax(x, dim=1)",
        new="F.softmax(x, dim=1)",
        row="L06",
    ),
    fault(
        "accuracy-over-all-nodes",
        "metric-definition",
        old="preds.eq(labels).sum().item() / len(labels)",
        new="preds.eq(labels).sum().item() / features.shape[0]",
        row="L16",
    ),
    style="one graph is the only batch: adjacency matrix, index sets, own graph convolution, old-style prints",
    arguments=("--epochs", "40"),
)

script(
    "simclr_views",
    fault(
        "diagonal-not-normalised",
        "loss-at-init",
        old="        features = F.normalize(features, dim=1)\n",
        new="        features = 10 * features\n",
        row="L35",
    ),
    fault("no-zero-grad", "zero-grad", old="                self.optimizer.zero_grad()\n", new="", row="O01"),
    fault(
        "total-keeps-graph",
        "graph-retention",
        old="total += loss.item() * len(labels)",
        new="total += loss * len(labels)",
        row="L32",
    ),
    fault(
        "scheduler-per-batch",
        "scheduler-step",
        "lr-schedule",
        old="                self.optimizer.step()\n",
        new="                self.optimizer.step()\n                self.scheduler.step()\n",
        row="O12",
    ),
    fault(
        "one-view-twice",
        "duplicate-samples",
        "reproducibility",
        old="        return [self.view(x) for _ in range(self.n_views)]\n",
        new="        return [self.view(x)] * self.n_views\n",
        row="D19",
    ),
    style="class SimCLR(model=..., optimizer=...).train(loader), two views, logits and labels built in the loop, logging",
    arguments=("--epochs", "3"),
    needs=("sklearn",),
)
