"""Cnn14 that classifies every step of 0.32 s, and takes a learnt mean over time.

panns-jax train --config cnn14_decisionlevelatt --workspace WORKSPACE
"""

from panns_jax.train.options import Train

CONFIG = Train(model_type="Cnn14_DecisionLevelAtt", early_stop=600_000)
