"""ESC-50, 50 classes of sounds: three layers on a frozen Cnn14; 5-fold cross-validation.

panns-jax finetune --config esc50_freeze_l3 --data DATA --out esc50.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L3", folds=5, clip_seconds=5.0)
