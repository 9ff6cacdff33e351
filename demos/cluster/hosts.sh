#!/bin/bash
# Machines without a batch system: a list of hosts, Open MPI's mpirun and ssh between them.
#
#   demos/cluster/hosts.sh hosts.txt demos/config/lognormal-high-large.toml data
#
# hosts.txt has one line a machine with its cores, for example "node1 slots=16". The output folder and the
# installation must be at the same place on all of them (a shared file system).
#
# To stop: kill -USR1 of mpirun, which passes it to all ranks (exit code 75: start again to go on). After SIGTERM
# or Ctrl-C mpirun ends the ranks itself and returns its own code; what is finished is kept then, too.
set -u
hosts=${1:?the list of hosts is missing} config=${2:?the settings file is missing} output=${3:?the output folder is missing}

mpirun --hostfile "$hosts" --map-by slot --bind-to core -x OMP_NUM_THREADS=1 -x PATH \
    nnlod generate "$config" -o "$output" --resume

# In containers: mpirun of the host starts one container a rank, with the host's network and process space.
#   mpirun --hostfile "$hosts" --bind-to core -x OMP_NUM_THREADS=1 \
#       apptainer exec --bind "$PWD" nnlod.sif nnlod generate "$config" -o "$output" --resume
# On a single machine the repository's launcher does it: docker/run mpirun -n 16 nnlod generate …
