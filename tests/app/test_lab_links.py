"""The settings of the labs in the link: what it cannot ask for is told, and the browser's Back is followed."""

from __future__ import annotations

import pytest

from pages.components import link
from tests.app.opening import open_page, press, texts


@pytest.mark.parametrize(
    ("page", "asked", "refused"),
    [
        ("lab_kl", {"kl.beta": "77", "kl.answers": "99", "kl.n": "5", "kl.rewards": "a,b"}, 4),
        ("lab_kl", {"kl.beta": "0.5", "kl.answers": "3", "kl.n": "8", "kl.rewards": "0,1,1.3", "kl.part": "optimum"}, 0),  # all as usual
        ("lab_kl", {"kl.beta": "0.2", "kl.rewards": "0,1,1", "kl.part": "nonsense"}, 1),
        ("lab_advantages", {"gae.lambda": "0.8", "gae.gamma": "2", "gae.t": "1", "gae.ended": "true"}, 1),
        ("lab_trust_region", {"tr.world": "arms", "tr.exact": "maybe", "tr.part": "clip", "tr.epsilon": "0.3"}, 1),
        ("lab_groups", {"grp.size": "<b>9</b>", "grp.nobody": "3"}, 1),
    ],
)
def test_what_a_link_asks_in_vain_is_told(page, asked, refused):
    told = [info.value for info in open_page(page, **asked).info if "The link asks" in info.value]
    assert len(told) == (refused > 0) and "".join(told).count("\\=") == refused


def test_back_takes_parts_choices_and_bars_from_the_link_alone(monkeypatch):
    at = open_page("lab_advantages", **{"gae.part": "one", "gae.rewards": "0,0,0,0,0,2", "gae.t": "3"})
    assert "Every term of A_3" in "".join(expander.label for expander in at.expander)
    monkeypatch.setattr(link, "went_back", lambda: True)
    for name in ("gae.rewards", "gae.t"):
        at.query_params.pop(name)
    at.run()
    assert at.session_state["gae.rewards/values"] == [0, 0, 0, 0, 0, 1] and not at.exception
    assert "Every term of A_0" in "".join(expander.label for expander in at.expander) and not at.query_params
    at.query_params["gae.part"] = "walk"
    at.run()
    assert at.session_state["gae/part"] == "walk" and "A walker starts in the middle" in texts(at)


def test_back_takes_the_map_from_the_link(monkeypatch):
    at = open_page("lab_values")
    before = at.session_state["grid/map"]
    press(at, "grid/preset/cliff")
    assert at.session_state["grid/map"] != before and "grid.map" in at.query_params
    monkeypatch.setattr(link, "went_back", lambda: True)
    at.query_params.clear()
    at.run()
    assert at.session_state["grid/map"] == before and not at.exception


def test_what_stands_in_the_link_is_not_written_again(monkeypatch):
    """Each writing is an entry in the browser's history."""
    written = []

    class Link(dict):
        def __setitem__(self, name, value):
            written.append((name, value))
            super().__setitem__(name, value)

    monkeypatch.setattr(link.st, "query_params", Link())
    for value in ("1", "1", "2", ""):
        link.put("a", value)
    assert written == [("a", "1"), ("a", "2")] and not link.st.query_params
