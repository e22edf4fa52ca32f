"""DCASE 2018 Task 2, 41 classes of Freesound's: Cnn14 from fresh weights; on the task's own split.

panns-jax finetune --config dcase2018_task2_scratch --data DATA --out dcase2018_task2.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="scratch", clip_seconds=10.0)
