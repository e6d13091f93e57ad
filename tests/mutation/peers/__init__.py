"""The numeric tests of other RAdams, run on mutants of what they test."""
