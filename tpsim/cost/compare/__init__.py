"""Measured operators beside modelled ones: each file pairs measured rows with the work that they are."""
