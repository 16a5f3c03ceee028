"""Tests of compare.py without a card: `python -m unittest discover -s tests`."""

import contextlib
import io
import json
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import compare


class Card:
    """A device with a clock of its own beside the host's. Launches beyond `depth` block the host."""

    RATE = 1e9

    def __init__(self, depth=1024):
        self.depth, self.host, self.device, self.ends = depth, 0.0, 0.0, []
        card = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                card.launch(0.0)
                self.at = card.device

            def query(self):
                return self.at <= card.host

            def elapsed_time(self, end):
                return (end.at - self.at) * 1e3

        self.Event = Event

    def launch(self, seconds):
        self.host += 1e-6
        waiting = [end for end in self.ends if end > self.host]
        if len(waiting) >= self.depth:
            self.host = waiting[-self.depth]
        self.device = max(self.device, self.host) + seconds
        self.ends = waiting + [self.device]

    def _sleep(self, cycles):
        self.launch(cycles / self.RATE)

    def synchronize(self):
        self.host = max(self.host, self.device)

    def time(self, step, seconds=0.01):
        with mock.patch.object(compare.time, "perf_counter", lambda: self.host):
            return compare.cuda_times(self, step, seconds)


class CudaTimes(unittest.TestCase):
    def test_device_times_exclude_the_host(self):
        card = Card()

        def step():
            card.host += 5e-4
            card.launch(1e-4)

        found = card.time(step)
        self.assertTrue(found["queued"])
        self.assertAlmostEqual(found["seconds_median"], 1e-4, delta=1e-7)
        self.assertAlmostEqual(found["wall_seconds_median"], 5e-4, delta=1e-4)

    def test_a_short_queue_halves_the_batch(self):
        card = Card(depth=40)

        def step():
            for _ in range(10):
                card.host += 2e-6
                card.launch(1e-6)

        found = card.time(step)
        self.assertTrue(found["queued"])
        self.assertAlmostEqual(found["seconds_median"], 1e-5, delta=1e-7)

    def test_a_step_that_synchronizes_is_marked(self):
        card = Card()

        def step():
            card.launch(1e-4)
            card.synchronize()
            card.host += 1e-3
            card.launch(1e-4)

        found = card.time(step)
        self.assertFalse(found["queued"])
        self.assertGreater(found["seconds_median"], 1e-3)


def fake_torch(make):
    parameter = lambda data: types.SimpleNamespace(data=data, grad=None)
    return types.SimpleNamespace(
        __version__="0", nn=types.SimpleNamespace(Parameter=parameter, utils=None), ones=lambda n, device: [1.0] * n,
        full_like=lambda parameter, value: [value], optim=types.SimpleNamespace(AdamW=make),
        get_num_threads=lambda: 1,
    )


class Rows(unittest.TestCase):
    def setUp(self):
        compare.MISSING.clear()
        stderr = contextlib.redirect_stderr(io.StringIO())
        stderr.__enter__()
        self.addCleanup(stderr.__exit__, None, None, None)
        for name, value in [("WARM_UP", 0.0), ("MIN_BATCHES", 1)]:
            patched = mock.patch.object(compare, name, value)
            patched.start()
            self.addCleanup(patched.stop)

    def test_one_library_ends_no_other(self):
        def make(mine, fused=False, **_):
            if fused:
                raise MemoryError("CUDA out of memory")
            return types.SimpleNamespace(step=lambda: None)

        torch = fake_torch(make)
        torch.nn.utils = types.SimpleNamespace(clip_grad_norm_=lambda mine, most: None)
        with mock.patch.dict(sys.modules, {"torch": torch}):
            rows = list(compare.torch_rows("cpu", 8, 2, 0.0))
        self.assertEqual([(row["engine"], row["clip"]) for row in rows], [("torch 0 foreach", c) for c in (False, True)])
        self.assertEqual([row["bytes_per_step"] for row in rows], [28 * 8, 32 * 8])
        self.assertEqual(set(compare.MISSING.values()), {"CUDA out of memory"})
        self.assertEqual(len(compare.MISSING), 2)

    def test_eight_bit_states_move_16_bytes(self):
        def last(elements, tensors):
            return compare.sides(fake_torch(None), "cuda", elements, tensors)[-1].bytes_per_parameter

        self.assertEqual(last(4096, 1), 16)
        # bitsandbytes stores states of small tensors in 32 bits.
        self.assertEqual(last(4096, 2), 28)

    def test_rows_before_a_failure_count(self):
        row = json.dumps([{"engine": "gpu", "adapter": "a", "driver": "d"}])
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "throughput"
            program.write_text(
                f"#!/bin/sh\nwhile [ $1 != --json ]; do shift; done\necho '{row}' > $2\necho no room >&2\nexit 1\n"
            )
            program.chmod(0o755)
            rows = list(compare.ours(program, "gpu", 8, 1, 0.0))
        self.assertEqual([row["engine"] for row in rows], ["wgpu-optim (gpu)"])
        self.assertEqual(list(compare.MISSING.values()), ["no room"])

    def test_every_side_runs_before_a_second_round_and_each_is_saved(self):
        saved, taken = [], []

        def measure(args, with_torch, elements, tensors):
            for side in ("ours", "theirs"):
                taken.append((elements, side))
                yield {"elements": elements, "engine": side}

        words = ["compare.py", "burn", "--cases", "1:1", "2:1", "--rounds", "2", "--json", "x"]
        with mock.patch.multiple(
            compare, measure=measure, save=lambda rows, path: saved.append(len(rows)), table=lambda rows: None
        ), mock.patch.object(sys, "argv", words):
            compare.main()
        self.assertEqual(taken[:4], [(1, "ours"), (1, "theirs"), (2, "ours"), (2, "theirs")])
        self.assertEqual(saved[:8], list(range(1, 9)))

    def test_wall_stands_beside_wall(self):
        common = {"elements": 1000, "tensors": 1, "clip": False, "by": "x", "bytes_per_step": 28000}
        rows = [
            common | {"engine": "wgpu-optim (gpu)", "clock": "device", "seconds_median": 1e-3, "wall_seconds_median": 2e-3},
            common | {"engine": "t", "clock": "device", "queued": False, "seconds_median": 2e-3, "wall_seconds_median": 8e-3},
            common | {"engine": "b", "clock": "wall", "seconds_median": 3e-3, "wall_seconds_median": 3e-3},
        ]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            compare.table(rows)
        lines = printed.getvalue().splitlines()[2:]
        self.assertTrue(lines[1].endswith("| ≤ 2.000 | 8.000 | 0.0 | ≤ 2.00 | 4.00 |"), lines[1])
        self.assertTrue(lines[2].endswith("| - | 3.000 | 0.0 | - | 1.50 |"), lines[2])


if __name__ == "__main__":
    unittest.main()
