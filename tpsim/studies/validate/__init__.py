"""What tpsim says beside what was published and measured; `groups` collects all of it, and what must hold."""

from tpsim.studies.validate.comparison import Comparison
from tpsim.studies.validate.groups import Group, Result, groups

__all__ = ["Comparison", "Group", "Result", "groups"]
