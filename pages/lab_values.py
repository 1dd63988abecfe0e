"""Lab 2: values and the Bellman equation, on a grid world that is painted: dynamic programming, and learning from samples."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import (
    frame,
    setting,
    values_experiments,
    values_learning,
    values_planning,
    values_questions,
    values_world,
)
from pages.components.labs.values_world import LAB
from pages.components.text import show_error
from rlhf.errors import ConfigError


def body() -> None:
    part = setting.part(LAB, {"planning": _("Compute the values"), "learning": _("Learn them from samples")})
    rules = values_world.controls()
    try:
        here = values_world.current(rules)
    except ConfigError as error:
        show_error(error, icon=":material/brush:")
        values_world.bare_board()
        return
    if part == "planning":
        values_planning.draw(here)
    else:
        values_learning.draw(here)
        values_experiments.cliff()


lab = frame.Lab(
    page="lab_values",
    name=LAB,
    title=_("Values and Bellman"),
    lead=_(
        "Paint a world and ask what each cell is **worth**: what one can expect to collect from there. Press **Play**, and watch the "
        "reward spread from the goal through the map; click a cell to see its equation."
    ),
    formula=r"V^\pi(s)=\sum_a\pi(a|s)\,Q^\pi(s,a)\qquad V^*(s)=\max_a Q^*(s,a)\qquad "
    r"Q(s,a)=\sum_{s'}p(s'|s,a)\,\bigl[r+\gamma\,V(s')\bigr]",
    reading=_(
        "What a cell is worth follows from what its neighbours are worth: the reward of the step plus γ times the value of where one "
        "lands, summed over where one may land. The *expectation* equation averages over the policy’s actions, the *optimality* equation "
        "takes the best one."
    ),
    papers=(
        ("Sutton & Barto 2018, ch. 3, 4 and 6", "http://incompleteideas.net/book/the-book-2nd.html"),
        ("Watkins & Dayan 1992", "https://doi.org/10.1007/BF00992698"),
        ("Gymnasium’s FrozenLake", "https://gymnasium.farama.org/environments/toy_text/frozen_lake"),
    ),
    code=("mdp.py", "gridworld.py", "frozen_lake.py", "dynamic_programming.py", "td_control.py"),
    real=(
        ("ppo", _("PPO: a critic learns V(s) at every token of an answer")),
        ("reinforce", _("REINFORCE: a learned value as the baseline")),
        ("grpo", _("GRPO: the mean of a group in place of a value")),
    ),
    questions=values_questions.questions,
)
frame.draw(lab, body)
