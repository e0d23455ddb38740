#!/bin/sh
# The commands of the paper's README, two iterations of them, on files made from the built-in world.
#
#     sh examples/searchlm.sh [FOLDER]        from the root of a checkout, after `make dev`
#
# The README's flags are as they stand there, except for the number of processes (2), the report (none) and sizes that
# suit a laptop. Its questions come from data/eval_data/hotpotqa_dev.json, its warm-up from data/hotpot-traj.100.json.
set -eu
WORK=${1:-runs/searchlm}
PATH="$PWD/.venv/bin:$PATH"
MODEL=$(python -c "from exsearch.engine.models.builtin import resolve_model; print(resolve_model('builtin:smollm2-135m'))")

mkdir -p "$WORK/data/eval_data" "$WORK/log"
exsearch corpus world --passages 2000 --seed 1 --train 100 --dev 8 --test 8 --hops 1 --out "$WORK/world"
exsearch index "$WORK/world/corpus" --retriever bm25 --out "$WORK/index"
SETTINGS="--config src/exsearch/recipes/reference-v1.toml"
exsearch data warmup "$WORK/world/train.jsonl" --index "$WORK/index" --model "$MODEL" $SETTINGS --format reference \
    --out "$WORK/data/hotpot-traj.100.json"
exsearch data retrieve "$WORK/world/test.jsonl" --index "$WORK/index" --format reference \
    --out "$WORK/data/eval_data/hotpotqa_dev.json"

train() { # PROCEDURE MODEL DATA OUT LEARNING_RATE
    PROCEDURE=$1 torchrun --nproc_per_node=2 --master_port=11021 ./src/run.py \
        --model_name_or_path "$2" --dataset_name_or_path "$3" --output_dir "$4" \
        --overwrite_cache True --warmup_ratio 0.1 --report_to none --run_name test_run --logging_steps 1 \
        --cutoff_len 2048 --max_samples 200000 --save_steps 1000 --per_device_train_batch_size 1 \
        --gradient_accumulation_steps 2 --learning_rate "$5" --num_train_epochs 1 --lr_scheduler_type cosine --bf16 False
}

train sft "$MODEL" "$WORK/data/hotpot-traj.100.json" "$WORK/warm-up" 2.0e-4
CURRENT="$WORK/warm-up"
for EPO in 1 2; do
    PROCEDURE=inference python ./src/run.py --model_name_or_path "$CURRENT" \
        --input_file "$WORK/data/eval_data/hotpotqa_dev.json" --output_dir "$WORK/log/$EPO" --left 0 --right 10000 \
        --index "$WORK/index" --samples 2 --set rollout.in_flight=16
    PROCEDURE=entropy python ./src/run.py --model_name_or_path "$CURRENT" \
        --inference_file "$WORK/log/$EPO/hotpotqa_dev.0-8.json" --output_dir "$WORK/log/$EPO" --epo "$EPO"
    train align "$CURRENT" "$WORK/log/$EPO/hotpotqa_dev.0-8.epo$EPO.json" "$WORK/iter-$EPO" 1.0e-4
    CURRENT="$WORK/iter-$EPO"
done
echo "two iterations, from $WORK/warm-up to $CURRENT"
