"""What runs where a submission runs: the only part of the grader that untrusted code shares a process with.

Copied into a folder of its own together with a tpsim that has neither solutions, reference nor checker.
"""
