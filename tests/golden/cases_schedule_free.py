"""Schedule-free SGD and AdamW by facebookresearch/schedule_free."""

from schedulefree import AdamWScheduleFree as AdamW
from schedulefree import SGDScheduleFree as SGD

PACKAGES = ("schedulefree",)


def cases(Case, groups, WARMUP, LONG):
    weighted = {"warmup_steps": 12, "r": 2.0, "weight_lr_power": 3.0}
    return {
        "schedule_free_sgd": {
            "default": Case(SGD, "mixed", {"lr": 1.0}),
            "weighted": Case(SGD, "mixed", {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.05} | weighted),
            "unweighted_maximize": Case(SGD, "tame", {"lr": 0.5, "momentum": 0.98, "weight_lr_power": 0.0,
                                                      "warmup_steps": 7, "r": 1.0}, maximize_by_negation=True),
            # The schedule begins at 0, where there is no weight to average by.
            "clip_schedule": Case(SGD, "swinging", {"momentum": 0.9, "weight_decay": 0.01},
                                  schedule=WARMUP | {"peak": 0.5, "min_lr": 0.05}, max_norm=1.0),
            "groups": Case(SGD, "tame", {"lr": 0.2, "weight_decay": 0.02, "warmup_steps": 5}, groups=groups(0.05)),
            "scale_clip": Case(SGD, "scaled", {"lr": 0.2, "warmup_steps": 9}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(SGD, "tame", {"lr": 0.1, "weight_decay": 1e-3, "warmup_steps": 100}, steps=LONG),
        },
        "schedule_free_adamw": {
            "default": Case(AdamW, "mixed", {"lr": 2.5e-3}),
            "weighted": Case(AdamW, "mixed", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.05}
                             | weighted),
            "unweighted_maximize": Case(AdamW, "tame", {"lr": 0.01, "betas": (0.98, 0.99), "weight_lr_power": 0.0,
                                                        "warmup_steps": 7, "r": 1.0}, maximize_by_negation=True),
            "clip_schedule": Case(AdamW, "swinging", {"weight_decay": 0.1},
                                  schedule=WARMUP | {"peak": 0.01, "min_lr": 1e-3}, max_norm=1.0),
            "groups": Case(AdamW, "tame", {"lr": 5e-3, "weight_decay": 0.1, "warmup_steps": 5}, groups=groups(0.5)),
            "scale_clip": Case(AdamW, "scaled", {"lr": 0.01, "warmup_steps": 9}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(AdamW, "tame", {"lr": 2.5e-3, "weight_decay": 0.1, "warmup_steps": 100}, steps=LONG),
        },
    }
