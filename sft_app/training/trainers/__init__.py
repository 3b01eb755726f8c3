"""Train with TRL's `SFTTrainer` or transformers' `Trainer`."""
