"""MobileNetV1, depthwise separable convolutions.

panns-jax train --config mobilenetv1 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="MobileNetV1", early_stop=600_000)
