"""The live panel on the pages that have one, in every state of a run; and the arithmetic of the formula pane, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import formula, formula_grpo, formula_pairs, formula_ppo, live, samples
from pages.components.state import Feed
from rlhf import runs
from rlhf.runs import Run
from tests.app.opening import open_page, texts
from tests.canned import canned_events, canned_run, canned_writer


def page(name: str, run: Run | str) -> AppTest:
    return open_page(name, run=run if isinstance(run, str) else run.id)


def prompts_of(at: AppTest) -> Any:
    return next(box for box in at.selectbox if str(box.key).startswith("prompt:"))


def buttons(at: AppTest) -> dict[str, Any]:
    """The panel's buttons, by the first part of their key."""
    return {button.key.partition(":")[0]: button for button in at.button if button.key and ":" in button.key}


@pytest.mark.parametrize("algorithm", ["reinforce", "grpo", "ppo", "dpo"])
def test_finished_run(root: Path, algorithm: str):
    at = page(algorithm, canned_run(root, algorithm, steps=6, weights=False))
    assert not at.exception
    assert "What changed" in texts(at)
    assert {"pause", "keep", "discard", "resume"}.isdisjoint(buttons(at))
    assert any("reward" in str(metric.label).lower() for metric in at.metric)


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("queued", {"discard"}),
        ("paused", {"resume", "keep", "discard"}),
        ("stopped", {"resume"}),
        ("interrupted", {"resume", "keep", "discard"}),
        ("failed", {"resume"}),
    ],
)
def test_every_state_says_what_can_be_done(root: Path, state: Any, offered: set[str]):
    at = page("grpo", canned_run(root, state=state, steps=6, weights=False))
    assert not at.exception
    found = buttons(at)
    assert offered == {"pause", "keep", "discard", "resume"} & set(found)
    if state == "failed":
        assert "Lower the learning rate" in "".join(str(e.value) for e in at.error)


def test_running_run_is_paused_and_stopped_by_its_buttons(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False) as writer:
        at = page("grpo", writer.run)
        assert not at.exception
        assert {"pause", "keep", "discard"} <= set(buttons(at))
        buttons(at)["pause"].click().run()
        assert writer.run.request[0] == "pause" and "resume" in buttons(at)
        buttons(at)["resume"].click().run()
        assert writer.run.request[0] == "run"
        buttons(at)["keep"].click().run()
        assert writer.run.request[0] == "stop_keep"


def test_discard_asks_first_and_says_what_is_lost(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False) as writer:
        at = page("grpo", writer.run)
        buttons(at)["discard"].click().run()
        assert writer.run.request[0] == "run"
        assert "up to step 5" in texts(at)
        at.button(key="discard-yes").click().run()
        assert writer.run.request[0] == "stop_discard"


def test_resume_queues_the_run_again(root: Path):
    run = canned_run(root, state="paused", steps=6, weights=False)
    at = page("grpo", run)
    buttons(at)["resume"].click().run()
    assert not at.exception and run.status.state == "queued"
    assert any("worker takes the run" in str(info.value) for info in at.info)


def test_waiting_run_tells_its_place(root: Path):
    first = canned_run(root, state="queued", steps=6, weights=False)
    second = canned_run(root, state="queued", steps=6, weights=False, seed=1)
    assert (first.status.queue_place, second.status.queue_place) == (1, 2)
    assert "place 2" in texts(page("grpo", second))


@pytest.mark.parametrize("run_id", ["..", "../../etc", "no-such-run", "<b>x</b>"])
def test_a_bad_link_is_told_in_words(root: Path, run_id: str):
    at = page("grpo", run_id)
    assert not at.exception and at.warning


def test_damaged_folder(root: Path):
    run = canned_run(root, steps=6, weights=False)
    (run.path / "config.json").write_text("{")
    assert not page("grpo", run).exception


def test_markup_in_a_prompt_is_text(root: Path):
    run = canned_run(root, steps=40, weights=False)  # one canned prompt has <b>; on some step it was drawn
    feed = Feed(run)
    step = next(s for s in run.sample_steps() if any("<b>" in r["prompt"] for r in run.samples_at(s)))
    index = [("<b>" in r["prompt"]) for r in samples.records_at(feed, step)].index(True)
    at = page("grpo", run)
    at.slider(key=f"step:{run.id}:0").set_value(step).run()
    prompts_of(at).set_value(index).run()
    assert not at.exception
    assert any(r"\<b\>window" in str(m.value) for m in at.markdown)
    assert not any("<b>window" in str(m.value) for m in at.markdown)


def test_step_slider_leads_to_that_steps_samples(root: Path):
    run = canned_run(root, steps=6, weights=False)
    at = page("grpo", run)
    prompt = run.samples_at(2)[0]["prompt"]
    at.slider(key=f"step:{run.id}:0").set_value(2).run()
    assert at.slider(key=f"step:{run.id}:0").value == 2
    assert samples.shortened(prompt, 60) in prompts_of(at).options[0]
    at.button(key=f"follow:{run.id}").click().run()
    assert at.slider(key=f"step:{run.id}:1").value == 6


def test_a_live_run_is_followed_until_a_step_is_chosen(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False) as writer:
        at = page("grpo", writer.run)
        assert "step 5" in texts(at)
        at.button(key=f"choose:{writer.run.id}").click().run()
        at.slider(key=f"step:{writer.run.id}:1").set_value(3).run()
        for event in canned_events(writer.run.load_config(), first=5, last=6):
            writer.write(event)
        at.run()
        assert at.slider(key=f"step:{writer.run.id}:1").value == 3
        at.button(key=f"follow:{writer.run.id}").click().run()
        assert not at.slider(key="smooth").disabled and "step 6" in texts(at)


@pytest.mark.parametrize("algorithm", ["reinforce", "grpo", "ppo", "dpo", "rrhf"])
def test_a_clicked_token_opens_the_formula(root: Path, algorithm: str):
    run = canned_run(root, algorithm, steps=4, weights=False)
    record = run.samples_at(4)[0]
    for place, _answer in samples.answers_of(record):
        at = AppTest.from_function(_formula_script, kwargs={"run_id": run.id, "place": place, "t": 1}, default_timeout=30).run()
        assert not at.exception and at.latex


def _formula_script(run_id: str, place: int | str, t: int) -> None:
    from pages.components import formula
    from rlhf import runs

    run = runs.open_run(run_id)
    formula.explain(run.algorithm, run.config, run.samples_at(4)[0], place, t)


# ---------------------------------------------------------------- the arithmetic


def response(**tokens: list[float]) -> dict[str, Any]:
    return {"reward": 0.5, "advantage": 2.0, "tokens": {"ids": [1] * len(tokens["logprobs"]), **tokens}}


def test_surrogate_by_hand():
    """ratio e^0.3 = 1.35, clip at 1.2, advantage 2: free 2.70, clipped 2.40 → the clipped branch is the smaller one."""
    s = formula.surrogate(response(logprobs=[-1.0], old_logprobs=[-1.3], advantages=[2.0]), 0, 0.2, 0.2)
    assert s.ratio == pytest.approx(math.exp(0.3)) and s.clipped == pytest.approx(2.4)
    assert s.winner == "clipped" and s.value == pytest.approx(2.4)
    negative = formula.surrogate(response(logprobs=[-1.0], old_logprobs=[-1.3], advantages=[-2.0]), 0, 0.2, 0.2)
    assert negative.winner == "free" and negative.value == pytest.approx(-2 * math.exp(0.3))
    assert formula.surrogate(response(logprobs=[-1.0], ratio=[1.0]), 0, 0.2, 0.2).winner == "both"


def test_k3_by_hand():
    """d = −1 − (−2) = 1: e^−1 − 1 + 1 = 0.368."""
    kl = formula.kl_term(response(logprobs=[-1.0], ref_logprobs=[-2.0]), 0)
    assert kl is not None and kl.d == 1.0 and kl.k3 == pytest.approx(math.exp(-1))
    assert formula.kl_term(response(logprobs=[-1.0]), 0) is None


def test_gae_by_hand():
    """γ = 1, λ = ½, values 1, 2, rewards −0.1, 3: δ₁ = 3 − 2 = 1 = A₁; δ₀ = −0.1 + 2 − 1 = 0.9, A₀ = 0.9 + ½·1 = 1.4."""
    answer = response(logprobs=[-1.0, -1.0], old_logprobs=[-1.0, -1.0], ref_logprobs=[-2.0, -1.5], values=[1.0, 2.0], rewards=[-0.1, 3.0])
    first, last = formula_ppo.gae_terms(answer, 0, 1.0, 0.5, 0.1), formula_ppo.gae_terms(answer, 1, 1.0, 0.5, 0.1)
    assert (first.delta, first.next_advantage, first.advantage) == pytest.approx((0.9, 1.0, 1.4))
    assert first.final_reward is None and first.kl_penalty == pytest.approx(0.1)
    assert (last.delta, last.next_value, last.advantage, last.final_reward) == pytest.approx((1.0, 0.0, 1.0, 0.5))


def test_pair_by_hand():
    """Δ_w = −3 + 4 = 1, Δ_l = −5 + 2 = −3, β = ½: margin 2, σ(2) = 0.881, loss 0.127."""
    record = {
        "chosen": {"tokens": {"logprobs": [-1.0, -2.0], "ref_logprobs": [-2.0, -2.0]}},
        "rejected": {"tokens": {"logprobs": [-5.0], "ref_logprobs": [-2.0]}},
    }
    for side in ("chosen", "rejected"):
        record[side]["tokens"]["ids"] = [1] * len(record[side]["tokens"]["logprobs"])
    pair = formula_pairs.terms({"beta": 0.5}, **record)
    assert (pair.chosen, pair.rejected, pair.margin) == (1.0, -3.0, 2.0)
    assert pair.probability == pytest.approx(1 / (1 + math.exp(-2))) and pair.loss == pytest.approx(-math.log(pair.probability))
    assert pair.pull_chosen == pytest.approx(0.5 * (1 - pair.probability)) == -pair.pull_rejected
    assert formula_pairs.terms({"beta": 1e4}, **record).loss == 0.0  # no overflow
    ld = formula_pairs.terms({"beta": 0.5, "ld_alpha": 0.5}, **record)  # the second chosen token is beyond the other answer: half of 0
    assert ld.chosen == 1.0 and ld.rejected == -3.0


def test_formula_agrees_with_the_engine():
    """The same numbers as the losses themselves, on a random answer."""
    torch = pytest.importorskip("torch")
    from rlhf.advantages import gae
    from rlhf.algorithms.dpo import dpo_loss
    from rlhf.algorithms.grpo import VARIANTS, grpo_loss
    from rlhf.pair_losses import LOSSES

    torch.manual_seed(0)
    n = 7
    new, old, ref = (-torch.rand(1, n, dtype=torch.float64) * 3 for _ in range(3))
    mask = torch.ones(1, n, dtype=torch.bool)
    answer = response(
        logprobs=new[0].tolist(), old_logprobs=old[0].tolist(), ref_logprobs=ref[0].tolist(), advantages=[2.0] * n,
        values=old[0].tolist(), rewards=ref[0].tolist(),
    )  # fmt: skip
    loss, _stats = grpo_loss(
        new, old, ref, torch.tensor([2.0], dtype=torch.float64), mask, beta=0.1, epsilon_low=0.2, epsilon_high=0.2, variant="grpo"
    )
    terms = [formula.surrogate(answer, t, 0.2, 0.2).value - 0.1 * formula.kl_term(answer, t).k3 for t in range(n)]  # type: ignore[union-attr]
    assert -sum(terms) / n == pytest.approx(float(loss))
    for variant in VARIANTS:
        config = {"variant": variant, "epsilon_low": 0.2, "epsilon_high": 1.5, "epochs": 2, "max_new_tokens": 9}
        two = torch.tensor([2.0], dtype=torch.float64)
        loss, _stats = grpo_loss(new, old, None, two, mask, 0.0, 0.2, 1.5, variant, max_completion_length=9)
        shown = dict(answer["tokens"])
        if variant == "gspo":  # which records the response's own ratio at each token
            shown["ratio"] = [float((new - old).mean().exp())] * n
        values = [formula_grpo.objective(config, formula.surrogate({**answer, "tokens": shown}, t, 0.2, 1.5))[0] for t in range(n)]
        weight = formula_grpo.mean_weight(config, n)[1] or 1 / n  # one response is the whole batch here
        assert -sum(values) * weight == pytest.approx(float(loss)), variant
    advantages, _returns = gae(ref, old, mask, 1.0, 0.95)
    assert [formula_ppo.gae_terms(answer, t, 1.0, 0.95, 0.1).advantage for t in range(n)] == pytest.approx(advantages[0].tolist())
    record = {
        side: {"tokens": {"ids": [1] * n, "logprobs": a[0].tolist(), "ref_logprobs": b[0].tolist()}}
        for side, a, b in (("chosen", new, ref), ("rejected", old, new))
    }
    sums = [t.sum(1) for t in (new, old, ref, new)]
    loss, _stats = dpo_loss(sums[0], sums[1], sums[2], sums[3], beta=0.3, variant="sigmoid", label_smoothing=0.1)
    assert formula_pairs.terms({"beta": 0.3, "label_smoothing": 0.1}, **record).loss == pytest.approx(float(loss))
    for variant in LOSSES:
        smoothing = 0.1 if variant == "exo_pair" else 0.0
        lengths = torch.tensor([n])
        loss, _stats = dpo_loss(*sums, 0.3, variant, smoothing, chosen_lengths=lengths, rejected_lengths=lengths)
        config = {"beta": 0.3, "variant": variant, "label_smoothing": smoothing}
        assert formula_pairs.terms(config, **record).loss == pytest.approx(float(loss)), variant


@pytest.mark.parametrize("returns", ["trajectory", "to_go"])
@pytest.mark.parametrize("baseline", ["none", "running_mean", "leave_one_out", "value", "greedy", "batch"])
def test_reinforces_formula_works_out_what_the_engine_used(returns: str, baseline: str):
    """Two prompts of three responses: from the recorded rewards of the tokens, each advantage comes out again."""
    torch = pytest.importorskip("torch")
    from pages.components import formula_reinforce
    from rlhf.algorithms.reinforce import Facts, estimate

    if (returns, baseline) == ("trajectory", "value"):
        pytest.skip("refused by the settings")
    torch.manual_seed(0)
    lengths = [3, 1, 4, 2, 4, 3]
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    facts = Facts(torch.randn(6, 4), mask, 3, past=0.3, values=torch.randn(6, 4), greedy=torch.randn(2), gamma=0.9, lam=0.8)
    if returns == "trajectory":
        facts = replace(facts, gamma=1.0)
    earned, expected, advantages = estimate(facts, returns, baseline)
    scale = (earned - expected)[mask].std()
    config = {"returns": returns, "baseline": baseline, "gamma": facts.gamma, "lam": 0.8, "beta": 0.1}
    columns = {"rewards": facts.rewards, "baselines": expected, "advantages": advantages, "values": facts.values, "logprobs": -mask.float()}
    columns["scales"] = scale.expand(6, 4)
    answers = [{"reward": 0.0, "tokens": {name: column[i, :n].tolist() for name, column in columns.items()}} for i, n in enumerate(lengths)]
    for answer, n in zip(answers, lengths, strict=True):
        answer["tokens"]["ids"] = [1] * n
    for group in (answers[:3], answers[3:]):
        for place, answer in enumerate(group):
            for t in range(len(answer["tokens"]["ids"])):
                found = formula_reinforce.worth(config, {"responses": group}, place, t)
                assert found.advantage == pytest.approx(answer["tokens"]["advantages"][t], abs=1e-5) and found.agrees


def test_token_colourings_have_a_number_for_every_token(tmp_path: Path):
    for algorithm in ("reinforce", "grpo", "ppo", "dpo", "rrhf"):
        run = canned_run(tmp_path, algorithm, steps=4, weights=False)
        record = run.samples_at(4)[0]
        found = samples.colourings(algorithm, record)
        assert found
        for colouring in found:
            for _place, answer in samples.answers_of(record):
                values = samples.token_values(answer, colouring.key)
                assert len(values) == len(answer["tokens"]["ids"]) and all(math.isfinite(v) for v in values)


def test_a_deleted_run_leaves_a_message(root: Path):
    run = canned_run(root, steps=4, weights=False)
    at = page("grpo", run)
    runs.delete(run)
    at.run()
    assert not at.exception and at.warning


def test_a_run_of_another_algorithm_is_shown_where_it_belongs(root: Path):
    at = page("sft", canned_run(root, "grpo", steps=4, weights=False))
    assert "a run of GRPO" in texts(at) and "What changed" not in texts(at)
    assert page("sft", "").button  # and without the link the page is its own


def test_a_difference_of_shares_is_in_points():
    assert live._change(0.42, 0.839, "share") == "+41.9 points · from 42.0 %"
    assert live._change(0.5, 0.25, "") == "-0.250 · from 0.500"


def test_what_tokens_are_coloured_by_stays_as_chosen(root: Path):
    def colours() -> Any:
        return next(box for box in at.selectbox if str(box.key).startswith("colour-tokens-by"))

    run = canned_run(root, steps=6, weights=False)
    at = page("grpo", run)
    assert colours().value == "advantages" and "colour-tokens-by" not in at.session_state  # nobody has chosen it
    colours().set_value("k3").run()
    at.slider(key=f"step:{run.id}:0").set_value(2).run()
    assert colours().value == "k3"
