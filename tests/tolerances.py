"""How near is near enough, and why: every tolerance of the parity tests stands here."""

# Log-mel in dB where the reference is above -80 dB. Below, float32 FFTs and float32 convolutions round differently
# by more than the signal; the two real FFTs themselves differ by about 1e-3 dB.
LOGMEL_DB = 0.02
LOGMEL_FLOOR_DB = -80.0

# Absolute, on probabilities. Two float32 implementations that sum in different orders agree within about 1e-6 here.
CLIPWISE = 1e-4

# Relative to the largest entry of the embedding; two float32 implementations agree within about 1e-6.
EMBEDDING = 1e-3

# Relative, on the mean, the deviation and the largest value of a layer's output; a figure of many values, rounded once.
LAYER = 1e-3

# Relative, losses of four training steps. Adam divides by the root of small second moments, which spreads rounding.
LOSS = 1e-3

# Relative, norm of each parameter's gradient: sums of terms of both signs.
GRADIENT_NORM = 1e-2

# Relative, batch-norm statistics after one step: one mean over a batch.
BATCH_STATISTICS = 1e-3

# Absolute, mean and deviation of probabilities after four steps: the losses' tolerance, on values up to 1.
EVALUATION_AFTER_STEPS = 1e-3

# Absolute on probabilities, relative to the largest value of other outputs: a clip in a batch of longer ones against
# the clip alone. Sums of other lengths are done in another order; measured at most 3e-6.
IN_A_BATCH = 1e-5

# Absolute, probabilities of a body in bfloat16 (8 bits) against float32, worst and mean, on recipe weights, which are
# badly conditioned; measured at most 1.1e-2 and 1.5e-3.
BFLOAT16 = 6e-2
BFLOAT16_MEAN = 1e-2
