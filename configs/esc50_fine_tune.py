"""ESC-50, 50 classes of sounds: the whole of a pretrained Cnn14 learns on; 5-fold cross-validation.

panns-jax finetune --config esc50_fine_tune --data DATA --out esc50.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", folds=5, clip_seconds=5.0)
