"""DCASE 2019 Task 1, 10 acoustic scenes: a linear layer on a frozen Cnn14; on the development set's own split.

panns-jax finetune --config dcase2019_task1_freeze_l1 --data DATA --out dcase2019_task1.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L1", clip_seconds=10.0)
