"""What the members of the family share: groups and their validation, the closure, and the order of a step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from operator import is_, itemgetter
from typing import Any, ClassVar, NamedTuple, cast, overload

import torch

from radam import hooks, interchange, kernels, options, schedule, state
from radam.kernels import Slot, capturable
from radam.kernels.work import is_distributed
from radam.rectification import Number
from radam.schedule import Phase, Step
from radam.weight_decay import WeightDecay, WeightDecayFunction

Params = Iterable[torch.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, torch.Tensor]]

_DECAY_OPTIONS: dict[str, options.Validator] = {
    "weight_decay": options.non_negative,
    "weight_decouple": options.flag,
    "absolute": options.flag,
}
_SWITCHES: dict[str, options.Validator] = {
    "foreach": options.optional_flag,
    "fused": options.optional_flag,
    "capturable": options.flag,
    "differentiable": options.flag,
}

# A kernel cannot be two; fused has its scalars on the host; what is differentiated goes by the loop.
_EXCLUSIVE = (
    ("fused", "foreach"),
    ("fused", "capturable"),
    ("foreach", "differentiable"),
    ("fused", "differentiable"),
    ("capturable", "differentiable"),
)

_OFF = {"fused": None, "foreach": None, "capturable": False}

_CIRCUMSTANCES = itemgetter("amsgrad", *_SWITCHES)


class _Known(NamedTuple):
    """Validated options of a group."""

    values: dict[str, Any]
    around: list[Any]
    """What of the optimizer decides which are valid."""


class AdaptiveOptimizer(torch.optim.Optimizer):
    """Base of optimizers that are a schedule of scalars over Adam's moments.

    A member gives `OPTIONS`, the validators of its options, and :meth:`phases` and :meth:`rectification`: what its
    steps do.

    A step is all or nothing in what can be checked: gradients, layouts, state and group values of all groups are
    checked after the closure, before the first write.
    """

    OPTIONS: ClassVar[Mapping[str, options.Validator]] = {}

    weight_decay: WeightDecayFunction
    """What decays parameters or gradients; its numbers live in the parameter groups."""

    def __init__(
        self,
        params: Params,
        values: Mapping[str, Any],
        weight_decay: WeightDecayFunction | float,
        defaults: Mapping[str, Any] | None,
        switches: Mapping[str, Any],
    ) -> None:
        self.weight_decay = _weight_decay(weight_decay)
        self._loading: dict[torch.Tensor, dict[str, Any]] | None = None
        self._known: dict[int, _Known | None] = {}
        self._settled: dict[int, kernels.Settled | None] = {}
        if defaults is not None and not isinstance(defaults, Mapping):
            raise TypeError(f"defaults must be a mapping of group values or None, but got {defaults!r}")
        if defaults is not None and "params" in defaults:
            raise ValueError("defaults must not contain 'params': pass the parameters as params")
        switches = {name: check(name, switches[name]) for name, check in _SWITCHES.items()}
        for one, other in _EXCLUSIVE:
            if switches[one] and switches[other]:
                raise ValueError(
                    f"{one}=True and {other}=True exclude each other: with {other}=True pass {one}={_OFF[one]}"
                )
        merged = {**(defaults or {}), **self.weight_decay.defaults(), **values, **switches}
        super().__init__(params, self._validated(merged, ""))
        _make_untraced()

    @abstractmethod
    def phases(self, group: Mapping[str, Any]) -> tuple[Phase, ...]:
        """The kinds of steps under the options of `group`, in order, each with its first step; the first is 1."""

    def rectification(self, t: Number, group: Mapping[str, Any]) -> Number | float:
        """The factor of an adaptive step at `t`, a number or a float64 tensor."""
        return 1.0

    def schedule(self, t: int, group: Mapping[str, Any]) -> Step:
        """What step `t`, counted from 1, does under the options of `group`.

        Example:
            >>> import torch, radam
            >>> optimizer = radam.RAdam([torch.nn.Parameter(torch.zeros(2))])
            >>> [optimizer.schedule(t, optimizer.param_groups[0]).kind.value for t in (5, 6)]
            ['momentum', 'adaptive']
        """
        return schedule.step_at(t, self.phases(group), group, lambda t: float(self.rectification(t, group)))

    # Parameter groups

    def check_together(self, group: Mapping[str, Any], where: str) -> None:
        """Raise a ValueError where options of `group`, each of them valid, exclude each other; `where` names it."""

    def _validators(self) -> dict[str, options.Validator]:
        decay = _DECAY_OPTIONS if isinstance(self.weight_decay, WeightDecay) else {}
        return {**self.OPTIONS, **decay}

    def _validated(self, group: Mapping[str, Any], where: str, *, read: bool = True) -> dict[str, Any]:
        """The group with plain, valid option values; the group given is not modified.

        Without `read` no tensor of an accelerator is waited for: a step that a graph may hold.
        """
        result = dict(group)
        for name, check in self._validators().items():
            if name not in group:
                raise ValueError(f"{name} is missing ({where}): restore it")
            if read or not isinstance(group[name], torch.Tensor):
                result[name] = check(name, group[name], where)
        self.check_together(result, where)
        switches = self.defaults if hasattr(self, "defaults") else result
        for name in _SWITCHES:
            result[name] = _SWITCHES[name](name, result.get(name, switches[name]), where)
            if result[name] != switches[name]:
                raise ValueError(
                    f"{name} belongs to the whole optimizer, where it is {switches[name]!r}, "
                    f"but got {result[name]!r} ({where})"
                )
        lr = result["lr"]
        if (
            isinstance(lr, torch.Tensor)
            and not lr.is_cpu
            and not (switches["capturable"] or switches["differentiable"])
        ):
            raise ValueError(
                f"lr must be a number or a tensor on the CPU unless capturable=True, but got {lr!r} "
                f"({where or 'defaults'}): each step would wait for its value"
            )
        return result

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options that it does not give are the optimizer's defaults.

        Args:
            param_group: `params` and any options; a WeightDecay is taken apart into its numbers.

        Raises:
            ValueError: an option is out of range, or a parameter appears twice; nothing is added.
            TypeError: an option or parameter has another type; nothing is added.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {param_group!r}")
        if "params" not in param_group:
            raise ValueError(f"param_group must have 'params', but has {sorted(param_group)}")
        where = f"parameter group {len(self.param_groups)}"
        given = dict(param_group)
        decay = given.get("weight_decay")
        if callable(decay):
            if type(decay) is not type(self.weight_decay):
                raise TypeError(
                    f"weight_decay must be a number or a {type(self.weight_decay).__name__}, but got {decay!r} "
                    f"({where}): a callable belongs to the whole optimizer, only its numbers to a group"
                )
            del given["weight_decay"]
            given = {**decay.defaults(), **given}
        group = self._validated({**self.defaults, **given}, where)
        if not isinstance(group["params"], torch.Tensor | set):
            group["params"] = list(group["params"])
            tensors = [entry[1] if isinstance(entry, tuple) else entry for entry in group["params"]]
            if len({id(tensor) for tensor in tensors}) < len(tensors):
                raise ValueError(f"params must not name a parameter twice ({where})")
        super().add_param_group(group)
        try:
            for slot in self._slots_to_be(len(self.param_groups) - 1):
                self._check_kernel(slot)
        except ValueError:
            self.param_groups.pop()
            raise

    # Stepping

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """What torch wraps `step` in when the first optimizer of a class is made."""
        return hooks.around(func)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the model and returns the loss; called once, with gradients enabled.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: a gradient is sparse.
            ValueError: a gradient, a parameter's layout, a state or a group value does not fit. Like the former raised
                before any tensor or state is changed; the error names the parameter.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            self._step()
        return loss

    def _step(self) -> None:
        # What torch.compile traces is arithmetic of tensors; all else runs as it is.
        calls = _UNTRACED[0](self, True) if torch.compiler.is_compiling() else self._prepared(False)
        for call in calls:
            capturable.apply(call)

    def _prepared(self, compiling: bool) -> list[capturable.Call]:
        """Check everything, then count the step; take it, but for what is returned: steps by tensors of scalars."""
        # As torch's fused optimizers do: set by who scales the loss, if a gradient has overflowed.
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and bool(found_inf):
            return []
        as_tensors = self.defaults["capturable"] or (compiling and not self._must_run_eagerly())
        read = not self.defaults["capturable"]
        checked: list[tuple[dict[str, Any], dict[str, Any], list[Slot] | kernels.Recalled]] = []
        for index, group in enumerate(self.param_groups):
            values = self._values(index, group, read=read)
            recalled = None if as_tensors else self._recalled(index, group["params"], values)
            checked.append((group, values, recalled or list(self._slots(index, group))))
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # type: ignore[no-untyped-call]
            for index, group in enumerate(self.param_groups):
                self._check_capture(group, self._slots(index, group))
        result = []
        for index, (group, values, found) in enumerate(checked):
            group.update(values)
            if isinstance(found, kernels.Recalled):
                self._step_recalled(found, group)
                continue
            for slot in found:
                self.state[slot.param] = slot.state
                state.initialize(
                    slot.state, slot.param, amsgrad=group["amsgrad"], capturable=self.defaults["capturable"]
                )
            tensors = [slot for slot in found if as_tensors and self._goes_by_tensors(slot)]
            result += self._calls(tensors, group)
            others = found if not tensors else [slot for slot in found if not self._goes_by_tensors(slot)]
            for t, bucket in _by(state.count([slot.state for slot in others]), others).items():
                kernels.apply(self.schedule(t, group), bucket, group, self.weight_decay, self.defaults)
            if not as_tensors:
                self._settle(index, group, found)
        return result

    def _settle(self, index: int, group: Mapping[str, Any], slots: Sequence[Slot]) -> None:
        """Keep the verdict on the tensors of a group for its next step."""
        self._settled[index] = kernels.settle(
            slots,
            self.weight_decay,
            self.defaults,
            amsgrad=group["amsgrad"],
            circumstances=self._circumstances(group),
        )

    def _recalled(
        self, index: int, params: Sequence[torch.Tensor], values: Mapping[str, Any]
    ) -> kernels.Recalled | None:
        """The tensors of a group, if they need not be checked again."""
        settled = self._settled.get(index)
        return None if settled is None else settled.recall(params, self.state, self._circumstances(values))

    def _circumstances(self, values: Mapping[str, Any]) -> object:
        """What, besides its tensors, decides how a group is stepped."""
        return type(self.weight_decay), _CIRCUMSTANCES(values)

    def _step_recalled(self, recalled: kernels.Recalled, group: dict[str, Any]) -> None:
        counts = state.count(recalled.states, recalled.steps)
        buckets: dict[int, set[int] | None] = {counts[0]: None}
        if counts.count(counts[0]) < len(counts):
            buckets = {t: {i for i, own in enumerate(counts) if own == t} for t in set(counts)}
        for t, places in buckets.items():
            kernels.apply_recalled(self.schedule(t, group), recalled, group, self.weight_decay, places)

    def _values(self, index: int, group: Mapping[str, Any], *, read: bool) -> dict[str, Any]:
        """The validated options of a group: those of its last step, where they are the very same objects."""
        known = self._known.get(index)
        where = f"parameter group {index}"
        around = [type(self.weight_decay), *map(self.defaults.get, _SWITCHES)]
        if known is not None and all(map(is_, around, known.around)):
            values, lr = known.values, group.get("lr")
            if type(lr) is float and lr is not values["lr"]:
                # A scheduler's work, at each step perhaps.
                values["lr"] = options.learning_rate("lr", lr, where)
            if all(map(is_, map(group.get, values), values.values())):
                self.check_together(values, where)
                return values
        validated = self._validated(group, where, read=read)
        values = {name: validated[name] for name in (*self._validators(), *_SWITCHES)}
        # A tensor may change and stay the same object.
        lasting = not any(isinstance(value, torch.Tensor) for value in values.values())
        self._known[index] = _Known(values, around) if lasting else None
        return values

    def _goes_by_tensors(self, slot: Slot) -> bool:
        return kernels.refusal(kernels.CAPTURABLE, slot, self.weight_decay) is None

    def _check_capture(self, group: Mapping[str, Any], slots: Iterable[Slot]) -> None:
        """Raise where a CUDA graph is being made that would not do what the step does."""
        if not self.defaults["capturable"]:
            raise RuntimeError(
                "a CUDA graph can hold a step with capturable=True only: this step's scalars are numbers"
            )
        for slot in slots:
            if not state.is_complete(slot.state, amsgrad=group["amsgrad"]):
                raise RuntimeError(
                    f"{slot.where} has no state yet, which each replay of the graph would make anew: "
                    "take a step before the capture"
                )

    def _must_run_eagerly(self) -> bool:
        """Whether torch.compile must not trace the step: neither the fused kernel nor a loop to be differentiated."""
        return bool(self.defaults["fused"] or self.defaults["differentiable"])

    def _calls(self, slots: Sequence[Slot], group: dict[str, Any]) -> list[capturable.Call]:
        """Steps by tensors of scalars: computed on the device from the steps that it keeps, or by the host."""
        phases = self.phases(group)
        result = []
        for device, own in _by((slot.param.device for slot in slots), slots).items():
            if self.defaults["capturable"]:
                counts = [slot.state[state.STEP] for slot in own]
                torch._foreach_add_(counts, 1.0)
                t = torch.stack(counts).double()
                steps = schedule.steps_at(t, phases, group, lambda t: self.rectification(t, group))
            else:
                steps = schedule.gathered(
                    [self.schedule(t, group) for t in state.count([slot.state for slot in own])], phases, device
                )
            result += kernels.calls(steps, own, group, self.weight_decay)
        return result

    def _slots(self, index: int, group: Mapping[str, Any]) -> Iterable[Slot]:
        """The parameters of a group that have a gradient, each checked."""
        for position, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            where = _name(group, index, position)
            # Reading self.state[param] would create it.
            known = self.state.get(param, {})
            slot = Slot(param, grad, known, where)
            _check(type(self).__name__, slot, self.defaults)
            self._check_kernel(slot)
            yield slot

    def _check_kernel(self, slot: Slot) -> None:
        """Raise where the kernel that was asked for cannot serve a parameter."""
        for name, off in _OFF.items():
            if self.defaults[name]:
                problem = kernels.refusal(name, slot, self.weight_decay)
                if problem is not None:
                    raise ValueError(f"{name}=True cannot serve {slot.where}: {problem}; pass {name}={off}")

    def kernels(self) -> dict[str, str]:
        """Which kernel serves which parameter: its name, and "fused", "foreach", "loop" or "capturable".

        A parameter without a gradient is served as if it had one. "fused" is for adaptive steps; the others of such a
        parameter go by foreach. A step that torch.compile traces goes by the capturable kernel.

        Example:
            >>> import torch, radam
            >>> p, z = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2, dtype=torch.cfloat))
            >>> radam.RAdam([("weight", p), ("phase", z)], foreach=True).kernels()
            {"parameter 'weight'": 'foreach', "parameter 'phase'": 'foreach'}
        """
        return {
            slot.where: kernels.kernel_of(slot, self.weight_decay, self.defaults)
            for index in range(len(self.param_groups))
            for slot in self._slots_to_be(index)
        }

    def _slots_to_be(self, index: int) -> Iterable[Slot]:
        """All parameters of a group, each as if it had a gradient."""
        group = self.param_groups[index]
        for position, param in enumerate(group["params"]):
            yield Slot(param, param, {}, _name(group, index, position))

    # State

    def state_dict(self) -> dict[str, Any]:
        """The state and the options: tensors, numbers, booleans and strings only, whatever a scheduler has written."""
        for index, group in enumerate(self.param_groups):
            group.update(self._validated(group, f"parameter group {index}"))
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options from a state_dict, of torch.optim's RAdam, Adam or AdamW too; tensors are copied.

        Options that it lacks, and the engine switches, stay the optimizer's own.

        Raises:
            ValueError: something does not fit; says what, and nothing is changed.
            TypeError: an option has another type; nothing is changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping, but is {state_dict!r}")
        # Registered last, so it sees what the user's hooks have made of the dict.
        handle = self.register_load_state_dict_pre_hook(_load_hook)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
            self._loading = None

    def _translated(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """A group of a state_dict, of another library perhaps, in this optimizer's terms."""
        return interchange.translated(group)

    def _checked_state_dict(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The state_dict with plain values and missing options filled in; remembers the moments as they were saved."""
        for name, kind in (("state", Mapping), ("param_groups", list)):
            if not isinstance(state_dict.get(name), kind):
                raise ValueError(
                    f"state_dict[{name!r}] must be a {kind.__name__.lower()}, but is {state_dict.get(name)!r}"
                )
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"state_dict must have as many parameter groups as the optimizer, {len(self.param_groups)}, "
                f"but has {len(saved)}"
            )
        groups, loading = [], {}
        for index, (group, own) in enumerate(zip(saved, self.param_groups, strict=True)):
            where = f"parameter group {index} of the state_dict"
            if not isinstance(group, Mapping) or not isinstance(group.get("params"), list | tuple):
                raise ValueError(f"{where} must be a mapping with a list of 'params', but is {group!r}")
            if len(group["params"]) != len(own["params"]):
                raise ValueError(
                    f"{where} must have as many parameters as the optimizer's, {len(own['params'])}, "
                    f"but has {len(group['params'])}"
                )
            switches = {name: self.defaults[name] for name in _SWITCHES}
            options_of_own = {name: own[name] for name in self._validators()}
            given = self._translated(group)
            groups.append(self._validated({**options_of_own, **given, **switches}, where))
            for position, (key, param) in enumerate(zip(group["params"], own["params"], strict=True)):
                if key not in state_dict["state"]:
                    continue
                try:
                    loading[param] = state.loaded(
                        param, state_dict["state"][key], capturable=self.defaults["capturable"]
                    )
                except ValueError as error:
                    raise ValueError(f"state_dict does not fit {_name(own, index, position)}: {error}") from None
        self._loading = loading
        return {**state_dict, "param_groups": groups}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "weight_decay": self.weight_decay, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if self.__dict__.get("_loading") is not None:
            # The base class has cast the moments to the dtype of the parameter: half precision would lose them.
            for param, entry in self._loading.items():  # type: ignore[union-attr]
                state["state"][param] = {**state["state"][param], **entry}
        super().__setstate__(state)
        self._known, self._settled = {}, {}
        _make_untraced()


# Made when there is an optimizer: it loads torch's compiler, which to import radam should not.
_UNTRACED: list[Callable[[AdaptiveOptimizer, bool], list[capturable.Call]]] = []


def _make_untraced() -> None:
    """The preparation of a step, for a step that torch.compile traces."""
    if not _UNTRACED:
        _UNTRACED.append(torch.compiler.disable(AdaptiveOptimizer._prepared))  # type: ignore[no-untyped-call]


def _load_hook(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(optimizer, AdaptiveOptimizer)
    return optimizer._checked_state_dict(state_dict)


def _weight_decay(value: WeightDecayFunction | float) -> WeightDecayFunction:
    if isinstance(value, Real) and not isinstance(value, bool):
        return WeightDecay(cast(float, value))
    if callable(value) and isinstance(value, WeightDecayFunction):
        return value
    raise TypeError(f"weight_decay must be a number, a WeightDecay or a callable with defaults(), but got {value!r}")


def _name(group: Mapping[str, Any], index: int, position: int) -> str:
    names = group.get("param_names")
    return f"parameter {names[position]!r}" if names else f"parameter {position} of group {index}"


def _by(keys: Iterable[Any], slots: Iterable[Slot]) -> dict[Any, list[Slot]]:
    result: dict[Any, list[Slot]] = {}
    for key, slot in zip(keys, slots, strict=True):
        result.setdefault(key, []).append(slot)
    return result


def _check(optimizer: str, slot: Slot, switches: Mapping[str, Any]) -> None:
    """Raise for what cannot be stepped."""
    param, grad, known, where = slot
    if grad.layout != torch.strided:
        if grad.layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
            raise RuntimeError(
                f"{optimizer} does not support sparse gradients, but the gradient of {where} is {grad.layout}: "
                "use torch.optim.SparseAdam, or a dense gradient"
            )
        raise ValueError(f"the gradient of {where} must be a dense tensor, but its layout is {grad.layout}")
    problem = None
    if state.moment_dtype(param) is None:
        problem = f"a floating or complex dtype of at least 16 bits, but its dtype is {param.dtype}"
    elif param.layout != torch.strided:
        problem = f"a dense layout, but its layout is {param.layout}"
    elif param.is_conj():
        problem = "its own memory, but it is the conjugate of another tensor: use resolve_conj()"
    elif state.overlaps(param):
        problem = "a place of memory for each element, but some share one: use contiguous()"
    if problem is not None:
        raise ValueError(f"{where} must have {problem}")
    if grad.shape != param.shape:
        raise ValueError(
            f"the gradient of {where} must have its shape {tuple(param.shape)}, but has {tuple(grad.shape)}"
        )
    if grad.device != param.device:
        raise ValueError(f"the gradient of {where} must be on {param.device}, but is on {grad.device}")
    if not (grad.is_floating_point() or (grad.is_complex() and param.is_complex())):
        raise ValueError(f"the gradient of {where} must fit its dtype {param.dtype}, but has {grad.dtype}")
    problem = state.misfit(param, known, capturable=switches["capturable"])
    if problem is not None:
        raise ValueError(f"the state of {where} does not fit: {problem}")
    states = ((f"state {name!r}", known[name]) for name in state.TENSORS if name in known)
    for name, tensor in (("gradient", grad), *states):
        if is_distributed(tensor) != is_distributed(param):
            kinds = ("a DTensor, as it is", "plain") if is_distributed(param) else ("plain, as it is", "a DTensor")
            raise ValueError(
                f"the {name} of {where} must be {kinds[0]}, but is {kinds[1]}: use distribute_tensor or full_tensor"
            )
