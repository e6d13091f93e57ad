"""What an optimizer keeps, and that it goes on from there."""

from __future__ import annotations

from types import CodeType

import torch
from hypothesis import strategies as st

from radam.audit.checks.check import EVERY, PRECISE, Group
from radam.audit.finding import Skipped
from radam.audit.run import Run
from radam.audit.script import expression

state = Group("State")

LATE = ("amsgrad", "nesterov", "maximize", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay")
"""Options that torch's optimizers were given after their first versions."""
CUTS = (1, 6, 0, 4, 5, 7)
"""Counts of steps at which a run is cut."""


def _cut(run: Run) -> None:
    run.make()
    run.drive(run.draw(st.sampled_from(CUTS), "steps"))


def _goes_on(run: Run, what: str) -> None:
    """The other holds the same, takes the same steps bit for bit, and leaves the first alone."""
    names = {"seen_params": "other_params", "expected_params": "params"}
    run.same_state("other", "optimizer", what, **names)
    for _ in range(2):
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients)
        run.give(gradients, "other_params")
        run.hold()
        run.step("other")
        run.held(f"{what}, and a step of the other")
        run.step()
        run.same_state("other", "optimizer", f"{what} and a step", **names)


@state.check("dtype", "implementation", examples=0.1, dtypes=PRECISE, compiled=False)
def check_state_dict_resumes(run: Run) -> None:
    """A new optimizer that loads the state_dict takes the same steps, bit for bit."""
    _cut(run)
    run.twin()
    off = bool(run.options.get("amsgrad")) and run.draw(st.booleans(), "amsgrad is off meanwhile")
    if off:
        run.script.do("for group in optimizer.param_groups:\n    group['amsgrad'] = False")
    run.script.do("other.load_state_dict(copy.deepcopy(optimizer.state_dict()))")
    if off:
        run.script.do("for group in optimizer.param_groups + other.param_groups:\n    group['amsgrad'] = True")
    _goes_on(run, "after load_state_dict")


@state.check("implementation", examples=0.1, compiled=False)
def check_an_older_state_dict_is_gone_back_to(run: Run) -> None:
    """An optimizer that loads an older state_dict of its own goes on as it did from there, bit for bit."""
    run.make()
    steps = run.draw(st.sampled_from(CUTS), "steps")
    for _ in range(steps):
        # Only the second has taken steps yet.
        run.give([None, run.gradient(run.params()[1].shape)])
        run.step()
    run.twin()
    run.script.do(
        "saved = copy.deepcopy(optimizer.state_dict())\nother.load_state_dict(copy.deepcopy(saved))\n"
        "values = [param.detach().clone() for param in params]"
    )
    for _ in range(2):
        run.drive(2)
        if isinstance(run.options.get("lr"), float):
            run.script.do("for group in optimizer.param_groups:\n    group['lr'] = 2 * group['lr'] + 0.5")
        run.script.do(
            "optimizer.load_state_dict(copy.deepcopy(saved))\n"
            "for param, value in zip(params, values):\n    param.data.copy_(value)"
        )
    _goes_on(run, "after going back")


@state.check("dtype", examples=0.1)
def check_state_dict_wins_over_the_constructor(run: Run) -> None:
    """Options come with the state_dict: an optimizer built with others goes on as the saved one."""
    _cut(run)
    lr = run.options.get("lr")
    if not isinstance(lr, float):
        raise Skipped("the subject draws no lr")
    others = {**run.group_options(), "lr": lr + 0.5}
    run.twin(**(others if run.takes({**run.options, **others}) else {"lr": lr + 0.5}))
    run.script.do("other.load_state_dict(copy.deepcopy(optimizer.state_dict()))")
    _goes_on(run, "after loading over other options")


@state.check("dtype", examples=0.1, dtypes=PRECISE)
def check_state_dict_goes_through_a_file(run: Run) -> None:
    """torch.save and torch.load(weights_only=True) bring back the state_dict."""
    _cut(run)
    run.script.do(
        "file = io.BytesIO()\ntorch.save(optimizer.state_dict(), file)\nfile.seek(0)\n"
        "saved = torch.load(file, weights_only=True)"
    )
    run.twin()
    run.script.do("other.load_state_dict(saved)")
    _goes_on(run, "after torch.save and torch.load")


@state.check("dtype", "implementation", examples=0.1, dtypes=PRECISE, compiled=False)
def check_deepcopy(run: Run) -> None:
    """A deep copy takes the same steps, bit for bit, and leaves the original alone."""
    _cut(run)
    run.script.do("other_params, other = copy.deepcopy((params, optimizer))")
    _goes_on(run, "after copy.deepcopy")


@state.check("dtype", "implementation", examples=0.1, dtypes=PRECISE, compiled=False)
def check_pickle(run: Run) -> None:
    """A pickled optimizer takes the same steps, bit for bit."""
    _cut(run)
    run.script.do("other_params, other = pickle.loads(pickle.dumps((params, optimizer)))")
    _goes_on(run, "after pickle")


@state.check(examples=0.1)
def check_loading_leaves_the_state_dict_alone(run: Run) -> None:
    """load_state_dict changes nothing in the dict that it is given, nor in the parameters."""
    _cut(run)
    run.script.do(
        "saved = copy.deepcopy(optimizer.state_dict())\nbefore = copy.deepcopy(saved)\n"
        "other_params = [torch.nn.Parameter(param.detach() + 1) for param in params]\n"
        "values = [param.detach().clone() for param in other_params]"
    )
    run.make(params="other_params", options=run.options, name="other")
    run.script.do("other.load_state_dict(saved)")
    for i in range(len(run.params())):
        run.same(f"other_params[{i}]", f"values[{i}]", f"param {i} after load_state_dict")
    names = run.script.names
    for index, entries in names["before"]["state"].items():
        if not isinstance(entries, dict):
            run.same(
                f"saved['state'].get({index!r})", f"before['state'][{index!r}]", f"{index} in the dict that was loaded"
            )
            continue
        for key, value in entries.items():
            for at in [f"[{inner!r}]" for inner in value] if isinstance(value, dict) else [""]:
                run.same(
                    f"saved['state'][{index!r}].get({key!r}){at}",
                    f"before['state'][{index!r}][{key!r}]{at}",
                    f"{key} in the dict that was loaded",
                )
    run.expect(
        "[{k: v for k, v in g.items() if k != 'params'} for g in saved['param_groups']] == "
        "[{k: v for k, v in g.items() if k != 'params'} for g in before['param_groups']]",
        "load_state_dict changes the groups of the dict that it is given",
    )


@state.check(examples=0.1, dtypes=PRECISE)
def check_a_state_dict_is_a_look(run: Run) -> None:
    """state_dict() changes nothing: a run in which it is called at each step is the same, bit for bit."""
    run.make()
    run.twin()
    for _ in range(7):
        run.drive(1, "other")
        run.script.do("_ = optimizer.state_dict()")
        run.same_state("optimizer", "other", "after state_dict()", seen_params="params", expected_params="other_params")


@state.check(examples=0.05)
def check_a_state_dict_holds_tensors_and_primitives(run: Run) -> None:
    """A state_dict has nothing in it but tensors, numbers, strings, None, lists and dicts of them."""
    run.make()
    run.drive(2)

    def strange(value: object, where: str) -> str | None:
        if isinstance(value, dict):
            return next(filter(None, (strange(item, f"{where}[{key!r}]") for key, item in value.items())), None)
        if isinstance(value, list | tuple):
            return next(filter(None, (strange(item, f"{where}[{i}]") for i, item in enumerate(value))), None)
        plain = isinstance(value, torch.Tensor) or value is None or type(value) in (int, float, bool, str)
        return None if plain else f"{where} = {value!r}"

    found = strange(run.script.value("optimizer.state_dict()"), "state_dict()")
    if found:
        where = found.partition(" = ")[0]
        run.script.tell(
            f"state_dict = optimizer.state_dict\nseen = {where}\n"
            "assert seen is None or isinstance(seen, torch.Tensor) or type(seen) in (int, float, bool, str), seen"
        )
        run.fail(f"{found}, but should be a tensor, a number, a string or None")


@state.check(examples=0.05)
def check_names_in_state_dicts(run: Run) -> None:
    """Named parameters keep their names through a state_dict, and a dict without names loads into them."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise Skipped("named parameters came with torch 2.6")
    run.make()
    run.script.do("other_params = [torch.nn.Parameter(param.detach().clone()) for param in params]")
    run.script.do("named = list(zip(('first', 'second'), other_params))")
    run.make(params="named", options=run.options, name="other")
    run.script.do("other_params = [param for _, param in named]")
    run.expect("other.param_groups[0].get('param_names') == ['first', 'second']", "param_names should be those given")
    run.drive(2, "other")
    run.script.do(
        "other.load_state_dict(copy.deepcopy(optimizer.state_dict()))\n"
        "optimizer.load_state_dict(copy.deepcopy(other.state_dict()))"
    )
    run.expect(
        "other.param_groups[0].get('param_names') == ['first', 'second']",
        "param_names are lost by loading a state_dict without them",
    )
    run.drive(2, "other")
    run.same_state("other", "optimizer", "with names", seen_params="other_params", expected_params="params")


@state.check("dtype", examples=0.1)
def check_state_follows_its_parameter(run: Run) -> None:
    """State tensors of a parameter's shape are on its device, real or complex as it is, finite and without a graph."""
    run.make(options=run.without_zero_divisors())
    run.drive(3)
    for i, param in enumerate(run.params()):
        for key, value in run.optimizer().state[param].items():
            if not isinstance(value, torch.Tensor):
                continue
            at = f"optimizer.state[params[{i}]][{key!r}]"
            run.expect(f"not {at}.requires_grad", f"{key} requires grad")
            if value.shape == param.shape and value.dim():
                run.expect(f"{at}.device == params[{i}].device", f"{key} is on {value.device}, not {param.device}")
                run.expect(f"bool({at}.isfinite().all())", f"{key} is not finite")
                run.expect(
                    f"not {at}.is_floating_point() or not params[{i}].is_complex()",
                    f"{key} of a complex parameter is {value.dtype}",
                )


@state.check("implementation", needs=("independent",), examples=0.1, compiled=False)
def check_a_group_added_in_mid_run(run: Run) -> None:
    """add_param_group in mid-run: old parameters go on undisturbed, new ones start anew, with options of their own."""
    options = run.hyperparameters()
    own = run.group_options()
    old, new = run.numbers((3,)), run.numbers((3,))
    run.make([old], options)
    run.make([old], options, name="other")
    run.make([new], options, name="late")
    run.make([new], {**options, **own}, name="fresh")
    run.drive(5, "other")
    group = ", ".join(["'params': late_params", *(f"{name!r}: {expression(value)}" for name, value in own.items())])
    run.script.do(f"optimizer.add_param_group({{{group}}})\nparams = params + late_params")
    for _ in range(7):
        gradients = [run.gradient((3,)) for _ in range(2)]
        run.give(gradients)
        run.give(gradients[:1], "other_params")
        run.give(gradients[1:], "fresh_params")
        run.step()
        run.step("other")
        run.step("fresh")
        run.same("params[0]", "other_params[0]", "the old parameter beside a new group")
        run.same("params[1]", "fresh_params[0]", "the parameter of a group added after 5 steps")


@state.check(examples=0.05)
def check_steps_are_counted_by_numbers_too(run: Run) -> None:
    """A state_dict whose `step` is a plain number, as of older versions, loads and goes on the same."""
    run.make()
    run.drive(3)
    first = run.optimizer().state[run.params()[0]]
    if not isinstance(first.get("step"), torch.Tensor):
        raise Skipped("the state has no tensor called 'step'")
    if not any("step" in code.co_consts for code in _of_setstate(run)):
        raise Skipped("its __setstate__ knows of no older version that kept a number")
    run.script.do(
        "saved = copy.deepcopy(optimizer.state_dict())\n"
        "for entry in saved['state'].values():\n    entry['step'] = int(entry['step'])"
    )
    run.twin()
    run.script.do("other.load_state_dict(saved)")
    for _ in range(3):
        run.drive(1, "other")
        for i in range(len(run.params())):
            run.same(f"other_params[{i}]", f"params[{i}]", f"param {i} after loading a plain step")


def _of_setstate(run: Run) -> list[CodeType]:
    """The code by which an optimizer's classes, other than torch's base class, make up for what a file lacks."""
    own = [vars(cls).get("__setstate__") for cls in type(run.optimizer()).__mro__ if cls is not torch.optim.Optimizer]
    return [code for function in own if isinstance(code := getattr(function, "__code__", None), CodeType)]


@state.check(examples=0.05)
def check_a_file_from_before_an_option(run: Run) -> None:
    """A state_dict without switches that are off by default goes on as with them, if `__setstate__` knows of such."""
    run.make()
    if not any("setdefault" in code.co_names for code in _of_setstate(run)):
        raise Skipped("its __setstate__ fills in no options")
    run.drive(3)
    defaults, group = run.optimizer().defaults, run.optimizer().param_groups[0]
    # Defaults that are asked for in the constructor are the new optimizer's too.
    late = {constant for code in _of_setstate(run) for constant in code.co_consts}
    of_torch = [cls for cls in type(run.optimizer()).__mro__ if cls.__module__.startswith("torch.optim.")]
    if of_torch != [torch.optim.Optimizer]:
        late |= set(LATE)
    off = [
        name
        for name, value in defaults.items()
        if name in late and (value is False or value is None) and group.get(name) is value
    ]
    run.script.do(
        "saved = copy.deepcopy(optimizer.state_dict())\n"
        f"for group in saved['param_groups']:\n    for name in {off!r}:\n        del group[name]"
    )
    run.twin()
    run.script.do("other.load_state_dict(saved)")
    _goes_on(run, f"after loading without {', '.join(off)}")


FAR = (2**8, 2**11, 2**16, 2**20)
"""Steps from which bfloat16 and float16 cannot count on, and others that are common."""


@state.check("dtype", examples=0.05, dtypes=EVERY)
def check_far_steps_are_counted(run: Run) -> None:
    """After hundreds or a million of steps each is still counted."""
    name = run.subject.state.get("t")
    if name is None:
        raise Skipped("the subject names no step count")
    run.make()
    run.drive(2)
    if any(name not in run.optimizer().state[param] for param in run.params()):
        raise Skipped(f"the state of a parameter has no {name!r}")
    for steps in FAR:
        run.count_from(steps)
        run.drive(1)
        for i in range(len(run.params())):
            count = f"float(optimizer.state[params[{i}]][{name!r}])"
            run.expect(f"{count} == {steps + 1}", f"{name} of param {i} after {steps + 1} steps is not {steps + 1}")
    run.twin()
    run.script.do("other.load_state_dict(copy.deepcopy(optimizer.state_dict()))")
    run.drive(1, "other")
    names = {"seen_params": "other_params", "expected_params": "params"}
    run.same_state("other", "optimizer", f"after load_state_dict and step {FAR[-1] + 2}", **names)
