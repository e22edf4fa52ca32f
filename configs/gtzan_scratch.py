"""GTZAN, 10 genres of music: Cnn14 from fresh weights; 10-fold cross-validation.

panns-jax finetune --config gtzan_scratch --data DATA --out gtzan.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="scratch", folds=10, clip_seconds=30.0)
