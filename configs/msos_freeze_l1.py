"""MSoS, 5 classes of sounds: a linear layer on a frozen Cnn14; on the challenge's own split.

panns-jax finetune --config msos_freeze_l1 --data DATA --out msos.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L1", clip_seconds=4.0)
