#!/usr/bin/env bash
# Lists the clips of the HDF5 files of 2_pack_waveforms_to_hdf5s.sh, each file's and all together (full_train.h5).
# Indexes that are newer than what they list are left as they are.
#
#   WORKSPACE=/data/workspace scripts/3_create_training_indexes.sh
set -euo pipefail

WORKSPACE=${WORKSPACE:-workspaces/audioset_tagging}

waveforms=$WORKSPACE/hdf5s/waveforms
indexes=$WORKSPACE/hdf5s/indexes
mkdir -p "$indexes/unbalanced_train"

up_to_date() { # whether the first file is newer than all others
    local file
    [ -e "$1" ] || return 1
    for file in "${@:2}"; do
        [ "$1" -nt "$file" ] || return 1
    done
}

index() {
    up_to_date "$2" "$1" || panns-jax index "$1" --out "$2"
}

index "$waveforms/eval.h5" "$indexes/eval.h5"
index "$waveforms/balanced_train.h5" "$indexes/balanced_train.h5"
listed=("$indexes/balanced_train.h5")
for file in "$waveforms"/unbalanced_train/unbalanced_train_part*.h5; do
    [ -e "$file" ] || continue
    part=$indexes/unbalanced_train/$(basename "$file")
    index "$file" "$part"
    listed+=("$part")
done
up_to_date "$indexes/full_train.h5" "${listed[@]}" ||
    panns-jax index --combine "${listed[@]}" --out "$indexes/full_train.h5"
