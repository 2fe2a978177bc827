"""A training step of a GPT in gradtape, PyTorch (eager, compiled) and JAX, in turn within one run.

    python benchmarks/step.py [XS S M L] [--rounds N] [--threads N] [--only gradtape,torch,...]

referee.py says how they are compared. "products" is the gradtape tape with everything but its matrix products left
out, on the same threads: the floor. Contestants that are not installed are skipped.
"""

# torch and jax come with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import referee
from recipe import CONFIGS, gradtape_model, gradtape_optimizer, initial_weights, synthetic_batches

CHUNKS = {"XS": 200, "S": 40, "M": 8, "L": 1}
BATCHES = 8


def contestant(name, config_name, threads):
    config = CONFIGS[config_name]
    data = synthetic_batches(config, BATCHES)
    if name.startswith("torch"):
        import torch
        from peers import torch_model, torch_run

        model = torch_model(config, initial_weights(config))
        return torch_run(model, threads, compiled=name == "torch.compile"), [torch.from_numpy(d) for d in data]
    if name == "jax":
        from peers import jax_run

        return jax_run(config, initial_weights(config)), data
    import gradtape as gt

    model = gradtape_model(config)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)
    if name == "products":
        return referee.products_only(step, data[0]), data
    return lambda batches: [float(step(x, y)) for x, y in batches], data


if __name__ == "__main__":
    referee.main(__file__, __doc__, CHUNKS, list(referee.MODULES), contestant)
