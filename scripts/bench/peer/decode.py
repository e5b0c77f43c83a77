"""The peer of measure/decode.ts: greedy generation with transformers on CPU, in float32."""
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import answer, peak_bytes, read_job, read_rows

# Tokens guessed at once; transformers has no default.
GUESSES = 10


def main() -> None:
    job = read_job()
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    prompt = tokenizer(read_rows(job)[0]["prompt"], return_tensors="pt")
    length = prompt["input_ids"].shape[1]

    def decode() -> tuple[list[int], float]:
        started = time.perf_counter()
        count = job["newTokens"]
        ids = model.generate(
            input_ids=prompt["input_ids"],
            attention_mask=prompt["attention_mask"],
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            **({"prompt_lookup_num_tokens": GUESSES} if job["promptLookup"] else {}),
        )
        return ids[0, length:].tolist(), time.perf_counter() - started

    _, first_seconds = decode()
    ids, seconds = decode()
    answer({"ids": ids, "firstSeconds": first_seconds, "seconds": seconds, "peakBytes": peak_bytes()})


main()
