"""The catalogue: the ways in which a model can fail to learn, and one verdict on each. docs/lint.md is made of it.

*detected*    a rule with the same code names the line; its page says more
*impossible*  gradtape has no way to write it, or what is written works right; a test tries the spellings
*guarded*     it shows when the program runs only: a check at run time, which a test sets off
"""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = ("detected", "impossible", "guarded")


@dataclass(frozen=True)
class Class:
    """`title` says what goes wrong; `note` what prevents or guards it, or what is to be said beside its rule; `proofs`
    are tests, `file::function` below tests/."""

    code: str
    title: str
    verdict: str
    note: str = ""
    proofs: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """The code of the rule of this class, if it has one."""
        return f"GT-{self.code}"


GROUPS = {
    "A": "The value leaves the program",
    "B": "The gradient is cut",
    "C": "The gradient is zero by mathematics",
    "D": "The parameter is not registered, or not reached",
    "E": "Reached, but not trained",
    "F": "Control flow and side effects are frozen",
    "G": "Connected, but numerically dead",
    "H": "Loss and optimizer are misused",
    "I": "The compiled program is out of date",
}


def _detected(code: str, title: str, note: str = "", *proofs: str) -> Class:
    return Class(code, title, "detected", note, proofs)


def _impossible(code: str, title: str, note: str, *proofs: str) -> Class:
    return Class(code, title, "impossible", note, proofs)


def _guarded(code: str, title: str, note: str, *proofs: str) -> Class:
    return Class(code, title, "guarded", note, proofs)


_HERE = "lint/test_classes.py::"

CLASSES: tuple[Class, ...] = (
    _detected("A01", "an array is rebuilt from raw data"),
    _detected(
        "A02", "a foreign function is called on a traced value",
        "NumPy's functions that have an op are traced, and are no break",
        "tracer/test_tensor.py::test_numpy_functions_are_traced",
    ),
    _detected("A03", "a number or a list is extracted, and comes back as a constant"),
    _detected("A04", "a raw buffer is filled in a loop"),
    _detected("A05", "a callback without a backward rule"),
    _detected("A06", "an op without a backward rule"),
    _detected("A07", "a false leaf: marked differentiable, made of raw data"),
    _detected(
        "A08", "the loss is computed off the program",
        "a loss cannot be told to require a gradient",
        "lint/test_lint.py::test_a_loss_cannot_be_told_to_require_a_gradient",
    ),
    _detected("A09", "a traced value is kept from call to call", "a second trace (layer D) brings it to light"),
    _detected("B01", "a leftover detach or stop_gradient"),
    _detected(
        "B02", "a leftover no_grad region",
        "a switch for good does not exist, and a checkpoint changes no gradient",
        "lint/test_lint.py::test_a_gradient_cannot_be_switched_off_for_good",
        _HERE + "test_a_checkpoint_behind_a_frozen_part_learns",
    ),
    _detected("B03", "a partial cut: the gradient is there, and wrong"),
    _detected("B04", "a dead branch, hidden by a residual connection"),
    _detected("B05", "a small proxy beside a constant"),
    _detected("B06", "mistakes with straight-through estimators"),
    _detected("B07", "a discrete or sampled op on every path"),
    _detected(
        "B08", "a wrong backward",
        "a rule of the wrong form, or shape, is refused where it is used",
        "tracer/test_custom_rules.py::test_what_a_rule_must_not_return",
    ),
    _detected(
        "B09", "arguments swapped where only one is differentiable",
        "losses are differentiable in both",
        "lint/test_lint.py::test_losses_are_differentiable_in_both_arguments",
        "lint/test_lint.py::test_ops_that_are_one_sided_are_those_whose_derivative_is_zero_there",
    ),
    _detected("C01", "multiplied by exact zero"),
    _detected("C02", "two factors that start at zero"),
    _detected("C03", "shift invariance"),
    _detected("C04", "normalised over an axis of size 1"),
    _detected("C05", "a loss that does not depend on its input"),
    _detected("C06", "saturated for every input"),
    _detected("C07", "a piecewise constant op"),
    _detected(
        "C08", "rows or slices that are never read",
        "`x[:, :k] = y` is refused; rows that one batch does not gather are no finding",
        _HERE + "test_parts_cannot_be_overwritten_in_place",
        _HERE + "test_rows_that_a_batch_leaves_out_are_no_finding",
    ),
    _detected(
        "C09", "a mask that removes everything",
        "a mask that is computed from the data is checked in every step: NotFinite",
        _HERE + "test_a_mask_of_the_data_that_leaves_nothing_stops_the_step",
    ),
    _detected("C10", "symmetric initial values"),
    _detected(
        "D01", "parameters in a container that is not walked",
        "lists, tuples and dicts are walked",
        "tracer/test_module.py::test_paths_through_lists_tuples_and_dicts",
    ),
    _detected("D02", "a hand-written parameters() leaves some out"),
    _detected("D03", "a weight is a constant of the program"),
    _detected("D04", "registered, but never used"),
    _detected("D05", "used in values beside the loss only"),
    _detected("D06", "one module where several were meant; overwritten attributes"),
    _detected("D07", "a copy instead of a reference"),
    _detected(
        "E01", "not differentiable by declaration",
        "a Parameter of integers is refused",
        _HERE + "test_an_integer_parameter_is_refused",
    ),
    _detected(
        "E02", "the optimizer holds a wrong, partial or empty set",
        "a generator is taken once and kept, an empty one is refused",
        _HERE + "test_an_exhausted_generator_of_parameters_is_refused",
    ),
    _detected(
        "E03", "the optimizer refers to another object",
        "a part that is replaced after compiling is traced anew, and one that the optimizer does not hold is named",
        _HERE + "test_a_part_that_is_replaced_behind_the_optimizers_back_is_named",
    ),
    _detected(
        "E04", "the step is lost",
        "`step.watch()` names parameters that have a gradient and stay the same, bit for bit; weights of 16 bits are "
        "refused",
        "lint/test_numbers.py::test_an_update_that_rounding_undoes",
        _HERE + "test_weights_of_16_bits_are_refused",
    ),
    _detected("E05", "overwritten in every call"),
    _detected("F01", "a branch or loop on data"),
    _guarded(
        "F02", "a shape or batch size is baked in",
        "sizes stay symbolic; a line that needs the number behind one puts a guard on it, and another size is traced "
        "anew, which GT-F02 tells; a shape that depends on data is refused",
        _HERE + "test_a_size_that_python_has_read_is_traced_anew",
        _HERE + "test_a_shape_that_depends_on_data_is_refused",
    ),
    _detected(
        "F03", "Python state is baked in",
        "a number that is assigned to a module's attribute later on is noticed by the next call (I01)",
        _HERE + "test_a_setting_that_is_changed_is_traced_anew",
    ),
    _detected("F04", "randomness is baked in"),
    _detected("F05", "side effects: running statistics, counters, leaked values"),
    _detected("F06", "an error of the tracer is swallowed"),
    _impossible(
        "F07", "a value that is still needed is overwritten",
        "values never change: `h += 1` makes a new one, and what writes into one is refused with its line",
        _HERE + "test_augmented_assignment_makes_a_new_value",
        _HERE + "test_parts_cannot_be_overwritten_in_place",
    ),
    _guarded(
        "G01", "dead ReLU units",
        "`step.watch()`: units that were 0 for every example of several batches; not inside of a scan",
        "lint/test_numbers.py::test_units_that_are_never_on_are_counted_over_batches",
    ),
    _guarded(
        "G02", "saturated activations",
        "`step.watch()`: the share that is flat at the first look; not inside of a scan",
        "lint/test_numbers.py::test_saturation_at_the_start_is_told_once_as_a_warning",
    ),
    _detected("G03", "a gradient that vanishes"),
    _detected(
        "G04", "NaN in a gradient",
        "where it is not proved, the step is checked: NotFinite names the op, and nothing is updated",
        _HERE + "test_a_gradient_that_is_not_finite_stops_the_step",
    ),
    _detected("G05", "rounding noise in place of a gradient"),
    _detected("H01", "softmax or sigmoid twice"),
    _detected(
        "H02", "broadcast inside the loss",
        "the losses of gradtape refuse shapes that differ",
        _HERE + "test_losses_refuse_shapes_that_differ",
    ),
    _detected(
        "H03", "the update is never applied",
        "a step is one program, with gradient and update in it",
        _HERE + "test_a_step_applies_its_update",
    ),
    _guarded(
        "I01", "the key of a compiled program is too weak",
        "it holds dtypes, ranks, sizes, modes, trainability and the plain attributes of all modules; what changes is "
        "traced anew. Globals and closures are read once: GT-F03 names those that change by themselves",
        _HERE + "test_a_setting_that_is_changed_is_traced_anew",
        _HERE + "test_what_a_program_is_kept_by",
    ),
    _guarded(
        "I02", "trainability changes after compiling",
        "freezing and thawing is noticed by the next step",
        "test_gradient_control.py::test_freezing_and_thawing_a_compiled_model",
    ),
    _guarded(
        "I03", "stale buffers",
        "parameters, buffers and modules that are replaced are noticed by the next call; their numbers may change in "
        "place at any time",
        _HERE + "test_parts_that_are_replaced_are_traced_anew",
        _HERE + "test_results_of_two_calls_share_no_memory",
    ),
    _impossible(
        "I04", "a rule is registered or patched after the trace",
        "an op and its derivative are one record, there when gradtape is imported and registered once; a rule of one's "
        "own is a part of the function that has it",
        _HERE + "test_an_op_has_its_rule_from_the_start",
    ),
    _impossible(
        "I05", "a cache of kernels on disk is out of date",
        "Numba's cache is never used, and no kernel reads a global: what differs stands in its source, or is an "
        "argument; the tape cache's key names all that a tape depends on (docs/cache.md)",
        _HERE + "test_no_kernel_is_kept_under_a_name_that_could_mean_another",
    ),
)  # fmt: skip
BY_CODE = {c.code: c for c in CLASSES}
