"""Trust regions: the five updates against linear solves, finite differences, closed forms, and PPO's own loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlhf.labs import softmax_policy as sp
from rlhf.labs import surrogate as su
from rlhf.labs import trust_region as tr
from rlhf.labs.conjugate_gradient import conjugate_gradient
from rlhf.labs.gridworld import grid_world

MAP = ("S..G", ".#.X", "....")


def problem_of(world: str, seed: int = 0) -> tuple[su.Problem, np.ndarray]:
    rng = np.random.default_rng(seed)
    if world == "corridor":
        return su.shared(su.corridor(), 0.98), rng.normal(size=2)
    problem = su.table(sp.bandit([1.0, 0.5, -0.2]), 1.0) if world == "arms" else su.table(grid_world(MAP, slip=0.1).mdp, 0.95)
    return problem, rng.normal(size=problem.parameters)


def both_batches(world: str, seed: int = 0):
    problem, theta = problem_of(world, seed)
    yield problem, theta, su.exact_batch(problem, theta)
    yield problem, theta, su.sampled_batch(problem, theta, 12, np.random.default_rng(seed))


def slope(f, theta: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """The central finite difference of f at θ."""
    return np.array([(f(theta + h * e) - f(theta - h * e)) / (2 * h) for e in np.eye(len(theta))])


WORLDS = pytest.mark.parametrize("world", ["arms", "grid", "corridor"])


@pytest.mark.parametrize("world", ["arms", "grid"])
def test_the_exact_batch_has_the_policy_gradient_and_the_fisher_matrix(world):
    """A table's g is the exact gradient for one decision, its F the shared Fisher matrix."""
    problem, theta = problem_of(world)
    batch, logits = su.exact_batch(problem, theta), problem.logits(theta)
    assert batch.gradient(problem) * batch.steps == pytest.approx(sp.exact_gradient(problem.mdp, logits, problem.gamma).ravel())
    assert batch.fisher(problem) == pytest.approx(sp.fisher(problem.mdp, logits, problem.gamma), abs=1e-14)
    assert batch.weights.sum() == pytest.approx(1) and batch.weights @ batch.advantages == pytest.approx(0, abs=1e-14)


@WORLDS
def test_gradient_and_fisher_are_slope_and_curvature(world):
    for problem, theta, batch in both_batches(world):
        assert batch.gradient(problem) == pytest.approx(slope(lambda t, b=batch, p=problem: b.surrogate(p.logprobs(t)), theta), abs=1e-8)
        direction = 1e-3 * np.random.default_rng(1).normal(size=problem.parameters)
        curved = 0.5 * direction @ batch.fisher(problem) @ direction
        assert batch.kl(problem.logprobs(theta + direction)) == pytest.approx(curved, rel=5e-3)
        assert batch.fisher_product(problem, direction) == pytest.approx(batch.fisher(problem) @ direction, abs=1e-15)


def test_shared_parameters_follow_the_return():
    """The corridor's policy has one logit for all cells: steps·g is dJ/dθ by finite difference."""
    problem, theta = problem_of("corridor")
    batch = su.exact_batch(problem, theta)
    assert batch.steps * batch.gradient(problem) == pytest.approx(slope(problem.expected_return, theta), rel=1e-6)


def test_the_corridor_by_the_book():
    """Example 13.1, γ = 1: the best policy goes right with 2 − √2, and is then worth −11.7."""
    problem = su.shared(su.corridor(), 1.0)
    right = 2 - np.sqrt(2)
    best = problem.expected_return(np.array([0.0, np.log(right / (1 - right))]))
    assert best == pytest.approx(-11.66, abs=0.01)
    assert all(problem.expected_return(np.array([0.0, x])) < best for x in (0.2, 0.5, -1.2))


def test_batches_of_episodes_come_close_to_the_exact_one():
    problem, theta = problem_of("grid")
    exact, sampled = su.exact_batch(problem, theta), su.sampled_batch(problem, theta, 4000, np.random.default_rng(0))
    assert sampled.steps == pytest.approx(exact.steps, rel=0.03)
    assert sampled.state_weights == pytest.approx(exact.state_weights, abs=0.01)
    assert sampled.gradient(problem) == pytest.approx(exact.gradient(problem), abs=0.003)


def test_conjugate_gradient_is_a_linear_solve():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(12, 12))
    matrix, g = factor @ factor.T + np.eye(12), rng.normal(size=12)
    solved = conjugate_gradient(lambda v: matrix @ v, g, most=40)
    assert solved.x == pytest.approx(np.linalg.solve(matrix, g), rel=1e-7)
    assert solved.residuals[0] == pytest.approx(np.linalg.norm(g)) and solved.residuals[-1] <= 1e-10 * solved.residuals[0]
    assert conjugate_gradient(lambda v: matrix @ v, g, most=3).products == 3
    assert not conjugate_gradient(lambda v: matrix @ v, np.zeros(12)).x.any()


@WORLDS
def test_the_natural_direction(world):
    """It is pinv(F)·g, and conjugate gradient finds it though F is singular; for the exact bandit it is A less its mean."""
    for problem, theta, batch in both_batches(world):
        direction = tr.natural_direction(problem, batch)
        assert direction == pytest.approx(np.linalg.pinv(batch.fisher(problem)) @ batch.gradient(problem), rel=1e-5, abs=1e-8)
        solved = conjugate_gradient(lambda v, p=problem, b=batch: b.fisher_product(p, v), batch.gradient(problem), most=200)
        assert np.allclose(problem.logprobs(theta + solved.x), problem.logprobs(theta + direction), atol=1e-5)
    if world == "arms":
        rewards = np.array([1.0, 0.5, -0.2])
        problem, theta = problem_of("arms")
        assert tr.natural_direction(problem, su.exact_batch(problem, theta))[:3] == pytest.approx(rewards - rewards.mean())


def test_the_natural_step_does_not_see_the_parametrisation():
    """The same old policy with the parameter of one arm stretched: natural and TRPO land on the same policy, the plain step does not."""
    logits, landed = np.array([-1.5, 0.5, 1.0, 0, 0, 0]), {}
    for stretch in (1.0, 2.0, 4.0):
        problem = su.table(sp.bandit([1.0, 0.5, -0.2]), 1.0, (stretch, 1.0, 1.0))
        theta = logits / np.array([stretch, 1, 1, 1, 1, 1])
        batch = su.exact_batch(problem, theta)
        advantages, policy = batch.advantages - batch.advantages.mean(), np.exp(batch.old[0])
        assert tr.centred(problem, tr.natural_direction(problem, batch))[0] == pytest.approx(advantages, abs=1e-9)
        stretched = np.diag([stretch, 1, 1])
        of_logits = np.diag(policy) - np.outer(policy, policy)
        assert batch.fisher(problem)[:3, :3] == pytest.approx(stretched @ of_logits @ stretched, abs=1e-15)
        for method in ("plain", "natural", "trpo"):
            made = tr.update(method, problem, theta, batch, tr.Settings(step=4.0))
            landed[method, stretch] = np.exp(problem.logprobs(made.path[-1]))[0]
    assert landed["natural", 1.0] == pytest.approx(landed["natural", 4.0], abs=1e-9)
    assert landed["trpo", 1.0] == pytest.approx(landed["trpo", 4.0], abs=1e-9)
    assert np.abs(landed["plain", 1.0] - landed["plain", 4.0]).max() > 0.01


@WORLDS
@pytest.mark.parametrize("delta", [1e-8, 0.05, 0.5])
def test_trpo_keeps_its_limit_and_never_promises_a_loss(world, delta):
    for seed in range(4):
        for problem, theta, batch in both_batches(world, seed):
            made = tr.update("trpo", problem, theta, batch, tr.Settings(delta=delta))
            assert made.batch_kl <= delta and made.promised >= 0
            assert all(trial.kl > delta or trial.gain <= 0 for trial in made.trials if not trial.accepted)
            assert len(made.path) == 1 + any(trial.accepted for trial in made.trials)
            if delta < 1e-6 and made.trials:
                assert made.trials[0].kl == pytest.approx(delta, rel=0.01)  # to second order the first trial is at the limit


def test_a_bandits_exact_promise_is_kept():
    """One state: the surrogate is J itself, so TRPO never loses; and the batch's KL is the exact one."""
    problem, theta = problem_of("arms")
    for method in tr.METHODS:
        made = tr.update(method, problem, theta, su.exact_batch(problem, theta), tr.Settings(step=4.0))
        assert made.promised == pytest.approx(made.won) and made.kl == pytest.approx(made.batch_kl)


@WORLDS
def test_the_clip_cuts_exactly_where_it_says(world):
    """The gradient of the clipped surrogate is its finite difference, away from the old policy where some decisions are cut; each decision
    gives nothing if and only if it is cut."""
    shares = []
    for problem, theta, batch in both_batches(world):
        for seed in range(4):
            there = theta + 0.6 * np.random.default_rng(seed).normal(size=theta.shape)
            gradient, share = tr.clip_gradient(problem, batch, there, 0.2)
            by_difference = slope(lambda t, b=batch, p=problem: tr.clipped_surrogate(b, p.logprobs(t), 0.2), there)
            assert gradient == pytest.approx(by_difference, abs=1e-7)
            shares.append(share)
    assert max(shares) > 0.1
    for ratio, advantage, cut in ((1.3, 1, True), (1.1, 1, False), (0.5, 1, False), (0.7, -1, True), (0.9, -1, False), (1.5, -1, False)):
        one = su.Batch(np.array([0]), np.ones(1), np.array([float(advantage)]), np.log([[0.4, 0.6]]), np.ones(1), 1.0)

        def objective(x, one=one):
            return tr.clipped_surrogate(one, np.log(np.array([[0.4 * x, 1 - 0.4 * x]])), 0.2)

        measured = (objective(ratio + 1e-6) - objective(ratio - 1e-6)) / 2e-6
        assert measured == pytest.approx(0 if cut else advantage, abs=1e-6)
        assert tr.is_cut(np.array([ratio]), np.array([advantage]), 0.2)[0] == cut


@WORLDS
def test_the_penalty_follows_its_slope(world):
    for problem, theta, batch in both_batches(world):
        there = theta + 0.3 * np.random.default_rng(5).normal(size=theta.shape)

        def objective(t, b=batch, p=problem):
            return b.surrogate(p.logprobs(t)) - 1.7 * b.kl(p.logprobs(t))

        assert tr.penalty_gradient(problem, batch, there, 1.7) == pytest.approx(slope(objective, there), abs=1e-7)


def test_the_surrogate_and_the_adaptive_rule_are_those_of_ppo():
    """rlhf.algorithms.ppo on the same numbers: its loss and gradient with n equal weights, its share cut, its rule for β."""
    torch = pytest.importorskip("torch")
    from rlhf.algorithms import ppo

    problem, theta = problem_of("arms")
    batch = su.sampled_batch(problem, theta, 16, np.random.default_rng(3))
    there = theta + np.array([0.5, -0.2, 0.1, 0, 0, 0])
    now = torch.tensor(there, requires_grad=True)
    logprobs = now[:3].log_softmax(0)[torch.tensor(batch.cells)][None]
    old = torch.tensor(batch.old.ravel()[batch.cells])[None]
    loss, stats = ppo.policy_loss(logprobs, old, torch.tensor(batch.advantages)[None], torch.ones_like(old, dtype=torch.bool), 0.2)
    loss.backward()
    gradient, share = tr.clip_gradient(problem, batch, there, 0.2)
    assert -loss.item() == pytest.approx(tr.clipped_surrogate(batch, problem.logprobs(there), 0.2), abs=1e-12)
    assert -now.grad.numpy() == pytest.approx(gradient, abs=1e-12)
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(share)
    for distance in (0.001, 0.0066, 0.0067, 0.01, 0.015, 0.0151, 1.0):
        assert tr.adapted(0.8, distance, 0.01) == ppo.adapted(0.8, distance, 0.01)


def test_adam_is_torchs():
    torch = pytest.importorskip("torch")
    problem, theta = problem_of("arms")
    batch, settings = su.exact_batch(problem, theta), tr.Settings(adam=True, rate=0.1, epochs=6)
    ours = tr.update("ppo_clip", problem, theta, batch, settings).path
    parameter = torch.tensor(theta, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for expected in ours[1:]:
        parameter.grad = -torch.tensor(tr.clip_gradient(problem, batch, parameter.detach().numpy(), 0.2)[0])
        optimizer.step()
        assert parameter.detach().numpy() == pytest.approx(expected, abs=1e-12)


@WORLDS
def test_small_steps_agree(world):
    """To first order PPO's single epoch is the plain step (ρ = 1, the KL is flat), and the natural step is TRPO's; both raise L by g·Δθ."""
    for problem, theta, batch in both_batches(world):
        tiny = tr.Settings(step=1e-5, rate=1e-5, epochs=1, delta=1e-10, products=200)
        made = {method: tr.update(method, problem, theta, batch, tiny) for method in tr.METHODS}
        moved = {method: one.path[-1] - theta for method, one in made.items()}
        assert moved["ppo_clip"] == pytest.approx(moved["plain"], abs=1e-18) and moved["ppo_kl"] == pytest.approx(moved["plain"], abs=1e-18)
        assert np.allclose(moved["trpo"], moved["natural"], atol=1e-9) or len(made["trpo"].trials) > 1
        for method in tr.METHODS:
            first_order = batch.steps * float(batch.gradient(problem) @ moved[method])
            assert made[method].promised == pytest.approx(first_order, rel=1e-3, abs=1e-12)


def test_beta_doubles_and_halves_from_update_to_update():
    problem, theta = problem_of("arms")
    settings = tr.Settings(delta=0.02, beta=1.0, rate=1.0, epochs=8)
    done = tr.rounds(problem, theta, settings, lambda t, i: su.exact_batch(problem, t), 12)
    betas = [round_["ppo_kl"].beta for round_ in done]
    for round_, after in zip(done, betas[1:], strict=False):
        d = round_["ppo_kl"].batch_kl
        assert after == round_["ppo_kl"].beta * (0.5 if d < 0.02 / 1.5 else 2 if d > 0.03 else 1)
    assert min(betas) < 1 < max(betas)


def test_updates_go_on_from_where_they_were():
    """The first batch is one for all; later ones are each method's own; known updates are kept as they are."""
    problem, theta = problem_of("arms")
    seen = []

    def draw(t, i):
        seen.append(i)
        return su.sampled_batch(problem, t, 20, np.random.default_rng([7, i]))

    three = tr.rounds(problem, theta, tr.Settings(), draw, 3)
    assert seen == [0] + [1] * 5 + [2] * 5
    four = tr.rounds(problem, theta, tr.Settings(), draw, 4, three)
    assert seen[11:] == [3] * 5 and four[2] is three[2] and len(tr.rounds(problem, theta, tr.Settings(), draw, 2, four)) == 2
    assert all((b[m].path[0] == a[m].path[-1]).all() for a, b in itertools.pairwise(four) for m in tr.METHODS)


def test_no_cliff_along_the_exact_gradient_of_a_table_but_one_with_shared_parameters():
    """What the page says of cliffs: a table's exact gradient improves at every length; the corridor's step of 8 falls from −15 to −48."""
    for world in ("arms", "grid"):
        problem, theta = problem_of(world, 3)
        gradient, start = su.exact_batch(problem, theta).gradient(problem), problem.expected_return(theta)
        assert all(problem.expected_return(theta + length * gradient) >= start for length in np.geomspace(1e-3, 1e5, 25))
    problem, theta = su.shared(su.corridor(), 0.98), np.array([0.0, -1.2])
    batch = su.exact_batch(problem, theta)
    plain, trpo = (tr.update(m, problem, theta, batch, tr.Settings(step=8.0, delta=0.05)) for m in ("plain", "trpo"))
    assert plain.before == pytest.approx(-15, abs=0.1) and plain.after == pytest.approx(-47.9, abs=0.1) and plain.promised > 25
    assert trpo.after == pytest.approx(-11.7, abs=0.1)


@WORLDS
def test_how_far_the_limit_lets_one_go(world):
    for problem, theta, batch in both_batches(world):
        direction = batch.gradient(problem)
        length = tr.reach(problem, theta, direction, batch.state_weights, 0.05)
        assert batch.kl(problem.logprobs(theta + length * direction)) == pytest.approx(0.05, rel=1e-6)
    assert tr.reach(problem, theta, direction, batch.state_weights, 0.0) == 0
    assert tr.reach(problem, theta, np.zeros_like(theta), batch.state_weights, 0.05) == np.inf
    policy = np.array([0.05, 0.35, 0.6])
    edge = tr.ring(policy, 0.05)
    assert sp.kl(policy, edge) == pytest.approx(0.05, rel=1e-9) and edge.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("logits", [(-1.5, 0.5, 1.0), (0.3, -0.7, 0.1), (-4.0, -4.0, 5.0)])
@pytest.mark.parametrize("n", [None, 20])
def test_rounding_counts_as_nothing(logits, n):
    """Equal rewards teach exactly nothing; a middle arm's A, and the exact batch's mean of A, are 0 and not 10⁻¹⁷."""
    theta = np.array([*logits, 0.0, 0.0, 0.0])

    def batch_of(rewards, start=theta):
        problem = su.table(sp.bandit(rewards), 1.0)
        return problem, su.exact_batch(problem, start) if n is None else su.sampled_batch(problem, start, n, np.random.default_rng(0))

    for rewards in ((0.5, 0.5, 0.5), (0.7, 0.7, 0.7)):
        problem, batch = batch_of(rewards)
        assert not batch.advantages.any() and not batch.gradient(problem).any()
        for method in tr.METHODS:
            made = tr.update(method, problem, theta, batch, tr.Settings(adam=True))
            assert made.kl == made.promised == made.won == 0 and (made.solved is None or not made.solved.x.any())
    problem, batch = batch_of((0.1, 0.2, 0.15), np.zeros(6))
    assert not batch.advantages[batch.cells == 2].any()
    if n is None:
        assert tr.clipped_surrogate(batch, batch.old, 0.2) == 0 and batch.surrogate(batch.old) == 0


def test_the_kl_of_a_tiny_step_is_not_rounding():
    """½·ΔθᵀFΔθ, though the KL is less than the rounding of 1; and where π_old underflows it is finite."""
    problem, theta = su.table(sp.bandit([1.0, 0.5, -0.2]), 1.0), np.array([-6.0, -6.0, 6.0, 0.0, 0.0, 0.0])
    batch = su.exact_batch(problem, theta)
    move = 1e-6 * np.array([3.0, -1.0, 2.0, 0.0, 0.0, 0.0])
    kl = su.mean_kl(batch.state_weights, batch.old, problem.logprobs(theta + move))
    assert kl == pytest.approx(0.5 * move @ batch.fisher(problem) @ move, rel=1e-4, abs=0)
    far = su.mean_kl(np.ones(1), np.log(sp.softmax([[-50.0, 0.0]])), np.log(sp.softmax([[50.0, 0.0]])))
    assert far == pytest.approx(50, rel=1e-9)


@pytest.mark.parametrize("logits", [(0, 0, 0), (-6, -6, 6), (-400, 0, 400)])
@pytest.mark.parametrize("rewards", [(0.5, 0.5, 0.5), (1.0, 0.5, -0.2)])
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_nothing_breaks(logits, rewards, delta):
    """Equal rewards, a certain policy, a singular Fisher matrix, δ = 0: finite numbers, and no move where there is nothing to learn."""
    problem, theta = su.table(sp.bandit(rewards), 1.0), np.array([*logits, 0.0, 0.0, 0.0])
    settings = tr.Settings(delta=delta, step=20, rate=5, epochs=20, beta=10, adam=delta > 0)
    for draw in (
        lambda t, i: su.exact_batch(problem, t),
        lambda t, i: su.sampled_batch(problem, t, 2, np.random.default_rng([0, i])),
    ):
        done = tr.rounds(problem, theta, settings, draw, 6)
        for one in (made for round_ in done for made in round_.values()):
            assert np.isfinite([one.kl, one.promised, one.after, one.next_beta]).all()
            if rewards[0] == rewards[2]:
                assert one.kl < 1e-12
        if delta == 0:
            assert all(round_["trpo"].kl == 0 == round_["natural"].kl for round_ in done)
