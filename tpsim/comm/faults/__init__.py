"""Faults on purpose: a rank that crashes, stalls or is slow, a message that is damaged or lost.

They are asked for in words (`fault`), strike one rank at a call that is counted (`striking`), and act in a
group's collectives (`faulty_backend`) or in the calls of a virtual communicator (`world_faults`).
"""

from tpsim.comm.errors import Crash
from tpsim.comm.faults.fault import Fault, parse
from tpsim.comm.faults.striking import RankFaults, active, begin_step, injected
from tpsim.comm.faults.world_faults import arm

__all__ = ["Crash", "Fault", "RankFaults", "active", "arm", "begin_step", "injected", "parse"]
