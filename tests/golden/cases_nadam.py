"""NAdam as PyTorch has it."""

from torch.optim import NAdam

PACKAGES = ()


def cases(Case, groups, WARMUP, LONG):
    decoupled = {"decoupled_weight_decay": True}
    return {"nadam": {
        "default": Case(NAdam, "mixed", {"lr": 2e-3}),
        "betas_eps": Case(NAdam, "mixed", {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-4, "momentum_decay": 0.1}),
        "constant_momentum": Case(NAdam, "mixed", {"lr": 5e-3, "momentum_decay": 0.0}),
        "fast_momentum": Case(NAdam, "mixed", {"lr": 5e-3, "betas": (0.95, 0.9), "momentum_decay": 20.0}),
        # Not "mixed", as with Adam: decay in the gradient is divided by eps where gradients vanish at p = 0.
        "weight_decay_maximize": Case(NAdam, "tame", {"lr": 5e-3, "weight_decay": 0.02, "maximize": True}),
        "decoupled": Case(NAdam, "mixed", {"lr": 0.01, "weight_decay": 0.1} | decoupled),
        "clip_schedule": Case(NAdam, "swinging", {"weight_decay": 0.01} | decoupled,
                              schedule=WARMUP | {"peak": 0.01, "min_lr": 1e-3}, max_norm=1.0),
        "groups": Case(NAdam, "tame", {"lr": 3e-3, "weight_decay": 0.01}, groups=groups(0.03)),
        "scale_clip": Case(NAdam, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
        "long": Case(NAdam, "tame", {"lr": 1e-3, "weight_decay": 0.1} | decoupled, steps=LONG),
    }}
