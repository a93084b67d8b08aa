"""Compare the attacks with those of other packages, in an environment that has these.

    python tools/bench.py [--quick]

Builds .venv-bench from the lock and tests/benchmarks/peers.txt if one of them has changed, runs
tests/test_peers.py, then tests/benchmarks/attacks.py, whose options may be given.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-bench"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCK = ROOT / "requirements.lock"
PEERS = ROOT / "tests" / "benchmarks" / "peers.txt"


def pip(*arguments: str | Path) -> str:
    """Call uv's pip on the environment."""
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--quiet", "--python", PYTHON]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def build() -> None:
    """Install the lock, then the other packages, which must leave the lock's versions alone."""
    stamp = ENVIRONMENT / "installed"
    wanted = hashlib.sha256(LOCK.read_bytes() + PEERS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("== Installing the locked packages and the other attacks into .venv-bench", flush=True)
    venv = [
        sys.executable,
        "-m",
        "uv",
        "venv",
        "--quiet",
        "--clear",
        "--seed",
        "--python",
        sys.executable,
    ]
    subprocess.run([*venv, ENVIRONMENT], check=True)
    pip("install", "--require-hashes", "--requirement", LOCK)
    before = set(pip("freeze").splitlines())
    pins = {pin.split("==")[0]: pin for pin in PEERS.read_text().split()}
    torch, torchattacks = pins.pop("torch"), pins.pop("torchattacks")
    pip("install", *pins.values())
    # By pip itself, whose configuration may offer a build for processors alone: uv does not read it.
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([PYTHON, *install, torch], check=True)
    # Without what it asks for: an old requests, and torchvision, which its attacks do not need.
    pip("install", "--no-deps", torchattacks)
    changed = before - set(pip("freeze").splitlines())
    if changed:
        sys.exit(f"The other packages changed what the lock installs: {sorted(changed)}")
    pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    stamp.write_text(wanted)


def main() -> None:
    """Build the environment, test, measure."""
    build()
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    tests = ["-m", "pytest", "-p", "no:cacheprovider", "tests/test_peers.py"]
    print("== The same images as other packages' attacks", flush=True)
    tested = subprocess.run([PYTHON, *tests], cwd=ROOT, env=environment).returncode
    print("== Time, success and memory", flush=True)
    script = ROOT / "tests" / "benchmarks" / "attacks.py"
    measured = subprocess.run([PYTHON, script, *sys.argv[1:]], cwd=ROOT, env=environment).returncode
    sys.exit(tested or measured)


if __name__ == "__main__":
    main()
