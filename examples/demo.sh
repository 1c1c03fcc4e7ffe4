#!/bin/sh
# The main job from end to end: compile the shipped specs, train the quickstart, train it once more paying for the answer
# alone, and compare. Usage, from the project: sh examples/demo.sh [LTRL]
set -eu
ltrl=${1:-ltrl}

say() { printf '\n== %s\n' "$1" >&2; }

say 'compile the shipped specs for 32 GPUs'
for spec in qwen4b deepseek8b qwen30b_moe; do
    "$ltrl" compile "specs/$spec.yaml"
done

say 'train on this machine with the rubric reward (the first time, the start model is made first: about a minute)'
rubric=$("$ltrl" compile specs/quickstart.yaml)
"$ltrl" submit "$rubric" --watch

say 'the same from the same start model, paying for the answer alone'
outcome=$("$ltrl" compile specs/quickstart.yaml --set name=quickstart-outcome --set reward.backend=outcome)
"$ltrl" submit "$outcome" --watch

say 'what came of it'
"$ltrl" report "${rubric##*/}" "${outcome##*/}" -o report.html
printf 'curves, responses and differences: %s/report.html\n' "$PWD" >&2
