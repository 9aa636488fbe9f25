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
