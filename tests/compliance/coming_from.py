"""Which arguments of radam's optimizers give the numbers of another library's, as code that is run."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

import radam
import reference
from radam.audit.subjects.shipped import shipped


class Row(NamedTuple):
    """Two calls that take the same steps.

    Both are Python, over `params`, `lr`, `betas`, `eps`, and `wd`, a coefficient of decay.
    """

    module: str
    """To be imported for `theirs`."""
    theirs: str
    ours: str
    differs: str = ""
    """Where the numbers, or what can be done, are not the same all the same; and why."""
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)
    """In which the numbers are the same, as is tested; none where that cannot be: no package, or other numbers."""


ROWS = (
    Row(
        "torch",
        "torch.optim.RAdam(params, lr, betas, eps, wd)",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd, weight_decouple=False))",
        "rho_t must be above 5, not equal; compiled or capturable, torch's rho_t is float32, and the first adaptive "
        "step is off by 0.6 % at beta2 = 0.999, or comes too soon",
    ),
    Row(
        "torch",
        "torch.optim.RAdam(params, lr, betas, eps, wd, decoupled_weight_decay=True)",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd))",
    ),
    Row(
        "torch",
        "torch.optim.Adam(params, lr, betas, eps, wd, amsgrad=True)",
        "radam.Adam(params, lr, betas, eps, WeightDecay(wd, weight_decouple=False), optimized_update=False, "
        "amsgrad=True)",
    ),
    Row(
        "torch",
        "torch.optim.AdamW(params, lr, betas, eps, wd)",
        "radam.Adam(params, lr, betas, eps, WeightDecay(wd), optimized_update=False)",
        "torch's default decay is 0.01",
    ),
    Row(
        "labml_nn.optimizers.radam",
        "labml_nn.optimizers.radam.RAdam(params, lr, betas, eps, labml_nn.optimizers.WeightDecay(wd))",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd))",
        "a copy or a pickle of labml's loses its decay, and its complex numbers are squared, not multiplied by their "
        "conjugates",
    ),
    Row(
        "timm.optim.radam",
        "timm.optim.radam.RAdamLegacy(params, lr, betas, eps, wd)",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd))",
        "timm's computes float64 in float32; `timm.optim.create_optimizer` makes torch's RAdam of the name radam",
        dtypes=(torch.float32,),
    ),
    Row(
        "pytorch_optimizer",
        "pytorch_optimizer.RAdam(params, lr, betas, wd, eps=eps, degenerated_to_sgd=True)",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd))",
        "pytorch_optimizer's counts steps by group, writes to the gradient with maximize, and its default, "
        "degenerated_to_sgd=False, leaves out the decay as well where radam's decays",
    ),
    Row(
        "",
        "the authors' RAdam(params, lr, betas, eps, wd, degenerated_to_sgd=True)",
        "radam.RAdam(params, lr, betas, eps, WeightDecay(wd))",
        "by default theirs holds the parameter in the first steps, and leaves out the decay there; float64 is computed "
        "in float32; the lists that it keeps by step are shared by groups",
        dtypes=(),
    ),
    Row(
        "optax",
        "optax.chain(optax.radam(lr, *betas, eps), ...)",
        "radam.RAdam(params, lr, betas, eps, optimized_update=False)",
        "optax's rho_t is float32: its first adaptive step at beta2 = 0.999 is 1.2 % smaller, and comes too soon above "
        "that; it has no decay of its own",
        dtypes=(),
    ),
)


def module(name: str) -> Any:
    """Import a module, as the kit's description of its package does, and return the package."""
    package = name.partition(".")[0]
    shipped(package)
    importlib.import_module(name)
    return sys.modules[package]


def theirs(row: Row, params: Any, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Make the other library's optimizer.

    Raises:
        ImportError: it is not installed.
    """
    package = module(row.module)
    made: torch.optim.Optimizer = eval(row.theirs, {package.__name__: package}, {**options, "params": params})
    return made


def ours(row: Row, params: Any, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Make radam's optimizer."""
    names = {"radam": radam, "WeightDecay": radam.WeightDecay}
    made: torch.optim.Optimizer = eval(row.ours, names, {**options, "params": params})
    return made


def oracle_of(optimizer: torch.optim.Optimizer) -> Any:
    """The oracle for one of radam's optimizers, by the options in its first group."""
    cls = reference.RAdam if isinstance(optimizer, radam.RAdam) else reference.Adam
    group = optimizer.param_groups[0]
    return cls(**{name: group[name] for name in inspect.signature(cls).parameters if name in group})


def table() -> str:
    """The rows as Markdown."""
    lines = ["| in place of | write | the same in | what differs all the same |", "|---|---|---|---|"]
    for row in ROWS:
        dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in row.dtypes) or "not tested"
        lines.append(f"| `{row.theirs}` | `{row.ours}` | {dtypes} | {row.differs} |")
    return "\n".join(lines) + "\n"
