"""MobileNetV2, inverted residuals.

panns-jax train --config mobilenetv2 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="MobileNetV2", early_stop=600_000)
