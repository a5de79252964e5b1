"""What a layer costs must be what is written: its collectives, their bytes, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpsim.lab.cases import BlockCase, LayerCase
from tpsim.lab.memory import papers_bytes, saved
from tpsim.lab.running import Run, run_case
from tpsim.lab.traffic import Sent, events
from tpsim.lab.violation import Violation
from tpsim.trace import CollectiveEvent


def traffic_is_as_written(case: LayerCase, ran: Run | None = None) -> None:
    """Collectives, in order, their shapes, and every rank's messages and bytes equal the closed form.

    Among several ranks: one alone sends nothing, whatever it calls.
    """
    ran = ran or run_case(case)
    for rank, one in enumerate(ran.ranks):
        passes, sums = events(case, rank)
        got = one.trace.collectives
        for event in got:
            told = (event.algorithm, event.dtype, event.rank, event.counted)
            must = (case.algorithm, case.dtype, rank % event.ranks, case.messages)
            if told != must:
                raise Violation(f"t = {case.ranks}, rank {rank}: {event} must say {must}; {case}")
        if case.ranks == 1:
            if any(event.messages or event.bytes_sent for event in got):
                raise Violation(f"t = 1: a rank alone sends something; {case}")
            continue
        seen = [_seen(event) for event in got]
        during = [event for event in seen if event.layer != "gradients"]
        after = [event for event in seen if event.layer == "gradients"]
        for what, have, want in (("passes", during, passes), ("sums", sorted(after), sorted(sums))):
            if have != want:
                raise Violation(f"t = {case.ranks}, rank {rank}, {what}: {_difference(have, want)}; {case}")


def _seen(event: CollectiveEvent) -> Sent:
    return Sent(
        event.phase,
        event.layer,
        event.operation,
        event.ranks,
        event.shape,
        event.messages,
        event.bytes_sent,
    )


def _difference(have: Sequence[Sent], want: Sequence[Sent]) -> str:
    """Say in words where two lists of events first differ."""
    for index, (one, other) in enumerate(zip(have, want, strict=False)):
        if one != other:
            return f"collective {index} is {_words(one)}, and must be {_words(other)}"
    if len(have) > len(want):
        return f"one collective too many, {_words(have[len(want)])}"
    return f"a collective is missing, {_words(want[len(have)])}"


def _words(event: Sent) -> str:
    layer = f" in {event.layer}" if event.layer else ""
    return (
        f"{event.phase or 'an unlabelled'} {event.operation} of {event.shape} among {event.ranks}{layer} "
        f"({event.messages} messages, {event.bytes_sent} bytes)"
    )


def saves_what_is_written(case: LayerCase, ran: Run | None = None) -> None:
    """Bytes saved for backward equal the written-out sum, and none are left after backward."""
    ran = ran or run_case(case)
    want = saved(case)
    for rank, one in enumerate(ran.ranks):
        for kind, elements in (("activation", want.activations), ("statistic", want.statistics)):
            have, must = sum(one.trace.saved_by_layer(kind).values()), elements * case.itemsize
            if have != must:
                kept = [tensor for tensor in one.trace.saved if tensor.kind == kind]
                by_name = {f"{tensor.layer}.{tensor.name}".strip("."): tensor.nbytes for tensor in kept}
                raise Violation(
                    f"t = {case.ranks}, rank {rank}: saves {have} bytes of {kind}s, and must save {must}: "
                    f"{by_name}; {case}"
                )
        total = sum(want) * case.itemsize
        if not one.saved_after_forward == one.trace.peak_saved_bytes == total:
            raise Violation(
                f"t = {case.ranks}, rank {rank}: holds {one.saved_after_forward} bytes after forward (peak "
                f"{one.trace.peak_saved_bytes}), and must hold {total}; {case}"
            )
        if one.saved_after_backward:
            raise Violation(
                f"t = {case.ranks}, rank {rank}: {one.saved_after_backward} bytes are still saved after "
                f"backward; {case}"
            )


def saves_what_papers_say(case: BlockCase) -> None:
    """A GPT block's activations are, to the byte, those of Korthikanti et al. without dropout."""
    for rank, one in enumerate(run_case(case).ranks):
        have = sum(one.trace.saved_by_layer().values())
        if have != papers_bytes(case):
            raise Violation(
                f"t = {case.ranks}, rank {rank}: saves {have} bytes, and the paper's formula gives "
                f"{papers_bytes(case)}; {case}"
            )


def sequence_parallelism_sends_as_much(case: BlockCase) -> None:
    """RS + AG = AR on the ring: with the gathered input kept, all ranks send the bytes of plain TP.

    Gathered again in backward, each of the two regions costs one more all-gather of b·s·h.
    """
    plain, kept, again = (
        _bytes_of_passes(replace(case, algorithm="ring", sequence_parallel=on, keep_gathered=keep))
        for on, keep in ((False, False), (True, True), (True, False))
    )
    more = 2 * (case.ranks - 1) * case.batch * case.seq * case.hidden * case.itemsize
    if (kept, again) != (plain, plain + more):
        raise Violation(
            f"t = {case.ranks}: plain TP sends {plain} bytes; SP sends {kept} and must send as many; SP that "
            f"gathers again sends {again} and must send {plain + more}; {case}"
        )


def _bytes_of_passes(case: BlockCase) -> int:
    return sum(
        event.bytes_sent
        for one in run_case(case).ranks
        for event in one.trace.collectives
        if event.layer != "gradients"
    )
