"""ESC-50, 50 classes of sounds: Cnn14 from fresh weights; 5-fold cross-validation.

panns-jax finetune --config esc50_scratch --data DATA --out esc50.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="scratch", folds=5, clip_seconds=5.0)
