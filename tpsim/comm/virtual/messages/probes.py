"""Looking at messages before they are received; and taking one aside, for a receive that is its own."""

from __future__ import annotations

from typing import Any, TypeVar

from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, PROC_NULL
from tpsim.comm.virtual.mail import MatchedProbe, Probe, Receive
from tpsim.comm.virtual.messages.calls import tell
from tpsim.comm.virtual.messages.matched import MESSAGE_NO_PROC, Matched, MatchedMessage
from tpsim.comm.virtual.messages.traffic import Traffic, nobody

M = TypeVar("M", bound=MatchedMessage)


class Probes(Traffic):
    """`Probe` and `Iprobe`, which leave a message where it is; `Mprobe` and `Improbe`, which take it out."""

    def Probe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> bool:
        """Wait until a message waits to be received."""
        probe = self._wanted(Probe, source, tag, "Probe")
        if probe.source is PROC_NULL:
            probe.message = nobody(probe.box)
        else:
            self.world.probe(probe, stay=True)
            self.world.wait(self._me, probe)
        tell(probe, status)
        return True

    def Iprobe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> bool:
        """Tell whether a message waits to be received; others run meanwhile."""
        probe = self._wanted(Probe, source, tag, "Iprobe")
        if probe.source is PROC_NULL:
            probe.message = nobody(probe.box)
        else:
            self.world.probe(probe, stay=False)
            if not probe.done:
                self.world.poll(self._me, probe)
                self.world.probe(probe, stay=False)
        tell(probe, status)
        return probe.message is not None

    def Mprobe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> MatchedMessage:
        """Wait for a message and take it aside: no other receive gets it."""
        return self._mprobe(MatchedMessage, source, tag, status)

    def Improbe(
        self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None
    ) -> MatchedMessage | None:
        """Take a message aside if one waits to be received; others run meanwhile."""
        return self._improbe(MatchedMessage, source, tag, status)

    probe, iprobe, mprobe, improbe = Probe, Iprobe, Mprobe, Improbe

    def _mprobe(self, kind: type[M], source: int, tag: int, status: Any) -> M:
        probe = self._wanted(MatchedProbe, source, tag, "Mprobe")
        if probe.source is PROC_NULL:
            probe.message = nobody(probe.box)
        else:
            self.world.receive(probe)
            self.world.wait(self._me, probe)
        message = self._matched(kind, probe, status)
        assert message is not None
        return message

    def _improbe(self, kind: type[M], source: int, tag: int, status: Any) -> M | None:
        probe = self._wanted(MatchedProbe, source, tag, "Improbe")
        if probe.source is PROC_NULL:
            probe.message = nobody(probe.box)
        elif not self.world.match(probe):
            self.world.poll(self._me, probe)
            self.world.match(probe)
        return self._matched(kind, probe, status)

    def _matched(self, kind: type[M], probe: Receive, status: Any) -> M | None:
        tell(probe, status)
        if probe.message is None:
            return None
        if probe.source is PROC_NULL:
            return kind(MESSAGE_NO_PROC)
        return kind._of(Matched(probe.message, self.world, self._me))
