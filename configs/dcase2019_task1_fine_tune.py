"""DCASE 2019 Task 1, 10 acoustic scenes: the whole of a pretrained Cnn14 learns on; on the development set's own split.

panns-jax finetune --config dcase2019_task1_fine_tune --data DATA --out dcase2019_task1.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", clip_seconds=10.0)
