"""Put the measured numbers into docs/benchmarks.md and the README, from the result files of the last runs.

    python -m benchmarks.write_docs

Only what stands between ``<!-- NAME -->`` and ``<!-- end -->`` is written; the words around it are not touched.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, parser, spread

ROOT = Path(__file__).resolve().parents[1]
LEARNING = ("sums", "story-grpo", "story-dpo", "story-ppo")
VS_TRL = ("grpo", "grpo-5m", "dpo", "sft", "sampling", "memory")
REWARD_MODEL = ("clean", "noisy", "step", "loop")
ORDER = (
    "cold_start",
    "start_latency",
    *(f"learning-{task}" for task in LEARNING),
    "live_page_cost",
    *(f"vs_trl-{task}" for task in VS_TRL),
    *(f"reward_model-{task}" for task in REWARD_MODEL),
    "overoptimisation",
    "scaling",
    "lab_latency",
)


def results() -> dict[str, dict[str, Any]]:
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ORDER if (RESULTS / f"{name}.json").exists()}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Every row of every benchmark."""
    lines = ["| what | measured: median (lowest … highest) | n | goal | |", "|---|---|---|---|---|"]
    for result in found.values():
        for row in result["rows"]:
            goal = "" if row["goal"] == "none" else row["goal"]
            verdict = "" if row["goal"] == "none" else "met" if row["met"] else "**missed**"
            lines.append(f"| {row['what']} | {spread(row['values'])} {row['unit']} | {len(row['values'])} | {goal} | {verdict} |")
    return "\n".join(lines)


def machine(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, result in found.items():
        where = result["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
        hardware = f"{where['cores']} cores of {where['cpu']}, {where['memory_gib']} GiB"
        load = where["load"][0] if where["load"] else "unknown"
        lines.append(f"- `{name}`: {where['time']}, {hardware}, Python {where['python']}, {versions}; load average before the start {load}")
    return "\n".join(lines)


def samples(found: dict[str, dict[str, Any]]) -> str:
    """What story GRPO writes before and after, of each seed."""
    lines = []
    for seed, outcome in enumerate(found["learning-story-grpo"]["details"]["seeds"]):
        prompt, before, after = (" ".join(text.split()) for text in outcome["texts"][0])
        lines += [f"Seed {seed}. *{prompt}*", "", f"> before: {before}", ">", f"> after: {after}", ""]
    return "\n".join(lines).rstrip()


def fill(path: Path, blocks: dict[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(text):
            raise SystemExit(f"{path} has no place for “{name}”.")
        text = marked.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    parser(__doc__).parse_args()
    found = results()
    if missing := [name for name in ORDER if name not in found]:
        print(f"No results yet of: {', '.join(missing)}. Run python -m benchmarks.{missing[0]} first.")
        return 1
    fill(ROOT / "docs" / "benchmarks.md", {"results": table(found), "machine": machine(found), "samples": samples(found)})
    with_goal = {name: {"rows": [row for row in result["rows"] if row["goal"] != "none"]} for name, result in found.items()}
    fill(ROOT / "README.md", {"benchmarks": table(with_goal)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
