"""How an optimizer is called: closures, grad mode, hooks, schedulers, loss scaling, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from radam.audit.checks.check import Group
from radam.audit.finding import Skipped
from radam.audit.run import SHAPES, Run, betas_of

calls = Group("Calls")
together = Group("With schedulers and loss scaling")

FAR = 300
"""Steps from which bfloat16 cannot count on."""
SCHEDULERS = {
    "LambdaLR": "LambdaLR({}, lambda t: 0.9 ** t)",
    "MultiplicativeLR": "MultiplicativeLR({}, lambda t: 0.9)",
    "StepLR": "StepLR({}, 2)",
    "MultiStepLR": "MultiStepLR({}, [2, 4])",
    "ConstantLR": "ConstantLR({}, 0.5, 3)",
    "LinearLR": "LinearLR({}, 0.25, total_iters=4)",
    "ExponentialLR": "ExponentialLR({}, 0.8)",
    "PolynomialLR": "PolynomialLR({}, 6)",
    "CosineAnnealingLR": "CosineAnnealingLR({}, 4)",
    "CosineAnnealingWarmRestarts": "CosineAnnealingWarmRestarts({}, 3)",
    "CyclicLR": "CyclicLR({}, 1e-3, 1e-1, step_size_up=2, cycle_momentum=False)",
    "OneCycleLR": "OneCycleLR({}, 0.1, total_steps=9, cycle_momentum=False)",
    "OneCycleLR, cycling beta1": "OneCycleLR({}, 0.1, total_steps=9)",
    "ReduceLROnPlateau": "ReduceLROnPlateau({}, patience=1)",
    "SequentialLR": "SequentialLR({0}, [torch.optim.lr_scheduler.ConstantLR({0}, 0.5, 2), "
    "torch.optim.lr_scheduler.ExponentialLR({0}, 0.8)], [3])",
    "ChainedScheduler": "ChainedScheduler([torch.optim.lr_scheduler.ConstantLR({0}, 0.5, 2), "
    "torch.optim.lr_scheduler.ExponentialLR({0}, 0.8)], {0})",
}
"""Every scheduler of torch, by the expression that makes it."""


@calls.check("implementation", examples=0.05, compiled=False)
def check_closure(run: Run) -> None:
    """A closure is called once, with grad enabled; its gradients are the step's, its result is what step returns."""
    run.make()
    run.twin()
    run.script.do("calls = []")
    if run.setting.implementation == "differentiable":
        raise Skipped("a closure cannot differentiate by parameters that are not leaves")
    lr = run.options.get("lr")
    set_lr = "    for group in optimizer.param_groups:\n        group['lr'] = lr\n" if isinstance(lr, float) else ""
    run.script.do(
        "def closure():\n"
        "    calls.append(torch.is_grad_enabled())\n"
        "    for param, target in zip(params, targets):\n"
        f"        param.grad = target.clone()\n{set_lr}"
        "    return len(calls) - 1.0"
    )
    for step in range(1, 4):
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients, "other_params")
        if isinstance(lr, float):
            run.script.do(f"lr = {lr / step!r}\nfor group in other.param_groups:\n    group['lr'] = lr")
        run.script.do("targets = [param.grad for param in other_params]\nloss = optimizer.step(closure)")
        run.step("other")
        run.expect(f"calls == [True] * {step}", "a closure should be called once a step, with grad enabled")
        run.expect(f"loss == {step - 1.0}", "step(closure) should return what the closure returns")
        for i in range(2):
            run.same(f"params[{i}]", f"other_params[{i}]", f"param {i} after step(closure)")
    run.give([None, None])
    run.expect("optimizer.step() is None", "step() without a closure should return None")


@calls.check("implementation", examples=0.05, compiled=False)
def check_a_step_within_the_closure_of_another(run: Run) -> None:
    """An optimizer that is stepped by the closure of another of its class takes its step, as the other does."""
    if run.setting.implementation == "differentiable":
        raise Skipped("a closure cannot differentiate by parameters that are not leaves")
    values = [run.numbers((3,)), run.numbers((2, 2))]
    options = run.hyperparameters()
    for name in ("", "inner", "alone"):
        run.make(values, options, name=name)
    run.script.do("def closure():\n    inner.step()\n    return 1.0")
    for _ in range(3):
        gradients = [run.gradient(value.shape) for value in values]
        for params in ("params", "inner_params", "alone_params"):
            run.give(gradients, params)
        run.script.do("optimizer.step(closure)")
        run.step("alone")
        for i in range(2):
            run.same(f"params[{i}]", f"alone_params[{i}]", f"param {i} after a closure that steps another optimizer")
            run.same(f"inner_params[{i}]", f"alone_params[{i}]", f"param {i} of an optimizer stepped in a closure")


@calls.check("implementation", examples=0.05, compiled=False)
def check_grad_mode(run: Run) -> None:
    """A step in either grad mode gives the same bits, leaves the mode as it was, and makes no graph."""
    if run.setting.implementation == "differentiable":
        raise Skipped("a differentiable step makes a graph on purpose")
    run.make()
    run.twin()
    for _ in range(7):
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients)
        run.give(gradients, "other_params")
        run.script.do("with torch.no_grad():\n    optimizer.step()\n    mode = torch.is_grad_enabled()")
        run.expect("not mode", "step() under no_grad leaves grad enabled")
        # As backward(create_graph=True) leaves them.
        run.script.do("for param in other_params:\n    param.grad.requires_grad_()")
        run.script.do("with torch.enable_grad():\n    other.step()\n    mode = torch.is_grad_enabled()")
        run.expect("mode", "step() under enable_grad leaves grad disabled")
        for i in range(2):
            run.same(f"params[{i}]", f"other_params[{i}]", f"param {i} stepped under no_grad")
            run.expect(f"other_params[{i}].is_leaf", f"a step has made param {i} part of a graph")
            run.expect(
                f"not any(getattr(x, 'requires_grad', False) for x in other.state[other_params[{i}]].values())",
                f"the state of param {i} requires grad after a gradient that does",
            )
    run.script.do("def closure():\n    raise InterruptedError")
    for mode in ("no_grad", "enable_grad"):
        run.script.do(
            f"with torch.{mode}():\n"
            "    try:\n"
            "        optimizer.step(closure)\n"
            "    except InterruptedError:\n"
            "        raised = True\n"
            "    mode = torch.is_grad_enabled()"
        )
        run.expect(f"mode == {mode == 'enable_grad'}", f"an error in a closure leaves another grad mode than {mode}")


@calls.check("dtype", examples=0.05)
def check_determinism(run: Run) -> None:
    """The same run twice gives the same bits, whatever ran between, from the same seed of torch."""
    values = [run.numbers((3,)), run.numbers((17,))]
    options = run.hyperparameters()
    given = [[run.gradient(value.shape) for value in values] for _ in range(8)]
    for name in ("", "other"):
        run.script.do("torch.manual_seed(0)")
        run.make(values, options, name=name)
        for gradients in given:
            run.give(gradients, "other_params" if name else "params")
            run.step(name)
    run.same_state("other", "optimizer", "in a second run", seen_params="other_params", expected_params="params")


@calls.check("dtype", examples=0.05)
def check_default_dtype(run: Run) -> None:
    """torch.set_default_dtype plays no part in the numbers of a step, nor in how far steps are counted."""
    values = [run.numbers((3,)), run.numbers((2, 2))]
    options = run.hyperparameters()
    before = torch.get_default_dtype()
    default = run.draw(st.sampled_from((torch.float64, torch.float16)), "default dtype")
    try:
        _drive_under(run, before, default, values, options)
        # It cannot count beyond 256.
        _drive_under(run, before, torch.bfloat16, values, options)
    finally:
        torch.set_default_dtype(before)
        run.script.tell(f"torch.set_default_dtype({before})")


def _drive_under(
    run: Run, before: torch.dtype, default: torch.dtype, values: Sequence[torch.Tensor], options: Mapping[str, Any]
) -> None:
    """Step an optimizer, and another under another default dtype: parameters and counts must be the same."""
    run.make(values, options)
    run.script.do(f"torch.set_default_dtype({default})")
    run.make(values, options, name="other")
    name = run.subject.state.get("t")
    for step in range(9):
        counted = name is not None and all(name in run.optimizer().state[param] for param in run.params())
        if step == 7 and counted:
            for each in ("", "other"):
                run.count_from(FAR, each)
        run.script.do(f"torch.set_default_dtype({before})")
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients)
        run.step()
        run.give(gradients, "other_params")
        run.script.do(f"torch.set_default_dtype({default})\nother.step()")
        for i in range(2):
            what = f"of param {i} where the default dtype is {default}"
            if counted:
                seen, expected = (
                    f"float({own}[{i}]][{name!r}])" for own in ("other.state[other_params", "optimizer.state[params")
                )
                run.same(seen, expected, f"{name} {what}")
            run.same(f"other_params[{i}]", f"params[{i}]", what.removeprefix("of "))
    run.script.do(f"torch.set_default_dtype({before})")


@calls.check(examples=0.05)
def check_hooks(run: Run) -> None:
    """Step hooks run once each, before and after, and not once they are removed; the hooks of state_dicts run too."""
    run.make()
    run.script.do(
        "events = []\n"
        "handles = [optimizer.register_step_pre_hook(lambda *_: events.append('before')),\n"
        "           optimizer.register_step_post_hook(lambda *_: events.append('after'))]"
    )
    run.drive(2)
    run.expect("events == ['before', 'after'] * 2", "step hooks should run once before and once after each step")
    run.script.do("for handle in handles:\n    handle.remove()")
    run.drive(1)
    run.expect("len(events) == 4", "removed step hooks have run")
    run.script.do(
        "events.clear()\n"
        "optimizer.register_state_dict_pre_hook(lambda *_: events.append('save'))\n"
        "optimizer.register_state_dict_post_hook(lambda *_: events.append('saved'))\n"
        "optimizer.register_load_state_dict_pre_hook(lambda *_: events.append('load'))\n"
        "optimizer.register_load_state_dict_post_hook(lambda *_: events.append('loaded'))\n"
        "optimizer.load_state_dict(optimizer.state_dict())"
    )
    run.expect(
        "events == ['save', 'saved', 'load', 'loaded']",
        "the hooks of state_dict and load_state_dict should run once each",
    )
    run.script.do(
        "def another(optimizer, state_dict):\n"
        "    state_dict = copy.copy(state_dict)\n"
        "    state_dict['param_groups'] = [{**g, 'mark': 'hooked'} for g in state_dict['param_groups']]\n"
        "    return state_dict\n"
        "optimizer.register_load_state_dict_pre_hook(another)\n"
        "optimizer.load_state_dict(optimizer.state_dict())"
    )
    run.expect(
        "optimizer.param_groups[0].get('mark') == 'hooked'",
        "a load_state_dict pre-hook should be able to replace the dict",
    )


@calls.check(examples=0.05)
def check_repr(run: Run) -> None:
    """repr works, and tells the class and the learning rate."""
    run.make()
    text = run.script.value("repr(optimizer)")
    name = type(run.optimizer()).__name__
    if name not in text or ("lr" in run.options and "lr" not in text):
        words = (name, "lr") if "lr" in run.options else (name,)
        run.script.tell(f"assert all(word in repr(optimizer) for word in {words!r}), repr(optimizer)")
        run.fail(f"repr is {text!r}, but should tell {name} and lr")


@calls.check("dtype", examples=0.05)
def check_a_step_changes_no_option(run: Run) -> None:
    """Options are in `defaults` and in the groups, and no step changes them there."""
    run.make()
    kept = [
        name
        for name, value in run.options.items()
        if name in ("lr", "betas", "eps", "weight_decay", "momentum", "alpha", "rho")
        and isinstance(value, int | float | tuple)
    ]
    for name in kept:
        value = run.options[name]
        run.expect(
            f"{name!r} in optimizer.param_groups[0]", f"{name} should be in param_groups, where it can be changed"
        )
        run.expect(
            f"optimizer.param_groups[0][{name!r}] == {value!r}", f"param_groups[0][{name!r}] should be {value!r}"
        )
        run.expect(f"optimizer.defaults.get({name!r}) == {value!r}", f"defaults[{name!r}] should be {value!r}")
    run.drive(3)
    for name in kept:
        value = run.options[name]
        run.expect(
            f"optimizer.param_groups[0][{name!r}] == {value!r} and optimizer.defaults[{name!r}] == {value!r}",
            f"a step has changed {name} from {value!r}",
        )


@calls.check("dtype", "implementation", examples=0.05)
def check_a_learning_rate_of_zero(run: Run) -> None:
    """At lr = 0, without decay, no parameter changes."""
    options = run.without_decay(lr=0.0)
    if "lr" not in options:
        raise Skipped("the subject draws no lr")
    if "step_sizes" in run.setting.capabilities.parameters:
        raise Skipped("lr is the first of step sizes that then go their own way")
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-3)
    _make_at_zero(run, [run.numbers(shape) for shape in SHAPES], options)
    run.script.do("before = [param.detach().clone() for param in params]")
    run.drive(7 if run.setting.implementation != "compiled" else 3, kinds=("normal",))
    for i in range(2):
        run.same(f"params[{i}]", f"before[{i}]", f"param {i} at lr = 0")


def _make_at_zero(run: Run, values: Sequence[torch.Tensor], options: dict[str, Any]) -> None:
    """An optimizer at lr = 0, to which it is set where the constructor refuses it."""
    try:
        run.make(values, {**options, "lr": 0.0})
    except (ValueError, AssertionError):
        run.restart()
        run.make(values, {**options, "lr": 1e-3})
        run.script.do("for group in optimizer.param_groups:\n    group['lr'] = 0.0")


@calls.check("implementation", examples=0.03, compiled=False)
def check_it_descends(run: Run) -> None:
    """On a quadratic, 60 steps with the default options and a fitting lr bring the loss down; up with maximize."""
    options = dict(run.setting.capabilities.options)
    defaults = run.setting.capabilities.optimizer.defaults
    options = {name: defaults.get(name, value) for name, value in options.items()}
    if "lr" in options:
        options["lr"] = 0.01
    for name in ("weight_decay", "maximize", "variance_warmup"):
        if name in options:
            options[name] = 0 if name != "maximize" else False
    maximize = run.setting.capabilities.has("maximize")
    for sign in (1, -1) if maximize else (1,):
        name = "" if sign == 1 else "other"
        chosen = {**options, "maximize": sign == -1} if maximize else options
        run.make([torch.tensor([1.0, -2.0, 3.0], dtype=run.dtype)], chosen, name=name)
        owner, own = ("other", "other_params") if name else ("optimizer", "params")
        run.script.do(
            f"for _ in range(60):\n    {own}[0].grad = {sign} * {own}[0].detach()\n    {owner}.step()\n"
            f"loss = {own}[0].detach().abs().square().sum().item()"
        )
        run.expect("loss < 14", f"60 steps on p^2/2 have not brought it down{' with maximize=True' if name else ''}")


# With schedulers and loss scaling


@together.check(examples=0.1)
def check_schedulers(run: Run) -> None:
    """With every scheduler of torch, each step uses the learning rate that the scheduler has set."""
    options = run.hyperparameters(lr=0.1)
    if "lr" not in options:
        raise Skipped("the subject draws no lr")
    for name in SCHEDULERS:
        if name != "OneCycleLR, cycling beta1" or {"betas", "momentum"} & set(options):
            run.restart()
            _with_scheduler(run, options, name)


def _with_scheduler(run: Run, options: dict[str, Any], name: str) -> None:
    run.make(options=options)
    run.make(params="[param.detach().clone().requires_grad_() for param in params]", options=options, name="other")
    run.script.do("other_params = other.param_groups[0]['params']")
    made = "torch.optim.lr_scheduler." + SCHEDULERS[name].format("optimizer")
    run.script.do(f"scheduler = {made}")
    for _ in range(7):
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients)
        run.give(gradients, "other_params")
        # Made anew, the other remembers no learning rate of an earlier step.
        group = run.optimizer().param_groups[0]
        changed: dict[str, Any] = {key: group[key] for key in ("lr", "betas", "momentum") if key in group}
        run.script.do("saved = other.state_dict()")
        anew = {key: value for key, value in changed.items() if key in options}
        run.make(
            params="other_params",
            options={**options, **anew, "lr": changed["lr"] or options["lr"]},
            name="other",
        )
        run.script.do(f"saved['param_groups'][0].update({changed!r})\nother.load_state_dict(saved)")
        run.step()
        run.step("other")
        run.script.do("scheduler.step(1.0)" if name == "ReduceLROnPlateau" else "scheduler.step()")
        for i in range(2):
            run.same(f"params[{i}]", f"other_params[{i}]", f"param {i} with {name}")


@together.check(examples=0.1)
def check_a_new_learning_rate_counts(run: Run) -> None:
    """An lr set in a group between steps is that of the next one: from 0 to a number, a parameter starts to move."""
    options = _plain(run)
    if "lr" not in options:
        raise Skipped("the subject draws no lr")
    _make_at_zero(run, [run.numbers((3,))], options)
    run.drive(2, kinds=("normal",))
    run.script.do("before = params[0].detach().clone()\noptimizer.param_groups[0]['lr'] = 0.5")
    for _ in range(7):
        run.give([torch.ones_like(run.params()[0])])
        run.step()
    run.expect("not torch.equal(params[0].detach(), before)", "an lr of 0.5 in place of 0 has not moved the parameter")


def _plain(run: Run) -> dict[str, Any]:
    """Hyper-parameters without decay and without anything that waits."""
    options = run.without_decay()
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-8)
    if "betas" in options:
        options["betas"] = betas_of(options, 0.9, 0.99)
    if "degenerated_to_sgd" in options:
        options["degenerated_to_sgd"] = True
    return options


@together.check("implementation", examples=0.05, compiled=False)
def check_grad_scaler(run: Run) -> None:
    """With torch.amp.GradScaler a step on scaled gradients is that on unscaled ones, and one on inf is left out."""
    if not hasattr(torch.amp, "GradScaler"):
        raise Skipped("torch.amp.GradScaler came with torch 2.3")
    if run.setting.implementation == "differentiable":
        raise Skipped("loss scaling is not differentiated through")
    run.make(options=run.hyperparameters(momentum=0.9))
    run.twin()
    # A state that is begun in a step that is left out, and never written to, is then full of NaN.
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    run.script.do("torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory with NaN")
    try:
        _scaled(run, left_out=(0, 3))
    finally:
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


def _scaled(run: Run, left_out: tuple[int, ...]) -> None:
    """Steps on scaled gradients, of which some are infinite, beside those on unscaled ones."""
    run.script.do(
        "scaler = torch.amp.GradScaler(params[0].device.type, init_scale=1024.0)\n"
        "_ = scaler.scale(torch.ones((), device=params[0].device))"
    )
    for step in range(7):
        gradients = [run.gradient(param.shape, ("normal",)) for param in run.params()]
        run.give([gradient * 1024.0 for gradient in gradients])
        if step in left_out:
            run.script.do("params[0].grad.fill_(inf)")
        run.give(gradients, "other_params")
        run.script.do("_ = scaler.step(optimizer)\nscaler.update(1024.0)")
        if step not in left_out:
            run.step("other")
        what = "after a step on infinite gradients" if step in left_out else "with a GradScaler"
        for i in range(2):
            run.same(f"params[{i}]", f"other_params[{i}]", f"param {i} {what}")
