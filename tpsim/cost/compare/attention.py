"""Measured attention, by backend and direction, and decode on a cache."""

from __future__ import annotations

from typing import Any

from tpsim.cost.attention import AttentionModel
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.measured import operators
from tpsim.cost.work import Attention


def cases() -> list[Case[Attention]]:
    """Return every measured row of training attention and of decode."""
    measured = operators()
    training = [_training(row) for row in measured["attention"]]
    return training + [_decode(row) for row in measured["decode_attention"] if row["op"] == "attend"]


def rows(model: AttentionModel) -> list[Row]:
    """Return measured against modelled; devices are taken as cool."""
    return [
        Row(c.group, c.what, c.measured_us, 1e6 * model.seconds(c.work, clock=1.0, graph=c.graph))
        for c in cases()
    ]


def _training(row: dict[str, Any]) -> Case[Attention]:
    work = Attention(
        batch=row["b"],
        heads=row["heads"],
        kv_heads=row["kv_heads"],
        seq=row["s"],
        kv_seq=row["s"],
        head_size=row["head_dim"],
        causal=row["causal"],
        direction=row["pass"],
        backend=row["backend"],
    )
    what = f"b={row['b']} heads={row['heads']}/{row['kv_heads']} s={row['s']} d={row['head_dim']}"
    return Case(f"attention {row['pass']}, {row['backend']}", what, work, row["us"])


def _decode(row: dict[str, Any]) -> Case[Attention]:
    work = Attention(
        batch=row["b"],
        heads=row["heads"],
        kv_heads=row["kv_heads"],
        seq=1,
        kv_seq=row["context"],
        head_size=128,
    )
    what = f"b={row['b']} heads={row['heads']}/{row['kv_heads']} context={row['context']}"
    return Case("attention, decode", what, work, row["us_graph"], graph=True)
