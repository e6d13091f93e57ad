"""Gradients of every kind, tensors of every layout, and what must not be written to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st

from radam.audit.capabilities import HALF
from radam.audit.checks.check import EVERY, Group
from radam.audit.finding import Skipped
from radam.audit.run import Run
from radam.audit.strategies import lay_out

gradients = Group("Gradients")
tensors = Group("Tensors")
half = Group("Half precision")

ACROSS = 8
AWAY = (3, 4, 5, *range(9, 21))
"""Steps in which a parameter is frozen."""


# None, zero, late


@gradients.check("dtype", "implementation", needs=("independent",), examples=0.05)
def check_without_gradients_nothing_happens(run: Run) -> None:
    """A parameter without a gradient stays, and so does its state: at the start and in mid-run."""
    run.make()
    run.script.do("before = [param.detach().clone() for param in params]")
    run.step()
    for i in range(2):
        run.same(f"params[{i}]", f"before[{i}]", f"param {i} after a step without a gradient")
    run.drive(2)
    run.hold()
    run.give([None, None])
    run.step()
    run.step()
    run.held("after two steps without a gradient")


@gradients.check("dtype", "implementation", examples=0.05, dtypes=EVERY)
def check_zero_gradients_leave_a_parameter_alone(run: Run) -> None:
    """With zero gradients from the start, no decay and eps as it is by default, a parameter stays: no NaN, no drift."""
    options = _as_by_default(run, run.without_decay())
    run.make([run.numbers((3,)), run.numbers((2, 2))], options)
    run.script.do("before = [param.detach().clone() for param in params]")
    for _ in range(ACROSS if run.setting.implementation != "compiled" else 6):
        run.give([torch.zeros_like(param) for param in run.params()])
        run.step()
        for i in range(2):
            nan = run.script.value(f"bool(params[{i}].isnan().any())")
            what = f"param {i} on zero gradients" + (" (it has become NaN)" if nan else "")
            run.same(f"params[{i}]", f"before[{i}]", what)


def _as_by_default(run: Run, options: dict[str, object]) -> dict[str, object]:
    """Options with eps and betas as by default, without which zero gradients may be 0/0."""
    defaults = run.setting.capabilities.optimizer.defaults
    return {
        **options,
        **{name: defaults[name] for name in ("eps", "betas") if name in options and name in defaults},
    }


@gradients.check(needs=("independent",), examples=0.1)
def check_late_gradients(run: Run) -> None:
    """A parameter whose first gradient comes late starts then, as it would in an optimizer of its own."""
    options = run.hyperparameters()
    run.make(options=options)
    run.make([value.detach() for value in run.params()[1:]], options, name="alone")
    delay = run.draw(st.sampled_from((3, 1, 6)), "delay")
    for _ in range(delay):
        run.give([run.gradient((3,)), None])
        run.step()
    for _ in range(7):
        gradient = run.gradient((2, 2))
        run.give([run.gradient((3,)), gradient])
        run.give([gradient], "alone_params")
        run.step()
        run.step("alone")
        run.same("params[1]", "alone_params[0]", f"a parameter whose first gradient came after {delay} steps")


@gradients.check(needs=("independent",), examples=0.1)
def check_frozen_and_freed(run: Run) -> None:
    """A parameter frozen for some steps, without gradients, is then stepped from where it was."""
    options = run.hyperparameters()
    run.make(options=options)
    run.make([value.detach() for value in run.params()[1:]], options, name="alone")
    for step in range(24):
        gradient = run.gradient((2, 2))
        if step in AWAY:
            run.script.do("params[1].requires_grad_(False)")
            run.give([run.gradient((3,)), None])
            run.step()
        else:
            run.script.do("params[1].requires_grad_(True)")
            run.give([run.gradient((3,)), gradient])
            run.give([gradient], "alone_params")
            run.step()
            run.step("alone")
        run.same("params[1]", "alone_params[0]", "a parameter that was frozen twice")


@gradients.check(examples=0.05)
def check_a_gradient_is_all_it_takes(run: Run) -> None:
    """A parameter that requires no gradient, but has one, is stepped as any other."""
    options = run.hyperparameters(lr=0.1, weight_decay=0.1)
    run.make(options=options)
    run.make([value.detach() for value in run.params()], options, name="other")
    run.script.do("for param in params:\n    param.requires_grad_(False)")
    for _ in range(3):
        gradients = [run.gradient(param.shape) for param in run.params()]
        run.give(gradients)
        run.give(gradients, "other_params")
        run.step()
        run.step("other")
        for i in range(len(gradients)):
            run.same(f"params[{i}]", f"other_params[{i}]", f"param {i}, which requires no gradient but has one")


@gradients.check(examples=0.05)
def check_zero_grad(run: Run) -> None:
    """After `zero_grad()` no parameter has a gradient other than zeros, a frozen one neither."""
    run.make([run.numbers((3,)), run.numbers((2, 2))])
    run.drive(2)
    run.script.do("params[1].requires_grad_(False)")
    for _ in range(2):
        run.give([run.gradient(param.shape) for param in run.params()])
        run.script.do("optimizer.zero_grad()")
        for i in range(2):
            run.expect(
                f"params[{i}].grad is None or not params[{i}].grad.any()",
                f"param {i}{' (frozen)' if i else ''} has a gradient after zero_grad()",
            )


@gradients.check("dtype", examples=0.05)
def check_sparse_gradients_are_refused_or_taken(run: Run) -> None:
    """A sparse gradient is taken, or refused by a RuntimeError that says so; parameter, state, grad mode untouched."""
    run.make([run.numbers((3,))])
    run.drive(2)
    run.hold()
    run.script.do(
        f"params[0].grad = torch.sparse_coo_tensor([[0, 2]], [1.0, 2.0], (3,), dtype={run.dtype}, "
        f"device=params[0].device, check_invariants=True)"
    )
    run.script.do("refusal = None\ntry:\n    optimizer.step()\nexcept Exception as error:\n    refusal = error")
    run.script.do("mode = torch.is_grad_enabled()\ntorch.set_grad_enabled(True)")
    if run.script.value("refusal is None"):
        raise Skipped("takes sparse gradients, and may step some elements only: not judged")
    refusal = run.script.value("refusal")
    run.expect(
        "isinstance(refusal, RuntimeError)",
        f"a sparse gradient is refused by {type(refusal).__name__}, but should be by a RuntimeError",
    )
    run.expect(
        "'sparse' in str(refusal).lower()",
        f"a sparse gradient is refused by {refusal!s:.80}, but the message should say that it is sparse",
    )
    run.expect("mode", "a refused gradient leaves grad disabled")
    run.held("after a refused gradient")


# What is the user's


@gradients.check("dtype", "implementation", examples=0.1)
def check_gradients_are_not_written_to(run: Run) -> None:
    """`.grad` is the same tensor with the same bits after a step, with decay and with maximize too."""
    values = [run.numbers((3,)), run.numbers((2, 2))]
    compiled = run.setting.implementation == "compiled"
    telling = run.setting.capabilities.telling(run.hyperparameters())
    for options in telling[:1] if compiled else telling:
        run.restart()
        run.make(values, options)
        for _ in range(4 if compiled else ACROSS):
            run.give([run.gradient(param.shape) for param in run.params()])
            run.script.do("grads = [param.grad for param in params]\ncopies = [grad.clone() for grad in grads]")
            run.step()
            for i in range(2):
                run.expect(
                    f"params[{i}].grad is grads[{i}]", f"the gradient of param {i} is another tensor after a step"
                )
                run.same(f"grads[{i}]", f"copies[{i}]", f"the gradient of param {i} after a step")


@gradients.check("dtype", examples=0.1)
def check_state_is_not_the_gradients_memory(run: Run) -> None:
    """A gradient buffer that is filled anew, and a parameter that is set, leave the state alone."""
    run.make()
    run.drive(1)
    for _ in range(3):
        run.script.do("for param in params:\n    param.grad = param.grad.clone()\noptimizer.step()")
        run.hold()
        run.script.do("for param in params:\n    param.grad.fill_(77.0)")
        run.held("after the gradient was filled anew")


@gradients.check("dtype", "implementation", examples=0.1, compiled=False)
def check_gradients_in_one_buffer(run: Run) -> None:
    """Gradients that are views of one buffer, filled anew for each step, count as they are at that step.

    Every other time through `.data`, which no version counter tells of.
    """
    values = [run.numbers((3,)), run.numbers((2, 2))]
    options = run.hyperparameters()
    run.make(values, options)
    run.make(values, options, name="other")
    run.script.do(
        f"buffer = torch.full((9,), 7.0, dtype={run.dtype}, device=params[0].device)\n"
        "other_params[0].grad, other_params[1].grad = buffer[1:4], buffer[5:].view(2, 2)"
    )
    for step in range(ACROSS):
        run.give([run.gradient(value.shape) for value in values])
        into = "other_param.grad.data" if step % 2 else "other_param.grad"
        run.script.do(f"for param, other_param in zip(params, other_params):\n    {into}.copy_(param.grad)")
        run.compared_step(["other"], "other_params", "gradients in one buffer")


@gradients.check("dtype", "implementation", needs=("complex",), examples=0.1, dtypes=(torch.complex64,), compiled=False)
def check_conjugated_gradients(run: Run) -> None:
    """A gradient that is a conjugated view, as autograd makes them, is its value; or it is refused."""
    _as_views(run, "conjugated", "conj", torch.conj, "param.grad.conj()")


@gradients.check("dtype", "implementation", examples=0.1, dtypes=(torch.float32, torch.float64), compiled=False)
def check_negated_gradients(run: Run) -> None:
    """A gradient that is a negated view, as the imaginary part of a conjugated one, is its value; or it is refused."""
    _as_views(run, "negated", "neg", torch.neg, "torch.complex(torch.zeros_like(param.grad), param.grad).conj().imag")


def _as_views(run: Run, kind: str, word: str, undo: Callable[[torch.Tensor], torch.Tensor], view: str) -> None:
    """Steps on gradients, and on views of what `undo` makes of them: the same numbers, or refused by a word."""
    values = [run.numbers((3,)), run.numbers((2, 2))]
    options = run.hyperparameters()
    run.make(values, options)
    run.make(values, options, name="other")
    for _ in range(ACROSS):
        gradients = [run.gradient(value.shape) for value in values]
        run.give(gradients)
        run.give([undo(gradient).resolve_conj() for gradient in gradients], "other_params")
        run.script.do(f"for param in other_params:\n    param.grad = {view}")
        try:
            run.compared_step(["other"], "other_params", f"{kind} gradients")
        except RuntimeError as error:
            if word not in str(error):
                raise
            raise Skipped(f"{kind} gradients are refused: {error}") from None


@gradients.check("implementation", needs=("elementwise",), examples=0.1)
def check_a_nan_stays_in_its_element(run: Run) -> None:
    """A NaN in one element of a gradient reaches its own element, and no other."""
    run.make(options=run.without_zero_divisors())
    at = run.draw(st.sampled_from((1, 3, 6)), "step of the NaN")
    for step in range(1, 8 if run.setting.implementation != "compiled" else 5):
        given = [run.gradient(param.shape, ("normal",)) for param in run.params()]
        if step == at:
            given[0][1] = torch.nan
        run.give(given)
        run.step()
    others = "torch.cat([params[0].detach()[[0, 2]].reshape(-1), params[1].detach().reshape(-1)])"
    run.expect(f"bool({others}.isnan().logical_not().all())", "a NaN in one element has spread to others")
    kept, group = run.optimizer().state[run.params()[0]], run.optimizer().param_groups[0]
    v, s = (run.subject.state.get(symbol, "") for symbol in ("v", "s"))
    # A maximum that is kept but not used may stay as it is; of other optimizers s is something else.
    of_amsgrad = group.get("amsgrad", run.options.get("amsgrad", "max" in s))
    if of_amsgrad and v in kept and s in kept and bool(kept[v][1].isnan()):
        run.expect(f"bool(optimizer.state[params[0]]['{s}'][1].isnan())", f"{s} passes over the NaN of {v}")


@gradients.check("dtype", "implementation", needs=("elementwise",), examples=0.05, compiled=False)
def check_a_nan_parameter_stays_nan(run: Run) -> None:
    """An element that is NaN stays NaN, which shows what went wrong; no other element becomes it."""
    values = [run.numbers((3,)), run.numbers((2, 2))]
    values[0][1] = torch.nan
    run.make(values, run.without_zero_divisors())
    run.drive(ACROSS, kinds=("normal",))
    run.expect("bool(params[0][1].isnan())", "an element that was NaN has become a number")
    others = "torch.cat([params[0].detach()[[0, 2]].reshape(-1), params[1].detach().reshape(-1)])"
    run.expect(f"bool({others}.isnan().logical_not().all())", "a NaN in one element has spread to others")


# Tensors


@tensors.check("dtype", "implementation", examples=0.15, dtypes=EVERY, compiled=False)
def check_layouts(run: Run) -> None:
    """Strided, transposed, channels-last and expanded parameters and gradients are stepped as contiguous ones."""
    shape = (2, 3, 2, 2)
    layouts = ("transposed", "strided", "channels_last", "offset", "contiguous")
    layout = run.draw(st.sampled_from(layouts), "layout")
    value = run.numbers(shape)
    options = run.hyperparameters()
    run.make([value], options)
    run.make([lay_out(value, layout)], options, name="other")
    for _ in range(ACROSS):
        of_gradient = run.draw(st.sampled_from((*layouts, "expanded")), "layout of the gradient")
        if of_gradient == "expanded":
            gradient = run.gradient(shape, ("expanded",))
        else:
            gradient = lay_out(run.gradient(shape), of_gradient)
        run.give([gradient.contiguous()])
        run.give([gradient], "other_params")
        run.compared_step(["other"], "other_params", f"a {layout} parameter with a {of_gradient} gradient")


@tensors.check("dtype", "implementation", examples=0.1)
def check_nothing_is_written_outside_a_view(run: Run) -> None:
    """A parameter that is a view of a larger tensor is written in place, and the rest keeps its bits."""
    view = run.draw(st.sampled_from(("[::2]", "[1:4]", "[:, 1]", "[1:, 1:]", ".t()[1:]")), "view")
    base = run.numbers((6,) if view in ("[::2]", "[1:4]") else (4, 3))
    options = run.hyperparameters()
    run.make([base], options, name="plain")
    run.script.do(f"base = plain_params[0].detach().clone()\nparams = [torch.nn.Parameter(base{view})]")
    if run.setting.implementation == "differentiable":
        run.script.do("params = [params[0].detach()]")
    run.make(params="params", options=options)
    run.script.do(
        f"before = base.clone()\noutside = torch.ones_like(base, dtype=torch.bool)\noutside{view}.fill_(False)\n"
        "place, strides = params[0].data_ptr(), params[0].stride()"
    )
    run.drive(4)
    run.same("base[outside]", "before[outside]", f"the tensor around the view base{view}")
    run.expect("params[0].data_ptr() == place", "the parameter has moved to other memory")
    run.expect("params[0].stride() == strides", "the parameter's strides have changed")
    run.same(f"base{view}", "params[0].detach()", f"the view base{view} of a parameter that was stepped")


@tensors.check("dtype", "implementation", examples=0.05)
def check_dtype_and_layout_are_kept(run: Run) -> None:
    """A step leaves dtype, device, strides, requires_grad and memory of a parameter as they are."""
    shape = (2, 3, 2, 2)
    layout = run.draw(st.sampled_from(("channels_last", "transposed", "contiguous", "strided")), "layout")
    run.make([lay_out(run.numbers(shape), layout), run.numbers(())])
    look = "[(p.dtype, p.device, p.stride(), p.is_leaf, p.requires_grad, p.data_ptr()) for p in params]"
    if run.setting.implementation == "differentiable":
        look = "[(p.dtype, p.device, p.stride()) for p in params]"
    run.script.do(f"before = {look}")
    run.drive(3)
    run.same(look, "before", "dtype, device, strides, leaf, requires_grad and memory of the parameters after steps")


@tensors.check("dtype", "implementation", examples=0.05, compiled=False)
def check_version_counters_move(run: Run) -> None:
    """A parameter that a step has changed has another version: autograd can tell that a saved tensor is stale."""
    # So large that every dtype's parameters change.
    run.make(options=run.hyperparameters(lr=0.1))
    for _ in range(ACROSS):
        run.script.do(
            "versions = [param._version for param in params]\nvalues = [param.detach().clone() for param in params]"
        )
        run.drive(1)
        for i in range(2):
            changed = f"torch.equal(params[{i}].detach(), values[{i}])"
            run.expect(
                f"params[{i}]._version > versions[{i}] or {changed}",
                f"param {i} was changed by a step, but its version counter has not moved: "
                "autograd cannot tell that what it saved is stale",
            )


@tensors.check("dtype", "implementation", needs=("independent",), examples=0.05, compiled=False)
def check_empty_and_scalar_parameters(run: Run) -> None:
    """Parameters without elements and without dimensions are stepped beside others, and beside a group without any."""
    values = [run.numbers((0,)), run.numbers((3,)), run.numbers(()), run.numbers((2, 0))]
    options = run.hyperparameters()
    run.make(values[1:2], options)
    run.make(values, options, groups=[(range(4), {}), ((), {})], name="other")
    run.script.do("filled = other_params[1:2]")
    for _ in range(4):
        gradient = run.gradient((3,))
        run.give([gradient])
        run.give([values[0], gradient, run.gradient(()), values[3]], "other_params")
        run.compared_step(["other"], "filled", "a parameter beside empty ones")


@tensors.check("dtype", "implementation", examples=0.05, compiled=False)
def check_the_memory_of_a_parameter_may_be_swapped(run: Run) -> None:
    """After `param.data = ...` steps go into the new memory, and the old stays as it was."""
    run.make()
    run.twin()
    run.drive(2, "other")
    run.script.do("old = params[0].data\nkept = old.clone()\nparams[0].data = old.clone()")
    run.drive(3, "other")
    run.same("old", "kept", "memory that a parameter has left")
    run.same("params[0]", "other_params[0]", "a parameter whose memory was swapped")


# Half precision


@half.check("dtype", "implementation", examples=0.05, dtypes=HALF)
def check_tiny_gradients_in_half_precision(run: Run) -> None:
    """Gradients whose squares are nothing in half precision leave a parameter finite."""
    _stays_finite(run, (1e-4, 1e-5, 6e-8))


@half.check("dtype", "implementation", examples=0.05, dtypes=HALF)
def check_large_gradients_in_half_precision(run: Run) -> None:
    """Gradients whose squares overflow in float16 leave a parameter finite."""
    _stays_finite(run, (300.0, 3e4))


def _stays_finite(run: Run, sizes: tuple[float, ...]) -> None:
    """A parameter of 1.0, on gradients of each of some sizes."""
    options = _small_steps(run)
    for size in sizes:
        run.restart()
        run.make([torch.ones(3, dtype=run.dtype)], options)
        for _ in range(ACROSS):
            run.give([torch.full((3,), size, dtype=run.dtype)])
            run.step()
            run.expect(
                "bool(params[0].isfinite().all())",
                f"on gradients of {size} a parameter of 1.0 has become NaN or infinite",
            )


def _small_steps(run: Run) -> dict[str, object]:
    options = _as_by_default(run, run.without_decay())
    return {**options, "lr": 1e-3} if "lr" in options else options


@half.check("dtype", "implementation", examples=0.05, dtypes=HALF)
def check_zero_and_nonzero_gradients_in_half_precision(run: Run) -> None:
    """An element with zero gradients beside others stays finite, and stays where it is, without decay."""
    run.make([torch.ones(2, dtype=run.dtype)], _small_steps(run))
    for _ in range(ACROSS):
        run.give([torch.tensor([0.0, 1.0], dtype=run.dtype)])
        run.step()
        run.expect(
            "params[0][0].item() == 1.0",
            "an element with zero gradients has left 1.0"
            + (": it is NaN" if run.script.value("bool(params[0][0].isnan())") else ""),
        )
