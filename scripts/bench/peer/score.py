"""The peer of measure/score.ts: the evaluation of TRL's SFTTrainer on CPU, in float32, with its default padding."""
import tempfile

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from common import answer, peak_bytes, read_job, read_rows
from models import load_model


def main() -> None:
    job = read_job()
    torch.set_num_threads(job["threads"])
    rows = Dataset.from_list(read_rows(job)[: job["examples"]])
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_eval_batch_size=job["evalBatchSize"],
            max_length=job["recipe"]["maxLength"],
            completion_only_loss=True,
            bf16=False,
            report_to="none",
            use_cpu=True,
            # else TRL looks for experts in all models of a class that may have some
            router_aux_loss_coef=0.0,
        )
        model = load_model(job["model"])
        trainer = SFTTrainer(model=model, args=config, train_dataset=rows, eval_dataset=rows)
        first = trainer.evaluate()
        second = trainer.evaluate()
    answer(
        {
            "loss": second["eval_loss"],
            "tokens": sum(len(ids) for ids in trainer.eval_dataset["input_ids"]),
            "firstSeconds": first["eval_runtime"],
            "seconds": second["eval_runtime"],
            "peakBytes": peak_bytes(),
        }
    )


main()
