"""The tests of each source file: those that are likely to notice a mistake in it first."""

from __future__ import annotations

from tests.mutation.automatic.mutations import ROOT


def _reference(*names: str) -> str:
    """Files of tests/reference, or tests in them, for one run of pytest."""
    return " ".join(
        "::test_".join([f"tests/reference/test_{file}.py", *test])
        for file, *test in (name.split("::") for name in names)
    )


def _core(*names: str) -> tuple[str, ...]:
    """Files of tests/core, or tests in them."""
    return tuple(
        "::test_".join([f"tests/core/test_{file}.py", *test]) for file, *test in (name.split("::") for name in names)
    )


def _subject(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/subject/test_{name}.py" for name in names)


_KERNELS = (
    *_core("weight_decay"),
    " ".join(
        _core(
            "wrong_kernels::what_is_there_passes",
            "kernels::loop_and_foreach_agree_bit_for_bit",
            "kernels::options_beyond_the_range_give_what_ieee_says",
            "kernels::the_largest_number_is_representable",
        )
    ),
)
_DIFFERENTIABLE = " ".join(
    _core(
        "kernels::differentiable_steps_are_the_same_steps",
        "kernels::differentiable_steps_of_adam_are_the_same_steps",
        "kernels::a_learning_rate_to_be_differentiated_makes_the_same_steps",
        "kernels::without_differentiable_nothing_is_recorded",
        "kernels::several_steps_can_be_differentiated",
        "kernels::the_derivative_where_the_gradient_is_zero",
        "kernels::the_loop_takes_large_parameters_by_parts_where_it_may",
    )
)
_ON_THE_DEVICE = "capturable::scalars_on_the_device_are_those_of_the_host"

# The oracle's own tests alone: that radam differs from it is no proof that the oracle is wrong.
_TESTS: dict[str, tuple[str, ...]] = {
    "reference/rectification.py": (_reference("rectification"),),
    "reference/optimizers.py": (
        _reference("optimizers::defaults", "optimizers::wrong_hyperparameters", "optimizers::convention"),
        _reference("scalar_error::the_bounds_are_those_of_the_docstring", "definition"),
        _reference("optimizers", "scalar_error", "independence"),
    ),
    "reference/torch_optim.py": (_reference("torch_optim"),),
    "reference/scaled_inverse_chi2.py": (_reference("scaled_inverse_chi2"),),
    "reference/ema.py": (_reference("ema"),),
    "reference/monte_carlo.py": (_reference("monte_carlo"),),
    "reference/statistical_tests.py": (_reference("statistical_tests"),),
    "reference/definition.py": (
        _reference("optimizers::defaults", "optimizers::tensorflow_addons_golden_values", "definition"),
    ),
    "radam/rectification.py": _core(
        "rectification", "schedule", "first_adaptive_step::the_paths_are_one_step_apart_at_the_threshold"
    ),
    "radam/schedule.py": _core(
        "schedule", "weight_decay", "adam::adam_2k_waits_for_two_thousand_steps", _ON_THE_DEVICE
    ),
    "radam/weight_decay.py": _core(
        "weight_decay", "options::default_values_of_the_decay", "options::in_the_constructor"
    ),
    "radam/adam.py": _core(
        *("schedule", "options::default_values", "options::in_the_constructor", "options::in_an_added_group"),
        *("adam::adam_2k_waits_for_two_thousand_steps", "interchange"),
    ),
    "radam/radam.py": (
        *_core("schedule", "options::default_values"),
        *_subject("signature", "constructor"),
        *_core("options::in_an_added_group", "options::the_exact_rectification_takes_no_threshold"),
    ),
    "radam/groups.py": _core("groups"),
    "radam/hooks.py": _core("hooks"),
    "radam/interchange.py": _core("interchange"),
    "radam/options.py": _core("options"),
    "radam/state.py": _core(
        *("state", "all_or_nothing", "interchange", "capturable::a_step_count_of_another_kind_is_refused"),
        *("capturable::a_capture_needs_state", "capturable::state_moves_between_both_ways_to_keep_it"),
    ),
    "radam/optimizer.py": (
        *_core("all_or_nothing", "state", "options", "dispatch", "interchange", "compatibility", "weight_decay"),
        *_core("settled", "capturable", "compiled"),
        *_subject("closure", "constructor"),
        "tests/training/test_mixed_precision.py",
    ),
    "radam/kernels/__init__.py": (
        *_core("dispatch", "settled", "fused", "work"),
        *_core("wrong_kernels::what_is_there_passes", "capturable::mps_has_no_float64"),
    ),
    "radam/kernels/capturable.py": (
        *_KERNELS[:2],
        *_core(_ON_THE_DEVICE, "capturable::every_configuration_in_lock_step", "work"),
        *_core("capturable::what_a_decay_of_ones_own_does_and_returns_is_used"),
        *_core("capturable::what_a_decay_of_ones_own_is_given_is_the_whole_parameter"),
    ),
    "radam/kernels/foreach.py": _KERNELS,
    "radam/kernels/fused.py": _core("fused", "dispatch", "wrong_kernels::what_is_there_passes"),
    "radam/kernels/loop.py": (*_KERNELS, _DIFFERENTIABLE),
    "radam/kernels/slot.py": _KERNELS[1:],
    "radam/kernels/settled.py": _core("settled"),
    "radam/kernels/threads.py": _core("threads", "fused", "dispatch"),
    "radam/kernels/work.py": _core("work", "wrong_kernels::what_is_there_passes", "fused", "dispatch"),
}


def tests_of(file: str) -> tuple[str, ...]:
    """The examples in a file's own docstrings, if it has any, then its tests in order, a run of pytest each."""
    examples = (file,) if ">>>" in (ROOT / file).read_text() else ()
    return (*examples, *_TESTS.get(file, ()))
