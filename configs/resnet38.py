"""ResNet38, residual blocks over the log-mel spectrogram.

panns-jax train --config resnet38 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="ResNet38", early_stop=600_000)
