"""Sampling, and which ids a model is shown."""

import numpy as np
import pytest

import gradtape as gt
from gradtape.models.generation import Sampler, tokens

LOGITS = np.log(np.array([[0.1, 0.4, 0.3, 0.2]]))


def drawn(count=4000, **options):
    draw = Sampler(**options)
    return np.bincount([draw(LOGITS)[0] for _ in range(count)], minlength=4) / count


def test_ids_are_drawn_as_the_softmax_says():
    np.testing.assert_allclose(drawn(), [0.1, 0.4, 0.3, 0.2], atol=0.03)
    p = np.array([0.1, 0.4, 0.3, 0.2]) ** 2
    np.testing.assert_allclose(drawn(temperature=0.5), p / p.sum(), atol=0.03)
    np.testing.assert_array_equal(drawn(10, temperature=0), [0, 1, 0, 0])


@pytest.mark.parametrize(
    ("options", "p"),
    [
        ({"top_k": 2}, [0, 4 / 7, 3 / 7, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 9}, [0.1, 0.4, 0.3, 0.2]),
        ({"top_p": 0.5}, [0, 4 / 7, 3 / 7, 0]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),
        ({"top_p": 1.0}, [0.1, 0.4, 0.3, 0.2]),
        ({"top_k": 3, "top_p": 0.75}, [0, 4 / 7, 3 / 7, 0]),
    ],
)
def test_only_the_likeliest_are_drawn(options, p):
    got = drawn(**options)
    np.testing.assert_allclose(got, p, atol=0.03)
    np.testing.assert_array_equal(got == 0, np.array(p) == 0)


def test_a_seed_gives_the_same_ids_and_rows_differ():
    first, second, other = (Sampler(seed=seed) for seed in (1, 1, 2))
    logits = np.zeros((2, 50))
    a, b, c = (np.array([draw(logits) for _ in range(200)]) for draw in (first, second, other))
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.9 and (a[:, 0] != a[:, 1]).mean() > 0.9


class Recorder:
    """A step that likes the id after the last one, of ten."""

    def __init__(self):
        self.calls = []

    def __call__(self, ids, position):
        self.calls.append((ids[0].tolist(), position))
        return np.eye(10)[(ids[:, -1] + 1) % 10]


def run(prompt, count, context, keep, stop=None):
    step = Recorder()
    found = list(tokens(step, np.atleast_2d(prompt), count, Sampler(temperature=0), context, keep, stop))
    return np.array(found).T.tolist(), step.calls


def test_a_full_window_begins_again_with_the_last_ids():
    ids, calls = run([1, 2], 6, context=4, keep=2)
    assert ids == [[3, 4, 5, 6, 7, 8]]
    # the window is full with 1 2 3 4; it goes on with 4 5, as if the text began there
    assert calls == [([1, 2], 0), ([3], 2), ([4], 3), ([4, 5], 0), ([6], 2), ([7], 3)]


def test_keeping_all_but_one_shows_as_much_as_possible():
    _, calls = run([1, 2, 3], 4, context=3, keep=2)
    assert calls == [([1, 2, 3], 0), ([3, 4], 0), ([5], 2), ([5, 6], 0)]


def test_a_long_prompt_is_cut_to_the_context():
    assert run(list(range(8)), 1, context=4, keep=2) == ([[8]], [([4, 5, 6, 7], 0)])


def test_the_end_of_a_sequence_ends_it():
    ids, calls = run([[1], [4]], 9, context=20, keep=5, stop=6)
    assert ids == [[2, 3, 4, 5, 6], [5, 6, 6, 6, 6]]
    assert len(calls) == 5


def test_nothing_is_asked_for_nothing():
    assert run([1], 0, context=4, keep=2) == ([], [])


# arguments ------------------------------------------------------------------------------------------------------------
MODEL = gt.models.GPT(5, 8, 4, 1, 1)


@pytest.mark.parametrize(
    ("prompt", "options", "error", "message"),
    [
        ([[1, 2], [3]], {}, ValueError, "the prompts differ in length"),
        ([1.0, 2.0], {}, TypeError, "not float64 of shape"),
        ("text", {}, TypeError, "encode"),
        (3, {}, TypeError, r"of shape \(\)"),
        ([], {}, TypeError, "float64"),
        (np.zeros((2, 0), int), {}, ValueError, "the prompt has no ids"),
        ([1], {"temperature": -1}, ValueError, "temperature is 0 or more, not -1"),
        ([1], {"top_k": 0}, ValueError, "top_k is 1 or more"),
        ([1], {"top_p": 0}, ValueError, "top_p is a probability above 0"),
        ([1], {"keep": 9}, ValueError, "keep is from 1 to the context, 8; got 9"),
    ],
)
def test_what_cannot_be_asked_for(prompt, options, error, message):
    with pytest.raises(error, match=message):
        MODEL.generate(prompt, 2, **options)


def test_a_model_without_a_context_asks_for_one():
    class Plain(gt.nn.Module):
        def forward(self, ids):
            return np.eye(5, dtype=np.float32)[(np.asarray(ids) + 1) % 5]

    with pytest.raises(TypeError, match=r"how many ids Plain can see\n  write generate\(\.\.\., context=64\)"):
        gt.generate(Plain(), [1], 2)
    np.testing.assert_array_equal(gt.generate(Plain(), [1], 4, context=3, temperature=0), [1, 2, 3, 4, 0])


def test_a_part_of_a_model_may_be_called_decoder():
    class Named(gt.nn.Module):
        context = 3

        def __init__(self):
            self.decoder = MODEL

        def forward(self, ids):
            return self.decoder(ids)

    np.testing.assert_array_equal(gt.generate(Named(), [1], 2), MODEL.generate([1], 2))


def test_one_dimension_in_one_out():
    assert MODEL.generate([1, 2], 3).shape == (5,)
    assert MODEL.generate([[1, 2]], 3).shape == (1, 5)
    assert MODEL.generate([1, 2], 3).dtype == np.int64
    np.testing.assert_array_equal(MODEL.generate([1, 2], 0), [1, 2])
