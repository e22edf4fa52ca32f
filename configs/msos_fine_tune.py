"""MSoS, 5 classes of sounds: the whole of a pretrained Cnn14 learns on; on the challenge's own split.

panns-jax finetune --config msos_fine_tune --data DATA --out msos.safetensors
"""

from functools import partial

from panns_jax.train.finetune.options import Finetune

CONFIG = partial(Finetune, model="Cnn14", strategy="fine_tune", clip_seconds=4.0)
