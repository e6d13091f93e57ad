"""The same step in other ways: each implementation, and each partition of the work, gives the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from radam.audit.checks.check import EVERY, REAL, Group
from radam.audit.finding import Skipped
from radam.audit.run import Run, betas_of
from radam.audit.strategies import lay_out

implementations = Group("Implementations, against the first")
invariances = Group("Invariances")

ACROSS = 8
"""Steps that take the usual optimizers across what they do differently at the start."""
MANY = 100
KINDS = ("normal", "some zeros", "zeros", "tiny", "large")
ORDINARY = ("normal", "some zeros", "zeros")


def _steps(run: Run) -> int:
    return 6 if run.setting.implementation == "compiled" else ACROSS


# Implementations


def _both(run: Run, values: Sequence[torch.Tensor], options: dict[str, Any]) -> None:
    """The first implementation, and the setting's own as `other`, on the same numbers."""
    run.make(values, options, implementation=run.setting.capabilities.first_implementation)
    run.make(values, options, name="other")


@implementations.check("dtype", "other implementation", examples=0.3, dtypes=EVERY)
def check_implementations_agree(run: Run) -> None:
    """Each implementation computes what the first one does, within the rounding of both."""
    values = [run.numbers(shape) for shape in ((3,), (2, 2), ())]
    _both(run, values, run.hyperparameters())
    for _ in range(_steps(run)):
        gradients = [run.gradient(value.shape, KINDS) for value in values]
        run.give(gradients)
        run.give(gradients, "other_params")
        run.compared_step(["other"], "other_params", run.setting.implementation)


@implementations.check("dtype", "other implementation", examples=0.1, dtypes=EVERY)
def check_implementations_agree_on_zero_gradients(run: Run) -> None:
    """Elements with zero gradients, with eps as it is by default and 0, at each step: NaN in one is NaN in all."""
    options = run.hyperparameters(weight_decay=0.0)
    if "betas" in options:
        options["betas"] = betas_of(options, 0.9, 0.999)
    default = run.setting.capabilities.optimizer.defaults.get("eps")
    for eps in (default, 0.0) if "eps" in options else (None,):
        if eps == 0.0 and not run.takes({**options, "eps": eps}):
            continue
        run.restart()
        _both(run, [torch.ones(2, dtype=run.dtype)], options if eps is None else {**options, "eps": eps})
        for _ in range(_steps(run)):
            gradient = torch.tensor([0.0, 1.0]).to(run.dtype)
            run.give([gradient])
            run.give([gradient], "other_params")
            run.compared_step(["other"], "other_params", run.setting.implementation)


@implementations.check("other implementation", examples=0.1, dtypes=(torch.float64,))
def check_implementations_agree_next_to_one(run: Run) -> None:
    """With decay rates close to 1, where scalars computed in float32 are wrong, from the first step on."""
    options = run.hyperparameters(weight_decay=0.0)
    if "betas" not in options:
        raise Skipped("the subject draws no betas")
    options["betas"] = betas_of(options, 0.9, run.draw(st.sampled_from((0.9995, 0.999, 0.9999)), "beta2"))
    options.update({name: value for name, value in {"lr": 0.1, "eps": 1e-8}.items() if name in options})
    value = run.numbers((3,))
    _both(run, [value], options)
    for _ in range(6):
        gradient = run.gradient((3,), ("normal",))
        run.give([gradient])
        run.give([gradient], "other_params")
        run.compared_step(["other"], "other_params", run.setting.implementation)


@implementations.check("dtype", "other implementation", examples=0.1, dtypes=REAL)
def check_implementations_agree_on_layouts(run: Run) -> None:
    """Transposed, strided and channels-last parameters, with gradients laid as they are and otherwise."""
    shape = (2, 3, 2, 2)
    layouts = ("transposed", "channels_last", "strided", "contiguous")
    layout = run.draw(st.sampled_from(layouts), "layout")
    of_gradient = run.draw(st.sampled_from(layouts), "layout of the gradient")
    value = lay_out(run.numbers(shape), layout)
    _both(run, [value], run.hyperparameters())
    for _ in range(_steps(run)):
        gradient = lay_out(run.gradient(shape, ("normal",)), of_gradient)
        run.give([gradient])
        run.give([gradient], "other_params")
        run.compared_step(["other"], "other_params", run.setting.implementation)


# Partitions of the work


@invariances.check("implementation", needs=("independent",), examples=0.15, compiled=False)
def check_groups_are_separate_optimizers(run: Run) -> None:
    """Two groups with options of their own are stepped as by an optimizer each."""
    first = run.hyperparameters()
    second = run.group_options()
    # Simple examples are alike: groups that are not the same can be told apart.
    for name, more in {"lr": 0.0625, "weight_decay": 0.125, "eps": 0.25}.items():
        if name in second and second[name] == first[name]:
            second[name] = first[name] + more
    if "betas" in second and second["betas"] == first["betas"]:
        other = (0.5, 0.9375) if first["betas"][:2] != (0.5, 0.9375) else (0.75, 0.875)
        second["betas"] = betas_of(second, *other)
    values = [run.numbers((3,)), run.numbers((2, 2))]
    run.make(values, first, [([0], {}), ([1], second)])
    run.make(values[:1], first, name="one")
    run.make(values[1:], {**first, **second}, name="two")
    run.script.do("both_params = one_params + two_params")
    for _ in range(ACROSS):
        gradients = [run.gradient(value.shape, ORDINARY) for value in values]
        run.give(gradients)
        run.give(gradients, "both_params")
        run.compared_step(["one", "two"], "both_params", "an optimizer for each group")


@invariances.check("implementation", examples=0.1, compiled=False)
def check_order_of_parameters(run: Run) -> None:
    """The order of parameters plays no part."""
    values = [run.numbers(shape) for shape in ((3,), (2, 2), ())]
    options = run.hyperparameters()
    run.make(values, options)
    run.make(values[::-1], options, name="other")
    run.script.do("in_order = other_params[::-1]")
    for _ in range(ACROSS):
        gradients = [run.gradient(value.shape, ORDINARY) for value in values]
        run.give(gradients)
        run.give(gradients, "in_order")
        run.compared_step(["other"], "in_order", "the reverse order")


@invariances.check("implementation", needs=("elementwise",), examples=0.1, compiled=False)
def check_partition_of_parameters(run: Run) -> None:
    """A tensor cut into pieces is stepped as the whole."""
    value = run.numbers((7,))
    cut = run.draw(st.integers(1, 6), "cut")
    options = run.hyperparameters()
    run.make([value], options)
    run.make([value[:cut].clone(), value[cut:].clone()], options, name="other")
    for _ in range(ACROSS):
        gradient = run.gradient((7,), ORDINARY)
        run.give([gradient])
        run.give([gradient[:cut].clone(), gradient[cut:].clone()], "other_params")
        run.compared_step(["other"], "other_params", "a tensor cut in two")


@invariances.check("implementation", needs=("elementwise",), examples=0.05, compiled=False)
def check_many_parameters(run: Run) -> None:
    """A tensor cut into a hundred pieces is stepped as the whole: no list of tensors is too long."""
    value = run.numbers((MANY,))
    options = run.hyperparameters()
    run.make([value], options)
    run.make([each.clone() for each in value], options, name="other")
    for _ in range(ACROSS):
        gradient = run.gradient((MANY,), ORDINARY)
        run.give([gradient])
        run.give([each.clone() for each in gradient], "other_params")
        run.compared_step(["other"], "other_params", f"a tensor cut into {MANY}")


@invariances.check("implementation", needs=("elementwise",), examples=0.1, compiled=False)
def check_shape_of_parameters(run: Run) -> None:
    """A tensor is stepped the same in any shape: no difference between biases and matrices."""
    value = run.numbers((12,))
    shape = run.draw(st.sampled_from(((3, 4), (12, 1), (1, 2, 1, 6), (2, 3, 2))), "shape")
    options = run.hyperparameters()
    run.make([value], options)
    run.make([value.reshape(shape)], options, name="other")
    for _ in range(ACROSS):
        gradient = run.gradient((12,), ORDINARY)
        run.give([gradient])
        run.give([gradient.reshape(shape)], "other_params")
        run.compared_step(["other"], "other_params", f"the shape {shape}")


@invariances.check(
    "dtype", "implementation", needs=("elementwise",), examples=0.05, dtypes=EVERY, compiled=False, least=2
)
def check_every_element_of_a_large_tensor(run: Run) -> None:
    """Elements of a long tensor that have the same numbers are stepped alike, up to the last one."""
    _beside_a_long_one(run, (2**20 if run.dtype == torch.float32 else 2**16) + 3)


@invariances.check(
    "dtype", "implementation", needs=("elementwise",), examples=0.3, dtypes=EVERY, compiled=False, least=6
)
def check_every_element_of_a_few_vectors(run: Run) -> None:
    """So are those in whole vectors of the processor, and those after the last one, with whatever options."""
    _beside_a_long_one(run, 67)


def _beside_a_long_one(run: Run, size: int) -> None:
    """Steps on eight numbers, and on a tensor of some size that has the same again and again."""
    few = 8
    value = run.numbers((few,))
    options = run.hyperparameters()
    run.make([value], options)
    long = f"params[0].detach().repeat({size // few + 1})[:{size}]"
    run.script.do(f"long = {long}" if _is_differentiable(run) else f"long = torch.nn.Parameter({long})")
    run.script.do("long_params = [long]")
    run.make(params="long_params", options=options, name="other")
    for _ in range(ACROSS):
        run.give([run.gradient((few,), ORDINARY)])
        run.script.do(f"long.grad = params[0].grad.repeat({size // few + 1})[:{size}]")
        run.compared_step(["other"], "long_params", "a long tensor of the same numbers again and again")


def _is_differentiable(run: Run) -> bool:
    return run.setting.implementation == "differentiable"


# Symmetries


@invariances.check("dtype", "implementation", needs=("maximize",), examples=0.1, compiled=False)
def check_maximize_is_minimize_of_the_negative(run: Run) -> None:
    """maximize=True on gradients g does what maximize=False does on -g, decay included; state may have either sign."""
    options = {**run.hyperparameters(), "maximize": False}
    values = [run.numbers((3,)), run.numbers((2, 2))]
    run.make(values, options)
    run.make(values, {**options, "maximize": True}, name="other")
    for _ in range(ACROSS):
        gradients = [run.gradient(value.shape, ORDINARY) for value in values]
        run.give(gradients)
        run.give([-gradient for gradient in gradients], "other_params")
        run.compared_step(["other"], "other_params", "maximize=True on the negative gradient", either_sign=True)


@invariances.check(
    "dtype",
    "implementation",
    needs=("complex", "shapeless"),
    examples=0.15,
    dtypes=(torch.complex64, torch.complex128),
    compiled=False,
)
def check_complex_is_pairs_of_reals(run: Run) -> None:
    """A complex parameter is stepped as the real tensor of its parts, beside a real one."""
    values = [run.numbers((3,)), run.numbers((2,))]
    options = run.any_hyperparameters()
    reals = [torch.view_as_real(value) for value in values]
    run.make(reals, options)
    run.make(values, options, name="other")
    for _ in range(ACROSS):
        gradients = [run.gradient(value.shape, ORDINARY) for value in values]
        run.give([torch.view_as_real(gradient) for gradient in gradients])
        run.give(gradients, "other_params")
        run.compared_step(["other"], "other_params", "complex numbers")


@invariances.check("implementation", needs=("independent",), examples=0.1, compiled=False)
def check_mixed_dtypes_are_separate_optimizers(run: Run) -> None:
    """Parameters of several dtypes in one group are stepped as by an optimizer each, bit for bit, after a load too."""
    taken = [dtype for dtype in (torch.bfloat16, torch.float64, torch.float32) if _takes(run, dtype)]
    options = run.hyperparameters()
    loading = run.draw(st.integers(1, ACROSS - 1), "steps before the load")
    for dtypes in (taken, taken[::-1]):
        _beside_other_dtypes(run, dtypes, options, loading)


def _beside_other_dtypes(run: Run, dtypes: Sequence[torch.dtype], options: Mapping[str, Any], loading: int) -> None:
    values = [run.numbers((3,), dtype=dtype) for dtype in dtypes]
    run.make(values, options)
    for i, value in enumerate(values):
        run.make([value], options, name=f"alone{i}")
    every = ", ".join(["optimizer", *(f"alone{i}" for i in range(len(values)))])
    for step in range(ACROSS):
        if step == loading:
            run.script.do(f"for each in ({every}):\n    each.load_state_dict(copy.deepcopy(each.state_dict()))")
        gradients = [run.numbers(value.shape, dtype=value.dtype) for value in values]
        run.give(gradients)
        run.step()
        for i, gradient in enumerate(gradients):
            run.give([gradient], f"alone{i}_params")
            run.step(f"alone{i}")
            run.same(f"params[{i}]", f"alone{i}_params[0]", f"{dtypes[i]} beside other dtypes")


def _takes(run: Run, dtype: torch.dtype) -> bool:
    capabilities = run.setting.capabilities
    return dtype != torch.bfloat16 or capabilities.has("half") or capabilities.has("narrow_half")


@invariances.check("dtype", "implementation", needs=("tensor_lr",), examples=0.1, dtypes=REAL, compiled=False)
def check_a_tensor_lr_is_a_number(run: Run) -> None:
    """lr as a tensor of one element is lr as its number; it is read at each step and never written to."""
    values = [run.numbers((3,)), run.numbers((2, 2))]
    # Neither is exact in float32, to which a float64 tensor must not be rounded. A float32 one makes float32 scalars.
    lr = run.draw(st.sampled_from((0.1, 0.003)), "lr")
    dtype = run.draw(st.sampled_from((torch.float64,) if run.dtype == torch.float64 else REAL), "dtype of lr")
    lr = torch.tensor(lr, dtype=dtype).item()
    options = run.hyperparameters(lr=lr)
    run.make(values, options)
    run.script.do(f"lr = torch.tensor({lr}, dtype={dtype})")
    try:
        run.make(values, {**options, "lr": torch.tensor(lr, dtype=dtype)}, name="other")
    except ValueError as error:
        raise Skipped(f"a tensor lr is refused here: {error}") from None
    if run.draw(st.booleans(), "of a group"):
        run.make(values, {**options, "lr": 2 * lr}, [([0, 1], {"lr": torch.tensor(lr, dtype=dtype)})], name="other")
        run.expect("other.param_groups[0]['lr'] == lr", "the tensor lr of a group is not in force")
    run.script.do("other.param_groups[0]['lr'] = lr")
    for step in range(ACROSS):
        if step == 4:
            run.script.do(f"lr.fill_({lr / 2})\noptimizer.param_groups[0]['lr'] = {lr / 2}")
        gradients = [run.gradient(value.shape, ORDINARY) for value in values]
        run.give(gradients)
        run.give(gradients, "other_params")
        run.compared_step(["other"], "other_params", "lr as a tensor")
        run.expect(f"lr.item() == {lr / 2 if step >= 4 else lr}", "a step has written to the lr tensor")
