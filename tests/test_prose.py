"""Numbers in prose: how they are marked, when they have moved, and which are missing a mark."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advlib.metrics import Mean, Proportion
from tools import prose
from tools.prose import Answer, Number, NumbersError

PATH = Path("notebooks") / "02_chapter.md"


def found(text: str) -> list[tuple[str, str, str, str | None]]:
    return [
        (number.written, number.expression, number.form, number.record)
        for number in prose.find(PATH, text, "02")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 38.5%<!-- = misread.value:.1% -->.", ("38.5%", "misread.value", ".1%", "misread")),
        ("**97.4%**<!-- = share -->", ("97.4%", "share", "", None)),
        ("**97.4%<!-- = share -->**", ("97.4%", "share", "", None)),
        ("| a | 1,000<!-- = len(x):, --> |", ("1,000", "len(x)", ",", None)),
        ("(-0.25<!-- = low:.2f -->)", ("-0.25", "low", ".2f", None)),
        ("−3<!-- = low -->", ("−3", "low", "", None)),
        ("3<!-- = sizes[1:2][0] -->", ("3", "sizes[1:2][0]", "", None)),
        ("""3<!-- = table["a"].sum() -->""", ("3", "table['a'].sum()", "", None)),
        (
            "98.91% [98.69%, 99.10%] of 10,000<!-- = metrics.proportion(x > 0) -->",
            ("98.91% [98.69%, 99.10%] of 10,000", "metrics.proportion(x > 0)", "", None),
        ),
        ("25.9 [25.3, 26.5]<!-- = pixels:.1f -->", ("25.9 [25.3, 26.5]", "pixels", ".1f", None)),
        ("1e-05<!-- = error:.0e -->", ("1e-05", "error", ".0e", None)),
    ],
)
def test_marked_numbers_are_found(text: str, expected: tuple[str, str, str, str | None]) -> None:
    assert found(text) == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n\nsome<!-- = share -->",
            "02_chapter.md:3: <!-- = share --> must stand right behind a number",
        ),
        ("38.5% <!-- = share -->", "must stand right behind a number"),
        ("38.5%<!--= share -->", "must stand right behind a number"),
        ("v38.5<!-- = share -->", "must stand right behind a number"),
        ("38.5%<!-- = share", "02_chapter.md:1: the comment <!-- = share is not closed"),
        ("38.5%<!-- =\nshare -->", "02_chapter.md:1: "),
        ("38.5%<!-- 02 = share -->", "must have the form <!-- = … --> in this file"),
        ("38.5%<!-- = share of -->", "share of is no expression"),
        ("38.5%<!-- = a = 1 -->", "a = 1 is no expression"),
        ("38.5%<!-- = share:{width} -->", "the format must be plain text"),
        ("38.5%<!-- = a} {b -->", "is no expression"),
    ],
)
def test_comments_that_are_none_are_named(text: str, message: str) -> None:
    with pytest.raises(NumbersError) as caught:
        found(text)
    assert message in str(caught.value)
    assert "notebooks/02_chapter.md:" in str(caught.value)


def test_other_comments_and_pages() -> None:
    page = Path("book") / "index.md"
    assert prose.find(page, "<!-- repository -->\nIt = this.\n<!-- end of repository -->") == []
    (number,) = prose.find(page, "It is\n38.5%<!-- 02 = share:.1% --> of them.")
    assert (number.chapter, number.place, number.expression) == ("02", "book/index.md:2", "share")
    with pytest.raises(NumbersError, match="with the number of the chapter"):
        prose.find(page, "38.5%<!-- = share -->")


def test_numbers_are_rewritten_where_they_stand_and_nothing_else() -> None:
    text = "a 1<!-- = x --> and **2.5%**<!-- = y:.1% -->, 3% [2%, 4%]<!-- = z --> 7"
    new = prose.rewrite(text, ["10", "3.5%", "4.00% [3.00%, 5.00%] of 9"])
    assert new == (
        "a 10<!-- = x --> and **3.5%**<!-- = y:.1% -->, 4.00% [3.00%, 5.00%] of 9<!-- = z --> 7"
    )
    assert prose.rewrite(new, [number.written for number in prose.find(PATH, new, "02")]) == new


def test_a_page_shows_what_a_chapter_shows() -> None:
    page, chapter = Path("book") / "index.md", prose.find(PATH, "4.0%<!-- = a.value:.1% -->", "02")
    text = "3.9%<!-- 02 = a.value:.1% -->"
    assert prose.on_page(page, text, {"02": chapter}) == ["4.0%"]
    for other in (text.replace("02", "03"), text.replace(".1%", ".2%"), text.replace("a.", "b.")):
        with pytest.raises(
            NumbersError, match=r"book/index.md:1: chapter 0. shows no number = [ab].value"
        ):
            prose.on_page(page, other, {"02": chapter})


# --- evaluation ------------------------------------------------------------------------------------


def ask(texts: list[str], **names: Any) -> list[Answer]:
    """Evaluate marked numbers as a kernel does."""
    numbers = prose.find(PATH, "\n".join(f"0<!-- = {text} -->" for text in texts), "02")
    printed: list[str] = []
    names |= {"print": printed.append}
    exec(prose.question(numbers), names)
    assert "_evaluate" not in names
    return prose.answers(numbers, "".join(printed))


def test_answers() -> None:
    share, mean = Proportion(385, 1000), Mean(25.9, (25.3, 26.5), 40)
    answers = ask(
        [
            "x:.1%",
            "x",
            "share",
            "share:.1%",
            "share.value:.1%",
            "mean:.1f",
            "mean.value:.0f",
            "1 - share.value:.1%",
        ],
        x=0.25,
        share=share,
        mean=mean,
    )
    assert [answer.text for answer in answers] == [
        *("25.0%", "0.25", "38.50% [35.53%, 41.55%] of 1,000", "38.5% [35.5%, 41.6%]", "38.5%"),
        *("25.9 [25.3, 26.5]", "26", "61.5%"),
    ]
    interval = share.interval
    expected = [None, None, interval, interval, interval, mean.interval, mean.interval, None]
    assert [answer.interval for answer in answers] == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nothing", "nothing could not be evaluated (NameError: name 'nothing' is not defined)"),
        ("1 / 0", "1 / 0 could not be evaluated (ZeroDivisionError: division by zero)"),
        ("x:d", "x could not be evaluated (ValueError: Unknown format code 'd'"),
        ("exit()", "exit() could not be evaluated"),
        ("name", "name gives 'six', which is no number"),
        ("x > 0", "x > 0 gives 'True', which is no number"),
        ("float('nan')", "float('nan') gives 'nan', which is no number"),
    ],
)
def test_what_cannot_be_evaluated_names_its_line(text: str, fault: str) -> None:
    with pytest.raises(NumbersError) as caught:
        ask(["x", text], x=0.5, name="six")
    assert str(caught.value).startswith(f"notebooks/02_chapter.md:2: {fault}")
    assert "\n" not in str(caught.value)


# --- what has moved --------------------------------------------------------------------------------


def moved(written: str, text: str, interval: tuple[float, float] | None = None) -> bool:
    return prose.moved(Number("", written, "", "", None, "02"), Answer(text, interval))


def test_without_an_interval_every_character_counts() -> None:
    assert not moved("38.5%", "38.5%")
    assert moved("38.5%", "38.6%")
    assert moved("38.5%", "38.50%")


@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)))
)
def test_a_record_s_value_moves_within_its_interval(case: tuple[int, int, int]) -> None:
    old, new, total = case
    written = f"{old / total:.1%}"
    record = Proportion(new, total)
    low, high = record.interval
    inside = low - 0.0005 <= prose.as_number(written) <= high + 0.0005
    assert moved(written, f"{record.value:.1%}", record.interval) != (inside or old == new)


@pytest.mark.parametrize(
    ("written", "text", "interval", "expected"),
    [
        ("38.5%", "39.2%", (0.36, 0.42), False),
        ("38.5%", "39.2%", (0.386, 0.42), True),  # written below the interval
        ("38.5%", "37.2%", (0.36, 0.384), True),  # above
        ("38.54%", "38.5%", (0.36, 0.42), True),  # other decimals
        ("0.385", "38.5%", (0.36, 0.42), True),  # another unit
        ("25.9", "26.4", (25.0, 27.0), False),
        ("1e-05", "3e-05", (2e-5, 4e-5), True),
        ("3e-05", "4e-05", (2e-5, 4e-5), False),
        ("1,234", "1,250", (1200, 1300), False),
        ("38.5% [36.0%, 42.0%]", "39.2% [36.5%, 42.5%]", (0.365, 0.425), False),
        ("35.0% [34.9%, 42.0%]", "39.2% [36.5%, 42.5%]", (0.365, 0.425), True),
        ("38.5% [10.0%, 80.0%]", "39.2% [36.5%, 42.5%]", (0.365, 0.425), True),  # another width
        ("38.50% [36.00%, 42.00%] of 900", "38.50% [36.10%, 42.00%] of 901", (0.361, 0.42), True),
        ("38.5%", "38.5% [36.0%, 42.0%]", (0.36, 0.42), True),  # an interval that is not written
    ],
)
def test_moved(written: str, text: str, interval: tuple[float, float], expected: bool) -> None:
    assert moved(written, text, interval) == expected


# --- numbers without a mark ------------------------------------------------------------------------


def unmarked(folder: Path, text: str, before: str = "", behind: str = "") -> list[str]:
    path = folder / "02_chapter.md"
    path.write_text(f"{before}\n{text}\n{behind}", encoding="utf-8")
    new = nbformat.v4
    cells = [new.new_code_cell(before), new.new_markdown_cell(text), new.new_code_cell(behind)]
    return prose.unmarked(path, cells)


@pytest.mark.parametrize(
    "text",
    [
        "It fooled 38.5% of them.",
        "It fooled 38 % of them.",
        "It fooled 38 per cent of them.",
        "A factor of 2.5 is a lot.",
        "Between 0.25 and more.",
        "About 38 percent of them.",
        "By 38 percentage points.",
        "It fooled 38\nper cent of them.",
        "It fooled 38\u202f% of them.",
        "About .385 of them, as a ` says.",
        "An error of 1.25e-3 is small.",
        "It is 2.5x as fast.",
        "It fooled 20% of them.",  # 20 is a setting beside it, 0.2 is not
        "The [paper](https://arxiv.org/abs/1) says 97%. Here it is 96%.",
        "In 97% of cases ([paper](https://arxiv.org/abs/1)).\n\nHere it is 96%.",
        "| a | 38.5% |",
        "- 38.5%, once<!-- = share -->",
        "95% of them",
    ],
)
def test_a_bare_number_is_named(tmp_path: Path, text: str) -> None:
    (fault,) = unmarked(tmp_path, text, before="steps = 20")
    line = 4 if "\n\n" in text else 2
    assert f"/02_chapter.md:{line}: … " in fault


@pytest.mark.parametrize(
    "text",
    [
        "It fooled 38.5%<!-- = share.value:.1% --> of them, **2.5**<!-- = x --> times.",
        "It fooled 38.5% [36.0%, 42.0%]<!-- = share:.1% --> of them.",
        "With $\\varepsilon = 0.1$ and\n$$x = 2.5$$\nit works.",
        "Call `f(0.25)`, or\n```python\nx = 0.25\n```\n",
        "The paper reports 97% ([one](https://arxiv.org/abs/1), 4.02% of the pixels).",
        "The article reports 21.8%.<!-- figures of this article -->",
        "Python 3.11.7, chapter 2, 1,000 digits, [a link](https://a.b/1.5) and 28 × 28.",
        "with its 95% interval, and 95% intervals",
        "with 0.2, that is 20%, and 12.5% of",
        "as [x](#sec-2.5)",
    ],
)
def test_what_is_no_bare_number(tmp_path: Path, text: str) -> None:
    assert (
        unmarked(tmp_path, text, before="epsilon = 0.2", behind="share = 0.125\n%pip install x==2.5")
        == []
    )


@pytest.mark.parametrize(
    ("code", "known"), [("x = 0.001", True), ("x = 0.002", False), ("x = '0.001'", False)]
)
def test_settings_are_those_of_the_cells_beside(tmp_path: Path, code: str, known: bool) -> None:
    assert (unmarked(tmp_path, "Steps of 0.001.", behind=code) == []) == known
    assert (unmarked(tmp_path, "Steps of 0.001.", before=code) == []) == known
