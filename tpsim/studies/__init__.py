"""What the commands run, as functions that return data.

Printing it is the business of `tpsim.cli`, and drawing that of `tpsim.plots`.
"""
