"""What the peer's programs share: the job is the last word of the command line, the answer the last line of the output.

Jobs and answers are described in ../jobs.ts.
"""
import json
import resource
import sys


def read_job() -> dict:
    return json.loads(sys.argv[-1])


def answer(result: dict) -> None:
    print("\n" + json.dumps(result), flush=True)


def peak_bytes() -> int:
    """Largest resident memory of this process so far; Linux counts in kibibytes, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_rows(job: dict) -> list[dict]:
    with open(job["rows"], encoding="utf-8") as file:
        return json.load(file)
