"""MSoS, 5 classes of sounds: Cnn14 from fresh weights; on the challenge's own split.

panns-jax finetune --config msos_scratch --data DATA --out msos.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="scratch", clip_seconds=4.0)
