"""optax's radam, adam, adamw and amsgrad, each as a torch.optim.Optimizer: parameters go to jax and back.

A float64 parameter is updated as jax does with 64 bits enabled, any other as by default.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.utils.dlpack
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, THRESHOLD_CORNERS, betas
from radam.audit.subject import Oracle, Params, Subject
from radam.audit.subjects.classes import FromClass

_STATE = {"mu": "exp_avg", "nu": "exp_avg_sq", "nu_max": "max_exp_avg_sq"}
"""Names of state arrays here, by optax's."""
_DOUBLE = (torch.float64, torch.complex128)


class _OnJax(torch.optim.Optimizer):
    """Steps each parameter by a transformation of optax, with a state of its own."""

    def __init__(self, params: Params, options: dict[str, Any]) -> None:
        super().__init__(params, options)
        for group in self.param_groups:
            self.transformation(group)

    def transformation(self, group: Mapping[str, Any]) -> Any:
        """What optax makes of a group's options."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and param.grad.is_sparse:
                    raise RuntimeError("this adapter to optax takes no sparse gradients")
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._step(param, self.transformation(group))
        return loss

    def _step(self, param: torch.Tensor, transformation: Any) -> None:
        jax, optax = importlib.import_module("jax"), importlib.import_module("optax")

        def there(tensor: torch.Tensor) -> Any:
            return jax.dlpack.from_dlpack(tensor.detach().resolve_conj().resolve_neg().contiguous().clone())

        def back(array: Any) -> torch.Tensor:
            return torch.utils.dlpack.from_dlpack(array).clone()

        kept = self.state[param]
        with jax.enable_x64(param.dtype in _DOUBLE):
            before = there(param)
            first, *others = transformation.init(before)
            if kept:
                names = [name for name in first._fields if name in _STATE]
                first = first._replace(
                    count=jax.numpy.int32(kept["step"]), **{name: there(kept[_STATE[name]]) for name in names}
                )
            updates, (first, *_) = transformation.update(there(param.grad), (first, *others), before)  # type: ignore[arg-type]
            param.copy_(back(optax.apply_updates(before, updates)))
            kept["step"] = int(first.count)
            for name in first._fields:
                if name in _STATE:
                    kept[_STATE[name]] = back(getattr(first, name))


class RAdam(_OnJax):
    """optax.radam."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        threshold: float = 5.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "threshold": threshold})

    def transformation(self, group: Mapping[str, Any]) -> Any:
        return importlib.import_module("optax").radam(**_names(group), threshold=group["threshold"])


class Adam(_OnJax):
    """optax.adam."""

    name = "adam"

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def transformation(self, group: Mapping[str, Any]) -> Any:
        return getattr(importlib.import_module("optax"), self.name)(**_names(group))


class AdamW(_OnJax):
    """optax.adamw."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def transformation(self, group: Mapping[str, Any]) -> Any:
        return importlib.import_module("optax").adamw(**_names(group), weight_decay=group["weight_decay"])


class AMSGrad(Adam):
    """optax.amsgrad."""

    name = "amsgrad"


def _names(group: Mapping[str, Any]) -> dict[str, Any]:
    b1, b2 = group["betas"]
    return {"learning_rate": float(group["lr"]), "b1": b1, "b2": b2, "eps": group["eps"]}


def _oracle(kind: str, **fixed: Any) -> Callable[[Mapping[str, Any]], Oracle]:
    """An oracle of `reference`: eps is added after the bias correction of v, decay is decoupled."""

    def make(options: Mapping[str, Any]) -> Oracle:
        import reference

        plain = {name: float(x.detach()) if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        oracle: Oracle = getattr(reference, kind)(**{"eps": 1e-8, **plain}, optimized_update=False, **fixed)
        return oracle

    return make


_OPTIONS: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from(LR_CORNERS),
    "betas": betas(),
    "eps": st.sampled_from((1e-8, 1e-3, 0.0, 1e-16, 1.0)),
}
_SUBJECTS: dict[str, tuple[type[_OnJax], Callable[[Mapping[str, Any]], Oracle], dict[str, SearchStrategy[Any]]]] = {
    "RADAM": (RAdam, _oracle("RAdam"), {"threshold": st.sampled_from(THRESHOLD_CORNERS)}),
    "ADAM": (Adam, _oracle("Adam"), {}),
    "ADAMW": (
        AdamW,
        lambda options: _oracle("Adam")({"weight_decay": 1e-4, **options}),
        {"weight_decay": st.sampled_from(DECAY_CORNERS)},
    ),
    "AMSGRAD": (AMSGrad, _oracle("Adam", amsgrad=True, amsgrad_of="corrected"), {}),
}


@functools.cache
def __getattr__(name: str) -> Subject:
    if name not in _SUBJECTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    optimizer, oracle, more = _SUBJECTS[name]
    build = FromClass(optimizer)
    return Subject(
        name=f"{__name__}:{name}",
        build=build,
        hyperparameters=st.fixed_dictionaries({**_OPTIONS, **more}),
        oracle=oracle,
        call=build.call,
    )


def subjects() -> list[Subject]:
    """A Subject for each of the adapters."""
    importlib.import_module("optax")
    return [__getattr__(name) for name in _SUBJECTS]
