"""Subjects that the kit ships: optimizers with their oracles, imported when asked for."""
