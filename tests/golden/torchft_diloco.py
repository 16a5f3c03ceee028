"""The regression fixtures of torchft's DiLoCo, in short form: torchft_diloco.json.

    git clone https://github.com/pytorch/torchft
    python tests/golden/torchft_diloco.py torchft

Two replicas train two layers of one parameter each, with a gradient of 2, an inner learning rate of 1, an outer one of 2, and
an exchange of each layer every 6 steps. Made from commit 73dafea. torchft is under the BSD-3-Clause license.
"""

import json
import pathlib
import sys

NAME = "torchft.diloco_regression_test.DiLoCoMockedUpdateTest.test_diloco_mocked_{}.json"
# fragment_sync_delay and fragment_update_alpha of the fixtures, in their order.
UPDATES = [(0, 0.0), (0, 0.5), (0, 1.0), (1, 0.0), (1, 0.5), (1, 1.0)]


def layers(fixture):
    """The parameter of each layer before each step, of each replica."""
    replicas = []
    for [attempt] in fixture:
        history = attempt["history"]
        steps = sorted(history, key=int)
        replicas.append([[history[step][f"layers.{layer}.weight"][0][0] for step in steps] for layer in range(2)])
    return replicas


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) / "test_fixtures"
    read = lambda name: layers(json.loads((folder / NAME.format(name)).read_text()))
    updates = [{"delay": delay, "alpha": alpha, "replicas": read(f"updates_{number}")}
               for number, (delay, alpha) in enumerate(UPDATES)]
    cases = {"updates": updates, "failure_recovery": read("failure_recovery_0")}
    (pathlib.Path(__file__).parent / "torchft_diloco.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
