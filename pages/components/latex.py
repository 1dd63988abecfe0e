"""Formulas with numbers put in: how a number is written in LaTeX, and lines aligned under one another."""

from __future__ import annotations

import streamlit as st

from pages.components.numbers import number

TICK = r"\;\textcolor{#009E73}{\checkmark}"


def tex(value: float) -> str:
    """A number inside a formula; negative ones in brackets."""
    text = number(value).replace("−", "-").replace(",", r"{,}")
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = rf"{mantissa}\cdot10^{{{int(exponent)}}}"
    return f"({text})" if text.startswith("-") else text


def result(value: float) -> str:
    """A number that stands alone, as after a sign of equality."""
    return tex(value).strip("()")


def block(*lines: str) -> None:
    """Formulas under one another, aligned at their first sign of equality."""
    aligned = [line.replace("=", "&=", 1) for line in lines]
    st.latex(r"\begin{aligned}" + r"\\[0.4em] ".join(aligned) + r"\end{aligned}")
