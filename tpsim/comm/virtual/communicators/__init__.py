"""Communicators of virtual ranks: what they are (`context`), and how scripts make and ask them."""
