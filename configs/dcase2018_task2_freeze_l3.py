"""DCASE 2018 Task 2, 41 classes of Freesound's: three layers on a frozen Cnn14; on the task's own split.

panns-jax finetune --config dcase2018_task2_freeze_l3 --data DATA --out dcase2018_task2.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L3", clip_seconds=10.0)
