"""What a change touches: the chapters by what they import, the unit tests by their names."""

from pathlib import Path

import pytest

from tools import changed

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    str(path.relative_to(ROOT))
    for folder in ("advlib", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "__init__.py"
]
# Called by make alone, or among those that run always.
WITHOUT = {f"tools/{name}.py" for name in ("bench", "book", "colab", "repository", "weights")}


def touched(monkeypatch: pytest.MonkeyPatch, *files: str) -> list[str]:
    monkeypatch.setenv("BASE", "some commit")
    monkeypatch.setattr(changed, "git", lambda *arguments: [" ".join(arguments)])
    monkeypatch.setattr(changed, "since", lambda base: set(files))
    return changed.chapters()


ALL = [path.name[:2] for path in sorted(ROOT.glob("notebooks/*.md"))]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("notebooks/03_jsma.md", ["03"]),
        ("notebooks/03_jsma.ipynb", ["03"]),
        ("advlib/detection.py", ["07", "08"]),
        ("advlib/representation.py", ["05", "06"]),
        ("advlib/attacks/saliency.py", ALL[1:]),  # a package is imported as a whole
        ("advlib/_checks.py", ALL),  # imported by what is imported
        ("advlib/weights/one_pixel_mnist.json", ALL),
        ("requirements.lock", ALL),
        ("book/index.md", []),
        ("tests/test_plots.py", []),
    ],
)
def test_chapters_that_a_change_touches(
    monkeypatch: pytest.MonkeyPatch, file: str, expected: list[str]
) -> None:
    assert touched(monkeypatch, file) == expected


def test_without_a_known_change_every_chapter_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASE", raising=False)
    for git in (lambda *_: [], lambda *_: ["the same commit"]):
        monkeypatch.setattr(changed, "git", git)
        assert changed.chapters() == ALL


def test_a_base_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE", "no-such-commit")
    for function in (changed.chapters, changed.check):
        with pytest.raises(SystemExit, match="BASE must be a commit, got 'no-such-commit'"):
            function()


def names(*files: str) -> set[str]:
    return {Path(path).stem for path in changed.tests(files)}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("advlib/detection.py", {"test_detection"}),
        ("advlib/attacks/_loop.py", {"test_attacks", "test_gradient_sign"}),
        ("advlib/_checks.py", {"test_checks"}),
        ("advlib/networks/__init__.py", {"test_networks"}),
        ("advlib/weights/vae_mnist_2.weights.h5", {"test_networks", "test_results"}),
        ("tests/test_plots.py", {"test_plots"}),
        ("tools/notebooks.py", {"test_tools_notebooks"}),
        ("book/site/playground/network.js", {"test_playground"}),
        ("tests/test_site.py", set()),  # needs the site
        ("book/index.md", set()),
    ],
)
def test_unit_tests_that_go_with_a_file(file: str, expected: set[str]) -> None:
    assert names(file) == expected | changed.ALWAYS


@pytest.mark.parametrize("file", sorted({*MODULES} - WITHOUT))
def test_every_module_has_tests_by_its_name(file: str) -> None:
    assert names(file) > changed.ALWAYS, f"say in tools/changed.py which tests go with {file}"
