"""Take README's terminal capture and docs/report.png anew from a real run. Needs a Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "examples/sick/softmax_twice.py"
CAPTURE = re.compile(r"(<!-- capture:begin -->\n).*?(<!-- capture:end -->)", re.DOTALL)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 900


def main() -> int:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("screenshot.py: no Chromium found", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "nncheck-report.html"
        command = [sys.executable, "-m", "nncheck", "run", TARGET]
        plain = {**os.environ, "NO_COLOR": "1", "COLUMNS": "110", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--report", str(page)],
            cwd=ROOT,
            env=plain,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 1:
            print(done.stdout, done.stderr, file=sys.stderr)
            return 1
        text = done.stdout.replace(str(page), page.name).replace(f"{ROOT}/", "").rstrip()
        readme = ROOT / "README.md"
        block = f"```\n$ nncheck run {TARGET}\n{text}\n```\n"
        readme.write_text(
            CAPTURE.sub(lambda m: m[1] + block + m[2], readme.read_text(encoding="utf-8")), encoding="utf-8"
        )
        picture = ROOT / "docs" / "report.png"
        subprocess.run(
            [
                browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb",
                f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        print(f"wrote README.md and {picture.relative_to(ROOT)} ({picture.stat().st_size // 1024} KB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
