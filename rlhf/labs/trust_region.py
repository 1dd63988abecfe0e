"""One update of a policy from a batch, by five methods: how far to believe what the old policy's samples say.

    plain      θ + α·g, with g = ∂L/∂θ (surrogate.py)
    natural    θ + √(2δ / gᵀF⁺g)·F⁺g, or θ + α·F⁺g; F⁺: the pseudo-inverse of the Fisher matrix (Kakade 2001)
    trpo       s ≈ F⁺g by conjugate gradient; the first θ + 0.8^j·√(2δ / sᵀFs)·s, j = 0, 1, …, at which L gains and the mean
               KL(π_old ‖ π) ≤ δ (Schulman et al. 2015, appendix C)
    ppo_clip   K epochs on Σ w_i·min(ρ_i·A_i, clip(ρ_i, 1−ε, 1+ε)·A_i) (Schulman et al. 2017, eq. 7)
    ppo_kl     K epochs on L − β·KL(π_old ‖ π); then β halves or doubles (Schulman et al. 2017, eq. 8 and §4)

https://papers.nips.cc/paper/2073-a-natural-policy-gradient, https://arxiv.org/abs/1502.05477, https://arxiv.org/abs/1707.06347.
Where TRPO's paper leaves a number open, it is that of common implementations: ten products, ten trials, each 0.8 times as long as the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.labs.conjugate_gradient import Solved, conjugate_gradient
from rlhf.labs.mdp import Floats, visits
from rlhf.labs.rounding import total, without_rounding
from rlhf.labs.softmax_policy import log_softmax
from rlhf.labs.surrogate import Batch, Problem, mean_kl

METHODS = ("plain", "natural", "trpo", "ppo_clip", "ppo_kl")
SHRINK, TRIALS = 0.8, 10
SINGULAR = 1e-12  # eigenvalues of the Fisher matrix below this share of its largest count as 0
ROUNDING = 1e-14  # slopes below it are 0: Adam would take steps of its own length along them
NOTHING = 1e-24  # sᵀFs, a squared advantage, below which only rounding is left


@dataclass(frozen=True)
class Settings:
    """``step``: α of the plain step; ``natural_step``: α of the natural step, None takes it from δ; ``delta``: nats, also the target
    of the adaptive β; ``products``: of conjugate gradient, at most; ``rate``: of PPO's epochs, by Adam or by plain gradient;
    ``beta``: the penalty's in the first update."""

    step: float = 1.0
    delta: float = 0.02
    natural_step: float | None = None
    products: int = 10
    epsilon: float = 0.2
    rate: float = 0.5
    epochs: int = 8
    adam: bool = False
    beta: float = 1.0


@dataclass(frozen=True)
class Trial:
    """A step of the line search: ``theta`` (P,), its mean KL on the batch, what the surrogate promises for it (a decision)."""

    theta: Floats
    kl: float
    gain: float
    accepted: bool


@dataclass(frozen=True)
class Update:
    """``path``: θ from start to end, with PPO's epochs between; ``kl``: exact, ``batch_kl``: as the batch's states measure it (nats);
    ``promised``: by the surrogate, ``before``, ``after``: J, exact; ``cut``: the share of decisions without gradient before each epoch and
    at the end; ``beta``, ``next_beta``: of the penalty; ``scale``: the first step's length in units of ``solved.x``."""

    method: str
    path: tuple[Floats, ...]
    kl: float
    batch_kl: float
    promised: float
    before: float
    after: float
    trials: tuple[Trial, ...] = ()
    solved: Solved | None = None
    scale: float = 0.0
    cut: tuple[float, ...] = ()
    beta: float = 0.0
    next_beta: float = 0.0

    @property
    def won(self) -> float:
        return float(without_rounding(self.after - self.before, max(abs(self.after), abs(self.before))))


def natural_direction(problem: Problem, batch: Batch) -> Floats:
    """F⁺·g, (P,)."""
    direction = np.linalg.pinv(batch.fisher(problem), rcond=SINGULAR, hermitian=True) @ batch.gradient(problem)
    return without_rounding(direction, np.abs(direction).max())


def centred(problem: Problem, direction: Floats) -> Floats:
    """How a direction in θ (P,) moves the logits of each state, less their mean, (S, A): the mean moves no probability."""
    logits = problem.logits(direction)
    return logits - logits.mean(1, keepdims=True)


def scale_to(delta: float, direction: Floats, product: Floats) -> float:
    """√(2δ / sᵀFs): how often s fits into the limit, as far as KL ≈ ½·sᵀFs holds. 0 where s moves nothing. ``product``: F·s."""
    curvature = float(direction @ product)
    return float(np.sqrt(2 * delta / curvature)) if curvature > NOTHING else 0.0


def is_cut(ratios: Floats, advantages: Floats, epsilon: float) -> NDArray[np.bool_]:
    """Where the clipped surrogate has no slope: ρ has left 1 − ε … 1 + ε on the side to which the advantage pushes."""
    return ((ratios > 1 + epsilon) & (advantages > 0)) | ((ratios < 1 - epsilon) & (advantages < 0))


def clipped_surrogate(batch: Batch, logprobs: Floats, epsilon: float) -> float:
    """Σ w_i·min(ρ_i·A_i, clip(ρ_i, 1 − ε, 1 + ε)·A_i): what PPO-clip maximises."""
    ratios = batch.ratios(logprobs)
    return total(batch.weights * np.minimum(ratios * batch.advantages, ratios.clip(1 - epsilon, 1 + epsilon) * batch.advantages))


def clip_gradient(problem: Problem, batch: Batch, theta: Floats, epsilon: float) -> tuple[Floats, float]:
    """∂/∂θ of the clipped surrogate (P,), and the share of the batch that is cut."""
    logprobs = problem.logprobs(theta)
    ratios = batch.ratios(logprobs)
    cut = is_cut(ratios, batch.advantages, epsilon)
    by_logprob = batch.by_cell(np.where(cut, 0.0, batch.weights * ratios * batch.advantages))
    return problem.slope(by_logprob, np.exp(logprobs)), float(batch.weights @ cut)


def penalty_gradient(problem: Problem, batch: Batch, theta: Floats, beta: float) -> Floats:
    """∂/∂θ of L − β·KL(π_old ‖ π), (P,)."""
    logprobs = problem.logprobs(theta)
    by_logprob = batch.by_cell(batch.weights * batch.ratios(logprobs) * batch.advantages)
    by_logprob += beta * batch.state_weights[:, None] * np.exp(batch.old)
    return problem.slope(by_logprob, np.exp(logprobs))


def adapted(beta: float, distance: float, target: float) -> float:
    """β of the next update: half below target / 1.5, double above 1.5·target (Schulman et al. 2017, §4)."""
    if distance < target / 1.5:
        return beta / 2
    return beta * 2 if distance > 1.5 * target else beta


def update(method: str, problem: Problem, theta: Floats, batch: Batch, settings: Settings, beta: float | None = None) -> Update:
    """One update of θ (P,) from its batch, by one of ``METHODS``. ``beta``: of the penalty, if not that of the settings."""
    beta = settings.beta if beta is None else beta
    extra: dict = {}
    if method == "plain":
        path = [theta, theta + settings.step * batch.gradient(problem)]
    elif method == "natural":
        direction = natural_direction(problem, batch)
        by_limit = scale_to(settings.delta, direction, batch.fisher_product(problem, direction))
        extra["scale"] = by_limit if settings.natural_step is None else settings.natural_step
        path = [theta, theta + extra["scale"] * direction]
    elif method == "trpo":
        extra = _line_search(problem, theta, batch, settings)
        path = [theta, *(trial.theta for trial in extra["trials"] if trial.accepted)]
    elif method == "ppo_clip":
        path, extra["cut"] = _clip_epochs(problem, theta, batch, settings)
    else:
        path = _climb(theta, settings, lambda now: penalty_gradient(problem, batch, now, beta))
        extra = {"beta": beta, "next_beta": adapted(beta, batch.kl(problem.logprobs(path[-1])), settings.delta)}
    reached = visits(problem.mdp, np.exp(batch.old), problem.gamma)
    end = problem.logprobs(path[-1])
    return Update(
        method, tuple(path), mean_kl(reached / reached.sum(), batch.old, end), batch.kl(end), batch.steps * batch.surrogate(end),
        problem.expected_return(theta), problem.expected_return(path[-1]), **extra,
    )  # fmt: skip


def _line_search(problem: Problem, theta: Floats, batch: Batch, settings: Settings) -> dict:
    """TRPO: the first trial within the limit that promises a gain. None is: the policy stays."""
    product: Callable[[Floats], Floats] = lambda vector: batch.fisher_product(problem, vector)  # noqa: E731
    solved = conjugate_gradient(product, batch.gradient(problem), most=settings.products)
    scale, trials = scale_to(settings.delta, solved.x, product(solved.x)), []
    while scale > 0 and len(trials) < TRIALS and not any(trial.accepted for trial in trials):
        there = theta + SHRINK ** len(trials) * scale * solved.x
        logprobs = problem.logprobs(there)
        kl, gain = batch.kl(logprobs), batch.surrogate(logprobs)
        trials.append(Trial(there, kl, gain, kl <= settings.delta and gain > 0))
    return {"trials": tuple(trials), "solved": solved, "scale": scale}


def _clip_epochs(problem: Problem, theta: Floats, batch: Batch, settings: Settings) -> tuple[list[Floats], tuple[float, ...]]:
    cut: list[float] = []

    def slope(now: Floats) -> Floats:
        gradient, share = clip_gradient(problem, batch, now, settings.epsilon)
        cut.append(share)
        return gradient

    path = _climb(theta, settings, slope)
    slope(path[-1])
    return path, tuple(cut)


def _climb(theta: Floats, settings: Settings, slope: Callable[[Floats], Floats]) -> list[Floats]:
    """K epochs of ascent, by the gradient or by Adam (Kingma & Ba 2015, begun anew in each update); θ before and after each."""
    path, first, second = [theta], np.zeros_like(theta), np.zeros_like(theta)
    for epoch in range(1, settings.epochs + 1):
        gradient = slope(path[-1])
        gradient = np.where(np.abs(gradient) < ROUNDING, 0.0, gradient)
        if settings.adam:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            gradient = first / (1 - 0.9**epoch) / (np.sqrt(second / (1 - 0.999**epoch)) + 1e-8)
        path.append(path[-1] + settings.rate * gradient)
    return path


Draw = Callable[[Floats, int], Batch]
Round = dict[str, Update]


def rounds(problem: Problem, theta: Floats, settings: Settings, draw: Draw, count: int, earlier: Sequence[Round] = ()) -> list[Round]:
    """``count`` updates by every method, each from where its last one ended; ``earlier``: those that are known already.

    ``draw(theta, i)``: the batch of update i. The first is one for all, since all begin at the same policy.
    """
    done = list(earlier[:count])
    while len(done) < count:
        batch = None if done else draw(theta, 0)
        made: Round = {}
        for method in METHODS:
            last = done[-1][method] if done else None
            here = last.path[-1] if last else theta
            made[method] = update(method, problem, here, batch or draw(here, len(done)), settings, last.next_beta if last else None)
        done.append(made)
    return done


def reach(problem: Problem, theta: Floats, direction: Floats, state_weights: Floats, delta: float) -> float:
    """How far one can go along a direction before the mean KL is δ, in units of the direction; inf where it never is.

    Along a line in θ the KL is convex and 0 at the start, so it only grows: by bisection, to 1e-9 of the length.
    """
    old = problem.logprobs(theta)

    def within(length: float) -> bool:
        return mean_kl(state_weights, old, problem.logprobs(theta + length * direction)) <= delta

    if delta <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while within(high):
        low, high = high, 2 * high
        if high > 1e12:
            return float("inf")
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def ring(policy: Floats, delta: float, count: int = 120) -> Floats:
    """The edge of {π: KL(policy ‖ π) ≤ δ} for three actions, (count, 3): by bisection along ``count`` directions of the logits."""
    angles = np.linspace(0, 2 * np.pi, count)
    around = np.outer(np.cos(angles), [1, -1, 0]) / np.sqrt(2) + np.outer(np.sin(angles), [1, 1, -2]) / np.sqrt(6)
    old = np.log(policy)
    low, high = np.zeros(count), np.full(count, 1e4)
    for _ in range(60):
        middle = (low + high) / 2
        within = (policy * (old - log_softmax(old + middle[:, None] * around))).sum(1) <= delta
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.exp(log_softmax(old + low[:, None] * around))
