"""DCASE 2018 Task 2, 41 classes of Freesound's: the whole of a pretrained Cnn14 learns on; on the task's own split.

panns-jax finetune --config dcase2018_task2_fine_tune --data DATA --out dcase2018_task2.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", clip_seconds=10.0)
