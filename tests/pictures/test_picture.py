"""What a picture holds, and what folding makes of it."""

import json
from itertools import pairwise

import numpy as np
import pytest

import gradtape as gt
from gradtape.pictures import STAGES, Picture, picture
from gradtape.pictures.dot import shown
from gradtape.pictures.fold import (
    fitting,
    to_depth,
    with_derivatives_gathered,
    with_repeats,
    without_leaves,
    without_updates,
    without_views,
)
from pictured import MODELS, stepping, uncompiled


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_whole(name, stage):
    found = MODELS[name]().picture(stage)
    ids = [n.id for n in found.nodes]
    assert len(set(ids)) == len(ids)
    assert {e.source for e in found.edges} | {e.target for e in found.edges} <= set(ids)
    assert {n.cluster for n in found.nodes} <= {"", *found.cluster}
    assert {c.parent for c in found.clusters} <= {"", *found.cluster}
    assert all(n.kind != "op" or n.formula or n.op == "round" for n in found.nodes)
    assert Picture.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_node_knows_everything_about_itself():
    found = MODELS["mlp"]().picture("traced")
    node = next(n for n in found.nodes if n.op == "relu")
    assert (node.type, node.shape, node.phase, node.cluster) == ("f32[B, 32]", ("B", "32"), "forward", "")
    assert node.where == f"mlp.py:{node.line}" and node.source == "x = self.activation(layer(x))"
    assert node.formula.startswith("max(x, 0)") and "def vjp" in node.derivative
    assert node.kernel.startswith("row_") and node.kernel.endswith("add relu greater")
    tape = MODELS["mlp"]().graph("tape")
    assert tape.instructions()[node.instructions[0]].label == "add relu greater"
    weight = found.node["layers.0.weight"]
    assert (weight.kind, weight.verdict, weight.cluster, weight.label) == ("param", "learns", "layers.0", "weight")


def test_phases_and_saved_activations():
    found = MODELS["mlp"]().picture("differentiated")
    assert {n.phase for n in found.nodes} == {"forward", "backward"}
    assert all(n.phase == "backward" for n in found.nodes if n.serves)
    saved = [e for e in found.edges if e.kind == "saved"]
    assert saved
    for edge in saved:
        source = found.node[edge.source]
        assert source.phase == "forward" and source.kind in ("op", "loop")
        assert found.node[edge.target].phase == "backward"
    relu = next(n.id for n in found.nodes if n.op == "relu")
    readers = [found.node[e.target] for e in saved if e.source == relu]
    assert [n.op for n in readers] == ["permute"]  # of layers.1's product, whose weight needs it
    assert found.node["out:grad:layers.1.weight"].cluster == "layers.1"
    (mask,) = [n for n in found.nodes if n.op == "greater"]
    assert mask.serves_op == "relu"


@pytest.mark.parametrize("name", MODELS)
def test_every_instruction_runs_something(name):
    """But for copies, fills (as of a first carry), sums over threads, indices as i64, and the checks of the update."""
    step = MODELS[name]()
    found, tape = step.picture("fused"), step.graph("tape")
    used = {i for n in found.nodes for i in n.instructions}
    rest = [i for k, i in enumerate(tape.instructions()) if k not in used]
    assert {i.label.split()[0] for i in rest} <= {"copy", "fill", "full", "combine", "indices", "finite"}, rest
    running = [n for n in found.nodes if n.kind == "op" and n.op in ("matmul", "conv", "take", "max_pool")]
    assert running and all(n.instructions for n in running)


def test_the_kernel_of_a_fused_node_computes_its_op():
    step = MODELS["gpt"]()
    instructions = step.graph("tape").instructions()
    for node in step.picture("fused").nodes:
        labels = [instructions[i].label.split() for i in node.instructions]
        if node.kind == "op" and labels and node.op in ("exp", "rsqrt", "erf", "log"):
            assert any(node.op in words for words in labels), node


def test_update_nodes_belong_to_their_parameter():
    found = MODELS["mlp"]().picture("fused")
    assert found.node["out:new layers.0.weight"].cluster == "layers.0/@update weight"
    assert found.node["optimizer.exp_avg.layers.0.weight"].cluster == "layers.0/@update weight"
    assert found.node["out:grad_norm"].cluster == "@optimizer"
    assert found.node["optimizer.lr.0.f32"].phase == "update"


def test_the_loss_is_a_module_of_its_own():
    found = MODELS["gpt"]().picture("traced")
    assert {n.op for n in found.inside("loss")} >= {"nll_from_logits", "div"}
    assert all(n.phase == "forward" for n in found.inside("loss"))


def test_a_loop_is_a_cluster():
    found = MODELS["gru"]().picture("traced")
    loops = [c for c in found.clusters if c.kind == "loop"]
    assert [c.label for c in loops] == ["scan, T rounds"] * 2 and {c.parent for c in loops} == {"gru"}
    inside = found.inside(loops[0].id)
    assert {"tanh", "sigmoid", "matmul", "scan", "round"} <= {n.op for n in inside}
    assert [e.label for e in found.edges if e.label] == ["next round"] * 2
    carry = next(n for n in inside if n.label == "carry 0")
    assert {found.node[e.source].op for e in found.edges if e.target == carry.id} == {"full", "add"}


def test_a_loop_on_the_tape():
    found = MODELS["gru"]().picture("tape")
    loops = [c for c in found.clusters if c.kind == "loop"]
    assert len(loops) == 4 and all(c.label == "loop, T rounds" for c in loops)
    assert any(e.label == "next round" for e in found.edges)


# folding --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", STAGES[:3])
def test_equal_blocks_are_drawn_once(stage):
    found = MODELS["gpt"]().picture(stage)
    once = with_repeats(found)
    (blocks,) = [c for c in once.clusters if c.repeats > 1]
    assert (blocks.repeats, blocks.label) == (6, "blocks.0 … 5")
    assert blocks.names == tuple(f"blocks.{i}" for i in range(6))
    assert len(once.inside(blocks.id)) == len(found.inside("blocks.3"))
    assert any(e.label == "next block" for e in once.edges)
    assert found == MODELS["gpt"]().picture(stage)  # and the picture is what it was


def test_on_the_tape_the_first_and_the_last_block_are_others():
    """Their kernels are fused with what stands before and behind them."""
    once = with_repeats(MODELS["gpt"]().picture("tape"))
    assert [(c.label, c.repeats) for c in once.clusters if c.repeats > 1] == [("blocks.1 … 4", 4)]


class Tower(gt.Module):
    def __init__(self, widths, activation=gt.tanh):
        self.blocks = [gt.nn.Sequential(gt.nn.Linear(m, n), gt.nn.Tanh()) for m, n in pairwise(widths)]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Skipping(Tower):
    """Equal blocks, the third of which does not read the second."""

    def forward(self, x):
        first = x
        for i, block in enumerate(self.blocks):
            x = block(x + first) if i == 2 else block(x)
        return x


def repeats_of(model, width):
    step = stepping(model, gt.spec((2, width)), gt.spec((2, width)), loss=gt.mse_loss)
    return [(c.label, c.repeats) for c in with_repeats(step.picture()).clusters if c.repeats > 1]


def test_names_alone_make_no_repeat():
    assert repeats_of(Tower([4] * 6), 4) == [("blocks.0 … 4", 5)]
    assert repeats_of(Tower([4, 8, 4, 8, 4]), 4) == []
    assert repeats_of(Tower([4, 4, 4, 8, 4, 4, 4]), 4) == [("blocks.0 … 1", 2), ("blocks.4 … 5", 2)]
    assert repeats_of(Skipping([4] * 6), 4) == [("blocks.0 … 1", 2), ("blocks.2 … 4", 3)]


def test_frozen_blocks_are_others():
    model = Tower([4] * 5)
    gt.freeze(model.blocks[0])
    gt.freeze(model.blocks[1])
    assert repeats_of(model, 4) == [("blocks.0 … 1", 2), ("blocks.2 … 3", 2)]


def test_depth():
    found = with_repeats(MODELS["gpt"]().picture("traced"))
    closed = to_depth(found, 0)
    assert not closed.clusters
    assert {"tok", "pos", "blocks.0 … 5", "ln_f", "head", "loss"} <= {n.label for n in closed.nodes}
    one = to_depth(found, 1)
    assert {"ln1", "attn", "ln2", "mlp"} <= {n.label for n in one.nodes}
    deep = to_depth(found, 9)
    assert deep.nodes == found.nodes
    members = [i for n in closed.nodes for i in (n.members or (n.id,))]
    assert sorted(members) == sorted(n.id for n in found.nodes)


def test_a_folded_module_keeps_its_worst_verdict_and_its_phases():
    model = gt.models.MLP(4, 4, 4)
    gt.freeze(model.layers[0])
    step = stepping(model, gt.spec((2, 4)), gt.spec((2, 4)), loss=gt.mse_loss)
    found = to_depth(step.picture("differentiated"), 0)
    labels = {(n.label, n.phase): n for n in found.nodes}
    assert labels["layers.0", "forward"].verdict == "frozen"
    assert labels["layers.1", "forward"].verdict == "learns"
    assert labels["layers.1", "backward"].kind == "fold"


def test_views_are_left_out_and_what_is_saved_stays_saved():
    found = without_views(MODELS["mlp"]().picture("differentiated"))
    assert not {"permute", "reshape", "broadcast_to"} & {n.op for n in found.nodes}
    relu = next(n.id for n in found.nodes if n.op == "relu")
    kinds = {found.node[e.target].op: e.kind for e in found.edges if e.source == relu}
    assert kinds["matmul"] in ("saved", "data") and "saved" in {e.kind for e in found.edges if e.source == relu}


def test_a_derivative_is_one_node():
    found = with_derivatives_gathered(MODELS["cnn"]().picture("differentiated"))
    labels = [n.label for n in found.nodes if n.op == "derivative"]
    assert labels.count("∂ relu") == 2 and labels.count("∂ max_pool") == 2


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_shown_fits_on_a_page(name, stage):
    found = shown(MODELS[name]().picture(stage))
    assert len(found.nodes) <= 64
    assert {n.phase for n in found.nodes} == {n.phase for n in MODELS[name]().picture(stage).nodes}
    for fold in (fitting, without_leaves, without_updates):
        assert fold(found).node.keys()


# programs of other kinds ----------------------------------------------------------------------------------------------
def test_a_forward_program():
    with uncompiled():
        step = gt.compile(gt.models.MLP(4, 3, 2), gt.spec((2, 4)))
    for stage in STAGES:
        found = step.picture(stage)
        assert {n.phase for n in found.nodes} == {"forward"}


def test_a_buffer_that_is_updated_and_random_numbers():
    class Net(gt.Module):
        def __init__(self):
            self.norm, self.drop, self.fc = gt.nn.BatchNorm1d(4), gt.nn.Dropout(0.5), gt.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.drop(self.norm(x)))

    step = stepping(Net(), gt.spec((8, 4)), gt.spec((8, 2)), loss=gt.mse_loss)
    found = step.picture("fused")
    assert found.node["out:new norm.running_mean"].phase == "forward"
    assert found.node["norm.running_mean"].kind == "buffer"
    assert step.dot("fused").source


def test_a_model_that_checkpoints():
    class Net(gt.Module):
        def __init__(self):
            self.fc, self.head = gt.nn.Linear(4, 4), gt.nn.Linear(4, 2)

        def forward(self, x):
            return self.head(gt.checkpoint(lambda h: gt.tanh(self.fc(h)), x))

    step = stepping(Net(), gt.spec((8, 4)), gt.spec((8, 2)), loss=gt.mse_loss)
    found = step.picture("traced")
    (region,) = [c for c in found.clusters if c.kind == "loop"]
    assert region.label == "checkpoint" and "tanh" in {n.op for n in found.inside(region.id)}


def test_a_stage_that_a_program_does_not_have():
    with pytest.raises(ValueError, match="stage is one of traced"):
        picture({"traced": MODELS["mlp"]().graph("traced")}, "fused")


def test_a_batch_that_is_cut_into_slices():
    step = stepping(gt.models.MLP(8, 8, 2), np.ones((8, 8), "f4"), np.zeros(8, "i8"), microbatch=2)
    loops = [c.label for c in step.picture("fused").clusters if c.kind == "loop"]
    assert loops == ["scan, 4 rounds"]
    assert "matmul" in {n.op for n in step.picture("fused").nodes if n.id.count("/") == 1 and n.instructions}
