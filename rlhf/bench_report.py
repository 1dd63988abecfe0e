"""A benchmark's lines as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf.bench import PARTS

_TOP = 25  # operators that are listed


def line(record: Mapping[str, Any]) -> str:
    """What one line of a benchmark says; "" for what a terminal need not see."""
    match record["type"]:
        case "benchmark":
            where = record["machine"]
            load = "" if where["load"] is None else f", load {where['load']}"
            head = f"{where['cores']} cores of {where['cpu']}, {where['memory_gib']} GiB, torch {where['torch']}{load}"
            head += f"; model {record['model']}"
            columns = "  ".join(f"{part:>9}" for part in PARTS)
            return f"{head}\n{'':14}{'sequences':>10}{'steps/s':>9}{'tokens/s':>10}{'MiB':>8}   ms a step: {columns}"
        case "failed":
            return f"{record['algorithm']:<14}{record['sequences']:>10}  failed: {record['what']} {record['do']}".rstrip()
        case "profiled":
            return _operators(record)
        case "measured":
            parts = "  ".join(f"{record['parts'].get(part, 0.0) * 1e3:9.1f}" for part in PARTS)
            figures = f"{1 / record['seconds']:9.3g}{record['tokens_per_second']:10.0f}{record['memory_mib']:8.0f}"
            return f"{record['algorithm']:<14}{record['sequences']:>10}{figures}{'':14}{parts}"
    return ""


def _operators(record: Mapping[str, Any]) -> str:
    """Sums of the groups, then the most expensive operators; milliseconds a step that they take themselves."""
    operators = record["operators"]
    total = sum(row[3] for row in operators) or 1.0
    lines = [f"{record['algorithm']}, {record['sequences']} sequences: {record['wall']:.1f} ms a step under the profiler, which slows it"]
    for name in dict.fromkeys(row[1] for row in operators):
        spent = sum(row[3] for row in operators if row[1] == name)
        lines.append(f"  {name:<18}{spent:10.1f} ms  {spent / total:6.1%}")
    lines.append(f"  {'operator':<52}{'group':<18}{'calls':>8}{'ms':>10}")
    for name, kind, calls, milliseconds in operators[:_TOP]:
        lines.append(f"  {name[:50]:<52}{kind:<18}{calls / record['steps']:8.0f}{milliseconds:10.1f}")
    return "\n".join(lines)
