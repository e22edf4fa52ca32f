"""Res1dNet31, residual blocks over waveforms.

panns-jax train --config res1dnet31 --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Res1dNet31", early_stop=600_000)
