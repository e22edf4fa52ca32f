"""ResNet54, residual bottlenecks over the log-mel spectrogram.

panns-jax train --config resnet54 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="ResNet54", early_stop=600_000)
