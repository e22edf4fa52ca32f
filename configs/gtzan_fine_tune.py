"""GTZAN, 10 genres of music: the whole of a pretrained Cnn14 learns on; 10-fold cross-validation.

panns-jax finetune --config gtzan_fine_tune --data DATA --out gtzan.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", folds=10, clip_seconds=30.0)
