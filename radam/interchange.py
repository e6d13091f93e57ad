"""Groups of other libraries' state_dicts, in radam's terms.

torch.optim's RAdam, Adam and AdamW, labml's and the authors' RAdam keep the same state under the same names; they
differ in what their groups say. What a group does not say stays the receiver's own.

References:
    The `param_groups` that torch.optim 2.x, labml_nn.optimizers and github.com/LiyuanLucasLiu/RAdam save.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def translated(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's options under radam's names.

    torch's `decoupled_weight_decay` is `weight_decouple`; the authors' `buffer`, a cache of step sizes, is left out.

    Example:
        >>> translated({"lr": 0.1, "decoupled_weight_decay": True, "buffer": [[None, None, None]]})
        {'lr': 0.1, 'weight_decouple': True}
    """
    result = dict(group)
    decouple = result.pop("decoupled_weight_decay", None)
    if decouple is not None:
        result.setdefault("weight_decouple", decouple)
    if isinstance(result.get("buffer"), list):
        del result["buffer"]
    return result


def is_of_torchs_adam(group: Mapping[str, Any]) -> bool:
    """Whether a group was saved by torch.optim's Adam or AdamW, which add eps after the bias correction of v.

    labml's Adam, which can add it before, has no `capturable`; radam's says where it does.

    Example:
        >>> is_of_torchs_adam({"lr": 0.1, "amsgrad": False, "capturable": False})
        True
    """
    return {"amsgrad", "capturable"} <= group.keys() and "optimized_update" not in group
