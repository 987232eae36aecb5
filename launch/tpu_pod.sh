#!/usr/bin/env bash
# Pre-training on a TPU pod slice of Google Cloud, from a machine with gcloud: queues for the slice, puts this commit on
# all its hosts, runs train.py on all of them, and starts again when the slice is preempted.
#
#   launch/tpu_pod.sh                             with what is set here; what follows goes to train.py
#   NAME=run2 ZONE=us-east5-a launch/tpu_pod.sh --gin.Loop.steps=20
#   launch/tpu_pod.sh delete                      gives the slice back: it costs money until then
#
# Interrupted (Ctrl+C, a closed laptop), the same command goes on; so does training, from the latest checkpoint in
# WORKDIR. Store and WORKDIR lie on a file share that all hosts mount, as Filestore gives one.
#
# Not run yet on Google Cloud: the loop is run against a stand-in for gcloud (tests/launch/test_tpu_pod.py), and gcloud 528
# lists all flags that are used here.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v gcloud > /dev/null || { echo "gcloud, Google Cloud's command line, is not installed" >&2 && exit 2; }

NAME=${NAME:-mindllm}
PROJECT=${PROJECT:-$(gcloud config get-value project 2> /dev/null)}
ZONE=${ZONE:-us-east5-a}
ACCELERATOR=${ACCELERATOR:-v5p-128} # gcloud counts v5p in cores: 64 chips on 16 hosts
RUNTIME=${RUNTIME:-v2-alpha-tpuv5}  # v2-alpha-tpuv6e for v6e
KIND=${KIND---spot}                 # or --reserved; empty (KIND=) for on demand
SHARE=${SHARE:-}                    # address:/name of the file share; it becomes /data on every host
GIN=${GIN:-configs/pretrain/mindllm_3b.gin}
HARDWARE=${HARDWARE-configs/hardware/tpu.gin}                # options of the TPU's compiler
MESH=${MESH---gin.MeshAxes.data=4 --gin.MeshAxes.fsdp=16}    # of 64 chips, for the 3B model: what launch/plan.py prints
CONSTRAINTS=${CONSTRAINTS:-constraints/py312-jax0.11.2.txt} # the same versions on all hosts, whenever they are installed
STORE=${STORE:-/data/store} # made by launch/prepare_data.py
WORKDIR=${WORKDIR:-/data/runs/mindllm_3b}
POLL=${POLL:-30}         # seconds between two looks at the queue
ATTEMPTS=${ATTEMPTS:-3}  # how often in a row training may fail on a slice that was not preempted

where=(--project="$PROJECT" --zone="$ZONE" --quiet)
say() { echo "$(date +%T) $*"; }

state() { # of the request in the queue; nothing where there is none
    gcloud compute tpus queued-resources list "${where[@]}" --filter="name~/$NAME\$" --format='value(state.state)'
}

create() {
    say "asking for $ACCELERATOR in $ZONE"
    gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id="$NAME" \
        --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" ${KIND:+"$KIND"}
}

delete() {
    say "giving $NAME back"
    gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force
}

on_all_hosts() { gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$1"; }

# This commit, its packages, the share; what is there already is not done again. The hosts' own Python is 3.10, so uv
# brings one. Chained, because `set -e` does not hold in a function that is called in a condition.
install() {
    git archive --format=tar.gz --prefix=mindllm-jax/ --output="$archive" HEAD &&
    gcloud compute tpus tpu-vm scp "$archive" "$NAME": "${where[@]}" --worker=all &&
    on_all_hosts "set -e
        tar xzf $(basename "$archive") && cd mindllm-jax
        if [ ! -x .venv/bin/pip ]; then
            sudo apt-get update && sudo apt-get install -y python3-pip nfs-common
            python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --seed --python 3.12 .venv
        fi
        .venv/bin/pip install --quiet --editable '.[tpu]' -c $CONSTRAINTS
        mountpoint --quiet /data || { sudo mkdir -p /data && sudo mount '$SHARE' /data; }"
}

train() {
    # A run whose connection was lost may still be alive and hold the chips: it is told to save and stop.
    # shellcheck disable=SC2206  # MESH holds several words
    local command=(.venv/bin/python -u launch/train.py --gin "$GIN" --gin.Mixture.store="$STORE" ${HARDWARE:+--gin "$HARDWARE"}
        $MESH --workdir "$WORKDIR" "$@")
    on_all_hosts "cd mindllm-jax
        if [ -f run.pid ] && kill \$(cat run.pid); then tail --pid=\$(cat run.pid) -f /dev/null; fi 2> /dev/null
        MINDLLM_START_LIMIT=\${MINDLLM_START_LIMIT:-300} $(printf '%q ' "${command[@]}") &
        echo \$! > run.pid
        wait \$!"
}

if [ "${1:-}" = delete ]; then
    delete
    exit
fi
if [ -z "$SHARE" ]; then
    echo "SHARE is not set: give the file share with store and workdir, as SHARE=10.0.0.2:/share" >&2
    exit 2
fi
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT

failed=0 before='' answered=''
while true; do
    # An answer that failed is not an empty queue: nothing is asked for twice. The first one shows that gcloud can answer.
    now=$(state) || { [ -n "$answered" ] || exit 1; say "gcloud failed; looking again"; sleep "$POLL"; continue; }
    answered=yes
    [ "$now" = "$before" ] || say "$NAME: ${now:-not in the queue}"
    before=$now
    case $now in
        "") create ;;
        ACTIVE)
            if install && train "$@"; then
                say "done; the slice is still there: launch/tpu_pod.sh delete gives it back"
                exit
            fi
            sleep "$POLL" # a preemption shows in the queue a little later than on the hosts
            if [ "$(state || true)" = ACTIVE ]; then
                failed=$((failed + 1))
                say "failed ($failed of $ATTEMPTS) on a slice that was not preempted"
                [ "$failed" -lt "$ATTEMPTS" ] || exit 1
            else
                failed=0
            fi
            ;;
        SUSPENDING | SUSPENDED | FAILED) delete ;; # preempted: a new request is needed
        *) sleep "$POLL" ;;                        # ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING, CREATING, DELETING
    esac
done
