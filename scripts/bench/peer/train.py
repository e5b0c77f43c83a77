"""The peer of measure/train.ts: TRL's SFTTrainer."""
import tempfile
import time

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from common import answer, peak_bytes, read_job, read_rows
from models import load_model


class StepClock(TrainerCallback):
    """Takes the time, the loss and the tokens of each optimizer step."""

    def __init__(self) -> None:
        self.steps: list[dict] = []
        self.seen = 0

    def on_step_begin(self, *_, **__) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, *_, **__) -> None:
        self.seconds = time.perf_counter() - self.begun

    def on_log(self, args, state, control, logs, **_) -> None:
        if "loss" not in logs:
            return
        seen = int(float(logs["num_tokens"]))
        self.steps.append({"seconds": self.seconds, "loss": float(logs["loss"]), "tokens": seen - self.seen})
        self.seen = seen


def main() -> None:
    job = read_job()
    recipe = job["recipe"]
    torch.set_num_threads(job["threads"])
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=job["steps"],
            per_device_train_batch_size=recipe["batchSize"],
            gradient_accumulation_steps=recipe["accumulation"],
            max_length=recipe["maxLength"],
            learning_rate=recipe["learningRate"],
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            bf16=job["precision"] == "bf16",
            fp16=job["precision"] == "fp16",
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=job["device"] == "cpu",
            # else TRL looks for experts in all models of a class that may have some
            router_aux_loss_coef=0.0,
        )
        model = load_model(job["model"])
        if "adapter" in job:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, job["adapter"], is_trainable=True)
        trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(read_rows(job)), callbacks=[clock])
        trainer.train()
    answer({"steps": clock.steps, "peakBytes": peak_bytes()})


main()
