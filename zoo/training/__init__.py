"""Training: what a run does after data and model are open.

trainer: an epoch and its validation (forward_pass: model output and loss; batches: what it reads; inference: forward
passes without gradients; microbatch: smaller batches after out-of-memory errors; module_state: restore modes and
buffers; sanity_check: one step before the run). lr_finder: learning-rate range test. feature_extractor: output of the
frozen layers. features/: its store, its dataset, the linear probe. transfer/: LP-FT and other fine-tuning methods.
lora: low-rank adapters. ema: moving average of the weights. target_scaler: regression targets. autotune/: precision,
batch size and loader workers, measured. device, compile: hardware, torch.compile. launch, distributed, sharding:
several processes, DDP, FSDP.
"""
