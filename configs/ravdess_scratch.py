"""RAVDESS, 8 emotions of speakers: Cnn14 from fresh weights; 4-fold cross-validation.

panns-jax finetune --config ravdess_scratch --data DATA --out ravdess.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="scratch", folds=4)
