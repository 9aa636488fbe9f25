"""The plugin, in pytest runs of its own: a process each, as people run it."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from nncheck.registry import catalogue

pytest_plugins = "pytester"

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FEW = '[tool.nncheck]\nselect = ["forward-pass", "loss-at-init", "checkpoint"]\n'


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a healthy and a sick target, which asks few checks."""
    shutil.copy(EXAMPLES / "digits_mlp.py", pytester.path / "model.py")
    shutil.copy(EXAMPLES / "sick" / "head_too_large.py", pytester.path / "sick.py")
    pytester.makepyprojecttoml(FEW)
    return pytester


def test_registering_imports_no_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert 'torch' not in sys.modules and 'nncheck.api' not in sys.modules"
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1)
    assert "nncheck" in pytester.runpytest_subprocess("--fixtures").stdout.str()


def test_one_item_a_check_with_a_readable_id(project: pytest.Pytester) -> None:
    done = project.runpytest_subprocess("--nncheck", "model.py", "-v", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(["model.py::loss-at-init PASSED*"])
    chosen = project.runpytest_subprocess("--nncheck", "model.py", "-k", "loss-at-init", "-v", "-p", "no:cacheprovider")
    chosen.assert_outcomes(passed=1, deselected=2)


def test_all_checks_are_items_without_a_configuration(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("model.py").write_text("model = None")
    done = pytester.runpytest_subprocess("--nncheck", "model.py", "--collect-only", "-q")
    assert re.findall(r"^model\.py::(\S+)$", done.stdout.str(), re.MULTILINE) == [entry.id for entry in catalogue()]


def test_a_finding_fails_with_the_terminals_words(project: pytest.Pytester) -> None:
    done = project.runpytest_subprocess("--nncheck", "sick.py", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=2, failed=1)
    terminal = project.run(sys.executable, "-m", "nncheck", "run", "sick.py", "--no-report", "-q")
    finding = [line for line in terminal.outlines if line.strip() and "exit 1" not in line]
    assert finding[0].startswith("fail[loss-at-init]")
    done.stdout.fnmatch_lines([line.replace("[", "[[]") for line in finding])
    assert "Traceback" not in done.stdout.str()


def test_what_does_not_run_is_skipped_and_what_is_accepted_is_expected(project: pytest.Pytester) -> None:
    project.makepyprojecttoml(
        '[tool.nncheck]\nselect = ["loss-at-init", "train-eval-mode"]\n'
        '[[tool.nncheck.accept]]\ncheck = "loss-at-init"\nreason = "scaled on purpose"\n'
    )
    done = project.runpytest_subprocess("--nncheck", "sick.py", "-rxs", "-p", "no:cacheprovider")
    done.assert_outcomes(xfailed=1, skipped=1)
    assert "accepted: scaled on purpose" in done.stdout.str()


def test_workers_share_one_run(project: pytest.Pytester) -> None:
    with (project.path / "model.py").open("a") as file:
        file.write("\nopen(__file__ + '.runs', 'a').write('run\\n')\n")
    done = project.runpytest_subprocess("--nncheck", "model.py", "-n", "2", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=3)
    assert (project.path / "model.py.runs").read_text() == "run\n"


def test_a_target_that_cannot_be_checked_is_told_whole_once(project: pytest.Pytester) -> None:
    project.path.joinpath("broken.py").write_text(
        "import torch\nmodel = torch.nn.Linear(2, 2)\nraise ValueError('stop')\n"
    )
    # CI's short summary would repeat the whole text.
    done = project.runpytest_subprocess("--nncheck", "broken.py", "-rN", "-p", "no:cacheprovider")
    done.assert_outcomes(failed=3)
    assert done.stdout.str().count("broken.py:3") == 1
    missing = project.runpytest_subprocess("--nncheck", "nowhere.py", "-p", "no:cacheprovider")
    missing.assert_outcomes(failed=3)
    assert "nowhere.py" in missing.stdout.str()


def test_the_mark_checks_a_target_before_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.nncheck(target="sick.py", select=["loss-at-init"])
        def test_sick():
            raise AssertionError("the body is not reached")

        @pytest.mark.nncheck(target="sick.py", select=["forward-pass"])
        def test_asks_only_this(nncheck):
            assert [result.id for result in nncheck.report.targets[0].checks] == ["forward-pass"]

        @pytest.mark.nncheck(targets="sick.py")
        def test_wrong():
            pass
        """
    )
    done = project.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(failed=2, passed=1)
    done.stdout.fnmatch_lines(["fail[[]loss-at-init]: *", "*@pytest.mark.nncheck takes target=...*"])
    assert "the body is not reached" not in done.stdout.str()


def test_the_fixture_checks_the_objects_it_is_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import torch
        from torch import nn

        def parts(scale):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
            with torch.no_grad():
                model[2].weight *= scale
            data = torch.utils.data.TensorDataset(torch.randn(256, 8), torch.randint(10, (256,)))
            return model, torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)

        def test_sound(nncheck):
            report = nncheck(*parts(1.0), loss_fn=nn.CrossEntropyLoss(), select=["loss-at-init"])
            assert report.verdict == "pass"

        def test_sick(nncheck):
            nncheck(*parts(100.0), loss_fn=nn.CrossEntropyLoss(), select=["loss-at-init"])
        """
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*fail[[]loss-at-init]: *"])
