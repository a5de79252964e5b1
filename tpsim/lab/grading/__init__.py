"""The grader: submissions that nobody trusts, each run where it can do little, and judged from outside.

A submission's ranks are processes of their own. The grader keeps what must come out, and carries out the
ranks' collectives itself: sums, counts and bytes are its own, and so are the arrays that it compares.
"""
