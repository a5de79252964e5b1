"""How a profile looks in a terminal."""

from __future__ import annotations

from rich.table import Table

from tpsim.trace.profile import GEMM, KINDS, Profile, Row

_SMALL = 0.005  # of a step; layers below are shown together


def profile_table(found: Profile, peak: float) -> Table:
    """Return the table of a profile.

    Parameters
    ----------
    found : Profile
    peak : float
        One rank's best, in FLOP/s.
    """
    what = f"a step's {1e3 * found.seconds:.1f} ms, mean of {found.steps} steps and {found.ranks} ranks"
    table = Table(title=f"{what} (ms)", title_justify="left", box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for column in ("of step", *KINDS, "GFLOP/s"):
        table.add_column(column, justify="right", no_wrap=column == "GFLOP/s")
    rest = Row("the rest", dict.fromkeys(KINDS, 0.0))
    for row in sorted(found.rows, key=lambda row: -row.total):
        if row.total >= _SMALL * found.seconds:
            table.add_row(row.layer, *_cells(row, found.seconds, peak))
            continue
        rest.matmul_flops += row.matmul_flops
        for kind in KINDS:
            rest.seconds[kind] += row.seconds[kind]
    if rest.total:
        table.add_row(rest.layer, *_cells(rest, found.seconds, peak), style="dim")
    everything = Row("", {kind: found.of(kind) for kind in KINDS}, sum(r.matmul_flops for r in found.rows))
    table.add_section()
    table.add_row("all", *_cells(everything, found.seconds, peak), style="bold")
    table.add_row("", "", *(f"{everything.seconds[kind] / found.seconds:.0%}" for kind in KINDS), "")
    return table


def _cells(row: Row, whole: float, peak: float) -> list[str]:
    cells = [f"{row.total / whole:.1%}", *(_ms(row.seconds[kind]) for kind in KINDS)]
    if not row.matmul_flops:
        return [*cells, ""]
    rate = row.matmul_flops / row.seconds[GEMM]
    return [*cells, f"{rate / 1e9:.0f} ({rate / peak:.0%})"]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds >= 5e-6 else ""
