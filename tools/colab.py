"""Run the notebooks as Colab would: its versions, advlib as a wheel, outside the checkout.

    python tools/colab.py

Needs Python 3.13 (`python3.13`, or COLAB_PYTHON names it); says so and does nothing where there is none.
The checked outputs are compared by the rules of tests/nbval_rules.py.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-colab"
VERSIONS = ROOT / "tests" / "colab.txt"


def find_python() -> str | None:
    """A Python 3.13 that runs, if there is one."""
    for candidate in (os.environ.get("COLAB_PYTHON"), "python3.13"):
        path = candidate and shutil.which(candidate)
        if path:
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if answer.returncode == 0 and answer.stdout.startswith("Python 3.13."):
                return path
    return None


def pip(*arguments: str | Path) -> str:
    """Call uv's pip on Colab's environment."""
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--quiet", "--python", ENVIRONMENT]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Build the environment, install the wheel, execute and compare the notebooks."""
    python = find_python()
    if python is None:
        print("SKIPPED: there is no Python 3.13, Colab's; COLAB_PYTHON=/path/to/python3.13 names one.")
        return
    print("== Installing Colab's versions into .venv-colab", flush=True)
    subprocess.run(
        [sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", python, ENVIRONMENT],
        check=True,
    )
    pip("install", "--requirement", VERSIONS)
    before = set(pip("freeze").splitlines())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*build, "--wheel-dir", folder, ROOT], check=True)
        (wheel,) = folder.glob("*.whl")
        # With its dependencies: were one of them not as Colab has it, it would be changed here.
        pip("install", wheel)
        changed = set(pip("freeze").splitlines()) ^ before
        if any(not line.startswith("advlib") for line in changed):
            sys.exit(f"Installing advlib changed Colab's packages: {sorted(changed)}")
        print(f"== {wheel.name} changes no other package", flush=True)

        spec = folder / "kernels" / "colab"
        spec.mkdir(parents=True)
        command = [
            str(ENVIRONMENT / "bin" / "python"),
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ]
        # As the locked environment's own kernels: without what TensorFlow writes while it is imported.
        command.append("--IPKernelApp.capture_fd_output=False")
        (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab"}))
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        check = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.nbval_rules"]
        options = ["--nbval-lax", "--nbval-kernel-name=colab", "--nbval-cell-timeout=600"]
        environment = os.environ | {"JUPYTER_PATH": str(folder)}
        sys.exit(
            subprocess.run(
                [*check, *options, f"--rootdir={ROOT}", folder / "notebooks"], cwd=ROOT, env=environment
            ).returncode
        )


if __name__ == "__main__":
    main()
