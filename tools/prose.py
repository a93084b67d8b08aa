"""Numbers in prose, and how the cells compute them.

In a chapter's Markdown a measured number is followed by a comment that no renderer shows:

    FGSM misleads it for 38.5%<!-- = misread.value:.1% --> of the digits.

Behind the sign stands an expression, as in an f-string, which is evaluated in the chapter's kernel once
all of its cells have run. A page in book/ may show a number that a chapter shows, and says whose:
`<!-- 02 = misread.value:.1% -->`.

`make notebook` writes the numbers anew. The tests compare those that are written with those that are
computed, by the rule for intervals where the expression gives a `Proportion` or a `Mean` or is the
`.value` of one, else to the character.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

NUMBER = r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
# A number with its interval, as `Proportion` and `Mean` print it.
CLAIM = re.compile(
    rf"(?P<value>{NUMBER})(?P<unit>%?) \[(?P<low>{NUMBER})(?P=unit), (?P<high>{NUMBER})(?P=unit)\]"
)
WRITTEN = rf"{CLAIM.pattern}(?: of \d[\d,]*)?|{NUMBER}%?"
# The number, perhaps the end of bold or italic type, and the comment.
MARKED = re.compile(
    rf"(?<![\w.,])(?P<written>{WRITTEN})(?P<type>\*{{0,3}})"
    r"<!-- (?:(?P<chapter>\d\d) )?= (?P<expression>[^\n]+?) -->"
)
COMMENT = re.compile(r"<!--\s*(?:\d+\s*)?=.*?(?:-->|$)", re.MULTILINE | re.DOTALL)


class NumbersError(ValueError):
    """Something is wrong with numbers; the message has a line for each: file, line, reason."""


@dataclass(frozen=True)
class Number:
    """A number in prose.

    Attributes
    ----------
    place : str
        File and line, for people.
    written : str
        As it stands there.
    expression, form : str
        What is evaluated, and how it is written (as behind the colon of an f-string).
    record : str or None
        The expression less its `.value`: where this is a `Proportion` or a `Mean`, it has the interval.
    chapter : str
        The two figures with which the name of its chapter begins.
    """

    place: str
    written: str
    expression: str
    form: str
    record: str | None
    chapter: str


@dataclass(frozen=True)
class Answer:
    """What the kernel says of an expression: its text, and its interval if it has one."""

    text: str = ""
    interval: tuple[float, float] | None = None
    fault: str = ""


def find(path: Path, text: str, chapter: str | None = None) -> list[Number]:
    """All marked numbers of a file, in order.

    `chapter` is that of a notebook; in a page each comment names its own. Raises `NumbersError` where a
    comment is not behind a number, or is not of that form.
    """
    found, faults = [], []
    marked = {match.end(): match for match in MARKED.finditer(text)}
    for comment in COMMENT.finditer(text):
        place = f"{path.parent.name}/{path.name}:{text.count(chr(10), 0, comment.start()) + 1}"
        match = marked.get(comment.end())
        if not comment.group().endswith("-->"):
            faults.append(f"{place}: the comment {first_line(comment.group())} is not closed")
        elif match is None:
            faults.append(
                f"{place}: {first_line(comment.group())} must stand right behind a number, in one line, "
                "as in 38.5%<!-- = misread.value:.1% -->"
            )
        elif (match["chapter"] is None) == (chapter is None):
            form = "= …" if chapter else "02 = …, with the number of the chapter"
            faults.append(f"{place}: {comment.group()} must have the form <!-- {form} --> in this file")
        else:
            try:
                expression, form, record = parse(match["expression"])
            except SyntaxError as error:
                faults.append(f"{place}: {match['expression']} is no expression ({error.msg})")
                continue
            number = chapter or str(match["chapter"])
            found.append(Number(place, match["written"], expression, form, record, number))
    if faults:
        raise NumbersError("\n".join(faults))
    return found


def first_line(text: str) -> str:
    return text.splitlines()[0]


def parse(text: str) -> tuple[str, str, str | None]:
    """Part what stands in a comment as an f-string would: expression, format, record."""
    tree = ast.parse(f'f"""{{{text}}}"""', mode="eval").body
    if not (
        isinstance(tree, ast.JoinedStr)
        and len(tree.values) == 1
        and isinstance(tree.values[0], ast.FormattedValue)
    ):
        raise SyntaxError("one expression, and perhaps a colon and its format")
    field = tree.values[0]
    form = ""
    if field.format_spec is not None:
        assert isinstance(field.format_spec, ast.JoinedStr)
        pieces = [piece.value for piece in field.format_spec.values if isinstance(piece, ast.Constant)]
        if len(pieces) != len(field.format_spec.values):
            raise SyntaxError("the format must be plain text")
        form = "".join(map(str, pieces))
    value = field.value
    of_a_record = isinstance(value, ast.Attribute) and value.attr == "value"
    record = ast.unparse(value.value) if isinstance(value, ast.Attribute) and of_a_record else None
    return ast.unparse(value), form, record


# Runs in the kernel. The last line of what it prints answers all questions.
QUESTION = """
def _evaluate(questions):
    import json

    def interval_of(record):
        interval = getattr(record, "interval", None)
        known = type(record).__name__ in ("Proportion", "Mean") and interval is not None
        return [float(end) for end in interval] if known else None

    answers = []
    for expression, form, record in questions:
        try:
            value = eval(expression, globals())
            answer = {"text": format(value, form), "interval": interval_of(value)}
            if record is not None:
                answer["interval"] = interval_of(eval(record, globals()))
        except BaseException as error:
            answer = {"fault": f"{type(error).__name__}: {error}"}
        answers.append(answer)
    print(json.dumps(answers))


try:
    _evaluate(%s)
finally:
    del _evaluate
"""


def question(numbers: Sequence[Number]) -> str:
    """Code that evaluates them all; `answers` reads what it prints."""
    return QUESTION % repr([(number.expression, number.form, number.record) for number in numbers])


def answers(numbers: Sequence[Number], printed: str) -> list[Answer]:
    """What the kernel answered. Raises `NumbersError` where an expression could not be evaluated."""
    found = []
    for answer in json.loads(printed.strip().splitlines()[-1]):
        interval = answer.get("interval")
        found.append(
            Answer(answer.get("text", ""), interval and tuple(interval), answer.get("fault", ""))
        )
    faults = [
        f"{number.place}: {number.expression} could not be evaluated ({answer.fault})"
        if answer.fault
        else f"{number.place}: {number.expression} gives {answer.text!r}, which is no number"
        for number, answer in zip(numbers, found, strict=True)
        if answer.fault or not re.fullmatch(WRITTEN, answer.text)
    ]
    if faults:
        raise NumbersError("\n".join(faults))
    return found


def rewrite(text: str, numbers: Iterable[str]) -> str:
    """Put these in the place of the marked numbers of a text, in order."""
    new = iter(numbers)

    def replace(match: re.Match[str]) -> str:
        return next(new) + match.group()[len(match["written"]) :]

    return MARKED.sub(replace, text)


def on_page(path: Path, text: str, chapters: Mapping[str, Sequence[Number]]) -> list[str]:
    """What the numbers of a page must be, in order: what the chapters show for the same expressions.

    Raises `NumbersError` where a chapter shows no such number.
    """
    shown = {
        (number.chapter, number.expression, number.form): number.written
        for numbers in chapters.values()
        for number in numbers
    }
    found = find(path, text)
    keys = [(number.chapter, number.expression, number.form) for number in found]
    faults = [
        f"{number.place}: chapter {number.chapter} shows no number = {number.expression}"
        + (f":{number.form}" if number.form else "")
        for number, key in zip(found, keys, strict=True)
        if key not in shown
    ]
    if faults:
        raise NumbersError("\n".join(faults))
    return [shown[key] for key in keys]


def moved(number: Number, answer: Answer) -> bool:
    """Whether a number that is written is no longer what is computed."""
    if number.written == answer.text:
        return False
    if answer.interval is None:
        return True
    old, new = CLAIM.fullmatch(part(number.written)), CLAIM.fullmatch(part(answer.text))
    if old and new:
        rest = number.written[old.end() :] == answer.text[new.end() :]
        return not (rest and agree(old, new))
    if old or new:
        return True
    # No interval is written: the number must lie in that of the record, but for its rounding.
    low, high = answer.interval
    (value, rounding, form), (_, _, wanted) = read(number.written), read(answer.text)
    return form != wanted or not low - rounding <= value <= high + rounding


def read(text: str) -> tuple[float, float, tuple[bool, int]]:
    """Value of a number, the most that its rounding took away, and its form: unit and decimals."""
    per_cent = text.endswith("%")
    decimals = -int(Decimal(text.rstrip("%").replace(",", "").replace("−", "-")).as_tuple().exponent)
    return as_number(text), 0.5 / 10.0 ** (decimals + 2 * per_cent), (per_cent, decimals)


def part(text: str) -> str:
    """Less the number of cases."""
    return text.partition(" of ")[0]


def as_number(text: str) -> float:
    """38.5% as 0.385."""
    plain = text.replace(",", "").replace("−", "-")
    return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)


def agree(first: re.Match[str], second: re.Match[str]) -> bool:
    """Whether each number lies within the other's interval, and the intervals are of a kind."""
    (value, low, high), (other, other_low, other_high) = (
        [as_number(match[group]) for group in ("value", "low", "high")] for match in (first, second)
    )
    width, other_width = high - low, other_high - other_low
    return (
        first["unit"] == second["unit"]
        and low <= other <= high
        and other_low <= value <= other_high
        and width <= 2 * other_width
        and other_width <= 2 * width
    )


# --- numbers that are not marked -------------------------------------------------------------------

# What is not prose: code, formulas, addresses of links, comments, and numbers that are marked.
NO_PROSE = re.compile(
    rf"{MARKED.pattern}|<!--.*?-->|```.*?```|`(?:[^`\n]|\n(?!\n))*`|\$\$.*?\$\$|\$[^$\n]+(?:\n[^$\n]+)?\$"
    r"|\]\([^)]*\)",
    re.DOTALL,
)
PER_CENT = r"\s*(?:%|per\s?cent(?:age\s+points?)?)"
MEASURED = re.compile(rf"(?<![\w.,§])(?:\d[\d,]*(?:\.\d+)?{PER_CENT}|\d*\.\d+(?:e[-+]?\d+)?(?!\.?\d))")
SENTENCE = re.compile(r"(?<=[.!?:|])\s+(?=\W*[A-Z0-9])")
LINK = re.compile(r"\]\(http|\{cite")
CONFIDENCE = re.compile(r"95% (?:confidence )?intervals?")


def unmarked(path: Path, cells: Sequence[Any]) -> list[str]:
    """Percentages and decimals in a notebook's prose that nothing accounts for, with file and line.

    A number in prose is marked; or stands in a formula or in code; or is a setting, a number in the code
    cell before or behind it; or is the figure of a paper that its sentence links to, or, where there is
    no link, of a source that a comment names: `<!-- figures of … -->`. The 95% of an interval are a
    convention.
    """
    found = []
    text = path.read_text(encoding="utf-8")
    codes = [cell.source if cell.cell_type == "code" else None for cell in cells]
    start = 0
    for place, cell in enumerate(cells):
        at = text.find(cell.source, start)  # cells stand in the file as they are
        start = max(start, at)
        if cell.cell_type != "markdown":
            continue
        before = next((code for code in reversed(codes[:place]) if code is not None), "")
        behind = next((code for code in codes[place + 1 :] if code is not None), "")
        settings = constants(before) | constants(behind)
        for offset, around in bare(cell.source, settings):
            line = text.count("\n", 0, start + offset) + 1
            found.append(f"{path.parent.name}/{path.name}:{line}: … {around} …")
    return found


def bare(text: str, settings: set[float]) -> Iterator[tuple[int, str]]:
    """Of one cell: where each such number stands, and what is around it."""
    prose = NO_PROSE.sub(lambda match: blank(match.group()), text)
    prose = CONFIDENCE.sub(lambda match: blank(match.group()), prose)
    start = 0
    for sentence in re.split(rf"({SENTENCE.pattern}|\n\s*\n)", prose):
        for match in [] if LINK.search(sentence) else MEASURED.finditer(sentence):
            value = as_number(re.sub(PER_CENT, "%", match.group()))
            if not any(abs(value - setting) < 1e-9 for setting in settings):
                begin, end = start + match.start(), start + match.end()
                yield begin, " ".join(text[max(0, begin - 40) : end + 20].split())
        start += len(sentence)


def blank(text: str) -> str:
    """As long, and without numbers; a link stays one, and so does the name of a source."""
    cites = text.startswith(("](http", "<!-- figures of "))
    plain = re.sub(r"[^\n]", " ", text)
    return "](http" + plain[6:] if cites else plain


def constants(code: str) -> set[float]:
    """The numbers that stand in code."""
    return {
        float(node.value)
        for node in ast.walk(parsed(code))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    }


def parsed(code: str) -> ast.Module:
    """A cell's Python, without the lines that only IPython understands."""
    return ast.parse("\n".join(re.sub(r"^(\s*)%.*", r"\1pass", line) for line in code.splitlines()))
