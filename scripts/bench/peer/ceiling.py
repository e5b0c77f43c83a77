"""The peer of measure/ceiling.ts: how fast torch multiplies float32 matrices on CPU; and the versions of the peer's packages."""
import time
from importlib import metadata

import torch

from common import answer, read_job

# As in measure/: seconds for each product, and operations of which each of its runs consists, at least.
BUDGET = 2
OPERATIONS = 8e10


def gflops_of(m: int, k: int, n: int) -> float:
    """The best of as many runs as the budget allows."""
    times = -(-int(OPERATIONS) // (2 * m * k * n))
    a, b = torch.rand(m, k) - 0.5, torch.rand(k, n) - 0.5
    out = a @ b
    best = float("inf")
    begun = time.perf_counter()
    while time.perf_counter() - begun < BUDGET:
        started = time.perf_counter()
        for _ in range(times):
            torch.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return times * 2 * m * k * n / best / 1e9


def main() -> None:
    job = read_job()
    torch.set_num_threads(job["threads"])
    gflops, product = max((gflops_of(*product), product) for product in job["products"])
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "trl")}
    answer({"gflops": gflops, "product": product, "versions": versions})


main()
