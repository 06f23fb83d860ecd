#!/usr/bin/env bash
# A grid as a job array on a shared folder: sbatch examples/slurm.sh. Each task runs every 8th cell; a task that is killed or
# times out is submitted again as it is, and goes on where it stopped. When all are done, `report` writes tables and plots.
#SBATCH --job-name=anoseg-bench
#SBATCH --array=1-8   # SHARDS below says of how many; --array=3 alone runs the third again
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --time=12:00:00
#SBATCH --output=results/slurm-%A_%a.log
set -euo pipefail
SHARDS=8
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch, from the repository root}"

.venv/bin/python run_bench.py \
    --methods anoseg,ae_recon,ae_ssim,gradcam --dataset mvtec_ad --data-root "${BENCH_DATA_ROOT:?the folder of MVTec AD}" \
    --seeds 0,1,2 --profile full --device auto --threads "${SLURM_CPUS_PER_TASK:-8}" \
    --shard "${SLURM_ARRAY_TASK_ID:?}/$SHARDS" --out results/mvtec-full

# Afterwards, once:  .venv/bin/python run_bench.py report results/mvtec-full
