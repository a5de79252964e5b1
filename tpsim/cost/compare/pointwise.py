"""Measured pointwise kernels: large and queued, few rows in CUDA graphs, floors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tpsim.cost.compare.case import Case, Row
from tpsim.cost.host import HostModel
from tpsim.cost.measured import operators
from tpsim.cost.pointwise import PointwiseModel
from tpsim.cost.work import Pointwise

# Arrays read and written; see tpsim.cost.pointwise.
ARRAYS = {
    "add": 3,
    "gelu": 2,
    "gelu.backward": 3,
    "layer_norm": 2,
    "layer_norm.backward": 3,
    "rms_norm": 2,
    "rms_norm.backward": 3,
    "silu_strided": 2,
    "mul_strided": 3,
    "silu_mul": 3,
    "silu_mul.backward": 5,
    "copy": 2,
    "grad_accumulate": 3,
}
# How rows of the file that reshape are called here, and the copies of [s, b, heads·head_dim] they make.
RESHAPES = {
    "sbnd_to_bnsd": ("strided_copy", 1),
    "sbh_to_bsh": ("strided_copy", 1),
    "cat_qkv": ("cat", 3),
    "cat_qkv_permuted": ("cat", 3),
    "wgrad_transpose": ("transpose", 1),
}
ITEM = 2  # bytes
EVENT_US = 6.5  # host time of an event, from the shortest single calls
LAUNCH_US = 5.0  # from an empty queue, from the longer ones


def cases() -> list[Case[Pointwise]]:
    """Return the rows that a fit may use, without those of no kernel (a copy that turns out to be a view)."""
    measured = operators()
    return (
        [_queued(row) for row in measured["pointwise"] if row["us"] > 1]
        + [_small(row) for row in measured["small"]]
        + [case for row in measured["floor"] for case in _floor(row)]
        + [_kv_write(row) for row in measured["decode_attention"] if row["op"] == "kv_write"]
    )


def rows(model: PointwiseModel, host: HostModel) -> list[Row]:
    """Return measured against modelled, with single calls between two events too.

    Those start from an empty queue, and take no less than their host does to issue the call and the event
    behind it.
    """
    single = []
    for case in _single():
        issue = 1e6 * host.seconds(case.work.name, "no_grad") + EVENT_US
        row = _priced(case, model)
        single.append(replace(row, modelled_us=max(row.modelled_us + LAUNCH_US, issue)))
    return [_priced(case, model) for case in cases()] + single


def _priced(case: Case[Pointwise], model: PointwiseModel) -> Row:
    return Row(case.group, case.what, case.measured_us, 1e6 * model.seconds(case.work, graph=case.graph))


def _single() -> list[Case[Pointwise]]:
    """The file does not say of which width its rows are: 4096 here, which only a norm cares about."""
    measured = operators()
    copies = [
        {"op": "copy", "elements": row["bytes"] // ITEM, "us": row["us"]} for row in measured["eager_copy"]
    ]
    found = []
    for row in copies + measured["eager_elementwise"]:
        elements, width = row["elements"], 4096
        work = Pointwise(row["op"], elements // width, width, 2 * ITEM * elements)  # "add" is x + x
        found.append(Case("pointwise, one call", f"{row['op']} {elements} elements", work, row["us"]))
    return found


def plain(name: str, rows: int, width: int) -> Pointwise:
    """Return a kernel on [rows, width] in bfloat16."""
    name = name.removesuffix("_")
    return Pointwise(name, rows, width, ARRAYS[name] * ITEM * rows * width)


def _queued(row: dict[str, Any]) -> Case[Pointwise]:
    name = row["op"]
    if "elements" in row:
        work, what = plain(name, row["elements"] // 4096, 4096), f"{row['elements']} elements"
    elif "rows" in row:
        work, what = plain(name, row["rows"], row["width"]), f"{row['rows']}×{row['width']}"
    else:
        family, copies = RESHAPES[name]
        tokens, hidden = row["s"] * row["b"], row["heads"] * row["head_dim"]
        work = Pointwise(family, tokens, copies * hidden, 2 * copies * ITEM * tokens * hidden)
        what = f"s={row['s']} b={row['b']} {row['heads']}·{row['head_dim']}"
    return Case("pointwise", f"{name} {what}", work, row["us"])


def _small(row: dict[str, Any]) -> Case[Pointwise]:
    width = row["width"] if row["op"] in {"add", "layer_norm", "rms_norm"} else row["ffn"]
    what = f"{row['op']} {row['rows']}×{width}"
    return Case(
        "pointwise, few rows, graph", what, plain(row["op"], row["rows"], width), row["us_graph"], graph=True
    )


def _floor(row: dict[str, Any]) -> list[Case[Pointwise]]:
    if row["op"] == "rms_norm_1x8192":
        what, work = row["op"], plain("rms_norm", 1, 8192)
    else:
        elements = row.get("elements", 1)
        what, work = f"add {elements} elements", plain("add", 1, elements)
    return [
        Case("pointwise, floor, queued", what, work, row["us"]),
        Case("pointwise, floor, graph", what, work, row["us_graph"], graph=True),
    ]


def _kv_write(row: dict[str, Any]) -> Case[Pointwise]:
    rows, width = row["b"] * row["kv_heads"], 128
    what = f"b={row['b']} kv_heads={row['kv_heads']}"
    work = Pointwise("kv_write", rows, width, 4 * ITEM * rows * width)
    return Case("pointwise, kv_write, graph", what, work, row["us_graph"], graph=True)
