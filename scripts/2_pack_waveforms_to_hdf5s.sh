#!/usr/bin/env bash
# Packs the sound files of 1_download_dataset.sh into HDF5 files, one for each list of clips. A file is complete or not
# there: started again, it goes on with those that are missing.
#
#   DATASET_DIR=/data/audioset WORKSPACE=/data/workspace scripts/2_pack_waveforms_to_hdf5s.sh [options of pack]
set -euo pipefail

DATASET_DIR=${DATASET_DIR:-datasets/audioset201906}
WORKSPACE=${WORKSPACE:-workspaces/audioset_tagging}

metadata=$DATASET_DIR/metadata
audios=$DATASET_DIR/audios
waveforms=$WORKSPACE/hdf5s/waveforms
mkdir -p "$waveforms/unbalanced_train"

pack() { # 1 tells that clips were left out, as those that could not be had
    local status=0
    if [ ! -e "$3" ]; then
        panns-jax pack --csv "$1" --audios "$2" --out "$3" "${@:4}" || status=$?
    fi
    if [ "$status" -gt 1 ]; then
        exit "$status"
    fi
}

pack "$metadata/eval_segments.csv" "$audios/eval_segments" "$waveforms/eval.h5" "$@"
pack "$metadata/balanced_train_segments.csv" "$audios/balanced_train_segments" "$waveforms/balanced_train.h5" "$@"
for csv in "$metadata"/unbalanced_partial_csvs/unbalanced_train_segments_part*.csv; do
    [ -e "$csv" ] || continue # without the unbalanced clips, balanced_train can be trained on
    part=$(basename "$csv" .csv)
    out=$waveforms/unbalanced_train/${part/_segments/}.h5
    pack "$csv" "$audios/unbalanced_train_segments/$part" "$out" "$@"
done
