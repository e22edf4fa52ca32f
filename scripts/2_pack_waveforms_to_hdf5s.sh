#!/usr/bin/env bash
# Packs the sound files of 1_download_dataset.sh into HDF5 files, one for each list of clips. A file is complete or not
# there: started again, it goes on with those that are missing. With other options, what is there takes --force.
#
#   DATASET_DIR=/data/audioset WORKSPACE=/data/workspace scripts/2_pack_waveforms_to_hdf5s.sh [options of pack]
set -euo pipefail

DATASET_DIR=${DATASET_DIR:-datasets/audioset201906}
WORKSPACE=${WORKSPACE:-workspaces/audioset_tagging}

metadata=$DATASET_DIR/metadata
audios=$DATASET_DIR/audios
waveforms=$WORKSPACE/hdf5s/waveforms

pack() { # 1 tells that clips were left out, as those that could not be had, or one of several lists
    local status=0
    panns-jax pack "$@" || status=$?
    if [ "$status" -gt 1 ]; then
        exit "$status"
    fi
}

pack --csv "$metadata/eval_segments.csv" --audios "$audios/eval_segments" --out "$waveforms/eval.h5" "$@"
pack --csv "$metadata/balanced_train_segments.csv" --audios "$audios/balanced_train_segments" \
    --out "$waveforms/balanced_train.h5" "$@"
parts=("$metadata"/unbalanced_partial_csvs/unbalanced_train_segments_part*.csv)
if [ -e "${parts[0]}" ]; then # without the unbalanced clips, balanced_train can be trained on
    pack --csv "${parts[@]}" --audios "$audios/unbalanced_train_segments" --out "$waveforms/unbalanced_train" "$@"
fi
