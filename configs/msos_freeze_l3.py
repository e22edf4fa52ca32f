"""MSoS, 5 classes of sounds: three layers on a frozen Cnn14; on the challenge's own split.

panns-jax finetune --config msos_freeze_l3 --data DATA --out msos.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="freeze_L3", clip_seconds=4.0)
