"""One run of a check: a subject in one setting, driven by lines that make up its reproduction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from radam.audit.bounds import Comparison, Tracked, compare_repeated
from radam.audit.capabilities import HALF, SWITCHES, Capabilities, forget_compiled
from radam.audit.finding import Finding, Skipped, Worst
from radam.audit.lockstep import Discrepancy, Lockstep, Record, arithmetic_of, flat, precision_of, same_bits
from radam.audit.rounding import Rounding, Side
from radam.audit.script import Script, expression, keywords, literal
from radam.audit.strategies import make_gradient
from radam.audit.subject import Call, Oracle, Subject

T = TypeVar("T")


def betas_of(options: Mapping[str, Any], *first: float) -> tuple[float, ...]:
    """The betas of options with others in the first places: some optimizers have three."""
    return (*first, *options["betas"][len(first) :])


_DECAY_KINDS = ("weight_decouple", "absolute")
"""Options of a decay object, which not every optimizer keeps in its groups."""

SHAPES = ((3,), (2, 2))
_PLAIN = (int, float, str, tuple, list, set, frozenset)


@dataclass(frozen=True)
class Setting:
    """A subject with a dtype, a device and a way to run its steps."""

    subject: Subject
    capabilities: Capabilities
    dtype: torch.dtype = torch.float32
    implementation: str = "default"

    @property
    def device(self) -> torch.device:
        """Where parameters and gradients are."""
        return self.capabilities.device

    @property
    def precision(self) -> str:
        """The dtype's name."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def narrow(self) -> bool:
        """Whether half precision parameters are updated in their own arithmetic."""
        return self.dtype in HALF and self.capabilities.has("narrow_half")

    def __str__(self) -> str:
        return f"{self.precision}, {self.implementation}"


class Run:
    """What a check is given: it draws, makes optimizers, steps them and compares, each action a line of a script.

    The script's names are `params` and `optimizer` unless a check asks for more: `make(name="other")` makes
    `other_params` and `other`.

    Args:
        setting: what is driven.
        data: Hypothesis's source of draws.
    """

    def __init__(self, setting: Setting, data: DataObject) -> None:
        self.setting = setting
        self.subject = setting.subject
        self.dtype = setting.dtype
        self.device = setting.device
        self.script = Script()
        self.record = Record()
        self.options: dict[str, Any] = {}
        self.own: list[dict[str, Any]] = []
        self.steps = 0
        self._data = data
        self._rounding: Rounding | None = None
        self._compiles = False
        self._drawn = 0

    def restart(self) -> None:
        """Begin a new script: what follows has nothing to do with what was done so far."""
        self.script = Script()
        self.steps = 0
        self._rounding = None

    # Draws

    def draw(self, strategy: SearchStrategy[T], label: str | None = None) -> T:
        """Draw through Hypothesis."""
        return self._data.draw(strategy, label=label)

    def hyperparameters(self, **fixed: Any) -> dict[str, Any]:
        """Draw hyper-parameters that the subject takes for the dtype; `fixed` wins over those that it has."""
        return self.any_hyperparameters(**{**self.setting.capabilities.settled(self.dtype), **fixed})

    def any_hyperparameters(self, **fixed: Any) -> dict[str, Any]:
        """Draw hyper-parameters of the subject; `fixed` wins over those that it has."""
        options = dict(self.draw(self.subject.hyperparameters, "hyper-parameters"))
        options.update({name: value for name, value in fixed.items() if name in options})
        return options

    def group_options(self) -> dict[str, Any]:
        """Draw hyper-parameters that a group can have for itself."""
        defaults = self.setting.capabilities.optimizer.defaults
        return {
            name: value
            for name, value in self.hyperparameters().items()
            if name in defaults and name not in _DECAY_KINDS
        }

    def takes(self, options: Mapping[str, Any]) -> bool:
        """Whether the constructor takes options together: some exclude one another, and are refused there alone."""
        try:
            self.subject.build([torch.nn.Parameter(torch.zeros(2, device=self.device))], options)
        except ValueError:
            return False
        return True

    def without_zero_divisors(self) -> dict[str, Any]:
        """Hyper-parameters with an eps, without which a divisor may be 0."""
        options = self.hyperparameters()
        return {**options, "eps": max(options["eps"], 1e-8)} if isinstance(options.get("eps"), float) else options

    def without_decay(self, **fixed: Any) -> dict[str, Any]:
        """Hyper-parameters that leave a parameter alone whose gradient is zero."""
        return self.hyperparameters(**dict.fromkeys(self.setting.capabilities.decays, 0.0), **fixed)

    def numbers(self, shape: Sequence[int], scale: float = 1.0, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Numbers of three decades, from a drawn seed."""
        rng = self._generator()
        dtype = dtype or self.dtype
        values = torch.from_numpy(np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1, shape) * scale))
        if dtype.is_complex:
            values = torch.complex(values, torch.from_numpy(np.asarray(rng.standard_normal(shape) * scale)))
        return values.to(dtype)

    def gradient(self, shape: Sequence[int], kinds: Sequence[str] = ("normal", "some zeros")) -> torch.Tensor:
        """A gradient of one of some kinds, see :data:`radam.audit.strategies.GRADIENTS`; from a drawn seed."""
        kind = self.draw(st.sampled_from(kinds), "gradient")
        empty = torch.zeros(tuple(shape), dtype=self.dtype)
        gradient = make_gradient(kind, empty, torch.ones_like(empty), self._generator())
        assert gradient is not None
        return gradient

    def _generator(self) -> np.random.Generator:
        # Counted, so that the simplest seeds of all do not make the same numbers again and again.
        self._drawn += 1
        return np.random.default_rng((self.draw(st.integers(0, 2**32 - 1), "seed"), self._drawn))

    # Optimizers

    def make(
        self,
        values: Sequence[torch.Tensor] | None = None,
        options: Mapping[str, Any] | None = None,
        groups: Sequence[tuple[Sequence[int], Mapping[str, Any]]] = (),
        *,
        name: str = "",
        implementation: str | None = None,
        params: str | None = None,
    ) -> None:
        """Make parameters and their optimizer.

        Args:
            values: of the parameters; drawn for None.
            options: hyper-parameters; drawn for None.
            groups: indices of the parameters of each group, and options of its own; one group of all for none.
            name: of the optimizer; "optimizer" for "", with parameters "params".
            implementation: other than the setting's.
            params: the name of a list of parameters that is there already, in place of values.
        """
        implementation = implementation or self.setting.implementation
        if options is None:
            options = self.hyperparameters()
        optimizer, own = self._names(name)
        if params is None:
            if values is None:
                values = [self.numbers(shape) for shape in SHAPES]
            wrapped = "{}" if implementation == "differentiable" else "torch.nn.Parameter({})"
            lines = "".join(f"    {wrapped.format(literal(value.to(self.device)))},\n" for value in values)
            self.script.do(f"{own} = [\n{lines}]")
        else:
            own = params
        target = own
        if groups:
            dicts = [
                "{"
                + ", ".join(
                    [
                        f'"params": [{", ".join(f"{own}[{i}]" for i in indices)}]',
                        *(f'"{key}": {expression(value)}' for key, value in extra.items()),
                    ]
                )
                + "}"
                for indices, extra in groups
            ]
            target = f"[{', '.join(dicts)}]"
        self.script.do(f"{optimizer} = {self.built(target, {**options, **SWITCHES[implementation]})}")
        if implementation == "compiled":
            self._compile(optimizer)
        if not name:
            self.steps = 0
            self.options = dict(options)
            self.own = [{**options, **extra} for _, extra in groups] or [dict(options)]

    def _names(self, name: str) -> tuple[str, str]:
        return (name, f"{name}_params") if name else ("optimizer", "params")

    def _compile(self, optimizer: str) -> None:
        if not self._compiles:
            forget_compiled()
            self._compiles = True
        self.script.do(
            f"{optimizer}.step = torch.compile({optimizer}.step, backend={self.setting.capabilities.backend!r})"
        )

    def built(self, params: str, options: Mapping[str, Any]) -> str:
        """The expression that makes an optimizer: a call of its class, or of the subject's build."""
        if self.subject.call is not None:
            call = self.subject.call(options)
        elif self._is_direct(options):
            call = Call(type(self.setting.capabilities.optimizer), options)
        else:
            module, separator, attribute = self.subject.name.partition(":")
            known = f"from {module} import {attribute} as subject"
            unknown = f"# Here `subject` is the radam.audit.Subject called {self.subject.name!r}."
            self.script.bring(known if separator else unknown, "subject", self.subject)
            return f"subject.build({params}, {{{', '.join(f'{k!r}: {expression(v)}' for k, v in options.items())}}})"
        return self._called(call, params)

    def _called(self, call: Call, params: str = "") -> str:
        for value in call.arguments.values():
            if isinstance(value, Call):
                self.script.take(value.constructor)
        plain = {name: value for name, value in call.arguments.items() if not isinstance(value, Call)}
        nested = {name: self._called(value) for name, value in call.arguments.items() if isinstance(value, Call)}
        arguments = ", ".join(
            filter(None, [params, keywords(plain), *(f"{name}={source}" for name, source in nested.items())])
        )
        return f"{self.script.take(call.constructor, self._found_in(call.constructor))}({arguments})"

    def _found_in(self, constructor: Callable[..., Any]) -> str | None:
        """The module by which the subject is known, where its class has the same name there."""
        module = self.subject.name.partition(":")[0]
        found = sys.modules.get(module)
        return module if getattr(found, constructor.__qualname__, None) is constructor else None

    def _is_direct(self, options: Mapping[str, Any]) -> bool:
        """Whether the subject's build does no more than to call the class with the options as they are."""
        cls = type(self.setting.capabilities.optimizer)
        if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
            return False

        def groups(make: Callable[..., torch.optim.Optimizer]) -> list[dict[str, Any]]:
            made = make([torch.nn.Parameter(torch.zeros(1))])
            return [{key: value for key, value in group.items() if key != "params"} for group in made.param_groups]

        try:
            return groups(lambda params: cls(params, **options)) == groups(
                lambda params: self.subject.build(params, options)
            )
        except Exception:
            return False

    # Steps

    def params(self, name: str = "") -> list[torch.Tensor]:
        """The parameters of an optimizer that was made."""
        result: list[torch.Tensor] = self.script.names[self._names(name)[1]]
        return result

    def optimizer(self, name: str = "") -> torch.optim.Optimizer:
        """An optimizer that was made."""
        result: torch.optim.Optimizer = self.script.names[self._names(name)[0]]
        return result

    def give(self, gradients: Sequence[torch.Tensor | None], params: str = "params") -> None:
        """Set the gradients of parameters."""
        lines = []
        for i, gradient in enumerate(gradients):
            value = "None" if gradient is None else literal(gradient.to(self.device))
            lines.append(f"{params}[{i}].grad = {value}")
        self.script.do("\n".join(lines))

    def step(self, name: str = "") -> None:
        """Take a step."""
        self.script.do(f"{self._names(name)[0]}.step()")
        self.steps += not name

    def count_from(self, steps: int, name: str = "") -> None:
        """Let all parameters of an optimizer be such that have taken so many steps: their counts are set."""
        optimizer, params = self._names(name)
        count = f"{optimizer}.state[param][{self.subject.state['t']!r}]"
        self.script.do(
            f"for param in {params}:\n"
            f"    count = {count}\n"
            f"    {count} = (\n"
            f"        torch.full_like(count, {steps}) if isinstance(count, torch.Tensor) else {steps}\n"
            "    )"
        )

    def drive(self, steps: int, *names: str, kinds: Sequence[str] = ("normal", "some zeros")) -> None:
        """Take steps on drawn gradients, the same for each of the optimizers that are named."""
        for _ in range(steps):
            gradients = [self.gradient(param.shape, kinds) for param in self.params()]
            for name in ("", *names):
                self.give(gradients, self._names(name)[1])
                self.step(name)

    def twin(self, name: str = "other", **options: Any) -> None:
        """Make a second optimizer over copies of the first one's parameters, of its options but for those given."""
        _, own = self._names(name)
        copied = "param.detach().clone()"
        if self.setting.implementation != "differentiable":
            copied = f"torch.nn.Parameter({copied})"
        self.script.do(f"{own} = [{copied} for param in params]")
        self.make(params=own, options={**self.options, **options}, name=name)

    def hold(self) -> None:
        """Remember the parameters and their state, for :meth:`held`."""
        self.script.do(
            "kept = [copy.deepcopy((param.detach(), dict(optimizer.state.get(param, {})))) for param in params]"
        )

    def held(self, what: str) -> None:
        """Parameters and state must be those remembered, bit for bit."""
        for i, param in enumerate(self.params()):
            self.same(f"params[{i}]", f"kept[{i}][0]", f"param {i} {what}")
            state, kept = self.optimizer().state.get(param, {}), self.script.names["kept"][i][1]
            self._same_entries(state, kept, f"optimizer.state[params[{i}]]", f"kept[{i}][1]", f"of param {i} {what}")

    # Comparisons

    def fail(self, message: str, worst: Worst | None = None) -> NoReturn:
        """Report a finding."""
        raise Finding(f"{message} [{self.call}]", worst)

    @property
    def call(self) -> str:
        """What is looked at, for messages."""
        return f"{self.subject.name}({keywords(self.options)}), {self.setting}, step {self.steps}"

    def expect(self, condition: str, message: str) -> None:
        """An expression over the script's names must be true."""
        if not self.script.value(condition):
            self.script.tell(f"assert {condition}, {message!r}")
            self.fail(message)

    def same(self, seen: str, expected: str, what: str) -> None:
        """Two expressions must have the same value: tensors bit for bit, NaN equal to NaN."""
        a, b = self.script.value(seen), self.script.value(expected)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if same_bits(a.detach(), b.detach()):
                return
            text = "seen.dtype == expected.dtype and torch.equal(seen.nan_to_num(7.0), expected.nan_to_num(7.0))"
        elif isinstance(a, list | tuple) and type(a) is type(b) and any(isinstance(x, torch.Tensor) for x in a):
            self.same(f"len({seen})", f"len({expected})", f"the number of {what}")
            for i in range(len(a)):
                self.same(f"{seen}[{i}]", f"{expected}[{i}]", f"number {i} of {what}")
            return
        elif a is b or (isinstance(a, _PLAIN) and isinstance(b, _PLAIN) and a == b):
            return
        else:
            # A tensor of one element equals its number.
            text = "type(seen) is type(expected) and seen == expected"
        self.script.tell(f"seen, expected = {seen}, {expected}")
        self.script.tell(f"assert {text}, f{f'{what} = {{seen}}, but should be {{expected}}'!r}")
        dtypes = [f" ({each.dtype})" if isinstance(each, torch.Tensor) else "" for each in (a, b)]
        own, other = dtypes if dtypes[0] != dtypes[1] else ("", "")
        self.fail(f"{what} = {_short(a)}{own}, but should be {_short(b)}{other}")

    def same_state(self, seen: str, expected: str, what: str, *, seen_params: str, expected_params: str) -> None:
        """Two optimizers must hold the same parameters and the same state, bit for bit."""
        names = self.script.names
        for i, (a, b) in enumerate(zip(names[seen_params], names[expected_params], strict=True)):
            self.same(f"{seen_params}[{i}]", f"{expected_params}[{i}]", f"param {i} {what}")
            self._same_entries(
                names[seen].state.get(a, {}),
                names[expected].state.get(b, {}),
                f"{seen}.state[{seen_params}[{i}]]",
                f"{expected}.state[{expected_params}[{i}]]",
                f"of param {i} {what}",
            )

    def _same_entries(
        self, seen: Mapping[Any, Any], expected: Mapping[Any, Any], at: str, expected_at: str, what: str
    ) -> None:
        keys, others = sorted(seen, key=str), sorted(expected, key=str)
        if keys != others:
            self.script.tell(f"assert sorted({at}) == {others!r}, sorted({at})")
            self.fail(f"state {what} has {keys}, but should have {others}")
        for key in keys:
            if key == self.subject.state.get("t", "step"):
                # torch itself may make a step count a float32 tensor on loading: its number is what counts.
                self.same(f"float({at}[{key!r}])", f"float({expected_at}[{key!r}])", f"{key} {what}")
            elif isinstance(expected[key], torch.Tensor | int | float | bool | str | None):
                self.same(f"{at}[{key!r}]", f"{expected_at}[{key!r}]", f"{key} {what}")

    def compared_step(self, others: Sequence[str], other_params: str, what: str, *, either_sign: bool = False) -> None:
        """Step the first optimizer and others that should do the same, and compare within the rounding bound.

        Args:
            others: names of optimizers, which together step the other parameters.
            other_params: name of the list of these, in an order in which their numbers are those of `params`, or those
                again and again.
            what: the others are, for messages.
            either_sign: whether a state tensor of the others may be the negative of the first one's.
        """
        names = self.script.names
        other = Side(names[other_params], [names[self._names(each)[0]] for each in others])
        if self._rounding is None:
            self._rounding = Rounding(
                Side(self.params(), [self.optimizer()]), self._largest_beta(), narrow=self.setting.narrow
            )
        expected = self._rounding.step(self.step)
        for each in others:
            self.step(each)
        for key, tracked in expected.items():
            if key in self.subject.residues or not other.has_of_each(key):
                continue
            seen = other.vector(key)
            precision = precision_of(self.params()[0].dtype)
            within = Tracked(tracked.value, tracked.error, precision)
            comparison = compare_repeated(key, seen, within)
            if either_sign and key != "param" and not comparison.passed:
                negative = compare_repeated(key, -seen, within)
                comparison = negative if negative.passed else comparison
            self.record.add(comparison, what, self.steps)
            if not comparison.passed:
                self._show(comparison, other_params, others)
                self.fail(f"{what}: {comparison}", Worst.of(comparison, self.steps))

    def _largest_beta(self) -> float:
        largest = 0.0
        for group in [self.optimizer().defaults, *self.own]:
            for key, value in group.items():
                if key.startswith("beta") or key in ("alpha", "rho"):
                    numbers = value if isinstance(value, tuple | list) else [value]
                    largest = max([largest, *(float(n) for n in numbers if isinstance(n, int | float) and 0 <= n < 1)])
        return largest

    def _show(self, comparison: Comparison, other_params: str, others: Sequence[str]) -> None:
        """Lines that show a value of the others beside the expected one."""
        params, index, i = self.script.names[other_params], comparison.index, 0
        while index >= flat(params[i]).size:
            index -= flat(params[i]).size
            i += 1
        owner = next((o for o in others if params[i] in self.optimizer(o).state), others[0])
        self._show_number(self._names(owner)[0], f"{other_params}[{i}]", index, comparison)

    def judge(self, comparison: Comparison, where: str, message: str, step: int) -> None:
        """A comparison of the first parameter, or of its state, must be within its bound."""
        self.record.add(comparison, where, step)
        if not comparison.passed:
            self._show_number("optimizer", "params[0]", comparison.index, comparison)
            self.fail(f"{message}: {comparison}", Worst.of(comparison, step))

    def _show_number(self, optimizer: str, param: str, index: int, comparison: Comparison) -> None:
        """Lines that fail by one number of a parameter, or of its state."""
        quantity = comparison.quantity
        tensor = f"{param}.detach()" if quantity == "param" else f"{optimizer}.state[{param}][{quantity!r}]"
        value = self.script.value(tensor)
        if not isinstance(value, torch.Tensor) or (value.dim() == 0 and not value.is_complex()):
            # One number for all elements.
            seen = f"float({tensor})"
        else:
            seen = f"{f'torch.view_as_real({tensor})' if value.is_complex() else tensor}.reshape(-1)[{index}].item()"
        expected, allowed = comparison.expected, comparison.allowed
        self.script.tell(
            f"seen, expected, allowed = {seen}, {expected!r}, {allowed!r}\n"
            f"print(f'{comparison.quantity}[{index}] = {{seen!r}}, but should be {{expected!r}}')\n"
            + (
                "assert seen == seen and abs(seen - expected) <= allowed"
                if np.isfinite(expected)
                else "assert not abs(seen) < inf"
            )
        )

    # Oracles

    def oracle(self, options: Mapping[str, Any]) -> Oracle:
        """The subject's oracle for hyper-parameters."""
        assert self.subject.oracle is not None
        return self.subject.oracle(options)

    def follow(self) -> Lockstep:
        """An oracle that follows the first optimizer from its state as it stands."""
        assert self.subject.oracle is not None
        if getattr(self.oracle(self.options), "freely", False):
            raise Skipped("the oracle runs freely only: it has more arrays than m, v and s")
        lockstep = Lockstep(
            self.optimizer(),
            self.own,
            self.subject.oracle,
            state=self.subject.state,
            scalars=self.subject.scalars,
            narrow=self.setting.narrow,
            keeps_gradients=not self.setting.capabilities.writes_to_gradients(self.setting.implementation, self.dtype),
            describe=f"{self.subject.name}({'; '.join(map(keywords, self.own))}), {self.setting.implementation}",
        )
        lockstep.record = self.record
        return lockstep

    def judged_step(self, lockstep: Lockstep) -> None:
        """Take a step in lock-step."""
        self.steps += 1
        try:
            lockstep.step()
        except Discrepancy as error:
            comparison, param = error.comparison, error.param
            assert param is not None
            index = next(i for i, each in enumerate(self.params()) if each is param)
            if comparison is None:
                self._show_bookkeeping(index, error)
                raise Finding(str(error)) from None
            self.script.tell("optimizer.step()")
            self._show_number("optimizer", f"params[{index}]", comparison.index, comparison)
            raise Finding(str(error), Worst.of(comparison, error.step)) from None
        except Exception:
            self.script.tell("optimizer.step()")
            raise
        self.script.tell("optimizer.step()")

    def _show_bookkeeping(self, i: int, error: Discrepancy) -> None:
        """Lines that take the step, and fail by what it should leave alone, its count or the form of its state."""
        keys = dict(self.subject.state)
        missing = [key for key in keys.values() if f"state {key!r}" in str(error)]
        arrays = [key for symbol, key in keys.items() if symbol != "t"]
        arithmetic, _ = arithmetic_of(self.params()[i], self.setting.narrow)
        count = f"    assert float(now[{keys['t']!r}]) == {error.step}, now[{keys['t']!r}]\n" if "t" in keys else ""
        self.script.tell(
            f"value, state, grad = copy.deepcopy("
            f"(params[{i}].detach(), dict(optimizer.state.get(params[{i}], {{}})), params[{i}].grad))\n"
            f"optimizer.step()\nnow = optimizer.state.get(params[{i}], {{}})\n\n\n"
            "def same(a, b):\n"
            "    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):\n"
            "        return a is b or a == b\n"
            "    return a.dtype == b.dtype and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))\n\n\n"
            "if grad is None:\n"
            f"    assert same(params[{i}].detach(), value), 'a parameter without a gradient has changed'\n"
            f"    for key in {list(keys.values())!r}:\n"
            "        assert same(now.get(key), state.get(key)), f'{key} has changed without a gradient'\n"
            "else:\n"
            f"    assert same(params[{i}].grad, grad), 'the gradient has changed'\n"
            f"    assert not set({missing!r}) - set(now), f'state has {{sorted(now)}} only'\n"
            f"{count}"
            f"    for key in set({arrays!r}) & set(now):\n"
            "        seen = now[key]\n"
            "        assert seen.shape == value.shape, (key, seen.shape)\n"
            "        assert seen.is_complex() == value.is_complex(), (key, seen.dtype)\n"
            f"        assert torch.finfo(seen.dtype).eps == {2 * arithmetic.unit_roundoff!r}, (key, seen.dtype)"
        )


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return repr(value.tolist()) if value.numel() <= 8 else f"{tuple(value.shape)} {flat(value)[:8].tolist()}..."
    return repr(value)
