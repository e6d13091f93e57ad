"""Without cosmic-ray, of the extra `mutation`, there is nothing to collect here but a skipped test file."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("cosmic_ray") else ["[!ct]*.py", "_*.py"]
