"""Lab 2: dynamic programming against linear solves and a textbook's numbers, FrozenLake against gymnasium, and TD control against Q*."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest

from rlhf.errors import ConfigError
from rlhf.labs import dynamic_programming as dp
from rlhf.labs import mdp as mdps
from rlhf.labs import td_control as td
from rlhf.labs.frozen_lake import MAPS, SLIP, frozen_lake
from rlhf.labs.gridworld import grid_world

CLASSIC = ("...G", ".#.X", "S...")
SMALL = ("S..", ".X.", "..G")
CLIFF = ("." * 12,) * 3 + ("S" + "X" * 10 + "G",)


def cliff_world():
    return grid_world(CLIFF, step_cost=0.01, goal_reward=0.0, pit_reward=-1.0)


def test_the_classic_grid_has_the_textbook_s_values():
    """Russell & Norvig, Artificial Intelligence: A Modern Approach, figure 17.3 (γ = 1, a step −0.04, slip 0.2)."""
    values = dp.optimal_values(grid_world(CLASSIC, slip=0.2).mdp, 1.0)
    assert values == pytest.approx([0.812, 0.868, 0.918, 0, 0.762, 0.660, 0, 0.705, 0.655, 0.611, 0.388], abs=5e-4)


@pytest.mark.parametrize("name", ["4x4", "8x8"])
def test_our_grid_with_slip_two_thirds_is_gymnasium_s_lake(name):
    ours = grid_world(MAPS[name], slip=SLIP, step_cost=0.0, pit_reward=0.0)
    theirs = frozen_lake(name)
    assert theirs.rows == MAPS[name] and theirs.cells == ours.cells
    assert np.array_equal(theirs.mdp.terminal, ours.mdp.terminal) and np.array_equal(theirs.mdp.start, ours.mdp.start)
    assert theirs.mdp.transition == pytest.approx(ours.mdp.transition, abs=1e-15)
    assert theirs.mdp.expected_reward == pytest.approx(ours.mdp.expected_reward, abs=1e-15)
    priced = {"slip": 0.3, "step_cost": 0.05, "goal_reward": 2.0, "pit_reward": -1.0}
    mine, gym_s = grid_world(MAPS[name], **priced).mdp, frozen_lake(name, **priced).mdp
    assert gym_s.expected_reward == pytest.approx(mine.expected_reward, abs=1e-14)


def test_the_lake_is_read_from_gymnasium_s_own_table():
    lake, table = frozen_lake("4x4").mdp, gymnasium.make("FrozenLake-v1").unwrapped.P
    for state in np.flatnonzero(~lake.terminal):
        for action in range(4):
            chances = np.zeros(16)
            for p, after, reward, ended in table[state][action]:
                chances[after] += p
                assert lake.reward[state, action, after] == reward and lake.terminal[after] == ended
            assert lake.transition[state, action] == pytest.approx(chances)
    assert dp.optimal_values(lake, 1.0)[0] == pytest.approx(14 / 17)  # the known chance to cross it


@pytest.mark.parametrize("gamma", [0.5, 0.95])
def test_evaluation_settles_at_the_linear_solve(gamma):
    mdp = grid_world(CLASSIC, slip=0.2).mdp
    for policy in (mdps.uniform_policy(mdp), np.random.default_rng(0).dirichlet(np.ones(4), mdp.states)):
        frames = dp.policy_evaluation(mdp, policy, gamma, 2000)
        assert frames[-1].residual <= dp.SETTLED
        assert frames[-1].values == pytest.approx(mdps.state_values(mdp, policy, gamma), abs=1e-7)


def test_one_sweep_by_hand():
    """Next to the goal 0.9·(−0.1 + 1) + 0.1·(−0.1) with slip 0.1; the goal is a column wide, so slipping aside stays."""
    frames = dp.value_iteration(grid_world(("S.G",), slip=0.1, step_cost=0.1).mdp, 0.5)
    assert frames[1].values == pytest.approx([-0.1, 0.9 * 0.9 - 0.1 * 0.1, 0])
    assert frames[2].values[0] == pytest.approx(0.9 * (-0.1 + 0.5 * 0.8) + 0.1 * (-0.1 + 0.5 * -0.1))
    assert (frames[1].sweep, frames[1].residual) == (1, pytest.approx(0.8))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9, 0.99])
def test_value_iteration_contracts_by_gamma(gamma):
    mdp = frozen_lake("4x4", step_cost=0.02).mdp
    frames = dp.value_iteration(mdp, gamma, 400)
    residuals = np.array([f.residual for f in frames[1:]])
    assert np.all(residuals[1:] <= gamma * residuals[:-1] + 1e-15)
    assert np.all(residuals <= [f.bound + 1e-15 for f in frames[1:]])
    exact = dp.optimal_values(mdp, gamma)
    away = np.array([np.abs(f.values - exact).max() for f in frames])
    assert np.all(away[1:] <= gamma * away[:-1] + 1e-12)


@pytest.mark.parametrize(("rows", "slip"), [(CLASSIC, 0.2), (MAPS["4x4"], SLIP), (("....", "....", "...."), 0.0), (("S#G",), 0.0)])
@pytest.mark.parametrize("sweeps", [None, 1, 3])
def test_all_ways_to_the_optimum_agree(rows, slip, sweeps):
    mdp = grid_world(rows, slip=slip).mdp
    exact = dp.optimal_values(mdp, 0.9)
    assert exact == pytest.approx(mdps.action_values(mdp, exact, 0.9).max(1), abs=1e-12)  # Bellman's optimality equation
    policy = dp.greedy(mdps.action_values(mdp, exact, 0.9))
    assert exact == pytest.approx(mdps.state_values(mdp, policy, 0.9), abs=1e-7)
    for frames in (dp.value_iteration(mdp, 0.9, 1000), dp.policy_iteration(mdp, 0.9, sweeps, 3000)):
        assert frames[-1].values == pytest.approx(exact, abs=1e-7)
        assert np.array_equal(frames[-1].policy, policy)


def test_policy_iteration_never_gets_worse():
    mdp = grid_world(CLASSIC, slip=0.2).mdp
    policies = [f.policy for f in dp.policy_iteration(mdp, 0.9, None, 3000) if f.improved]
    values = [mdps.state_values(mdp, policy, 0.9) for policy in (mdps.uniform_policy(mdp), *policies)]
    assert len(policies) >= 2 and all(np.all(after >= before - 1e-9) for before, after in itertools.pairwise(values))


def test_ties_are_shared():
    assert dp.greedy(np.array([[1.0, 1.0, 0.0, 1.0 - 1e-12], [0.0, 2.0, 1.0, 0.0]])).tolist() == [[1 / 3, 1 / 3, 0, 1 / 3], [0, 1, 0, 0]]


@pytest.mark.parametrize(("rows", "cost", "after_50"), [(("S#G",), 0.04, -2.0), (("S.G",), -0.04, 3.0), (("...",), 0.1, -5.0)])
def test_without_a_finite_optimum_the_sweeps_run_away_and_it_is_said(rows, cost, after_50):
    """Where a step pays, the best of 50 steps is to be paid 49 times and take the goal with the last one."""
    mdp = grid_world(rows, step_cost=cost).mdp
    with pytest.raises(ConfigError, match="not finite"):
        dp.optimal_values(mdp, 1.0)
    assert dp.value_iteration(mdp, 1.0, 50)[-1].values[0] == pytest.approx(after_50)
    assert np.isfinite(dp.optimal_values(mdp, 0.9)).all()


def test_q_learning_converges_to_the_exact_action_values_while_it_explores():
    """Nothing is left to chance but the actions: every pair comes out to 10⁻³ after 1,500 episodes."""
    mdp = grid_world(SMALL).mdp
    exact = mdps.action_values(mdp, dp.optimal_values(mdp, 0.9), 0.9)
    learned = td.learn(mdp, "q_learning", td.beginning(mdp), 1500, td.Rates(epsilon=1.0, alpha=0.5), 0.9, seed=1)
    assert td.distance(mdp, learned.q, exact) < 1e-3


def test_sarsa_converges_to_the_best_values_as_exploration_dies_out():
    """ε from 1, halved every 300 episodes, starts everywhere: after 4,500 the values of all cells are exact to 1 %."""
    mdp = grid_world(("SSS", "SXS", "SSG")).mdp
    learned = td.learn(mdp, "sarsa", td.beginning(mdp), 4500, td.Rates(epsilon=1.0, half_life=300, alpha=0.5), 0.9, seed=1)
    assert learned.q.max(1) == pytest.approx(dp.optimal_values(mdp, 0.9), abs=0.01)


def test_q_learning_on_ice_with_falling_rates():
    """Where moves are chance, α = 1/n^0.7 averages it out (Robbins and Monro); 8,000 episodes leave less than 0.1."""
    mdp = grid_world(SMALL, slip=0.2).mdp
    exact = mdps.action_values(mdp, dp.optimal_values(mdp, 0.9), 0.9)
    learned = td.learn(mdp, "q_learning", td.beginning(mdp), 8000, td.Rates(epsilon=1.0, schedule="power"), 0.9, seed=0)
    assert td.distance(mdp, learned.q, exact) < 0.1


def test_sarsa_learns_the_values_of_the_policy_it_follows():
    mdp = grid_world(("SSS", "SXS", "SSG")).mdp
    learned = td.learn(mdp, "sarsa", td.beginning(mdp), 3000, td.Rates(epsilon=0.3, alpha=0.05), 1.0, seed=0)
    policy = td.epsilon_greedy(learned.q, 0.3)
    assert policy.sum(1) == pytest.approx(1) and policy.min() == pytest.approx(0.075)
    own = mdps.action_values(mdp, mdps.state_values(mdp, policy, 1.0), 1.0)
    best = mdps.action_values(mdp, dp.optimal_values(mdp, 1.0), 1.0)
    often = learned.tries > 300
    assert np.abs(learned.q - own)[often].max() < np.abs(learned.q - best)[often].max() / 2


def test_sarsa_keeps_away_from_the_cliff_and_earns_more():
    """Sutton & Barto 2018, example 6.6, its rewards divided by 100: the mean of three runs."""
    world = cliff_world()
    begin, rates = world.state(3, 0), td.Rates(epsilon=0.1, alpha=0.5)
    earned, edge = {}, {}
    for name in td.ALGORITHMS:
        runs = [td.learn(world.mdp, name, td.beginning(world.mdp), 500, rates, 1.0, seed=seed) for seed in range(3)]
        walks = [[world.cells[s] for s in td.greedy_walk(world.mdp, run.q, begin)] for run in runs]
        earned[name] = np.mean([run.returns[-100:].mean() for run in runs])
        edge[name] = np.mean([any(row == 2 and 1 <= column <= 10 for row, column in walk) for walk in walks])
    assert earned["sarsa"] > earned["q_learning"] and edge["q_learning"] == 1 and edge["sarsa"] <= 0.4


def test_episodes_in_parts_are_the_same_episodes():
    mdp, rates = grid_world(CLASSIC, slip=0.2).mdp, td.Rates(half_life=10)
    whole = td.learn(mdp, "sarsa", td.beginning(mdp), 20, rates, 0.9, seed=3)
    parts = td.beginning(mdp)
    for count in (5, 1, 14):
        parts = td.learn(mdp, "sarsa", parts, count, rates, 0.9, seed=3)
    assert np.array_equal(whole.q, parts.q) and np.array_equal(whole.returns, parts.returns) and whole.episodes == 20
    assert whole.tries.sum() > 0 and mdp.terminal[whole.last].all() and not whole.tries[mdp.terminal].any()


def test_an_update_by_hand():
    """One cell before the goal, γ = 0.5, α = 0.5: the one action that leads there gets half of its reward; 1/n gets all of it."""
    mdp = grid_world(("SG",), step_cost=0.0).mdp
    for schedule, expected in (("constant", 0.5), ("visits", 1.0), ("power", 1.0)):
        learned = td.learn(mdp, "q_learning", td.beginning(mdp), 1, td.Rates(epsilon=0.0, alpha=0.5, schedule=schedule), 0.5, seed=0)
        assert learned.q[0].tolist() == [0, 0, expected, 0] and learned.returns[0] == pytest.approx(0.5 ** (learned.tries.sum() - 1))


def test_an_episode_without_an_end_is_cut_off():
    mdp = grid_world(("S#G",)).mdp
    learned = td.learn(mdp, "sarsa", td.beginning(mdp), 2, td.Rates(), 1.0, seed=0, longest=30)
    assert learned.tries.sum() == 60 and not mdp.terminal[learned.last].any() and learned.returns == pytest.approx([-1.2, -1.2])


def test_the_walk_of_the_best_action_ends_where_it_repeats():
    world = grid_world(("S.G",))
    q = np.zeros((3, 4))
    q[:2, 2] = 1
    assert td.greedy_walk(world.mdp, q, 0) == [0, 1, 2]
    q[1] = [1, 0, 0, 0]
    assert td.greedy_walk(world.mdp, q, 0) == [0, 1]
    assert td.Rates(epsilon=0.8, half_life=10).epsilon_at(20) == pytest.approx(0.2)
