"""Every question says what would be right, and takes what is right."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.rendering import QUESTIONS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Render = Callable[..., Path]

REFUSED = [
    ("project_title", "", "Write the title in a few words, such as: Acme Models"),
    ("project_title", "   ", "Write the title in a few words"),
    ("project_title", "two\nlines", "Keep the title on one line"),
    ("project_title", " Acme", "Remove the spaces around the title: Acme"),
    ("project_title", "x" * 81, "Shorten the title to at most 80 characters (it has 81)"),
    ("team_name", "", "Write the name of the team in a few words, such as: Data Science"),
    ("team_name", "bell\x07", "Keep the name of the team on one line without control characters"),
    ("description", "", "Write the description in a few words"),
    ("description", "x" * 201, "Shorten the description to at most 200 characters"),
    ("service_name", "", "Use small letters, digits and single hyphens"),
    ("service_name", "Acme", "such as: acme-models"),
    ("service_name", "acme_models", "single hyphens"),
    ("service_name", "acme--models", "single hyphens"),
    ("service_name", "acme-", "single hyphens"),
    ("service_name", "1st-model", "starting with a letter"),
    ("service_name", 'acme"models', "single hyphens"),
    ("service_name", "acme\n", "single hyphens"),
    ("service_name", "modèles", "single hyphens"),
    ("service_name", "🐧", "single hyphens"),
    ("service_name", "m" * 60, "Use at most 40 characters (this has 60;"),
    ("service_name", "class", "class is a word of the Python language. Choose a name of your own"),
    ("service_name", "test", "a module of Python's standard library"),
    ("service_name", "uvicorn", "a Python package the service depends on"),
    ("service_name", "scikit-learn", "a Python package the service depends on"),
    ("service_name", "git", "a command most machines already have"),
    ("owner_1", "", "such as: @ada, @acme/models or ada@acme.example"),
    ("owner_1", "ada", "such as: @ada"),
    ("owner_1", "@ada @bob", "such as: @ada"),
    ("owner_1", "@acme/", "such as: @ada"),
    ("owner_2", "@🐧", "such as: @ada"),
    ("owner_2", "@first-owner", "@first-owner is the first owner already. Name a second person"),
    ("owner_2", "@First-Owner", "is the first owner already"),
    ("launch_date", "tomorrow", "Write the date as YYYY-MM-DD, such as 2027-03-31"),
    ("launch_date", "31-03-2027", "Write the date as YYYY-MM-DD"),
    ("launch_date", "2027-3-31", "Write the date as YYYY-MM-DD"),
    ("launch_date", "2027-13-01", "Write the date as YYYY-MM-DD"),
    ("launch_date", "2027-00-10", "Write the date as YYYY-MM-DD"),
    (
        "launch_date",
        "2027-02-29",
        "2027-02 has 28 days: write a day that exists, such as 2027-02-28",
    ),
    ("launch_date", "2100-02-29", "2100-02 has 28 days"),
    ("launch_date", "2027-04-31", "2027-04 has 30 days"),
    ("ci", "jenkins", "ci"),
    ("minimum_python", "3.10", "minimum_python"),
    ("deployment", ["swarm"], "deployment"),
]

TAKEN = [
    ("project_title", "x" * 80),
    ("project_title", "Müller & Söhne: \"Churn\" 'n' more 🐧"),
    ("service_name", "a"),
    ("service_name", "m" * 40),
    ("service_name", "acme-models-2"),
    ("service_name", "tests-of-class"),
    ("owner_1", "@acme/data-science"),
    ("owner_1", "ada.lovelace+models@acme.example"),
    ("owner_2", "@group/sub_group/team"),
    ("launch_date", ""),
    ("launch_date", "2028-02-29"),
    ("launch_date", "2000-02-29"),
    ("launch_date", "2027-12-31"),
    ("ci", "none"),
    ("minimum_python", "3.13"),
    ("deployment", []),
    ("deployment", ["kubernetes", "ray"]),
]


@pytest.mark.parametrize(("question", "answer", "advice"), REFUSED)
def test_a_bad_answer_is_refused_with_what_would_be_right(
    render: Render, question: str, answer: Any, advice: str
) -> None:
    with pytest.raises(ValueError, match=question) as refusal:
        render(**{question: answer})
    assert advice in str(refusal.value)


@pytest.mark.parametrize(("question", "answer"), TAKEN)
def test_a_good_answer_is_taken_and_remembered(render: Render, question: str, answer: Any) -> None:
    service = render(**{question: answer})
    remembered = yaml.safe_load((service / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert remembered[question] == answer


def test_every_question_with_a_validator_was_tried_with_good_and_bad_answers() -> None:
    validated = {name for name, question in QUESTIONS.items() if "validator" in question}
    assert validated <= {question for question, _, _ in REFUSED}
    assert validated <= {question for question, _ in TAKEN} | {"team_name", "description"}
    assert len(validated) >= 7


def test_no_more_than_six_questions_are_asked_and_each_has_a_default() -> None:
    asked = [name for name, question in QUESTIONS.items() if question.get("ask", True)]
    assert 1 <= len(asked) <= 6
    assert all("default" in question and "help" in question for question in QUESTIONS.values())


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Acme Models", "acme-models"),
        ("Test", "test-models"),
        ("Pandas", "pandas-models"),
        ("🐧 🐧", "acme-models"),
        ("2nd Try", "nd-try"),
        ("O'Neil's models", "oneils-models"),
        ("A Title That Goes On And On - Until Nobody Reads", "a-title-that-goes-on-and-on-until"),
    ],
)
def test_the_name_made_from_a_title_is_always_a_good_name(
    render: Render, title: str, name: str
) -> None:
    answers = (render(project_title=title) / ".copier-answers.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(answers)["service_name"] == name


def test_no_service_may_have_the_name_of_a_package_it_installs() -> None:
    rules = (ROOT / "questions/rules.jinja").read_text(encoding="utf-8").split()
    constraints = (ROOT / "template/config/constraints.txt").read_text(encoding="utf-8")
    packages = {Requirement(line).name for line in constraints.splitlines()}
    assert len(packages) > 50
    assert packages <= set(rules)
    public_modules = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert public_modules <= set(rules)


def test_an_answer_to_no_question_is_refused_by_these_tests(render: Render) -> None:
    with pytest.raises(KeyError, match="asks no"):
        render(project_titel="Acme")
