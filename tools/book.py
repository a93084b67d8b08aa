"""Build the site with Jupyter Book, in `_build/html`; warnings are errors."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STRICT = ["--warningiserror", "--nitpick", "--keep-going", "--quiet"]
COMMAND = ["jupyter-book", "build", ".", "--all", *STRICT]
# Once in a while sphinxcontrib-katex connects to its server between that one's bind and listen.
FLEETING = "ConnectionRefusedError"
TRIES = 3


def build(root: Path = ROOT) -> str:
    """Build the book in a folder; return what was said of errors, empty if there are none."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for _ in range(TRIES):
        done = subprocess.run(
            COMMAND,
            cwd=root,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode == 0:
            return ""
        said = done.stderr or done.stdout
        if FLEETING not in said:
            break
    return said


if __name__ == "__main__":
    sys.exit(build() or None)
