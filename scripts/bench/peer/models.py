"""The model that the peer trains or scores."""
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


def load_model(folder: str) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # TRL multiplies hidden states with the head by itself, and knows the scale of logits by one name alone
    for key, scale in (("logits_scaling", lambda x: 1 / x), ("lm_head_multiplier", lambda x: x)):
        if hasattr(model.config, key):
            model.config.logit_scale = scale(getattr(model.config, key))
    return model
