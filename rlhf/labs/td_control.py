"""Learning action values from samples, in a table: Q-learning and SARSA.

    Q-learning  Q(s,a) ← Q(s,a) + α·[r + γ·max_a' Q(s',a') − Q(s,a)]   Watkins & Dayan 1992, https://doi.org/10.1007/BF00992698
    SARSA       Q(s,a) ← Q(s,a) + α·[r + γ·Q(s',a')       − Q(s,a)]   Rummery & Niranjan 1994; Sutton & Barto 2018, 6.4 and 6.5

Both act ε-greedily; in SARSA's target stands the action a' that is taken next, exploring or not. Q = 0 at the start and in terminal states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.labs.mdp import FiniteMDP, Floats

ALGORITHMS = ("q_learning", "sarsa")
LONGEST = 200  # actions of an episode, after which it is cut off; the last state still counts with its value
SLOWER = 0.7  # exponent of the schedule "power"


@dataclass(frozen=True)
class Rates:
    """``epsilon``: chance of a random action, halved every ``half_life`` episodes (0: never); ``schedule`` of the learning rate:
    "constant" (``alpha``), "visits" (1/n with the n-th visit of the state and action), "power" (1/n^0.7)."""

    epsilon: float = 0.1
    half_life: int = 0
    alpha: float = 0.5
    schedule: str = "constant"

    def epsilon_at(self, episode: int) -> float:
        """In the episode with this number, from 0."""
        return self.epsilon * 0.5 ** (episode / self.half_life) if self.half_life else self.epsilon


@dataclass(frozen=True)
class Learned:
    """``q`` (S, A); ``tries`` (S, A): how often each action was taken; ``returns`` (E,): Σ γ^t·r of each episode so far;
    ``last`` (E,): the state it stopped in, terminal unless it was cut off."""

    q: Floats
    tries: NDArray[np.int64]
    returns: Floats
    last: NDArray[np.int64]

    @property
    def episodes(self) -> int:
        return len(self.returns)


def beginning(mdp: FiniteMDP) -> Learned:
    """Before the first episode."""
    table = (mdp.states, mdp.actions)
    return Learned(np.zeros(table), np.zeros(table, np.int64), np.zeros(0), np.zeros(0, np.int64))


def learn(
    mdp: FiniteMDP, algorithm: str, before: Learned, episodes: int, rates: Rates, gamma: float, seed: int, longest: int = LONGEST
) -> Learned:
    """So many more episodes. The randomness of an episode follows from ``seed`` and its number alone, so that both algorithms get the same
    draws, and ten episodes and ten more are twenty. ``algorithm``: of ``ALGORITHMS``."""
    q, tries = before.q.tolist(), before.tries.tolist()
    successors, terminal = _successors(mdp), mdp.terminal.tolist()
    begin = mdp.start.cumsum()
    returns, last = [], []
    exponent = {"constant": 0.0, "visits": 1.0, "power": SLOWER}[rates.schedule]
    scale = rates.alpha if rates.schedule == "constant" else 1.0
    on_policy = algorithm == "sarsa"
    for episode in range(before.episodes, before.episodes + episodes):
        draws = np.random.default_rng((seed, episode)).random(3 * longest + 4).tolist()
        epsilon = rates.epsilon_at(episode)
        state = min(int(np.searchsorted(begin, draws.pop() * begin[-1], side="right")), mdp.states - 1)
        total, discount, steps = 0.0, 1.0, 0
        action = _act(q[state], epsilon, draws)
        while not terminal[state] and steps < longest:
            after, reward = _land(successors[state][action], draws.pop())
            following = _act(q[after], epsilon, draws) if on_policy else 0
            ahead = 0.0 if terminal[after] else q[after][following] if on_policy else max(q[after])
            tries[state][action] += 1
            rate = scale / tries[state][action] ** exponent if exponent else scale
            q[state][action] += rate * (reward + gamma * ahead - q[state][action])
            total += discount * reward
            discount *= gamma
            steps += 1
            state, action = after, following if on_policy else _act(q[after], epsilon, draws)
        returns.append(total)
        last.append(state)
    more = np.array(returns, np.float64), np.array(last, np.int64)
    return Learned(np.array(q), np.array(tries, np.int64), np.append(before.returns, more[0]), np.append(before.last, more[1]))


def epsilon_greedy(q: Floats, epsilon: float) -> Floats:
    """The policy both act by, (S, A): ε spread over all actions, the rest over the best ones."""
    best = q == q.max(1, keepdims=True)
    return epsilon / q.shape[1] + (1 - epsilon) * best / best.sum(1, keepdims=True)


def distance(mdp: FiniteMDP, q: Floats, exact: Floats) -> float:
    """‖Q − exact‖∞ over the states that are not terminal, (S, A) each; 0 where there are none."""
    return float(np.abs(q - exact)[~mdp.terminal].max(initial=0.0))


def greedy_walk(mdp: FiniteMDP, q: Floats, state: int, most: int = 100) -> list[int]:
    """The states on the way of the best action (the first of those that tie), each landing where it most likely does; it ends at a
    terminal state, at a state it has seen, or after ``most`` steps."""
    walk = [state]
    while not mdp.terminal[walk[-1]] and len(walk) <= most:
        state = int(mdp.transition[walk[-1], q[walk[-1]].argmax()].argmax())
        if state in walk:
            break
        walk.append(state)
    return walk


def _act(values: list[float], epsilon: float, draws: list[float]) -> int:
    """ε-greedy; those that tie are drawn from."""
    explore, which = draws.pop(), 0
    if explore < epsilon:
        return int(explore / epsilon * len(values))
    best = max(values)
    ties = [a for a, value in enumerate(values) if value == best]
    if len(ties) > 1:
        which = int((explore - epsilon) / (1 - epsilon) * len(ties))
    return ties[min(which, len(ties) - 1)]


def _land(successors: list[tuple[float, int, float]], draw: float) -> tuple[int, float]:
    """The next state and the reward."""
    for upto, after, reward in successors:
        if draw < upto:
            return after, reward
    return successors[-1][1:]


def _successors(mdp: FiniteMDP) -> list[list[list[tuple[float, int, float]]]]:
    """For each state and action: (cumulated probability, next state, reward)."""
    table: list[list[list[tuple[float, int, float]]]] = [[[] for _ in range(mdp.actions)] for _ in range(mdp.states)]
    found = np.nonzero(mdp.transition)
    rows = zip(*(index.tolist() for index in found), mdp.transition[found].tolist(), mdp.reward[found].tolist(), strict=True)
    for state, action, after, p, reward in rows:
        listed = table[state][action]
        listed.append(((listed[-1][0] if listed else 0.0) + p, after, reward))
    return table
