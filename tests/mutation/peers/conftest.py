"""What pytest leaves alone here: it imports what only a peer's own process has."""

collect_ignore = ["torch_criteria.py"]
