"""The training step of a GRU language model in gradtape and PyTorch, in turn within one run: step.py with other models.

    python benchmarks/gru.py [G1 G2] [--rounds N] [--threads N] [--only gradtape,products,torch]

G1 has one layer, G2 two: vocabulary 104, width 256, batches of 32 x 64. PyTorch runs its own nn.GRU, batch first.
"""

# torch comes with the extra `peers`, which is not installed where types are checked:
# pyright: reportMissingImports=false

from __future__ import annotations

import referee
from recipe import Config, gradtape_optimizer, synthetic_batches

CONFIGS = {"G1": Config(104, 256, 1, 1, 64, 32), "G2": Config(104, 256, 2, 1, 64, 32)}
CHUNKS = {"G1": 4, "G2": 2}
BATCHES = 8


def model_of(config: Config):
    import gradtape as gt

    gt.manual_seed(0)
    return gt.models.GRU(config.vocab, config.width, config.depth)


def contestant(name, config_name, threads):
    config = CONFIGS[config_name]
    data = synthetic_batches(config, BATCHES)
    if name == "torch":
        import torch
        from peers import torch_run

        return torch_run(torch_model(config), threads), [torch.from_numpy(d) for d in data]
    import gradtape as gt

    model = model_of(config)
    step = gt.compile(model, loss=gt.cross_entropy, optimizer=gradtape_optimizer(model), threads=threads)
    if name == "products":
        return referee.products_only(step, data[0]), data
    return lambda batches: [float(step(x, y)) for x, y in batches], data


def torch_model(config: Config):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class GRU(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok = nn.Embedding(config.vocab, config.width)
            self.gru = nn.GRU(config.width, config.width, config.depth, batch_first=True)
            self.head = nn.Linear(config.width, config.vocab)

        def forward(self, idx, target):  # (B, T) twice -> the mean cross-entropy
            logits = self.head(self.gru(self.tok(idx))[0])
            return F.cross_entropy(logits.view(-1, config.vocab), target.reshape(-1))

    model = GRU()
    weights = {name: p.data for name, p in model_of(config).named_parameters()}
    model.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
    return model


if __name__ == "__main__":
    referee.main(__file__, __doc__, CHUNKS, ["gradtape", "products", "torch"], contestant)
