"""Time judged: what a function's products and collectives would take on a device, at sizes worth the trouble.

Nothing is timed. A run says in which order a rank began products and collectives and waited for them; that
order is laid out on a hardware profile's two streams, with the last two axes of every array made longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod

from tpsim.cost import hardware
from tpsim.cost.stacks import launches
from tpsim.cost.timeline import Timeline, kind, schedule
from tpsim.cost.work import Collective as Transfer
from tpsim.cost.work import Gemm, Work
from tpsim.lab.checking.case import Case
from tpsim.lab.checking.exercise import Collective, Deal, MissingError
from tpsim.lab.checking.finding import WrongError
from tpsim.lab.checking.run import Ran, RankRun
from tpsim.trace import CollectiveEvent, KernelEvent, Trace

DTYPE, ITEMSIZE = "bfloat16", 2


@dataclass(frozen=True)
class Takes:
    """A function takes at most a share of the time that its work takes one piece after another.

    The work is the deal's `traffic` and `products`. A rank alone has nothing to hide, and is not judged.

    Parameters
    ----------
    function : str
        Its products must be done with `matmul`, which it takes as an argument.
    most : float
        The share: 0.8 asks for a fifth to be saved.
    hardware : str
        The profile.
    scale : int
        Sizes of the last two axes are so many times those of the case.
    """

    function: str
    most: float
    points: int = 1
    hardware: str = "h100"
    scale: int = 4096

    @property
    def name(self) -> str:
        """As in "backward takes"."""
        return f"{self.function} takes"

    @property
    def says(self) -> str:
        """What holds."""
        return f"{self.function} takes at most {self.most:.0%} of the time of one thing after another"

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` for the first rank that takes longer."""
        if any(self.function not in one.ended for one in ran.ranks):
            raise MissingError(self.function)
        if case.t == 1:
            return
        most = self.most * self._one_after_another(case, deal)
        for rank, one in enumerate(ran.ranks):
            self._does_the_products(deal, rank, one)
            timeline = schedule(launches(self._trace(one)), _device(self.hardware), host="graph")
            if timeline.seconds > most:
                raise WrongError(
                    f"{self.function} on {self.hardware}, sizes × {self.scale}: rank {rank} takes "
                    f"{_time(timeline.seconds)}, and may take {_time(most)}\n" + "\n".join(_spans(timeline)),
                    {
                        "not hidden": f"{_time(timeline.exposed)} of that is communication with no product "
                        "beside it: begin a collective early (`iall_reduce`, …), compute what does not need "
                        "its result, and only then `wait()`"
                    },
                )

    def _does_the_products(self, deal: Deal, rank: int, one: RankRun) -> None:
        must = sum(2 * prod(sizes) for sizes in deal.products[self.function])
        has = sum(event.matmul_flops for event in one.kernels[self.function])
        if has < must:
            raise WrongError(
                f"in {self.function}, rank {rank} did {has} FLOPs with matmul, and the products have {must}",
                {"products unseen": "time is told from the products that go through `matmul(x, a)`: use it"},
            )

    def _one_after_another(self, case: Case, deal: Deal) -> float:
        device = _device(self.hardware)
        works: list[Work] = [Gemm(m, n, k, dtype=DTYPE) for m, k, n in self._products(deal)]
        traffic = [one for one in deal.traffic.get(self.function, ()) if one.operation != "recv"]  # its send
        works += [self._transfer(one, case) for one in traffic]
        return sum(device.seconds(work, graph=True) for work in works)

    def _products(self, deal: Deal) -> Iterator[tuple[int, int, int]]:
        for m, k, n in deal.products[self.function]:
            yield m * self.scale, k * self.scale, n * self.scale

    def _transfer(self, one: Collective, case: Case) -> Transfer:
        return Transfer(one.operation, prod(self._longer(one.shape)) * ITEMSIZE, one.ranks or case.t)

    def _trace(self, one: RankRun) -> Trace:
        """Return what a rank did in the function, at the longer sizes."""
        trace = Trace(kernels=True)
        trace.kernels = [self._kernel(event) for event in one.kernels[self.function]]
        trace.collectives = [self._event(event) for event in one.events[self.function]]
        return trace

    def _kernel(self, event: KernelEvent) -> KernelEvent:
        inputs, outputs = tuple(map(self._longer, event.inputs)), tuple(map(self._longer, event.outputs))
        read, written = (ITEMSIZE * sum(map(prod, shapes)) for shapes in (inputs, outputs))
        return replace(
            event, inputs=inputs, outputs=outputs, bytes_read=read, bytes_written=written, dtype=DTYPE
        )

    def _event(self, event: CollectiveEvent) -> CollectiveEvent:
        return replace(event, shape=self._longer(event.shape), dtype=DTYPE)

    def _longer(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], *(self.scale * length for length in shape[-2:]))


@cache
def _device(name: str) -> hardware.Hardware:
    return hardware.load(name)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def _spans(timeline: Timeline, most: int = 12) -> Iterator[str]:
    """Yield when each product and collective runs."""
    for span in list(timeline.spans)[:most]:
        yield f"{_time(span.start):>9} to {_time(span.end):>9}  {span.stream}: {kind(span.launch)}"
