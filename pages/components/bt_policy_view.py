"""How the model's own preferences are drawn: distribution, accuracy, reliability, and the pairs down to the tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, formula, reliability, samples, theme
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.reward_trial import ScoredPair
from pages.components.text import plain
from pages.components.tokens import TokenRow, token_rows
from rlhf.bradley_terry import preference_probability
from rlhf.implicit import Preference
from rlhf.reliability import reliability as measured_reliability

BINS = 20
NATS = ("log π(w)", "log π_ref(w)", "log π(l)", "log π_ref(l)")


@dataclass(frozen=True)
class Part:
    """Pairs that were held out, or trained on; ``scored`` is empty without a reward model."""

    preferences: Sequence[Preference]
    scored: Sequence[ScoredPair] = ()

    def margins(self, beta: float) -> dict[str, list[float]]:
        """Log-odds of the chosen answers, under ``policy`` and under ``reward_model``."""
        found = {"policy": [p.margin(beta) for p in self.preferences]}
        return found | ({"reward_model": [s.chosen - s.rejected for s in self.scored]} if self.scored else {})


@dataclass(frozen=True)
class Measured:
    """``run_id``, ``algorithm``, ``step``: of the policy; ``beta``: the run's own. ``left_out``: pairs that are longer than its context."""

    heldout: Part
    trained: Part
    run_id: str
    algorithm: str
    step: int
    beta: float
    scorer: str = ""
    left_out: int = 0


def show(measured: Measured) -> None:
    beta = st.slider(
        "β", min(0.01, measured.beta), max(1.0, 2 * measured.beta), measured.beta, 0.01, key=f"bt/policy/beta/{measured.run_id}", width=320,
        help=_("The run's own at first. It says how sure the policy is; which answer it prefers does not depend on it."),
    )  # fmt: skip
    if measured.left_out:
        st.caption(_("{n} pairs are left out: they are longer than the model's context, or have no prompt.").format(n=measured.left_out))
    parts = {"heldout": (_("Held out"), measured.heldout), "trained": (_("Seen in training"), measured.trained)}
    there = {key: part for key, part in parts.items() if part[1].preferences}
    if not there:
        st.info(_("None of the pairs can be read by this model."), icon=":material/info:")
        return
    for column, (key, (title, part)) in zip(st.columns(len(there), gap="large"), there.items(), strict=True):
        with column:
            st.markdown(f"##### {_('{part}: {n} pairs').format(part=title, n=len(part.preferences))}")
            _part(key, part, beta, measured)
    st.caption(
        _(
            "Before the first step the policy is its reference: every log-ratio is 0, and σ(0) = ½ for each pair, whatever β is. "
            "A pair is held out if neither the policy nor the reward model was trained on its prompt."
        )
    )
    _table(there, beta, measured)


def names(measured: Measured) -> dict[str, tuple[str, str]]:
    """Who prefers → (what it is called, its colour)."""
    policy = _("policy, step {step}").format(step=measured.step), theme.ALGORITHM_COLOURS.get(measured.algorithm, theme.BLUE)
    return {"policy": policy, "reward_model": (_("reward model"), theme.ALGORITHM_COLOURS["reward_model"])}


def _part(key: str, part: Part, beta: float, measured: Measured) -> None:
    called, margins = names(measured), part.margins(beta)
    chances = {who: [preference_probability(m, 0.0) for m in values] for who, values in margins.items()}
    charts.still(_histogram(chances, called), key=f"bt/policy/histogram/{key}")
    found = {who: measured_reliability(values) for who, values in margins.items()}
    rows = [(_("policy, before"), 0.5, None, 0.5)]
    rows += [(called[who][0], r.accuracy, (r.low, r.high), float(np.mean(chances[who]))) for who, r in found.items()]
    columns = [_("who"), _("prefers the chosen"), _("95 % interval"), _("mean P(chosen)")]
    spans = [_("{low} to {high}").format(low=number(s[0], "share"), high=number(s[1], "share")) if s else "–" for _w, _a, s, _p in rows]
    table = [(who, number(share, "share"), span, number(p, "share")) for (who, share, _s, p), span in zip(rows, spans, strict=True)]
    st.dataframe(pd.DataFrame(table, columns=columns), hide_index=True, key=f"bt/policy/shares/{key}")
    series = {called[who][0]: (r.bins, called[who][1]) for who, r in found.items()}
    charts.still(reliability.figure(series, theme.dark(), 260), key=f"bt/policy/reliability/{key}")


def _histogram(chances: Mapping[str, Sequence[float]], called: Mapping[str, tuple[str, str]]) -> go.Figure:
    """Shares of pairs by P(chosen ≻ rejected); where the policy was before is a line, as all pairs lie there."""
    is_dark = theme.dark()
    figure = go.Figure()
    edges = np.linspace(0, 1, BINS + 1)
    for who, values in chances.items():
        name, colour = called[who]
        share = np.histogram(values, edges)[0] / len(values)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=share, width=1 / BINS, name=name, opacity=0.6,
            marker={"color": theme.on_ground(colour, is_dark)},
            customdata=np.stack([edges[:-1], edges[1:]], 1), hovertemplate="%{customdata[0]:.0%} – %{customdata[1]:.0%}: %{y:.1%}",
        )  # fmt: skip
    line = {"color": theme.ink(is_dark), "dash": "dot", "width": 1.5}
    figure.add_scatter(x=[0.5, 0.5], y=[0, 1], yaxis="y2", mode="lines", line=line, name=_("before"), hoverinfo="skip")
    figure.update_layout(
        template=theme.template(is_dark), height=260, barmode="overlay", bargap=0,
        xaxis={"title": {"text": "P(chosen ≻ rejected)"}, "tickformat": ".0%", "range": [0, 1]},
        yaxis={"title": {"text": _("share of pairs")}, "tickformat": ".0%"},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )  # fmt: skip
    return figure


# ---------------------------------------------------------------- the pairs


def _table(parts: Mapping[str, tuple[str, Part]], beta: float, measured: Measured) -> None:
    """The pairs of one part, the least likely first, and the one that is chosen down to the tokens."""
    st.markdown(f"##### {_('The pairs')}")
    labels = {key: title for key, (title, _part_) in parts.items()}
    key = st.segmented_control(
        _("Part"), list(labels), format_func=labels.__getitem__, default=next(iter(labels)), required=True, key="bt/policy/part",
        label_visibility="collapsed",
    )  # fmt: skip
    part = parts[key if key in parts else next(iter(parts))][1]
    order = sorted(range(len(part.preferences)), key=lambda i: part.preferences[i].log_ratio)
    event = st.dataframe(
        frame(part, order, beta), hide_index=True, height=320, key=f"bt/policy/pairs/{id(measured)}/{key}", on_select="rerun",
        selection_mode="single-row", selection_default={"selection": {"rows": [0]}}, column_config=_columns(),
    )  # fmt: skip
    st.caption(
        _("The least likely first: they show what the policy has really learned. Log-probabilities in nats, summed over the answer.")
    )
    chosen = [row for row in event["selection"]["rows"] if row < len(order)]
    if chosen:
        place = order[chosen[0]]
        _one(part.preferences[place], part.scored[place] if part.scored else None, beta)
    else:
        st.caption(f":material/touch_app: {_('Choose a row to open the pair down to its tokens.')}")


def frame(part: Part, order: Sequence[int], beta: float) -> pd.DataFrame:
    """A row a pair: P, the margin, the four log-probabilities, the reward model's P, and the texts."""
    rows = []
    for i in order:
        p = part.preferences[i]
        row = {
            "P": p.probability(beta),
            **({_("P, reward model"): part.scored[i].probability} if part.scored else {}),
            _("prompt"): p.pair.prompt,
            _("chosen"): p.pair.chosen,
            _("rejected"): p.pair.rejected,
            "β·Δ": p.margin(beta),
        }
        columns = (p.chosen.logprobs, p.chosen.ref_logprobs, p.rejected.logprobs, p.rejected.ref_logprobs)
        row |= {name: sum(column) for name, column in zip(NATS, columns, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def _columns() -> dict[str, Any]:
    chance = st.column_config.NumberColumn(format="percent", width="small")
    scored = st.column_config.NumberColumn(format="percent", width=125)
    nats = {name: st.column_config.NumberColumn(format="%.2f", width="small") for name in NATS}
    margin = st.column_config.NumberColumn(format="%+.3f", width="small", help=_("The log-odds that the chosen answer is preferred."))
    texts = {name: st.column_config.TextColumn(width="medium") for name in (_("prompt"), _("chosen"), _("rejected"))}
    return {"P": chance, _("P, reward model"): scored, "β·Δ": margin, **nats, **texts}


def _one(preference: Preference, scored: ScoredPair | None, beta: float) -> None:
    """A pair token by token, coloured by how far the policy has moved each token, and the formula with its numbers put in."""
    record = preference.record(beta)
    answers = samples.answers_of(record)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"{plain(record['prompt'])}  \n:small[:gray[{_('prompt')}]]")
        rows = [
            TokenRow(answer["tokens"]["strings"], samples.token_values(answer, "moved"), label=samples.heading(side, answer))
            for side, answer in answers
        ]
        clicked = token_rows(rows, key="bt/policy/tokens", legend=_("Change of log-probability, policy − reference"))
    with right, st.container(border=True, key="token-formula"):
        st.markdown(f"**{_('The formula, with its numbers put in')}**")
        place, token = (answers[clicked[0]][0], clicked[1]) if clicked else ("chosen", None)
        formula.explain("dpo", {"beta": beta}, record, place, token)
        if not clicked:
            st.caption(f":material/touch_app: {_('Click a token to see its part.')}")
        if scored:
            st.markdown(f"**{_('Under the reward model')}**")
            formula.explain("reward_model", {}, {"chosen": {"reward": scored.chosen}, "rejected": {"reward": scored.rejected}}, "", None)
