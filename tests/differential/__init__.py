"""Small MPI programs as data: how they are drawn, and an interpreter that runs them on any MPI.

A program is a list of steps that all its ranks take; each step's results are a value, to be compared.
"""

from differential import (
    collectives,
    communicators,
    intercommunicators,
    layouts,
    messages,
    objects,
    reductions,
    topologies,
)

__all__ = [  # whose steps programs may have
    "collectives",
    "communicators",
    "intercommunicators",
    "layouts",
    "messages",
    "objects",
    "reductions",
    "topologies",
]
