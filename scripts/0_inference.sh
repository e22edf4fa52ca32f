#!/usr/bin/env bash
# Tags sound files with a released model, which is downloaded the first time, and writes their embeddings.
#
#   scripts/0_inference.sh FILE...
#   MODEL=Cnn14_DecisionLevelMax scripts/0_inference.sh FILE...    a model without embedding: tags alone
set -euo pipefail

MODEL=${MODEL:-Cnn14}
EMBEDDINGS=${EMBEDDINGS:-embeddings.h5}
TOP=${TOP:-10}

if [ $# -eq 0 ]; then
    echo "usage: scripts/0_inference.sh FILE..." >&2
    exit 2
fi

status=0
each() { # 1 tells that some files could not be read, and the others were done
    local code=0
    panns-jax "$@" || code=$?
    if [ "$code" -gt 1 ]; then
        exit "$code"
    fi
    status=$((status | code))
}

each tag "$@" --model "$MODEL" --top "$TOP"
case "$MODEL" in
    *DecisionLevel*) ;;
    *) each embed "$@" --model "$MODEL" --out "$EMBEDDINGS" ;;
esac
exit "$status"
