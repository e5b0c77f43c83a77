"""Makes the folder of a family as README.md describes it: a tiny model with random weights, and what the reference stack computes with it.

usage: make.py FAMILY      with a Python that has torch, transformers and trl; `make.py qwen3 --check` computes one that is there anew and compares
"""
import json, pathlib, shutil, sys, tempfile

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "train" / "fixtures"))
from make_fixtures import WITH, WITHOUT

SMALL = dict(vocab_size=1024, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=0, pad_token_id=1)
# what makes a Granite 4.0 of the hybrid class one of attention and MLPs alone
DENSE = dict(layer_types=["attention", "attention"], num_local_experts=0, position_embedding_type="rope", mamba_n_heads=4)
FAMILIES = {
    # texts are longer than the window of the first layer
    "gemma3": ("gemma3_text", dict(SMALL, intermediate_size=160, num_key_value_heads=2, head_dim=32, initializer_range=0.08, query_pre_attn_scalar=20, sliding_window=24, layer_types=["sliding_attention", "full_attention"])),
    # the last two layers read the keys and values of the first two, and have wider MLPs; each reads a vector of each token
    "gemma4": ("gemma4_text", dict(SMALL, num_hidden_layers=4, intermediate_size=32, num_key_value_heads=2, head_dim=16, global_head_dim=32, initializer_range=0.05, sliding_window=24, layer_types=["sliding_attention", "full_attention"] * 2, num_kv_shared_layers=2, use_double_wide_mlp=True, hidden_size_per_layer_input=32, vocab_size_per_layer_input=1024, final_logit_softcapping=2.0)),
    # as the large ones: where layers see everything, what becomes the keys are the values, too
    "gemma4_dense": ("gemma4_text", dict(SMALL, intermediate_size=96, num_key_value_heads=2, num_global_key_value_heads=1, head_dim=16, global_head_dim=32, initializer_range=0.08, sliding_window=24, layer_types=["sliding_attention", "full_attention"], attention_k_eq_v=True, hidden_size_per_layer_input=0, use_bidirectional_attention="vision")),
    # scores and logits reach beyond what bounds them
    "gemma2": ("gemma2", dict(SMALL, intermediate_size=160, num_key_value_heads=2, head_dim=32, initializer_range=0.08, query_pre_attn_scalar=20, sliding_window=24, attn_logit_softcapping=1.0, final_logit_softcapping=2.0)),
    "gemma": ("gemma", dict(SMALL, intermediate_size=160, num_key_value_heads=2, head_dim=32, initializer_range=0.08)),
    # queries grow from the 33rd token on
    "ministral3": ("ministral3", dict(SMALL, intermediate_size=96, num_key_value_heads=2, head_dim=32, initializer_range=0.08, rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=16.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.5))),
    "exaone4": ("exaone4", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, sliding_window=24, layer_types=["sliding_attention", "full_attention"])),
    "cohere2": ("cohere2", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, logit_scale=0.7, sliding_window=24, layer_types=["sliding_attention", "full_attention"])),
    "nanochat": ("nanochat", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, final_logit_softcapping=2.0)),
    "ernie4_5": ("ernie4_5", dict(SMALL, intermediate_size=96, num_key_value_heads=2, head_dim=32, initializer_range=0.08)),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", dict(SMALL, intermediate_size=96, num_key_value_heads=2, head_dim=32, initializer_range=0.08, tie_word_embeddings=True, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, alpha=1000.0, factor=1.0))),
    "starcoder2": ("starcoder2", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, sliding_window=24)),
    "gpt2": ("gpt2", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=4, n_positions=512, bos_token_id=0, eos_token_id=0, pad_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.08)),
    "smollm3": ("smollm3", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, no_rope_layers=[0, 1], use_sliding_window=True, sliding_window=24)),
    # many a query, key and value is clipped
    "olmo": ("olmo", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, clip_qkv=0.75)),
    "olmo2": ("olmo2", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True)),
    "olmo3": ("olmo3", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, sliding_window=24, layer_types=["sliding_attention", "full_attention"])),
    "granite": ("granite", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, embedding_multiplier=12.0, logits_scaling=0.5, residual_multiplier=0.22, attention_multiplier=0.1)),
    "granitemoehybrid": ("granitemoehybrid", dict(SMALL, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, **DENSE, shared_intermediate_size=96, embedding_multiplier=12.0, logits_scaling=0.5, residual_multiplier=0.22, attention_multiplier=0.1)),
    # heads that share keys and queries, and no positions: states and convolutions know of them
    "granite_h": ("granitemoehybrid", dict(SMALL, num_hidden_layers=3, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, layer_types=["mamba", "attention", "mamba"], num_local_experts=0, mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=24, shared_intermediate_size=96, embedding_multiplier=12.0, logits_scaling=0.5, residual_multiplier=0.22, attention_multiplier=0.1)),
    "granitemoe": ("granitemoe", dict(SMALL, intermediate_size=32, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, num_local_experts=6, num_experts_per_tok=2, embedding_multiplier=12.0, logits_scaling=0.5, residual_multiplier=0.22, attention_multiplier=0.1)),
    "qwen3_moe": ("qwen3_moe", dict(SMALL, num_hidden_layers=3, intermediate_size=96, moe_intermediate_size=24, num_key_value_heads=2, head_dim=32, initializer_range=0.08, num_experts=8, num_experts_per_tok=3, norm_topk_prob=True, mlp_only_layers=[1])),
    "qwen2_moe": ("qwen2_moe", dict(SMALL, num_hidden_layers=3, intermediate_size=96, moe_intermediate_size=24, shared_expert_intermediate_size=32, num_key_value_heads=2, initializer_range=0.08, num_experts=6, num_experts_per_tok=2, mlp_only_layers=[1], use_sliding_window=True, sliding_window=24, max_window_layers=1)),
    "mixtral": ("mixtral", dict(SMALL, intermediate_size=32, num_key_value_heads=2, initializer_range=0.08, num_local_experts=6, num_experts_per_tok=2)),
    # texts are longer than the window of the first layer; positions stretch between pairs that are no whole numbers
    "gpt_oss": ("gpt_oss", dict(SMALL, intermediate_size=32, num_key_value_heads=2, head_dim=32, initializer_range=0.08, num_local_experts=6, num_experts_per_tok=2, sliding_window=24, rope_parameters=dict(rope_type="yarn", rope_theta=150000.0, factor=8.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0, truncate=False))),
    "olmoe": ("olmoe", dict(SMALL, intermediate_size=32, num_key_value_heads=2, initializer_range=0.08, num_experts=6, num_experts_per_tok=2)),
    "falcon_h1": ("falcon_h1", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, mamba_d_ssm=96, mamba_n_heads=4, mamba_n_groups=2, mamba_d_state=16, mamba_rms_norm=True, mamba_norm_before_gate=False, lm_head_multiplier=0.7, embedding_multiplier=5.5, mlp_multipliers=[0.9, 0.6], key_multiplier=0.4, attention_out_multiplier=0.9, attention_in_multiplier=1.1, ssm_multipliers=[0.35, 0.25, 0.2, 0.7, 0.3], ssm_in_multiplier=1.25, ssm_out_multiplier=0.4)),
    "phi": ("phi", dict(SMALL, intermediate_size=96, initializer_range=0.08, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "stablelm": ("stablelm", dict(SMALL, intermediate_size=96, num_key_value_heads=4, initializer_range=0.08, use_qkv_bias=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25))),
    "phi3": ("phi3", dict(SMALL, intermediate_size=96, num_key_value_heads=2, initializer_range=0.08, tie_word_embeddings=True, sliding_window=24, original_max_position_embeddings=384, rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3, 1.6, 2.0, 2.5], long_factor=[2.0, 3.0, 5.0, 8.0, 13.0, 21.0]))),
    # the width of its MLP is two thirds, up to a multiple of 32
    "lfm2": ("lfm2", dict(SMALL, intermediate_size=130, num_key_value_heads=2, initializer_range=0.08, layer_types=["conv", "full_attention"], block_multiple_of=32)),
    # what is added to the scores of experts for choosing decides here and there
    "lfm2_moe": ("lfm2_moe", dict(SMALL, num_hidden_layers=3, intermediate_size=96, moe_intermediate_size=24, num_key_value_heads=2, initializer_range=0.08, layer_types=["conv", "full_attention", "conv"], num_dense_layers=1, num_experts=6, num_experts_per_tok=2, routed_scaling_factor=1.5)),
    "qwen3_5": ("qwen3_5_text", dict(SMALL, num_hidden_layers=3, intermediate_size=96, num_key_value_heads=2, head_dim=32, initializer_range=0.08, tie_word_embeddings=True, layer_types=["linear_attention", "linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=24, linear_conv_kernel_dim=4, rope_parameters=dict(rope_type="default", rope_theta=10000000.0, partial_rotary_factor=0.25, mrope_section=[2, 1, 1], mrope_interleaved=True))),
    # half of a head turns
    "glm": ("glm", dict(SMALL, intermediate_size=96, num_key_value_heads=2, head_dim=16, initializer_range=0.08)),
    "glm4": ("glm4", dict(SMALL, intermediate_size=96, num_key_value_heads=2, head_dim=32, initializer_range=0.08)),
    "gpt_bigcode": ("gpt_bigcode", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=4, n_positions=512, bos_token_id=0, eos_token_id=0, pad_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.08)),
    # half of a head turns
    "gptj": ("gptj", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=2, n_positions=512, rotary_dim=16, bos_token_id=0, eos_token_id=0, pad_token_id=1, initializer_range=0.08)),
    "codegen": ("codegen", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=4, n_positions=512, rotary_dim=8, bos_token_id=0, eos_token_id=0, pad_token_id=1, initializer_range=0.08)),
    "bloom": ("bloom", dict(vocab_size=1024, hidden_size=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, pad_token_id=1, initializer_range=0.08)),
    "gpt_neo": ("gpt_neo", dict(vocab_size=1024, hidden_size=64, num_layers=2, num_heads=4, max_position_embeddings=512, attention_types=[[["local", "global"], 1]], window_size=24, bos_token_id=0, eos_token_id=0, pad_token_id=1, initializer_range=0.08)),
}
RUN = dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=0.001, max_steps=8, logging_steps=1, report_to="none", save_strategy="no", max_length=256, completion_only_loss=True, bf16=False, fp16=False, gradient_checkpointing=False, use_cpu=True, train_sampling_strategy="sequential", lr_scheduler_type="linear", seed=0)
RUNS = {
    "sft": RUN,
    "sft_cosine_wd": dict(RUN, per_device_train_batch_size=3, lr_scheduler_type="cosine", warmup_steps=3, weight_decay=0.1, max_grad_norm=0.5),
    "sft_full_loss": dict(RUN, completion_only_loss=False),
}
# experts of which some are forgotten would be seen in the loss that is to prevent it
EXPERTS = dict(router_aux_loss_coef=0.05)
# what transformers renames as it loads
CHECKPOINT_NAMES = {"block_sparse_moe.experts.gate_up_proj": "block_sparse_moe.input_linear.weight", "block_sparse_moe.experts.down_proj": "block_sparse_moe.output_linear.weight", "block_sparse_moe.router.weight": "block_sparse_moe.router.layer.weight"}


def load(folder):
    # transformers' usual attention leaves out what bounds the scores of Gemma 2
    attention = {"attn_implementation": "eager"} if folder.name == "gemma2" else {}
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, **attention)


def make_model(family, folder):
    kind, config = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config)).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # norms, too: their defaults would hide mistakes
            if name.endswith("A_log"):  # by chance nearly all heads would forget within a few tokens
                parameter.copy_(torch.linspace(-6, 1, len(parameter)))
            if name.endswith("mamba.conv1d.weight"):  # or else states would say little beside what each token has of its own
                parameter.mul_(5)
            if name.endswith(("gate_up_proj", "gate_up_proj_bias")) and kind == "gpt_oss":  # some gates are clamped, and some of what they multiply
                parameter.mul_(2) if parameter.ndim == 3 else parameter.add_(4 * torch.randn_like(parameter))
            if kind == "gemma4_text" and name.endswith("q_norm.weight"):  # which alone scales the scores: else each token would read a single other one
                parameter.mul_(0.25)
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():  # which training leaves as it is
            if name.endswith(("expert_bias", "layer_scalar")):
                buffer += (0.1 if name.endswith("expert_bias") else 0.3) * torch.randn_like(buffer)
    model.save_pretrained(folder / "model")
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(HERE / "qwen3" / "model" / name, folder / "model" / name)


def rounded(values):
    return [round(value, 6) for value in values.tolist()]


def checkpoint_name(name, family):
    for ours, theirs in {**CHECKPOINT_NAMES, **({"mlp.gate.weight": "block_sparse_moe.gate.weight"} if family == "mixtral" else {})}.items():
        name = name.replace(ours, theirs)
    return name


def has_experts(config):
    return getattr(config, "num_local_experts", getattr(config, "num_experts", 0)) > 0


def forward(folder, ids):
    model = load(folder).eval()
    tokens = torch.tensor([ids])
    out = model(input_ids=tokens, labels=tokens)
    out.loss.backward()
    logits = out.logits[0].detach()
    nll = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:], reduction="none")
    prompt = ids[:24]
    with torch.no_grad():
        greedy = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=1)
    return {
        "input_ids": ids,
        "loss": out.loss.item(),
        "perplexity": out.loss.exp().item(),
        "token_nll": rounded(nll),
        "logits_last": rounded(logits[-1]),
        "logits_first": rounded(logits[0]),
        "argmax": logits.argmax(-1).tolist(),
        "grad_norm_per_parameter": {checkpoint_name(name, folder.name): p.grad.norm().item() for name, p in model.named_parameters()},
        "greedy": {"prompt_ids": prompt, "output_ids": greedy[0].tolist()},
    }


def run(folder, config, ids):
    rows = json.loads((HERE / "rows.json").read_text())
    examples = [{"prompt": (WITH if row.get("input") else WITHOUT).format(**row), "completion": row["output"]} for row in rows]
    model = load(folder)
    if hasattr(model.config, "logits_scaling"):
        # TRL multiplies hidden states with the head by itself, and knows the scale of logits by another name than Granite's
        model.config.logit_scale = 1 / model.config.logits_scaling
    if hasattr(model.config, "lm_head_multiplier"):
        model.config.logit_scale = model.config.lm_head_multiplier
    if has_experts(model.config) and not hasattr(model.config, "num_experts"):
        model.config.num_experts = model.config.num_local_experts  # Granite's name is another than TRL knows
    # else TRL looks for experts in all models of a class that may have some
    config = {**config, **EXPERTS} if has_experts(model.config) else config
    without_experts = {} if has_experts(model.config) else dict(router_aux_loss_coef=0.0)
    trainer = SFTTrainer(model=model, args=SFTConfig(output_dir=tempfile.mkdtemp(), disable_tqdm=True, **without_experts, **config), train_dataset=Dataset.from_list(examples), processing_class=AutoTokenizer.from_pretrained(folder / "model"))
    # transformers 5.18 asks the class's name, which GPT-2's is not like, and counts first tokens, which nothing predicts, as predicted
    trainer._loss_shifts_labels = True
    trainer.train()
    log = [record for record in trainer.state.log_history if "loss" in record]
    model.eval()
    model.config.output_router_logits = False  # TRL has asked for the loss of the experts, too
    tokens = torch.tensor([ids])
    with torch.no_grad():
        after = model(input_ids=tokens, labels=tokens).loss.item()
    return {"config": config, "optimizer": "adamw (betas 0.9 0.999, eps 1e-8)", "log": log, "loss_after_on_forward_ids": after, "first_example": {"input_ids": trainer.train_dataset[0]["input_ids"]}}


def largest_difference(found, expected):
    if isinstance(expected, dict):
        return max(largest_difference(value, expected[key]) for key, value in found.items())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        return max((largest_difference(*pair) for pair in zip(found, expected)), default=0)
    return abs(found - expected) if isinstance(expected, (int, float)) else float(found != expected)


if __name__ == "__main__":
    family, check = sys.argv[1], "--check" in sys.argv
    folder = HERE / family
    if not check:
        make_model(family, folder)
    ids = json.loads((HERE / "qwen3" / "forward.json").read_text())["input_ids"]
    for name, value in [("forward", forward(folder, ids)), *((name, run(folder, config, ids)) for name, config in RUNS.items())]:
        file = folder / f"{name}.json"
        if check:
            print(name, largest_difference(value, json.loads(file.read_text())))
        else:
            file.write_text(json.dumps(value) + "\n")
