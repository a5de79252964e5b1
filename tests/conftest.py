"""How hypothesis runs here: machines are noisy, so no deadlines; in CI, the same draws every time."""

import os

from hypothesis import settings

settings.register_profile("tpsim", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tpsim")
