"""Build the site with Jupyter Book, in `_build/html`; warnings are errors."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from fontTools import subset

ROOT = Path(__file__).resolve().parents[1]
STRICT = ["--warningiserror", "--nitpick", "--keep-going", "--quiet"]
COMMAND = ["jupyter-book", "build", ".", "--all", *STRICT]
# Once in a while sphinxcontrib-katex connects to its server between that one's bind and listen.
FLEETING = "ConnectionRefusedError"
TRIES = 3
# What the theme's style sheet says of an icon, and how pages and scripts name one.
ICON_RULE = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"[^"]*"\}')
ICON = re.compile(r"\bfa-[a-z0-9-]+")
WOFF2 = re.compile(r'(fa-solid-900)\.woff2\) format\("woff2"\)')
CODE_POINT = re.compile(r"\\([ef][0-9a-f]{3})")


def build(root: Path = ROOT) -> str:
    """Build the book in a folder; return what was said of errors, empty if there are none."""
    for _ in range(TRIES):
        status, said = run(COMMAND, root)
        if status == 0:
            drop_icons(root / "_build" / "html")
            return ""
        if FLEETING not in said:
            break
    return said


def drop_icons(site: Path) -> None:
    """Leave out the icons that no page uses: of every page 86 kB of style sheet and 150 kB of font."""
    files = [path for ending in ("html", "js") for path in site.rglob(f"*.{ending}")]
    used = {name for path in files for name in ICON.findall(path.read_text(encoding="utf-8"))}
    for sheet in site.rglob("_static/styles/*.css"):
        text = sheet.read_text(encoding="utf-8")
        kept = ICON_RULE.sub(lambda rule: rule[0] if used & {*ICON.findall(rule[1])} else "", text)
        sheet.write_text(WOFF2.sub(r'\1.woff) format("woff")', kept), encoding="utf-8")
    sheets = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    points = {int(point, 16) for text in sheets for point in CODE_POINT.findall(text)}
    options = subset.Options(flavor="woff")  # woff2 would need another package
    for font in site.rglob("fa-solid-900.ttf"):
        with subset.load_font(str(font), options) as glyphs:
            subsetter = subset.Subsetter(options)
            subsetter.populate(unicodes=points)
            subsetter.subset(glyphs)
            subset.save_font(glyphs, str(font.with_suffix(".woff")), options)


def run(command: list[str], root: Path, timeout: float = 600) -> tuple[int, str]:
    """Run a command of the environment; its status, and what it said to stderr, or else to stdout.

    Where the build fails, the extension's server outlives it, with stdout and stderr in its hands: who
    reads these from a pipe waits for it. So they are files, and whatever was started is ended.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=os.environ | {"PATH": path},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (stderr, stdout):
            file.seek(0)
            texts.append(file.read().decode("utf-8", errors="replace"))
    return status, texts[0] or texts[1]


if __name__ == "__main__":
    sys.exit(build() or None)
