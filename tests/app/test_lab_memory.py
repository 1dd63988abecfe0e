"""The lab of memory: the bars' numbers are the arithmetic's, bad models are met with words, the experiment shows what it measured."""

from __future__ import annotations

import json

from pages.components.numbers import megabytes
from rlhf.architecture import PUBLISHED
from rlhf.errors import RunError
from rlhf.labs import memory, memory_trial
from rlhf.labs.memory_trial import Trial
from tests.app.opening import open_page, press, texts

LLAMA = PUBLISHED["meta-llama/Meta-Llama-3-8B"]


def bars(at) -> list[str]:
    """The figures at the ends of the first chart's bars."""
    notes = json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]["annotations"]
    return [note["text"] for note in notes if "device" not in note["text"]]


def test_bars_are_the_arithmetic_and_follow_the_settings():
    at = open_page("lab_memory")
    expected = [megabytes(memory.fullest(m, LLAMA, memory.Setting(), True, "cuda").total) for m in memory.METHODS]
    assert bars(at) == expected
    assert "3.87 × the weights" in texts(at)
    at = press(at, "mem/try/dpo/lora")
    assert not at.exception
    small = memory.Setting(rank=16, dtype="bfloat16")
    assert megabytes(memory.fullest("dpo", LLAMA, small, False, "cuda").total) in bars(at)
    assert "with the adapter off" in texts(at)
    parts = next(box for box in at.selectbox if box.label == "A part, with its numbers").options
    for name in ("activations", "logits", "AdamW"):
        choice = next(option for option in parts if option.startswith(name))
        at = next(box for box in at.selectbox if box.label == "A part, with its numbers").select(choice).run()
        assert not at.exception and choice.split(" · ")[1].split()[0] in texts(at)


def test_links_and_bad_models_are_met_with_words():
    at = open_page(
        "lab_memory",
        None,
        **{"mem.model": "numbers", "mem.heads": "7", "mem.kv_heads": "2", "mem.rank": "x", "mem.dtype": "fp8", "mem.prompt": "-3"},
    )
    assert "7 heads cannot share 2" in texts(at)
    for name, value in (("Heads", -5), ("Heads", 0), ("Layers", -1), ("Hidden width", 10**9)):
        box = next(box for box in at.number_input if box.label == name)
        at = box.set_value(value).run()
        assert not at.exception and at.error, (name, value)
    at = open_page("lab_memory", None, **{"mem.model": "config"})
    assert "There is no config yet" in texts(at)
    for text, told in (("{", "not JSON"), ('{"model_type": "t5"}', "t5"), ('{"model_type": "llama", "hidden_size": -1}', "above 0")):
        at = at.text_area[0].set_value(text).run()
        assert not at.exception and told in texts(at)


def test_the_experiment_shows_what_it_measured(monkeypatch):
    def run(method, config, prompt, answer):
        if method == "ppo":
            raise RunError("The measurement was not done.", "Choose fewer.")
        size = 100_000_000 if method == "sft" else 110_000_000
        return Trial(method, 99_000_000, size, None, 1536.0, "cpu")

    monkeypatch.setattr(memory_trial, "run", run)
    at = open_page("lab_memory", None, **{"mem.part": "measure"})
    assert next(b for b in at.button if b.key == "mem/measure").disabled
    at = at.radio[0].set_value(0).run()
    at = press(at, "mem/measure")
    shown = texts(at)
    assert "You guessed right" in shown and "1.10 times" in shown and "The measurement was not done." in shown
    frame = at.dataframe[0].value
    assert list(frame["Method"]) == ["SFT", "Reward model", "DPO", "GRPO", "RLOO"]
    assert frame["Predicted / measured"].iloc[0] == "0.990"


def test_the_table_follows_its_toggles():
    at = open_page("lab_memory", None, **{"mem.part": "methods"})
    networks = dict(zip(at.dataframe[0].value["Method"], at.dataframe[0].value["Networks"], strict=True))
    assert networks == {"SFT": "1", "Reward model": "1", "PPO": "4", "DPO": "2", "GRPO": "3", "RLOO": "3"}
    at = next(t for t in at.toggle if t.key == "mem.table_critic").set_value(False).run()
    frame = at.dataframe[0].value.set_index("Method")
    assert frame.loc["PPO", "Networks"] == "3" and at.table[0].value.loc["PPO", "Critic"] == "–"
    assert list(at.table[0].value.columns) == ["Asks a reward", "Critic", "Online", "Explores", "Sensitive to"]
    assert "value_clip_range" not in at.table[0].value.loc["PPO", "Sensitive to"]


def test_a_pasted_config_stays_in_the_link():
    at = open_page("lab_memory", None, **{"mem.model": "config"})
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "vocab_size": 99,
              "intermediate_size": 128}  # fmt: skip
    at = at.text_area[0].set_value(json.dumps(config)).run()
    line, shown = str(at.query_params["mem.sizes"]), bars(at)
    again = open_page("lab_memory", None, **{"mem.model": "config", "mem.sizes": line})
    assert bars(again) == shown and "came with the link" in texts(again)
    at = at.text_area[0].set_value("{").run()
    assert "not JSON" in texts(at) and "mem.sizes" not in at.query_params
    for damaged in ("x", line + ",1", line.replace("llama", "t5"), "9" * 5000):
        assert "damaged" in texts(open_page("lab_memory", None, **{"mem.model": "config", "mem.sizes": damaged}))
