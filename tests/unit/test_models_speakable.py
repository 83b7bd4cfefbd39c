"""What is left of a text to be spoken."""

import pytest

from runner.models.speakable import speakable


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello there.", "Hello there."),
        ("**Bold**, _slanted_ and `code`.", "Bold, slanted and code."),
        ("# Title\n\nText here.", "Title. Text here."),
        ("- one\n- two\n* three", "one. two. three"),
        ("1. first\n2. second.", "1. first. 2. second."),
        ("> quoted", "quoted"),
        ("See [the manual](https://example.org/a/b?c=d).", "See the manual."),
        ("See ![a picture](x.png) here.", "See a picture here."),
        (
            "Open https://docs.example.org/agents/x?y=1#z, then go on.",
            "Open docs.example.org, then go on.",
        ),
        ("It is at http://localhost:3000.", "It is at localhost:3000."),
        ("(https://example.org/a)", "(example.org)"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b. c, d"),
        ("Great 👍🏽 job 🎉!", "Great job !"),
        ("snake_case_name", "snake case name"),
        ("one \u2014 two \u2013 three - four", "one, two, three, four"),
        ("well-known", "well-known"),
        ("a<br>b <b>c</b>", "a b c"),
        ("3 < 4 > 2", "3 < 4 > 2"),
        ("[[ h @ ]]", "h @"),
        ("5 % of $3 & 20 °C", "5 % of $3 & 20 °C"),
        ("Ünïcödé, привет", "Ünïcödé, привет"),
        ("a\x00b\u200bc\x1b[31m", "abc31m"),
        ("```python\nprint(1)\n```", "python. print(1)"),
    ],
)
def test_marks_are_gone_and_words_stay(text, spoken):
    assert speakable(text) == spoken


@pytest.mark.parametrize("text", ["", " \n", "...", "👍", "***", "| - |", "---", "\u200b"])
def test_a_text_without_a_word_is_empty(text):
    assert speakable(text) == ""
