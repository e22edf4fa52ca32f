#!/usr/bin/env bash
# Downloads AudioSet: the lists of its clips, then the sound of each. Started again, it goes on where it stopped.
#
#   DATASET_DIR=/data/audioset scripts/1_download_dataset.sh [options of panns-jax download, such as --workers 4]
#
# Many clips are gone by now: those that could not be had stand in the journal of each folder, and are not asked for
# again.
set -euo pipefail

DATASET_DIR=${DATASET_DIR:-datasets/audioset201906}
LISTS=${LISTS:-http://storage.googleapis.com/us_audioset/youtube_corpus}

metadata=$DATASET_DIR/metadata
audios=$DATASET_DIR/audios
parts=$metadata/unbalanced_partial_csvs
mkdir -p "$metadata" "$audios"

list() { # a file is complete or not there
    local file=$metadata/${1##*/}
    if [ ! -e "$file" ]; then
        curl --fail --location --silent --show-error --output "$file.part" "$LISTS/$1"
        mv "$file.part" "$file"
    fi
}

clips() { # 1 tells that some clips could not be had
    local status=0
    panns-jax download --csv "$1" --out "$2" "${@:3}" || status=$?
    if [ "$status" -gt 1 ]; then
        exit "$status"
    fi
}

for name in eval_segments balanced_train_segments unbalanced_train_segments class_labels_indices; do
    list "v1/csv/$name.csv"
done
list v1/qa/qa_true_counts.csv
panns-jax split --csv "$metadata/unbalanced_train_segments.csv" --out "$parts"

clips "$metadata/eval_segments.csv" "$audios/eval_segments" "$@"
clips "$metadata/balanced_train_segments.csv" "$audios/balanced_train_segments" "$@"
for csv in "$parts"/unbalanced_train_segments_part*.csv; do
    part=$(basename "$csv" .csv)
    clips "$csv" "$audios/unbalanced_train_segments/$part" "$@"
done
