"""A bad target gives a right result or one clear message and exit code 2; never a traceback of ours, never a hang."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app

FOLDER = Path(__file__).parent.parent / "bad_targets"

# Target -> (exit code, what its one message must say). 0 and 1 are right results: the set-up is odd but can be checked.
EXPECTED: dict[str, tuple[int, str]] = {
    "nowhere.py": (2, r"there is no file nowhere\.py"),
    "no_modle.py": (2, r"did you mean no_model\.py\?"),
    "no.such.module": (2, r"no file and no module called 'no\.such\.module'"),
    ".": (2, r"is a folder"),
    "two_models.py:net_c": (2, r"has no 'net_c'[\s\S]*did you mean 'net_"),
    "two_models.py:x": (2, r"name a Recipe, a model, or a function"),
    "two_models.py:": (2, r"is not a Python name"),
    "two_models.py:net_b": (0, r"1 passed"),
    "syntax_error.py": (2, r"syntax_error\.py is not valid Python: '\(' was never closed\n.*syntax_error\.py:3"),
    "null_bytes.py": (2, r"cannot be read as Python"),
    "empty_file.py": (2, r"has no model"),
    "import_error_inside.py": (2, r"cannot import name 'no_such_name'[\s\S]*import_error_inside\.py:6"),
    "missing_dependency.py": (2, r"needs the module 'a_package_nobody_has', which is not installed"),
    "no_model.py": (2, r"no_model\.py has no model"),
    "two_models.py": (2, r"2 things by model: net_a \(Sequential\), net_b[\s\S]*--model net_a"),
    "model_needs_arguments.py": (2, r"Net needs width, depth"),
    "model_is_a_string.py": (2, r"model is 'resnet18'"),
    "no_loader.py": (2, r"there is no train_loader"),
    "no_loss.py": (2, r"there is no loss"),
    "empty_loader.py": (2, r"gave no batch"),
    "loader_drops_its_only_batch.py": (2, r"drop_last=True drops the only batch"),
    "loader_fails_at_once.py": (2, r"failed at batch 0 .*FileNotFoundError: data/train/000\.png\n.*loader_fails_at_once\.py:8"),
    "loader_fails_at_batch_three.py": (2, r"failed at batch 3 .*image 48 is truncated[\s\S]*1 passed"),
    "infinite_loader.py": (0, r"1 passed"),
    "generator_as_loader.py": (0, r"1 passed"),
    "list_of_batches.py": (0, r"1 passed"),
    "loader_is_a_number.py": (2, r"train_loader is 64"),
    "meta_device.py": (2, r"meta device: they have no values"),
    "mixed_devices.py": (2, r"device meta[\s\S]*mixed_devices\.py:10"),
    "asks_for_cuda.py": (2, r"this machine has no CUDA"),
    "nan_data.py": (0, r"1 passed"),
    "ragged_samples.py": (2, r"failed at batch 0 .*equal size"),
    "last_batch_of_another_width.py": (0, r"1 passed"),
    "shapes_do_not_fit.py": (2, r"mat1 and mat2[\s\S]*float32\[16, 8\]"),
    "loss_not_scalar.py": (2, r"no scalar loss but a tensor float32\[16\]"),
    "loss_is_a_number.py": (2, r"no scalar loss but [\d.]+[\s\S]*takes its gradient away"),
    "loss_detached.py": (1, r"the loss has no gradient"),
    "loss_is_none.py": (2, r"no scalar loss but None"),
    "loss_cannot_be_called.py": (2, r"there is no loss"),
    "forward_needs_three.py": (2, r"missing 2 required positional arguments[\s\S]*training_step"),
    "labels_out_of_range.py": (2, r"labels range from 1 to 4, but the model gives 4 outputs"),
    "labels_negative.py": (2, r"labels range from -1 to 2"),
    "labels_are_floats.py": (2, r"labels\.long\(\)"),
    "strings_in_the_batch.py": (2, r"must be Tensor, not list"),
    "only_strings.py": (2, r"must be Tensor, not str"),
    "numpy_batches.py": (2, r"holds NumPy arrays"),
    "three_part_batches.py": (2, r"batch of 3 parts does not say[\s\S]*training_step"),
    "named_tuple_batches.py": (0, r"1 passed"),
    "dataclass_batches.py": (2, r"batch of type Batch[\s\S]*training_step"),
    "none_batches.py": (2, r"batch of type NoneType"),
    "dict_without_a_loss.py": (2, r"batch of type dict[\s\S]*training_step"),
    "deadlocking_workers.py": (0, r"1 passed"),
    "model_that_sleeps.py": (2, r"time budget ran out[\s\S]*model_that_sleeps\.py:8"),
    "model_that_waits_for_a_lock.py": (2, r"time budget ran out[\s\S]*model_that_waits_for_a_lock\.py:9"),
    "import_that_never_ends.py": (2, r"time budget of 1 s ran out while the target was loaded[\s\S]*import_that_never_ends"),
    "import_that_asks.py": (2, r"EOFError[\s\S]*learning rate\?"),
    "model_that_exits.py": (2, r"called exit\(0\)[\s\S]*model_that_exits\.py:8"),
    "exit_on_import.py": (2, r"called exit\('usage: train\.py DATA'\) before its first optimizer step"),
    "argparse_on_import.py": (2, r"called exit\(2\)[\s\S]*required: --data"),
    "raises_base_exception.py": (2, r"Stop in the forward pass: enough"),
    "no_parameters.py": (2, r"no parameters"),
    "layers_in_a_list.py": (2, r"use nn\.ModuleList"),
    "frozen_model.py": (1, r"the loss has no gradient"),
    "optimizer_of_another_model.py": (0, r"1 passed"),
    "optimizer_is_a_string.py": (0, r"not used as optimizer: optimizer is 'adam'"),
    "complex_model.py": (0, r"1 passed"),
    "complex_loss.py": (2, r"no scalar loss but a tensor complex64"),
    "half_model.py": (0, r"1 passed"),
    "half_model_float_data.py": (2, r"same dtype"),
    "double_model.py": (0, r"1 passed"),
    "lazy_modules.py": (0, r"lazy layers were given their shapes"),
    "lazy_modules_with_optimizer.py": (0, r"lazy layers were given their shapes"),
    "compiled_model.py": (0, r"1 passed"),
    "distributed_model.py": (0, r"1 passed"),
    "non_tensor_state.py": (0, r"1 passed"),
    "async_factory.py": (2, r"build_model is an async function"),
    "factory_that_fails.py": (2, r"no checkpoint at runs/best\.pt\n.*factory_that_fails\.py:4"),
    "factory_with_a_config.py": (2, r"build_model needs config"),
    "model_returns_none.py": (2, r"not NoneType"),
    "recursion_error.py": (2, r"maximum recursion depth exceeded"),
    "memory_error.py": (2, r"MemoryError in the forward pass"),
    "warnings_as_errors.py": (0, r"1 passed"),
    "prints_megabytes.py": (0, r"1 passed"),
    "prints_then_fails.py": (2, r"shard 3 is empty[\s\S]*loading shard 3 of 7"),
    "exception_without_a_str.py": (2, r"Odd in the forward pass: no message"),
    "hostile_names.py": (0, r"1 passed"),
    "trains_on_import.py": (0, r"ran to the first step of SGD \(trains_on_import\.py:\d+\)[\s\S]*1 passed"),
    "trains_in_main.py": (2, r"called backward, but stepped no optimizer\n.*trains_in_main\.py:10"),
    "imports_what_trains.py": (2, r"called backward, but stepped no optimizer\n.*trains_in_main\.py:10"),
    "changes_the_world.py": (0, r"1 passed"),
    "two_recipes.py": (2, r"holds 2 recipes: a, b"),
    "two_recipes.py:b": (0, r"1 passed"),
    "recipe_without_a_loader.py": (2, r"there is no train_loader"),
    "backward_fails.py": (2, r"the gradient of a cube\n.*backward_fails\.py:10"),
    "a [bold] folder/modèle (1).py": (0, r"1 passed"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)


@pytest.mark.filterwarnings("ignore")  # the targets' own, such as a file that is left open
@pytest.mark.parametrize("target", EXPECTED)
def test_right_result_or_one_clear_message(target: str) -> None:
    code, message = EXPECTED[target]
    result = CliRunner().invoke(
        app, ["run", target, "--no-report", "--select", "forward-pass", "--budget", _budget(target)]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == code, result.output
    assert re.search(message, result.output), result.output
    assert "Traceback" not in result.output
    assert "nncheck/" not in result.output.replace("nncheck/tests", ""), "a frame of ours is shown"
    assert "\x1b" not in result.output
    assert not re.search(r"^\s*::", result.output, re.MULTILINE)
    assert len(result.output) < 4_000
    # Nothing was written, not even bytecode.
    assert not [path for path in FOLDER.rglob("*") if path.name in ("__pycache__", "trained", "nncheck-report.html")]


def _budget(target: str) -> str:
    return "1" if re.search("sleeps|waits|never", target) else "60"


def test_every_bad_target_is_expected() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py")} - {"parts.py"}
    assert files <= set(EXPECTED), files - set(EXPECTED)
