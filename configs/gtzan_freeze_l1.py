"""GTZAN, 10 genres of music: a linear layer on a frozen Cnn14; 10-fold cross-validation.

panns-jax finetune --config gtzan_freeze_l1 --data DATA --out gtzan.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L1", folds=10, clip_seconds=30.0)
