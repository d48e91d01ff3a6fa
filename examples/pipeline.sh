#!/usr/bin/env bash
# The whole chain, as a lab would run it: videos and annotation in, verified open_clip weights out.
#
#   examples/pipeline.sh VIDEOS ANNOTATION.json BASE_MODEL OUT [flags for adapt...]
#
# VIDEOS: folder of clips. ANNOTATION.json: VidSitu's vsann_*_lb.json. BASE_MODEL: folder in open_clip's format.
# The frame size is read from the base model. Exit code 4 means "finished, but some items failed": the pipeline goes
# on with what there is, and the reports name what is missing.
set -euo pipefail

videos=$1 annotation=$2 base_model=$3 out=$4
shift 4
mkdir -p "$out"

partial_is_fine() { "$@" || { code=$?; [ "$code" -eq 4 ] || exit "$code"; }; }

size=$(python3 -c '
import json, sys
size = json.load(open(sys.argv[1]))["model_cfg"]["vision_cfg"]["image_size"]
print(size)' "$base_model/open_clip_config.json")

partial_is_fine figclip extract-frames "$videos" --output "$out/frames.h5" --size "$size"
figclip build-prompts "$annotation" --output "$out/prompts.jsonl"
figclip adapt --frames "$out/frames.h5" --prompts "$out/prompts.jsonl" --model "$base_model" \
    --runs "$out/runs" --name main "$@"
partial_is_fine figclip evaluate retrieval --zero-shot --frames "$out/frames.h5" --captions "$out/prompts.jsonl" \
    --run "$out/runs/main" --output "$out/retrieval.json"
figclip export "$out/runs/main" --output "$out/export" --json |
    python3 -c 'import json, sys; print("exported to", json.load(sys.stdin)["exports"][0]["folder"])'
