"""RAVDESS, 8 emotions of speakers: three layers on a frozen Cnn14; 4-fold cross-validation.

panns-jax finetune --config ravdess_freeze_l3 --data DATA --out ravdess.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L3", folds=4)
