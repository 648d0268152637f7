"""Every weakened copy of `mutants.py` still fits the file that it weakens; `python tests/mutants.py` runs them."""

from __future__ import annotations

import ast

import pytest

from mutants import MUTANTS, PROJECT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_it_fits(mutant: Mutant) -> None:
    text = (PROJECT / mutant.suite.file).read_text(encoding="utf-8")
    assert mutant.old in text
    assert mutant.old != mutant.new
    ast.parse(text.replace(mutant.old, mutant.new, 1))
    assert (PROJECT / mutant.suite.tests).is_file()
