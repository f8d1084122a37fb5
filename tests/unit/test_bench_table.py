"""The bench's figures and how they are shown: ratios, targets, the table, the one line of JSON."""

from __future__ import annotations

import json

import pytest

from tests.bench.figures import Figure, Of, at_least, at_most, failure, not_run
from tests.bench.table import HEAD, json_line, number, table

GAP = Figure("gap", 10.0, "ms", 40.0, "bare", at_most(0.35), n=3, note="how")
SLOW = Figure("slow", 30.0, "ms", 40.0, "bare", at_most(0.35))
RATE = Figure("rate", 40.0, "/s", 50.0, "bare", at_least(0.8))
USE = Figure("use", 0.96, "", 0.99, "no gaps", at_least(0.95, Of.VALUE))
PLAIN = Figure("plain", 7.0, "ms")
ABSENT = not_run("absent", "/s", "not installed")
BROKEN = failure("broken", TimeoutError("never"))


@pytest.mark.parametrize(
    ("figure", "ratio", "met"),
    [
        (GAP, 0.25, True),
        (SLOW, 0.75, False),
        (RATE, 0.8, True),
        (USE, 0.96 / 0.99, True),
        (PLAIN, None, None),
        (ABSENT, None, None),
        (BROKEN, None, None),
    ],
)
def test_a_figure_is_held_against_its_target(figure: Figure, ratio: float | None, met: bool | None) -> None:
    assert figure.ratio == ratio
    assert figure.met is met


def test_a_target_on_the_value_does_not_look_at_the_ratio() -> None:
    assert Figure("events", 201.0, "", 1000.0, "limit", at_most(200, Of.VALUE)).met is False


def test_a_target_without_a_reference_is_neither_met_nor_missed() -> None:
    assert Figure("gap", 10.0, "ms", None, "", at_most(0.35)).met is None
    assert Figure("gap", 10.0, "ms", 0.0, "", at_most(0.35)).met is None


def test_the_table_shows_value_reference_ratio_target_and_whether_it_is_met() -> None:
    lines = table([GAP, SLOW]).splitlines()
    assert [word.strip() for word in lines[0].split("  ") if word] == list(HEAD)
    assert lines[2].split() == ["gap", "10", "ms", "40", "ms,", "bare", "0.25×", "≤", "0.35×", "yes"]
    assert lines[3].strip() == "how"
    assert lines[4].split()[-1] == "NO"


def test_the_columns_of_the_table_stand_below_each_other() -> None:
    lines = [line for line in table([GAP, RATE, PLAIN]).splitlines() if not line.startswith("    ")]
    at = lines[0].index("reference")
    assert lines[1][at - 2 : at] == "  "
    assert lines[2][at:].startswith("40 ms")
    assert lines[3][at:].startswith("50 /s")


def test_what_was_not_measured_says_why() -> None:
    shown = table([ABSENT, BROKEN])
    assert "not run: not installed" in shown
    assert "FAILED: TimeoutError: never" in shown


def test_the_last_line_is_one_json_object_of_all_figures() -> None:
    line = json_line([GAP, BROKEN], mode="short")
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed["mode"] == "short"
    assert list(parsed["figures"]) == ["gap", "broken"]
    assert parsed["figures"]["gap"] == {
        "value": 10.0, "unit": "ms", "reference": 40.0, "against": "bare", "ratio": 0.25, "target": "≤ 0.35×",
        "met": True, "n": 3, "note": "how", "failed": False,
    }  # fmt: skip
    assert parsed["figures"]["broken"]["failed"] is True


def test_two_figures_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        json_line([GAP, GAP])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0666, "0.0666"), (0.00001234, "0.000012"), (9.876, "9.88"), (98.76, "98.8"), (10000, "10,000")],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, shown: str) -> None:
    assert number(value) == shown
