"""The policy gradient lab: the theorem against every trajectory there is, the estimators against their exact means and variances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlhf.labs import gradient_estimators as ge
from rlhf.labs import policy_gradient as pg
from rlhf.labs import softmax_policy as sp
from rlhf.labs.gridworld import grid_world

REWARDS = np.array([2.0, 1.5, 1.0, 0.5])
LOGITS = np.array([[0.0, 0.5, 1.0, -0.3], [0.0, 0.0, 0.0, 0.0]])
BANDIT = pg.Task(sp.bandit(REWARDS), 1.0, 1, noise=0.3)
ARMS = sp.softmax(LOGITS)
MAP = ("S..G", ".#.X", "....")


def grid(slip: float = 0.1, gamma: float = 0.9, horizon: int = 30, rows: tuple[str, ...] = MAP) -> tuple[pg.Task, np.ndarray]:
    world = grid_world(rows, slip=slip)
    return pg.Task(world.mdp, gamma, horizon), np.random.default_rng(1).normal(size=(world.mdp.states, 4))


def enumerated(task: pg.Task, policy: np.ndarray) -> tuple[float, np.ndarray]:
    """J and E[R·Σ∇log π] over every trajectory, by hand."""
    j, slope = 0.0, np.zeros_like(policy)
    mdp = task.mdp

    def walk(state: int, t: int, chance: float, gained: float, score: np.ndarray) -> None:
        nonlocal j, slope
        if t == task.horizon or mdp.terminal[state]:
            j, slope = j + chance * gained, slope + chance * gained * score
            return
        for a, after in itertools.product(range(mdp.actions), np.flatnonzero(mdp.transition[state].any(0))):
            if p := policy[state, a] * mdp.transition[state, a, after]:
                walk(after, t + 1, chance * p, gained + task.gamma**t * mdp.reward[state, a, after], score + sp.score(policy, state, a))

    for start in np.flatnonzero(mdp.start):
        walk(int(start), 0, mdp.start[start], 0.0, np.zeros_like(policy))
    return j, slope


@pytest.mark.parametrize(("slip", "gamma", "rows", "horizon"), [(0.2, 0.8, ("S.G", ".X."), 3), (0.0, 1.0, ("..G",), 5)])
def test_the_theorem_is_the_sum_over_every_trajectory(slip, gamma, rows, horizon):
    task, logits = grid(slip, gamma, horizon, rows)
    policy = sp.softmax(logits)
    j, slope = enumerated(task, policy)
    assert pg.returns(task, policy[None])[0] == pytest.approx(j, abs=1e-12)
    assert pg.gradient(task, policy) == pytest.approx(slope, abs=1e-12)


def test_with_a_far_horizon_it_is_the_gradient_without_one():
    task, logits = grid(horizon=600)
    assert pg.gradient(task, sp.softmax(logits)) == pytest.approx(sp.exact_gradient(task.mdp, logits, task.gamma), abs=1e-12)
    assert pg.returns(task, sp.softmax(logits)[None])[0] == pytest.approx(sp.expected_return(task.mdp, logits, task.gamma), abs=1e-12)
    assert pg.gradient(BANDIT, ARMS) == pytest.approx(sp.exact_gradient(BANDIT.mdp, LOGITS, 1.0), abs=1e-15)
    assert pg.gradient(BANDIT, ARMS)[0] == pytest.approx(ARMS[0] * (REWARDS - ARMS[0] @ REWARDS), abs=1e-15)


@pytest.mark.parametrize("world", ["bandit", "grid"])
def test_a_nudge_measures_the_gradient(world):
    task, logits = (BANDIT, LOGITS) if world == "bandit" else grid(gamma=1.0)
    exact = pg.gradient(task, sp.softmax(logits))
    errors = np.abs(pg.differences(task, logits, 0, 2, np.array([1e-1, 1e-2, 1e-5, 1e-12])) - exact[0, 2])
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.02)  # truncation falls with h²
    assert errors[2] < 1e-9 and errors[3] > 1e-6  # and rounding grows as 1/h


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("discounted", [True, False])
def test_every_estimator_has_its_exact_mean(gamma, discounted):
    """Also the biased ones: with a critic, and without γ^t. The horizon cuts a good part of the episodes."""
    task, logits = grid(gamma=gamma, horizon=8)
    policy = sp.softmax(logits)
    assert 0.05 < pg.share_cut(task, policy) < 0.95
    found = ge.cloud(task, policy, batches=1000, n=4, constant=0.7, critic_updates=20, critic_rate=0.3, seed=2, discounted=discounted)
    for name in ge.ESTIMATORS:
        expected = pg.mean_estimate(name, task, policy, found.critic, discounted=discounted)
        drawn = found.estimates[name]
        errors = drawn.std(0, ddof=1) / np.sqrt(len(drawn))
        assert (np.abs(drawn.mean(0) - expected) <= 4 * errors + 1e-12).all(), name
        biased = name == "critic" or (name != "return" and not discounted and gamma < 1)
        assert (np.abs(expected - found.exact).max() > 1e-3) == biased, name
        assert biased or found.measured[name].within_chance
    assert not found.measured["critic"].within_chance


def test_a_perfect_critic_is_unbiased_and_none_sees_one_step():
    task, logits = grid(horizon=400)
    policy = sp.softmax(logits)
    exact = pg.values(task, policy[None])[0, 0]
    assert pg.mean_estimate("critic", task, policy, exact) == pytest.approx(pg.gradient(task, policy), abs=1e-10)
    blind = pg.mean_estimate("critic", task, policy, np.zeros_like(exact))
    seen = pg.visits(task, policy).sum(0)[:, None] * task.mdp.expected_reward
    assert blind == pytest.approx(policy * (seen - (policy * seen).sum(1, keepdims=True)))


def test_a_critic_learns_the_values():
    task, logits = grid(slip=0.0, gamma=0.8, horizon=60)
    policy = sp.softmax(0.5 * logits)
    critic = ge.learned_critic(task, policy, 60, 80, 0.2, np.random.default_rng(0))
    seen = pg.visits(task, policy).sum(0) > 0.1
    assert seen.sum() > 3
    assert critic[seen] == pytest.approx(pg.values(task, policy[None])[0, 0][seen], abs=0.05)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_bandits_variance_in_closed_form(n):
    found = ge.cloud(BANDIT, ARMS, batches=20_000, n=n, constant=3.0, critic_updates=10, critic_rate=0.2, seed=n)
    p, j = ARMS[0], float(ARMS[0] @ REWARDS)
    exact = {
        name: pg.bandit_variance(p, REWARDS, 0.3, n, b)
        for name, b in (("return", 0.0), ("to_go", 0.0), ("constant", 3.0), ("advantage", j))
    }
    exact["critic"] = pg.bandit_variance(p, REWARDS, 0.3, n, float(found.critic[0]))
    exact["mean"] = pg.bandit_mean_variance(p, REWARDS, 0.3, n)
    for name in ge.ESTIMATORS:
        m = found.measured[name]
        assert abs(m.variance - exact[name]) < 4 * m.variance_error, name
        assert m.within_chance, name  # on a bandit all are unbiased, the critic too


def test_the_variance_of_two_pulls_by_enumeration():
    """RLOO with n = 2 and no noise: every pair of arms, by hand."""
    p, slope = ARMS[0], ARMS[0] * (REWARDS - ARMS[0] @ REWARDS)
    total = 0.0
    for a, b in itertools.product(range(4), repeat=2):
        g = 0.5 * (REWARDS[a] - REWARDS[b]) * (np.eye(4)[a] - np.eye(4)[b])
        total += p[a] * p[b] * g @ g
    assert pg.bandit_mean_variance(p, REWARDS, 0.0, 2) == pytest.approx(total - slope @ slope)


def test_no_constant_has_less_variance_than_the_best():
    best = pg.best_baseline(ARMS[0], REWARDS)
    least = pg.bandit_variance(ARMS[0], REWARDS, 0.3, 1, best)
    around = [pg.bandit_variance(ARMS[0], REWARDS, 0.3, 1, best + step) for step in (-1, -1e-3, 1e-3, 1)]
    assert min(around) > least and around[0] == pytest.approx(around[3])  # a parabola about it
    assert pg.best_baseline(np.array([0.5, 0.5]), np.array([1.0, 3.0])) == pytest.approx(2.0)
    assert pg.bandit_variance(ARMS[0], REWARDS, 0.3, 8, 20.0) > 100 * least / 8


def test_weights_by_hand():
    """Three steps of one episode, γ = ½, and another that ended after one."""
    task = pg.Task(grid_world(("S..G",)).mdp, 0.5, 3)
    states = np.array([[[0, 1, 1, 2], [0, 3, 3, 3]]])
    live = np.array([[[True] * 3, [True, False, False]]])
    rewards = np.array([[[1.0, 2.0, 4.0], [3.0, 0.0, 0.0]]])
    episodes = ge.Episodes(states, np.zeros((1, 2, 3), int), rewards, live)
    known = ge.Baselines(0.5, np.arange(16.0).reshape(4, 1, 4), np.array([[10.0, 20.0, 30.0, 0.0]]))
    expected = {
        "return": [[3, 3, 3], [3, 0, 0]],  # 1 + 2/2 + 4/4
        "to_go": [[3, 2, 1], [3, 0, 0]],  # ½^t·(3, 4, 4)
        "constant": [[2.5, 1.75, 0.875], [2.5, 0, 0]],
        "mean": [[0, 0.5, 0.25], [3 - 11 / 3, 0, 0]],
        "advantage": [[3 - 0, (4 - 5) / 2, (4 - 9) / 4], [3, 0, 0]],
        "critic": [[1 + 10 - 10, (2 + 10 - 20) / 2, (4 + 0 - 20) / 4], [3 - 10, 0, 0]],  # nothing ahead of the cut
    }
    for name, rows in expected.items():
        assert ge.weights(name, task, episodes, known)[0] == pytest.approx(np.array(rows)), name
    assert ge.weights("to_go", task, episodes, known, discounted=False)[0, 0] == pytest.approx([3, 4, 4])
    with pytest.raises(ValueError, match="no estimator"):
        ge.weights("other", task, episodes, known)


def test_an_estimate_is_the_mean_of_weighted_scores():
    task, logits = grid()
    policies = sp.softmax(np.stack([logits, -logits]))
    episodes = ge.sample(task, policies, 3, np.random.default_rng(0))
    weighed = np.where(episodes.live, np.random.default_rng(1).normal(size=episodes.live.shape), 0.0)
    slow = np.zeros_like(policies)
    for b, i, t in zip(*np.nonzero(episodes.live), strict=True):
        slow[b] += weighed[b, i, t] * sp.score(policies[b], episodes.states[b, i, t], episodes.actions[b, i, t]) / 3
    assert ge.estimates(policies, episodes, weighed) == pytest.approx(slow)


def test_what_an_estimate_has_that_its_single_terms_have_not_is_their_cancelling():
    task, logits = grid()
    policy = sp.softmax(logits)
    found = ge.cloud(task, policy, batches=5, n=1, constant=0.3, critic_updates=0, critic_rate=0.1, seed=0)
    bandit = pg.Task(sp.bandit(np.array([1.0, 0.0, 2.0])), 1.0, 1)
    alone = ge.cloud(bandit, np.full((2, 3), 1 / 3), batches=50, n=1, constant=3.0, critic_updates=0, critic_rate=0.1, seed=0)
    for name in ge.ESTIMATORS:  # one episode of one action: nothing to cancel
        assert alone.squared[name] == pytest.approx(np.square(alone.estimates[name]).sum((1, 2)).mean())
    weighed = ge.weights("to_go", task, found.first, ge.Baselines(0.0, pg.values(task, policy[None]), found.critic[None]))
    by_hand = sum(
        w**2 * np.square(np.eye(4)[a] - policy[s]).sum()
        for w, s, a in zip(weighed[0, 0], found.first.states[0, 0], found.first.actions[0, 0], strict=False)
    )  # fmt: skip
    assert ge.squared_terms(policy[None], found.first, weighed) == pytest.approx(by_hand)


def test_the_best_of_all_policies():
    task, _logits = grid(slip=0.0, gamma=1.0)
    assert pg.optimum(task)[0] == pytest.approx(1 - 3 * 0.04)  # straight along the top
    assert pg.optimum(BANDIT)[0] == 2.0


def test_bias_is_told_from_chance():
    rng = np.random.default_rng(3)
    exact, spread = np.array([[1.0, -1.0, 0.0]]), np.array([1.0, 0.1, 0.0])
    clouds = [ge.measure(exact + rng.normal(size=(50, 1, 3)) * spread, exact) for _ in range(1000)]
    assert sum(not m.within_chance for m in clouds) <= 12  # about one in a thousand; the spread is estimated from 50, so a few more
    assert np.mean([m.bias**2 for m in clouds]) == pytest.approx(np.mean([m.bias_error**2 for m in clouds]), rel=0.2)
    assert not ge.measure(exact + 0.9 + rng.normal(size=(50, 1, 3)) * spread, exact).within_chance
    still = ge.measure(np.repeat(exact, 5, 0)[:, None], exact)
    assert still.variance == 0 and still.within_chance


def test_learning():
    """On a bandit the whole return is the reward to go; exact ascent never goes down; all start alike, and with enough episodes arrive."""
    found = ge.learn(BANDIT, LOGITS, seeds=3, updates=60, n=32, rate=1.0, constant=1.2, critic_rate=0.2, seed=0)
    assert (found.curves["return"] == found.curves["to_go"]).all()
    assert (np.diff(found.exact) > 0).all() and found.best == 2.0
    for name in ge.ESTIMATORS:
        assert found.curves[name].shape == (61, 3) and found.curves[name][0] == pytest.approx(ARMS[0] @ REWARDS)
        assert found.curves[name][-1] == pytest.approx(found.exact[-1], abs=0.1), name
        assert found.policies[name][:, 0] @ REWARDS == pytest.approx(found.curves[name][-1])


def test_nothing_to_learn_and_no_end():
    equal = pg.Task(sp.bandit([1.0] * 3), 1.0, 1)
    found = ge.cloud(
        equal, ARMS[:, :3] / ARMS[:, :3].sum(1, keepdims=True), batches=50, n=3, constant=1.0, critic_updates=0, critic_rate=0.1, seed=0
    )
    assert np.abs(found.exact).max() < 1e-15 and found.measured["constant"].variance < 1e-25 and found.measured["return"].variance > 0.1
    walled, logits = grid(rows=("S#G",), gamma=1.0, horizon=10)
    assert pg.returns(walled, sp.softmax(logits)[None])[0] == pytest.approx(-0.4)
    assert pg.gradient(walled, sp.softmax(logits)) == pytest.approx(0, abs=1e-15)
    assert pg.share_cut(walled, sp.softmax(logits)) == pytest.approx(1)


def test_the_plane_of_the_cloud():
    task, logits = grid(horizon=10)
    found = ge.cloud(task, sp.softmax(logits), batches=200, n=2, constant=0.0, critic_updates=0, critic_rate=0.1, seed=4)
    axes = ge.plane(found)
    assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-9)
    assert axes @ found.exact.ravel() == pytest.approx([np.linalg.norm(found.exact), 0], abs=1e-9)
    across = found.estimates["return"].reshape(200, -1)
    across = across - np.outer(across @ axes[0], axes[0])
    assert (across @ axes[1]).var() >= across.var(0).max()  # no single logit scatters more
