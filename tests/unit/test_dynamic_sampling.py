"""Groups that teach nothing are replaced; what is replaced keeps its shape and belongs together."""

from __future__ import annotations

import torch

from rlhf.algorithms import make_config
from rlhf.dynamic_sampling import groups, informative, join, refill
from rlhf.events import Step
from rlhf.experience import Collector, drain
from rlhf.policy import Policy, load_pretrained
from rlhf.preferences import load_dataset
from rlhf.rollout import never
from rlhf.train import train

CONFIG = make_config("grpo", model="sums", variant="dapo", prompts_per_step=6, group_size=4, steps=1, eval_every=0, eval_prompts=2)


def collector() -> Collector:
    policy = Policy(load_pretrained("sums", "cpu"), CONFIG)
    return Collector(policy, CONFIG, load_dataset("prompts", CONFIG.data), never)


def batch(source: Collector, step: int):
    return drain(source.batch(step, with_reference=True))


def test_join_puts_batches_under_one_another_at_one_width():
    source = collector()
    first, second = batch(source, 1), batch(source, 2)
    both = join([groups(first, [0, 3]), groups(second, [5])])
    assert len(both.prompts) == 3 and len(both.rewards) == len(both.scored) == len(both.rollout) == 12
    assert both.rollout.texts == [t for e, i in ((first, 0), (first, 3), (second, 5)) for t in e.rollout.texts[i * 4 : i * 4 + 4]]
    for row, text in enumerate(both.rollout.texts):  # ids, mask and text still belong together
        ids = both.rollout.response_ids[row][both.mask[row]].tolist()
        assert source.policy.tokenizer.decode(ids, skip_special_tokens=True) == text
    again = source.policy.reference_logprobs(both.sequences)
    assert both.ref_logprobs is not None
    torch.testing.assert_close(again[both.mask], both.ref_logprobs[both.mask], rtol=1e-4, atol=1e-5)


def test_every_group_teaches_where_there_are_enough_prompts():
    source = collector()
    first = batch(source, 1)
    events = refill(first, source, 1, batches=8)
    while True:
        try:
            next(events)
        except StopIteration as stop:
            filled, taken = stop.value
            break
    assert len(informative(first)) < 6, "the case must have something to replace"
    assert 0 < taken <= 8 and informative(filled) == list(range(6))
    kept = [first.prompts[i] for i in informative(first)]
    assert filled.prompts[: len(kept)] == kept


def test_where_no_prompt_teaches_the_batch_keeps_its_size():
    source = collector()
    first = batch(source, 1)
    first.rewards.zero_()  # nobody can be better than the others
    events = refill(first, source, 1, batches=0)
    try:
        next(events)
    except StopIteration as stop:
        assert stop.value[0].prompts == first.prompts and stop.value[1] == 0


def test_the_reward_that_is_told_is_that_of_all_samples():
    steps = [event for event in train(CONFIG, load_dataset("prompts", CONFIG.data)) if isinstance(event, Step) and event.step == 1]
    metrics = steps[-1].metrics
    assert metrics["dynamic_sampling/batches"] >= 1 and metrics["frac_reward_zero_std"] > 0
