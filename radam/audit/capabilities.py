"""What an optimizer can do: declared by its Subject, or found from its constructor's keywords and trial steps."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Unsatisfiable

from radam.audit.decays import decays_among
from radam.audit.subject import Subject

CAPABILITIES = {
    "foreach": "takes foreach=True",
    "fused": "takes fused=True",
    "capturable": "takes capturable=True",
    "differentiable": "takes differentiable=True",
    "compile": "has a step that torch.compile takes",
    "maximize": "takes maximize=True",
    "complex": "steps complex parameters, as pairs of reals",
    "half": "steps float16 and bfloat16 parameters, with moments and arithmetic in float32",
    "narrow_half": "steps float16 and bfloat16 parameters, with moments and arithmetic of their own dtype",
    "late_amsgrad": "takes amsgrad turned on in mid-run",
    "tensor_lr": "takes lr as a tensor of one element",
    "elementwise": "steps each element of a tensor by itself",
    "shapeless": "steps a matrix as it steps a vector of the same elements",
}
"""What a Subject may declare in `supports`."""

SWITCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
    "differentiable": {"differentiable": True},
    "compiled": {},
}
"""What asks a constructor for each implementation of a step."""

AMSGRAD = ("amsgrad", "ams_bound", "amsbound")
"""What the switch of a maximum is called."""
HALF = (torch.bfloat16, torch.float16)


def first_example(strategy: hypothesis.strategies.SearchStrategy[Any]) -> Any:
    """The simplest example of a strategy."""
    quiet = settings(
        max_examples=50,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    found: list[Any] = []

    @quiet
    @hypothesis.given(strategy)
    def take(example: Any) -> None:
        if not found:
            found.append(example)

    take()
    return found[0]


class Capabilities:
    """What a subject can do on a device.

    Args:
        subject: whose `supports` is believed, if it has any.
        device: where trial steps are taken.
        backend: of torch.compile, for its trial.

    Raises:
        ValueError: the subject contradicts itself; says how.
    """

    def __init__(self, subject: Subject, device: torch.device, backend: str = "eager") -> None:
        self.subject = subject
        self.device = device
        self.backend = backend
        self._reasons: dict[str, str | None] = {}
        unknown = sorted((subject.supports or frozenset()) - CAPABILITIES.keys())
        if unknown:
            raise ValueError(
                f"supports of {subject.name} has {', '.join(map(repr, unknown))}, "
                f"but must be of {', '.join(sorted(CAPABILITIES))}"
            )
        symbols = sorted(set(subject.state) - {"t", "m", "v", "s"})
        if symbols:
            raise ValueError(
                f"state of {subject.name} names {', '.join(map(repr, symbols))}, but may name t, m, v and s"
            )
        if subject.supports is not None and {"half", "narrow_half"} <= subject.supports:
            raise ValueError(f"supports of {subject.name} must have one of 'half' and 'narrow_half', but has both")

    def missing(self, name: str) -> str | None:
        """Why the subject lacks a capability; None where it has it."""
        if name not in self._reasons:
            self._reasons[name] = self._find(name)
        return self._reasons[name]

    def has(self, name: str) -> bool:
        """Whether the subject has a capability."""
        return self.missing(name) is None

    @property
    def first_implementation(self) -> str:
        """The way to run a step that others are compared with."""
        return "loop" if self.has("foreach") else "default"

    @property
    def implementations(self) -> Iterator[str]:
        """The ways to run a step, the first one first. Each is tried when it is asked for: torch.compile takes long."""
        yield from ("loop", "foreach") if self.has("foreach") else ("default",)
        yield from filter(self.has, ("fused", "capturable", "differentiable"))
        if self.has("compile"):
            yield "compiled"

    def refusal(self, implementation: str, dtype: torch.dtype) -> str | None:
        """Why an implementation does not step parameters of a dtype; None where it does."""
        key = f"{implementation} {dtype}"
        if key not in self._reasons:
            # What a subject declares, it must do at least for float32; and compiling takes long.
            tried = implementation != "compiled" and dtype != torch.float32
            self._reasons[key] = self._trial(dtype, SWITCHES[implementation]) if tried else None
        return self._reasons[key]

    def telling(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Options, and the same with decay and with `maximize`, where an optimizer may take a gradient for scratch."""
        more: list[dict[str, Any]] = [{"weight_decay": 0.1}, {"maximize": True}]
        return [dict(options), *({**options, **each} for each in more if each.keys() <= options.keys())]

    def writes_to_gradients(self, implementation: str, dtype: torch.dtype) -> bool:
        """Whether trial steps do, which is a finding of its own check, and not of each check of the numbers."""
        key = f"writes {implementation} {dtype}"
        if key not in self._reasons:
            self._reasons[key] = "it does" if self._writes(implementation, dtype) else None
        return self._reasons[key] is not None

    def _writes(self, implementation: str, dtype: torch.dtype) -> bool:
        switches = SWITCHES[self.first_implementation if implementation == "compiled" else implementation]
        for options in self.telling(self.options):
            params = self._params(dtype)
            if implementation == "differentiable":
                params = [param.detach() for param in params]  # type: ignore[misc]
            try:
                optimizer = self.subject.build(params, {**options, **switches})
                for _ in range(2):
                    copies = _give(params)
                    optimizer.step()
                    grads = [param.grad for param in params]
                    if any(a is None or not torch.equal(a, b) for a, b in zip(grads, copies, strict=True)):
                        return True
            except Exception:
                continue
        return False

    @cached_property
    def options(self) -> dict[str, Any]:
        """The simplest hyper-parameters that the subject's strategy draws."""
        try:
            return dict(first_example(self.subject.hyperparameters))
        except Unsatisfiable:
            name = self.subject.name
            try:
                self.subject.build(self._params(torch.float32), {})
            except Exception as error:
                raise ValueError(
                    f"{name} cannot be audited: it takes no tensors of one and two dimensions: {_said(error)}"
                ) from None
            raise ValueError(f"hyperparameters of {name} draws none that its constructor takes") from None

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """An optimizer of the simplest hyper-parameters, for a look at its class and defaults.

        Raises:
            ValueError: it cannot be built, or takes no step on dense gradients; says why.
        """
        name = self.subject.name
        try:
            optimizer = self.subject.build(self._params(torch.float32), self.options)
        except Exception as error:
            raise ValueError(f"{name} cannot be built with {self.options}: {_said(error)}") from error
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(f"build of {name} must make a torch.optim.Optimizer, but made {optimizer!r}")
        reason = self._trial(torch.float32)
        if reason:
            raise ValueError(f"{name} cannot be audited: {reason}")
        return optimizer

    @cached_property
    def decays(self) -> tuple[str, ...]:
        """The options, of those that the subject's strategy draws, that decay parameters."""
        return decays_among(self.subject.build, self.options, self.options)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the constructor."""
        return inspect.signature(type(self.optimizer)).parameters

    def settled(self, dtype: torch.dtype) -> dict[str, bool]:
        """Flags as they are in all examples of complex numbers: those with which a step raises the other way."""
        if not dtype.is_complex:
            return {}
        flags = {name: value for name, value in self.options.items() if isinstance(value, bool)}
        for name, value in flags.items():
            key = f"{name}={not value} {dtype}"
            if key not in self._reasons:
                self._reasons[key] = self._trial(dtype, {name: not value})
        return {name: value for name, value in flags.items() if self._reasons[f"{name}={not value} {dtype}"]}

    def _find(self, name: str) -> str | None:
        declared = self.subject.supports
        if name in ("independent", "elementwise") and self.subject.coupled:
            return self.subject.coupled
        if name == "independent":
            return None
        if name in ("elementwise", "shapeless") and (
            self.subject.oracle is not None or (declared and declared & {"elementwise", name})
        ):
            return None
        if declared is not None:
            return None if name in declared else f"the subject does not declare {name!r}"
        return self._FINDERS[name](self, name)

    def _by_switch(self, name: str) -> str | None:
        if name not in self.parameters:
            return f"the constructor takes no {name!r}"
        return None if name == "maximize" else self._trial(torch.float32, {name: True})

    def _by_dtype(self, name: str) -> str | None:
        if name == "complex":
            return self._trial(torch.complex64)
        reason = self._trial(torch.bfloat16)
        if reason:
            return reason
        narrow = self._state_is_half
        if (name == "narrow_half") == narrow:
            return None
        return f"the moments of half precision parameters are {'half precision' if narrow else 'float32'}"

    @cached_property
    def _state_is_half(self) -> bool:
        params = self._params(torch.bfloat16)
        optimizer = self.subject.build(params, self.options)
        _step(optimizer, params)
        dtypes = {
            value.dtype
            for param in params
            for value in optimizer.state[param].values()
            if isinstance(value, torch.Tensor) and value.shape == param.shape and value.is_floating_point()
        }
        # Without any state there is no sign of wider arithmetic.
        return not dtypes or bool(dtypes & set(HALF))

    def _by_late_amsgrad(self, name: str) -> str | None:
        switch = next((each for each in AMSGRAD if each in self.parameters), None)
        if switch is None:
            return "the constructor takes no 'amsgrad'"
        params = self._params(torch.float32)
        try:
            optimizer = self.subject.build(params, {**self.options, switch: False})
            _step(optimizer, params)
            for group in optimizer.param_groups:
                group[switch] = True
            _step(optimizer, params)
        except Exception as error:
            return f"a step with amsgrad turned on late raised {_said(error)}"
        return None

    def _by_tensor_lr(self, name: str) -> str | None:
        if "lr" not in self.parameters:
            return "the constructor takes no 'lr'"
        return self._trial(torch.float32, {"lr": torch.tensor(0.01)})

    def _by_compiling(self, name: str) -> str | None:
        return self._trial(torch.float32, compiled=True)

    def _by_elements(self, name: str) -> str | None:
        """A matrix and its elements, each a tensor, are stepped alike: no norm or angle takes part."""
        return self._by_parts(
            lambda matrix: list(matrix.reshape(-1)), "a tensor's elements are not stepped as each would be by itself"
        )

    def _by_shapes(self, name: str) -> str | None:
        """A matrix and the vector of its elements are stepped alike: no row or column takes part."""
        return self._by_parts(
            lambda matrix: [matrix.reshape(-1)], "a matrix is not stepped as a vector of its elements would be"
        )

    def _by_parts(self, parts: Callable[[torch.Tensor], list[torch.Tensor]], unlike: str) -> str | None:
        """None where a matrix is stepped, to 1 in 1000, as its parts would be, each a tensor; else `unlike`.

        Two steps, of which the first is on a gradient at a right angle to the parameter: some optimizers project there;
        and the same with decay: some scale only what decays.
        """
        decay = {"weight_decay": 0.1} if "weight_decay" in self.options else {}
        try:
            alike = all(self._alike(options, parts) for options in (self.options, {**self.options, **decay}))
        except Exception as error:
            return _said(error)
        return None if alike else unlike

    def _alike(self, options: Mapping[str, Any], parts: Callable[[torch.Tensor], list[torch.Tensor]]) -> bool:
        whole = torch.nn.Parameter(torch.tensor([[0.5, -1.5], [2.5, 0.25], [-1.0, 3.0]], device=self.device))
        single = [torch.nn.Parameter(part.detach().clone()) for part in parts(whole)]
        start = whole.detach().clone()
        right_angle = torch.tensor([[3.0, 1.0], [0.0, 0.0], [0.0, 0.0]], device=self.device)
        one, many = self.subject.build([whole], options), self.subject.build(single, options)
        for grad in (right_angle, 0.5 + 0.25 * start):
            whole.grad = grad.clone()
            for part, own in zip(single, parts(grad), strict=True):
                part.grad = own.clone()
            one.step()
            many.step()
        moved = torch.cat([part.detach().reshape(-1) for part in single]).reshape(start.shape) - start
        expected = whole.detach() - start
        return bool(((moved - expected).abs() <= 1e-3 * expected.abs() + 1e-12).all())

    _FINDERS: Mapping[str, Callable[[Capabilities, str], str | None]] = {
        **dict.fromkeys(("foreach", "fused", "capturable", "differentiable", "maximize"), _by_switch),
        **dict.fromkeys(("complex", "half", "narrow_half"), _by_dtype),
        "late_amsgrad": _by_late_amsgrad,
        "tensor_lr": _by_tensor_lr,
        "compile": _by_compiling,
        "elementwise": _by_elements,
        "shapeless": _by_shapes,
    }

    def _params(self, dtype: torch.dtype) -> list[torch.nn.Parameter]:
        values = [torch.tensor([0.5, -1.5, 2.5, 0.25]), torch.tensor([[1.0, 3.0], [-2.0, 0.5]])]
        return [torch.nn.Parameter(value.to(self.device, dtype)) for value in values]

    def _trial(self, dtype: torch.dtype, more: Mapping[str, Any] | None = None, compiled: bool = False) -> str | None:
        """What goes wrong in two steps, or eight compiled ones, which may each be traced anew; None where nothing."""
        params = self._params(dtype)
        if more and "differentiable" in more:
            params = [param.detach() for param in params]  # type: ignore[misc]
        try:
            optimizer = self.subject.build(params, {**self.options, **(more or {})})
            if compiled:
                let_compile(optimizer, self.backend)
            for _ in range(8 if compiled else 2):
                _step(optimizer, params)
        except Exception as error:
            return f"a trial step in {str(dtype).removeprefix('torch.')} raised {_said(error)}"
        return None


def forget_compiled() -> None:
    """Let nothing be left of what torch.compile has compiled before, and let it speak of errors only.

    Too many compilations are an error: torch would go on without any, and the step no longer be a compiled one.
    """
    import torch._dynamo

    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._dynamo.config.recompile_limit = 64
    for name in ("torch._dynamo", "torch._logging"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("torch.__trace").propagate = False


def let_compile(optimizer: torch.optim.Optimizer, backend: str) -> torch.optim.Optimizer:
    """Let torch.compile take the steps of an optimizer, with nothing left of what it has compiled before."""
    forget_compiled()
    optimizer.step = torch.compile(optimizer.step, backend=backend)  # type: ignore[assignment, method-assign]
    return optimizer


def _give(params: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Set gradients, and return copies of them."""
    for param in params:
        param.grad = torch.full_like(param, 0.5) + 0.25 * param.detach()
    return [param.grad.clone() for param in params if param.grad is not None]


def _step(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    _give(params)
    optimizer.step()


def _said(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".strip()
