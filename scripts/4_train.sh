#!/usr/bin/env bash
# Trains as published, by default Cnn14 on all of AudioSet. Started again, it goes on from its last checkpoint.
#
#   WORKSPACE=/data/workspace scripts/4_train.sh [options of panns-jax train, such as --precision bf16]
#   MODEL_TYPE=MobileNetV2 DATA_TYPE=balanced_train scripts/4_train.sh
set -euo pipefail

WORKSPACE=${WORKSPACE:-workspaces/audioset_tagging}
MODEL_TYPE=${MODEL_TYPE:-Cnn14}
DATA_TYPE=${DATA_TYPE:-full_train}

panns-jax train --workspace "$WORKSPACE" --data-type "$DATA_TYPE" --model-type "$MODEL_TYPE" --loss-type clip_bce \
    --balanced balanced --augmentation mixup --batch-size 32 --learning-rate 1e-3 --early-stop 1000000 "$@"
