"""What MPI calls are about: buffers and their datatypes, reductions, statuses, groups, errors.

Nothing here communicates; the rooms next door (`messages`, `collective`, `communicators`) do.
"""
