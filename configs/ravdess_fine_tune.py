"""RAVDESS, 8 emotions of speakers: the whole of a pretrained Cnn14 learns on; 4-fold cross-validation.

panns-jax finetune --config ravdess_fine_tune --data DATA --out ravdess.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", folds=4)
