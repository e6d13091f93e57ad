"""radam.RAdam with the exact rectification, for `radam-audit radam.audit.subjects.exact:RADAM`."""

from radam.audit.subjects.radam import exact_radam_subject

RADAM = exact_radam_subject()
