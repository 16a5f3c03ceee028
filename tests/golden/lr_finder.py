"""fastai's learning rate finder into lr_finder.json: each case holds the losses of a range test, fastai's averages of them
(AvgSmoothLoss, in float64) up to where its LRFinder stops, and what its functions suggest of them, as `lr_find` calls them.

The losses are made up: curves that fall and diverge, with noise, and one that only rises.
"""

import json
import pathlib
from types import SimpleNamespace

import torch
from fastai.callback.core import CancelFitException
from fastai.callback.schedule import LRFinder, minimum, steep, valley
from fastai.learner import AvgSmoothLoss

START_LR, END_LR = 1e-7, 10.0


def curves():
    generator = torch.Generator().manual_seed(3)
    for num_it, noise, bend in [(100, 0.0, 0.3), (100, 0.05, 1.0), (60, 0.1, 0.05), (250, 0.2, 3.0), (30, 0.02, 0.5)]:
        lrs = START_LR * (END_LR / START_LR) ** (torch.arange(num_it).double() / (num_it - 1))
        losses = 2.3 - 1.8 / (1 + (bend / 10 / lrs) ** 1.5) + (lrs / bend) ** 3
        yield lrs, losses * (1 + noise * torch.randn(num_it, generator=generator).double())
    yield lrs, torch.linspace(1.0, 3.0, len(lrs)).double()


def smooth(losses):
    average = AvgSmoothLoss()
    average.val = torch.tensor(0.0, dtype=torch.float64)
    for loss in losses:
        average.accumulate(SimpleNamespace(loss=loss))
        yield average.value


def steps(losses, num_it):
    """How many LRFinder lets pass, with the one at which it stops."""
    finder = LRFinder(START_LR, END_LR, num_it)
    finder.best_loss, finder.hps = float("inf"), {"lr": []}
    for step, loss in enumerate(losses):
        finder.learn = SimpleNamespace(smooth_loss=loss, train_iter=step + 1, opt=SimpleNamespace(hypers=[{"lr": 0.0}]))
        try:
            finder.after_batch()
        except CancelFitException:
            return step + 1
    raise AssertionError("LRFinder ends after num_it steps")


def cases():
    for lrs, losses in curves():
        num_it = len(lrs)
        smoothed = torch.stack(list(smooth(losses)))
        end = steps(smoothed, num_it)
        used = slice(num_it // 10, end - 5)
        names = {"steepest": steep, "valley": valley, "minimum": minimum}
        yield {"num_iter": num_it, "losses": losses.tolist(), "smooth_losses": smoothed[:end].tolist(),
               "suggestions": {name: suggest(lrs[used], smoothed[used], num_it)[0] for name, suggest in names.items()}}


if __name__ == "__main__":
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    (pathlib.Path(__file__).parent / "lr_finder.json").write_text(f"[\n{text}\n]\n")
