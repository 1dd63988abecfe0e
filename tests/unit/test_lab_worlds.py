"""What the labs share: decision processes, the grid world, and softmax policies, against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf.errors import ConfigError
from rlhf.labs import mdp as mdps
from rlhf.labs import softmax_policy as sp
from rlhf.labs.gridworld import grid_world

MAP = ("S..G", ".#.X", "....")


def test_a_corridor_by_hand():
    """Two cells before the goal, straight on, −0.1 a step: V = −0.1 + γ(−0.1 + 1)."""
    world = grid_world(("S.G",), step_cost=0.1)
    always_right = np.zeros((3, 4))
    always_right[:, 2] = 1
    values = mdps.state_values(world.mdp, always_right, 0.9)
    assert values == pytest.approx([-0.1 + 0.9 * 0.9, 0.9, 0.0])
    assert mdps.action_values(world.mdp, values, 0.9)[0, 2] == pytest.approx(values[0])
    assert mdps.visits(world.mdp, always_right, 0.9) == pytest.approx([1, 0.9, 0])


@pytest.mark.parametrize("slip", [0.0, 0.2, 2 / 3])
def test_transitions_are_distributions_and_the_bellman_equation_holds(slip):
    world = grid_world(MAP, slip=slip)
    mdp = world.mdp
    assert mdp.transition.sum(2)[~mdp.terminal] == pytest.approx(1) and not mdp.transition[mdp.terminal].any()
    policy = mdps.uniform_policy(mdp)
    values = mdps.state_values(mdp, policy, 1.0)  # it ends with certainty, so γ = 1 has values
    looked_ahead = (policy * mdps.action_values(mdp, values, 1.0)).sum(1)
    assert looked_ahead[~mdp.terminal] == pytest.approx(values[~mdp.terminal]) and not values[mdp.terminal].any()


def test_values_are_the_mean_of_returns():
    world = grid_world(MAP, slip=0.1)
    rng = np.random.default_rng(0)
    policy = sp.softmax(rng.normal(size=(world.mdp.states, 4)))
    returns = []
    for _ in range(3000):
        episode = mdps.rollout(world.mdp, policy, rng, most=500)
        returns.append((episode.rewards * 0.95 ** np.arange(len(episode.rewards))).sum())
    exact = world.mdp.start @ mdps.state_values(world.mdp, policy, 0.95)
    assert np.mean(returns) == pytest.approx(exact, abs=4 * np.std(returns) / np.sqrt(len(returns)))


def test_no_value_without_an_end():
    world = grid_world(("S#G",))  # walled in
    with pytest.raises(ConfigError, match="no end is reached"):
        mdps.state_values(world.mdp, mdps.uniform_policy(world.mdp), 1.0)
    assert np.isfinite(mdps.state_values(world.mdp, mdps.uniform_policy(world.mdp), 0.9)).all()


@pytest.mark.parametrize("rows", [(), ("",), ("..", "."), ("#G",), ("S?",), ("." * 13,)])
def test_a_bad_map_is_explained(rows):
    with pytest.raises(ConfigError):
        grid_world(rows)


@pytest.mark.parametrize("world", ["bandit", "grid"])
def test_the_gradient_is_the_finite_difference(world):
    mdp = sp.bandit([1.0, 0.2, -0.5]) if world == "bandit" else grid_world(MAP, slip=0.1).mdp
    logits = np.random.default_rng(1).normal(size=(mdp.states, mdp.actions))
    gradient, h = sp.exact_gradient(mdp, logits, 0.9), 1e-6
    for s in range(0, mdp.states, 2):
        for a in range(mdp.actions):
            up, down = logits.copy(), logits.copy()
            up[s, a] += h
            down[s, a] -= h
            slope = (sp.expected_return(mdp, up, 0.9) - sp.expected_return(mdp, down, 0.9)) / (2 * h)
            assert gradient[s, a] == pytest.approx(slope, abs=1e-7)


def test_the_fisher_matrix_is_the_curvature_of_the_kl():
    mdp = grid_world(("S.G",)).mdp
    rng = np.random.default_rng(2)
    logits, direction = rng.normal(size=(3, 4)), 1e-3 * rng.normal(size=(3, 4))
    policy = sp.softmax(logits)
    weights = mdps.visits(mdp, policy, 0.9)
    moved = weights / weights.sum() @ sp.kl(policy, sp.softmax(logits + direction))
    flat = direction.ravel()
    assert 0.5 * flat @ sp.fisher(mdp, logits, 0.9) @ flat == pytest.approx(moved, rel=5e-3)
    expected_outer = sum(policy[0, a] * np.outer(sp.score(policy, 0, a), sp.score(policy, 0, a)) for a in range(4))
    block = sp.fisher(sp.bandit([0.0] * 4), np.vstack([logits[0], np.zeros(4)]), 1.0)[:4, :4]
    assert block == pytest.approx(expected_outer[:4, :4])


def test_kl_at_the_edge():
    assert sp.kl(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))
    assert sp.kl(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == np.inf
