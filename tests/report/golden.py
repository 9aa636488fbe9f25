"""One report with everything in it: all statuses, all exhibits, 17 checks, and names that try to break out."""

from __future__ import annotations

import math

from nncheck.checklist import tick
from nncheck.verdict import (
    Bars,
    ChecklistItem,
    CheckResult,
    Cost,
    Curve,
    Doc,
    Exhibit,
    Guide,
    Heatmap,
    Histogram,
    Line,
    Panel,
    Place,
    Remedy,
    Report,
    Sample,
    Samples,
    Stage,
    Table,
    TargetResult,
    Verdict,
    errored,
    failed,
    passed,
    skipped,
    warned,
)

SCRIPT = "<script>window.pwned = 1</script>"
BREAKOUT = '"]]></svg></script><img src=x onerror="window.pwned=1">'
ANSI = "\x1b[31mred\x1b[0m\x07"
MARKUP = "[bold]not bold[/bold] $x^2$ {{ 7 * 7 }} `code` **strong** | cell"
COMMAND = "::error file=a.py::owned"
BIDI = "abc\u202egnp.exe"
SURROGATE = "caf\udce9.py"
HOSTILE = (SCRIPT, BREAKOUT, ANSI, MARKUP, COMMAND, BIDI, SURROGATE)


def doc(id: str) -> Doc:
    return Doc(
        title=f"The fault that {id} looks for.",
        what="Reads the first batch and compares what comes out with what must come out.\n\n    loss = loss_fn(model(x), y)",
        why="The first steps go into shrinking the last layer. Later curves look like a hockey stick and hide other faults.",
        fix="Scale the last layer's weight by `0.1`, or zero its bias:\n\n"
        "    torch.nn.init.zeros_(model.head.bias)\n\n- then ask again",
        limits="A loss that nncheck does not know is skipped, never guessed.",
        source="Karpathy, A Recipe for Training Neural Networks (2019), https://karpathy.github.io/2019/04/25/recipe/",
    )


def _wave(n: int, start: float, rate: float) -> tuple[float, ...]:
    return tuple(start * math.exp(-rate * i) + 0.02 * math.sin(i) + 0.03 for i in range(n))


def curve() -> Curve:
    steps = tuple(float(i) for i in range(400))
    return Curve(
        title="Loss on one batch",
        x_label="step",
        y_label="loss",
        lines=(
            Line(label="your Adam(lr=0.001)", x=steps, y=_wave(400, 2.4, 0.02)),
            Line(label="control Adam(lr=0.003)", x=steps[:120], y=_wave(120, 2.4, 0.06)),
        ),
        guides=(
            Guide(label="chance, ln 10", value=math.log(10)),
            Guide(label="class frequencies", value=2.27),
            Guide(label="floor", value=0.01),
        ),
        log_y=True,
    )


def histogram(n: int = 15) -> Histogram:
    edges = tuple(-3 + 6 * i / 30 for i in range(31))
    panels = []
    for k in range(n):
        spread = 0.3 + 0.1 * k
        counts = tuple(1000 * math.exp(-(((edges[i] + edges[i + 1]) / 2) ** 2) / spread) for i in range(30))
        panels.append(Panel(label=f"backbone.layer{k}.conv1", edges=edges, counts=counts, note=f"{3 * k} % dead"))
    return Histogram(title="Pre-activations by layer", x_label="value", panels=tuple(panels))


def bars(n: int = 9) -> Bars:
    values = tuple(10 ** (-0.5 * k) for k in range(n))
    labels = tuple(f"encoder.blocks.{k}.attention.projection.weight" if k % 2 else f"layer{k}" for k in range(n))
    return Bars(
        title="Gradient norm by layer",
        x_label="gradient norm",
        labels=labels,
        values=values,
        guides=(Guide(label="smallest seen in sound networks", value=1e-3),),
        log=True,
    )


def heatmap(n: int = 16) -> Heatmap:
    def cell(i: int, j: int) -> float:
        if i == j:
            return 1.0
        return 10.0 ** -(2 + (i * j) % 5) if i // 8 == j // 8 and (i + j) % 3 == 0 else 0.0

    rows = tuple(tuple(cell(i, j) for j in range(n)) for i in range(n))
    return Heatmap(
        title="Which input reaches which output", x_label="input sample", y_label="output sample", values=rows
    )


def samples() -> Samples:
    def grey(k: int) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple((i * j * (k + 1) * 5) % 256 for j in range(16)) for i in range(16))

    def colour(k: int) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        return tuple(tuple(((i * 8) % 256, (j * 8) % 256, (k * 40) % 256) for j in range(32)) for i in range(32))

    grid = [Sample(caption=f"label {k}, -0.42 to 2.82", pixels=grey(k)) for k in range(6)]
    grid += [Sample(caption=f"label {k}, 0 to 1", pixels=colour(k)) for k in range(4)]
    grid += [Sample(caption=SCRIPT, text=f"tokens {BREAKOUT}"), Sample(caption="label 1", text="the quick brown fox")]
    return Samples(title="What the network sees", samples=tuple(grid))


def table() -> Table:
    rows = (("conv1.weight", "yes", "0.12"), (SCRIPT, "no", BREAKOUT), (MARKUP, ANSI, "nan"))
    return Table(
        title="Parameters and who updates them", columns=("parameter", "in the optimizer", "gradient norm"), rows=rows
    )


def _hostile_exhibits() -> tuple[Exhibit, ...]:
    nan, inf = float("nan"), float("inf")
    return (
        Bars(title=BREAKOUT, x_label=MARKUP, labels=HOSTILE, values=(1.0, 0.0, nan, inf, -inf, 2.0, 3.0)),
        Curve(
            title=SCRIPT,
            x_label=ANSI,
            y_label=MARKUP,
            lines=(Line(label=BREAKOUT, x=(0.0, 1.0, 2.0, 3.0), y=(1.0, nan, inf, 0.5)),),
            guides=(Guide(label=SCRIPT, value=0.7), Guide(label="not a number", value=nan)),
        ),
    )


def _verdicts() -> list[tuple[str, Stage, Verdict]]:
    return [
        (
            "forward-pass",
            Stage.SETUP,
            passed("float32[32, 1, 8, 8] to float32[32, 10] in 3 ms; the loss is 4.868", exhibits=(samples(),)),
        ),
        (
            "loss-broadcast",
            Stage.SETUP,
            passed("output [32, 10] and target [32] have the shapes that CrossEntropyLoss takes"),
        ),
        ("finite-values", Stage.SETUP, passed("no NaN or infinity in 5 batches, 12 activations and 10 gradients")),
        (
            "loss-at-init",
            Stage.INIT,
            failed(
                "4.868 ± 0.041 over 5 batches; the logits have a standard deviation of 3.1",
                summary="loss starts at 4.87; a network that knows nothing of 10 classes starts near 2.30",
                expected="2.303 = ln 10, allowed up to 2.76",
                numbers={"loss": 4.8678, "expected": 2.3026, "z": float("inf")},
                places=(
                    Place(
                        name="head",
                        file="model.py",
                        line=41,
                        detail="weights of scale 3.1",
                        source="self.head = nn.Linear(512, 10)",
                    ),
                    Place(name=SCRIPT, file=SURROGATE, line=7, detail=ANSI, source=COMMAND + "\n" + BREAKOUT),
                    *(Place(name=f"layer{k}", detail="also large") for k in range(3)),
                ),
                causes=(
                    "the last layer's weights are 10 times the scale of `kaiming_uniform_`",
                    f"or the name {MARKUP} says it",
                ),
                remedies=(
                    Remedy(
                        text="scale the last layer's weight by 0.1",
                        code="with torch.no_grad():\n    model.head.weight *= 0.1",
                        tried=True,
                        worked=True,
                        measured="4.868 before, 2.31 after",
                    ),
                    Remedy(text="zero the bias", tried=True, worked=False, measured="4.868 before, 4.85 after"),
                    Remedy(text=MARKUP),
                ),
                exhibits=(bars(),),
            ),
        ),
        (
            "output-bias-init",
            Stage.INIT,
            warned(
                "the best constant answer has a loss of 0.325, the first loss is 0.693",
                summary="a bias of log-odds would save about 60 steps",
                expected="a first loss near 0.325",
                numbers={"loss": 0.693, "constant": 0.325},
                spread={"loss": 0.02},
                near=f"the gap of 0.368 lies 0.02 above the limit of 0.348: another seed may tell otherwise {MARKUP}",
                remedies=(
                    Remedy(text="set the bias of the last layer", code="model.head.bias.data = torch.tensor([-2.197])"),
                ),
            ),
        ),
        (
            "activation-scale",
            Stage.INIT,
            passed(
                "the standard deviation stays within 0.61 and 1.40 over 12 layers",
                near="the smallest of 0.61 lies 0.01 above the limit of 0.6: another seed may tell otherwise",
                exhibits=(histogram(12),),
            ),
        ),
        ("symmetry", Stage.INIT, passed("no two of 1,162 units have equal weights")),
        (
            "dead-relu",
            Stage.INIT,
            failed(
                "412 of 512 units of backbone.layer4 never fire on 640 samples",
                expected="at most 40 %",
                exhibits=(histogram(15),),
            ),
        ),
        ("saturation", Stage.INIT, skipped("the model has no tanh, sigmoid, softmax or attention")),
        (
            "gradient-flow",
            Stage.INIT,
            passed("gradient norms between 0.002 and 0.4 over 10 tensors", exhibits=(bars(40),)),
        ),
        (
            "batch-mixing",
            Stage.WIRING,
            failed("58 of 240 sample pairs are connected", expected="no pair connected", exhibits=(heatmap(),)),
        ),
        ("gradient-check", Stage.WIRING, errored(f"could not tell: RuntimeError: {COMMAND} {ANSI} {SCRIPT}")),
        ("unused-parameters", Stage.WIRING, passed("every one of 10 tensors gets a gradient", exhibits=(table(),))),
        ("optimizer-coverage", Stage.WIRING, passed("10 of 10 trainable tensors are in the optimizer")),
        (
            "double-softmax",
            Stage.WIRING,
            warned(BREAKOUT, expected=SCRIPT, causes=HOSTILE, exhibits=_hostile_exhibits()),
        ),
        (
            "overfit-batch",
            Stage.LEARNING,
            passed(
                "2.303 to 0.004 in 61 steps on 32 samples", expected="below 0.1 of the first loss", exhibits=(curve(),)
            ),
        ),
        ("input-baseline", Stage.LEARNING, skipped("needs dead-relu, which did not pass")),
    ]


def target(name: str = "examples/digits_cnn.py") -> TargetResult:
    checks = tuple(
        CheckResult(id=id, stage=stage, verdict=verdict, seconds=0.07 * (k + 1), doc=doc(id))
        for k, (id, stage, verdict) in enumerate(_verdicts())
    )
    return TargetResult(
        target=name,
        model="SmallCNN",
        parameters=1_199_882,
        loss="CrossEntropyLoss",
        optimizer="Adam(lr=0.001)",
        bound=(
            "model = net (SmallCNN, 1.2 M)",
            f"data = train_loader ({SCRIPT}, batch 32)",
            "loss = criterion (CrossEntropyLoss)",
        ),
        notes=("test_loader is used for validation", COMMAND),
        checks=checks,
        findings=("batch-mixing", "loss-at-init", "dead-relu", "output-bias-init", "double-softmax"),
        checklist=(
            *tick(
                {result.id: result.status for result in checks},
                {"human-baseline": "two annotators: 4.1 % wrong", "samples-seen": f"{SCRIPT}{MARKUP}"},
            )[:24],
            ChecklistItem(id=BREAKOUT, phase=SCRIPT, text=BREAKOUT, checks=(), done=False, note=ANSI),
        ),
        seconds=11.8,
        cost=Cost(
            seconds=11.8,
            train_steps=83.5,
            forward=120.0,
            backward=91.25,
            by_probe={"FirstStep": 1.0, "OverfitRun": 61.0},
        ),
    )


def healthy() -> TargetResult:
    """The checks that passed, alone."""
    whole = target("examples/healthy.py")
    checks = tuple(result for result in whole.checks if result.status in ("pass", "skip"))
    return TargetResult(
        target=whole.target,
        model=whole.model,
        parameters=whole.parameters,
        loss=whole.loss,
        optimizer=whole.optimizer,
        bound=whole.bound[:1],
        notes=(),
        checks=checks,
        findings=(),
        seconds=9.1,
        cost=whole.cost,
    )


def unusable() -> TargetResult:
    """A target that could not be checked."""
    return TargetResult(
        target="broken.py",
        model="",
        parameters=0,
        loss="",
        optimizer="",
        bound=(),
        notes=(),
        checks=(),
        findings=(),
        seconds=0.2,
        cost=Cost(),
        problem="broken.py stopped with an error of its own\n  broken.py:88  in main  loss = criterion(net(x), y)\n"
        f"::error::{SCRIPT}{ANSI}",
    )


def report(*targets: TargetResult) -> Report:
    return Report(
        nncheck_version="0.1.0",
        created="2026-11-21T12:00:00+00:00",
        environment={
            "torch": "2.13.0+cpu",
            "python": "3.11.7",
            "platform": "Linux",
            "device": "cpu",
            "seed": "0",
            "command": "nncheck run examples/digits_cnn.py",
            SCRIPT: BREAKOUT,
        },
        targets=targets or (target(),),
        seconds=12.3,
    )
